"""Names for kinds of arrays, one meaning each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""Of any type."""
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
