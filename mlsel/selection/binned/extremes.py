"""The least and the greatest value of each frame: one pass over a block that is in the cache."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core import native
from mlsel.core.arrays import Array, FloatArray, IntArray

SOURCE = Path(__file__).with_name("extremes.cpp")


@functools.cache
def _library() -> Any | None:
    return native.load("extremes", [SOURCE], native.SAME_BITS, "a pass over the values is slower")


def extremes(values: Array, columns: slice | IntArray) -> tuple[FloatArray, FloatArray]:
    """Return each frame's least and greatest value, of the atoms in `columns` alone.

    Parameters
    ----------
    values : (F, N), or (F, N, 3) for the squared lengths of vectors

    Returns
    -------
    two arrays, float64 (F,)
        +inf and −inf for a frame with no such atom; one of them NaN or infinite for a frame with a
        value that is.

    Examples
    --------
    >>> low, high = extremes(np.array([[3.0, 1.0, 2.0], [5.0, 4.0, 9.0]]), slice(0, 3, 2))
    >>> low.tolist(), high.tolist()
    ([2.0, 5.0], [3.0, 9.0])
    """
    library = _library()
    n, n_atoms = values.shape[:2]
    if library is None or values.dtype != np.float64 or not values.flags.c_contiguous:
        return _extremes(values, columns)
    counts = np.zeros(n_atoms, dtype=np.int64)
    counts[columns] = -1
    low, high = np.empty(n), np.empty(n)
    function = library.extremes_of_numbers if values.ndim == 2 else library.extremes_of_squares
    pointers = (ctypes.c_void_p(a.ctypes.data) for a in (low, high))
    function(
        ctypes.c_int64(n),
        ctypes.c_int64(n_atoms),
        ctypes.c_void_p(values.ctypes.data),
        ctypes.c_void_p(None if counts.all() else counts.ctypes.data),
        *pointers,
    )
    return low, high


def _extremes(values: Array, columns: slice | IntArray) -> tuple[FloatArray, FloatArray]:
    """Do what extremes.cpp does."""
    some: FloatArray = values[:, columns] if values.ndim == 2 else squares(values, columns)
    if some.shape[1] == 0:
        return np.full(len(some), np.inf), np.full(len(some), -np.inf)
    return np.minimum.reduce(some, axis=1), np.maximum.reduce(some, axis=1)


def squares(vectors: Array, columns: slice | IntArray) -> FloatArray:
    """Return the squared lengths of vectors (F, N, 3), of the atoms in `columns`, (F, M)."""
    each = np.square(vectors[:, columns])
    found: FloatArray = each[..., 0] + each[..., 1]
    found += each[..., 2]
    return found
