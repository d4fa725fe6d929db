"""Rows of datasets, read past HDF5 where they lie in one piece."""

from __future__ import annotations

import math
import os
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core.arrays import Array, IntArray
from mlsel.core.errors import MlselError
from mlsel.core.hdf5_file import bounded

AHEAD_BYTES = 32 * 2**20
"""What is brought into memory before it is asked for, roughly."""
ADVICE_BYTES = 2**17
"""Linux brings no more than its readahead, 128 KiB by default, for one advice."""


def take_rows(path: Path, dataset: Any, rows: IntArray, consecutive: bool) -> Array:
    """Read the rows of an HDF5 dataset of any layout, in the order given; each call of the library
    is bounded by itself, since there may be millions."""

    def read(part: Any) -> Array:
        with bounded(path):
            found: Array = dataset[part]
        return found

    if consecutive:
        return read(slice(rows[0], rows[-1] + 1))
    return np.stack([read(row) for row in rows])


@dataclass(frozen=True)
class Place:
    """Where a contiguous dataset lies in its file.

    Reading from there costs a microsecond a call where HDF5's slicing costs tens, and its point
    selection tens a row: a pool of hundreds of runs is read 2 to 3 times as fast.
    """

    filename: str
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Size of one frame's value."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def piece(self, descriptor: int, first: int, n: int) -> Piece:
        """Return where n rows from the first on lie."""
        offset = self.offset + first * self.row_bytes
        return Piece(descriptor, offset, self.dtype, (n, *self.shape[1:]))

    def take(self, descriptor: int, rows: IntArray, consecutive: bool) -> Array:
        shape = (len(rows), *self.shape[1:])
        row_bytes = self.row_bytes
        if row_bytes == 0:
            return np.empty(shape, dtype=self.dtype)
        if consecutive:
            out = np.empty(shape, dtype=self.dtype)
            rest = memoryview(out.reshape(-1).view(np.uint8))
            start = self.offset + int(rows[0]) * row_bytes
            while rest:
                n = os.preadv(descriptor, [rest], start)
                if n == 0:
                    raise self._cut_short()
                rest, start = rest[n:], start + n
            return out
        if len(rows) > 256:  # where making a map is cheaper than a call a row
            return np.asarray(
                np.memmap(self.filename, self.dtype, "r", self.offset, self.shape)[rows]
            )
        read, start = os.pread, self.offset
        text = bytearray().join(
            [read(descriptor, row_bytes, start + row * row_bytes) for row in rows.tolist()]
        )
        if len(text) != len(rows) * row_bytes:
            raise self._cut_short()
        return np.frombuffer(text, dtype=self.dtype).reshape(shape)

    def _cut_short(self) -> MlselError:
        return MlselError(f"{self.filename} ends early: it was cut short, make it again.")


@dataclass(frozen=True)
class Piece:
    """The values of consecutive frames of a run, in one piece of an open file: for kernels that
    read them while they work. The shape's first axis is the frame."""

    descriptor: int
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)

    def will_be_read(self) -> None:
        """Have the system bring the piece into memory while others are worked on, if its end is not
        there already (to ask for what is there takes as long as a tenth of reading it)."""
        if not hasattr(os, "posix_fadvise") or not self.n_bytes:
            return
        try:
            os.preadv(
                self.descriptor, [bytearray(1)], self.offset + self.n_bytes - 1, os.RWF_NOWAIT
            )
        except OSError:  # not in memory, or nobody can say
            for at in range(0, min(self.n_bytes, AHEAD_BYTES), ADVICE_BYTES):
                n, start = min(ADVICE_BYTES, self.n_bytes - at), self.offset + at
                os.posix_fadvise(self.descriptor, start, n, os.POSIX_FADV_WILLNEED)


class Descriptors:
    """Files open for reading, the few used last; closed when the pool is."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, int] = OrderedDict()
        self._finalizer = weakref.finalize(self, self._close_all, self._open)

    def __getitem__(self, filename: str) -> int:
        if filename not in self._open:
            self._open[filename] = os.open(filename, os.O_RDONLY)
            if len(self._open) > 16:
                os.close(self._open.popitem(last=False)[1])
        self._open.move_to_end(filename)
        return self._open[filename]

    def close(self) -> None:
        self._close_all(self._open)

    @staticmethod
    def _close_all(opened: OrderedDict[str, int]) -> None:
        while opened:
            os.close(opened.popitem()[1])
