"""Names for kinds of arrays, one meaning each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mlsel.core.errors import MlselError, shortened

Array = npt.NDArray[Any]
"""Of any type."""
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def whole_numbers(values: npt.ArrayLike, what: str) -> IntArray:
    """Return values as int64; booleans, which NumPy would take for 0 and 1, and fractions are none.

    Raises
    ------
    MlselError
        If they are no whole numbers.

    Examples
    --------
    >>> whole_numbers([3, 1.0], "frame ids"), whole_numbers((), "frame ids")
    (array([3, 1]), array([], dtype=int64))
    """
    found = np.asarray(values)
    if not found.size:
        return found.astype(np.int64)
    if found.dtype.kind == "b":
        raise MlselError(f"{what} are numbers, not a mask of booleans: give np.flatnonzero(mask).")
    if found.dtype.kind not in "iuf" or (found != np.rint(found)).any():
        raise MlselError(f"{what} must be whole numbers, not {shortened(repr(values), 60)}.")
    return found.astype(np.int64)
