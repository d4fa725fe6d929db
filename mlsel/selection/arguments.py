"""What a caller gives a selector beside the pool: wrong ones are refused on all ranks alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import IntArray, whole_numbers
from mlsel.core.errors import MlselError


def ids_to_exclude(values: npt.ArrayLike) -> IntArray:
    """Return frame ids.

    Raises
    ------
    MlselError
        If they are no whole numbers, a mask for instance.
    """
    try:
        return whole_numbers(values, "frame ids to exclude")
    except MlselError as error:
        raise MlselError(str(error), everywhere=True) from None


def seed_and_generator(rng: Any) -> tuple[int | None, np.random.Generator]:
    """Return the seed, None where a generator was given, and the generator.

    Raises
    ------
    MlselError
        If it is neither.
    """
    if isinstance(rng, np.random.Generator):
        return None, rng
    if not isinstance(rng, (int, np.integer)) or rng < 0:
        raise MlselError(
            f"rng is {rng!r}: give a seed, 0 or more, or a numpy.random.Generator.",
            everywhere=True,
        )
    return int(rng), np.random.default_rng(int(rng))
