"""StoredFrames: the frames of a run that is not finished, read from its rows a few at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlsel.core.arrays import FloatArray, IntArray

BLOCK_BYTES = 8 * 2**20


@dataclass(frozen=True)
class StoredFrames:
    """Positions in a file of rows: a step and the coordinates of all atoms, as doubles.

    A slice of it is an array (n_frames, N, 3), Å; a whole trajectory may be larger than the memory.
    """

    path: Path
    n_atoms: int

    @property
    def _row(self) -> int:
        return 1 + 3 * self.n_atoms

    def __len__(self) -> int:
        return self.path.stat().st_size // (8 * self._row) if self.path.is_file() else 0

    def __getitem__(self, part: slice, /) -> FloatArray:
        return self._rows(part)[:, 1:].reshape(-1, self.n_atoms, 3)

    def _rows(self, part: slice) -> FloatArray:
        start, stop, step = part.indices(len(self))
        n = max(0, stop - start)
        if step != 1:
            raise ValueError("frames are read one after the other")
        if not n:
            return np.empty((0, self._row))
        found = np.fromfile(self.path, count=n * self._row, offset=8 * start * self._row)
        return found.reshape(n, self._row)

    def steps(self) -> IntArray:
        """Return the step of each frame, (n_frames,)."""
        n = max(1, BLOCK_BYTES // (8 * self._row))
        parts = [self._rows(slice(k, k + n))[:, 0].copy() for k in range(0, len(self), n)]
        return np.concatenate([np.empty(0), *parts]).astype(np.int64)
