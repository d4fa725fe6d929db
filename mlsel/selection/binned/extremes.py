"""The least and the greatest value of each frame: one pass over a block that is in the cache."""

from __future__ import annotations

import ctypes
import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlsel.core import native
from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.pool.contiguous import Piece

SOURCE = Path(__file__).with_name("extremes.cpp")


@functools.cache
def _library() -> Any | None:
    library = native.load("extremes", [SOURCE], native.SAME_BITS, "a pass over values is slower")
    if library is not None:
        number, array = ctypes.c_int64, ctypes.c_void_p
        for of_block in (library.extremes_of_numbers, library.extremes_of_squares):
            of_block.argtypes = (number, number, array, array, array, array)
        library.extremes_in_file.restype = number
        library.extremes_in_file.argtypes = (
            *(ctypes.c_int32, number, number, number, number, array),
            *(number, array, array, array, array, array),
        )
    return library


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
    counts = _marked(n_atoms, columns)
    low, high = np.empty(n), np.empty(n)
    function = library.extremes_of_numbers if values.ndim == 2 else library.extremes_of_squares
    arrays = values, counts, low, high
    function(n, n_atoms, *(None if a is None else a.ctypes.data for a in arrays))
    return low, high


def extremes_in_file(
    piece: Piece, columns: slice | IntArray, keep: npt.NDArray[np.bool_], buffer: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """Do the same for frames in a file, and return the values of those to keep too.

    Frames are read a few at a time into the same memory, where they are looked at while the cache
    holds them: a pass takes little longer than reading alone.

    Parameters
    ----------
    piece : Piece
        (F, N) or (F, N, 3).
    columns
    keep : bool, (F,)
    buffer : float64, (B,)
        What is read at a time has its size (one frame at least).

    Returns
    -------
    None
        Where there is no kernel, or it can't read this: whoever reads it otherwise learns why.
    """
    library = _library()
    n, n_atoms, *tail = piece.shape
    if library is None or piece.dtype != np.float64 or tail not in ([], [3]):
        return None
    size = n_atoms * math.prod(tail)
    if len(buffer) < size:
        buffer = np.empty(size)
    counts = _marked(n_atoms, columns)
    low, high, kept = np.empty(n), np.empty(n), np.empty((int(keep.sum()), *piece.shape[1:]))
    failed = library.extremes_in_file(
        *(piece.descriptor, piece.offset, n, n_atoms, math.prod(tail)),
        *(None if counts is None else counts.ctypes.data, len(buffer) // size, buffer.ctypes.data),
        *(a.ctypes.data for a in (keep, kept, low, high)),
    )
    return None if failed else (low, high, kept)


def _marked(n_atoms: int, columns: slice | IntArray) -> IntArray | None:
    """Return −1 for each atom in `columns` and 0 for the others, int64 (N,); None if all are."""
    if isinstance(columns, slice) and columns == slice(None):
        return None
    counts = np.zeros(n_atoms, dtype=np.int64)
    counts[columns] = -1
    return counts


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
