"""A file of rows of doubles that grows during a run and can be cut back to a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

import numpy as np

from mlsel.core.files import DurableFile

BUFFER_BYTES = 8 * 2**20


class RowFile:
    """Appends rows; what is flushed is on the disk.

    Parameters
    ----------
    path : path
    n_kept : int
        Rows that a checkpoint counts; those beyond it are cut off before the first is added.

    Examples
    --------
    >>> import tempfile; folder = tempfile.TemporaryDirectory()
    >>> with RowFile(Path(folder.name, "rows"), 0) as rows:
    ...     rows.add([1.0, 2.0], 3.0); rows.add([4.0, 5.0], 6.0); rows.flush()
    >>> with RowFile(Path(folder.name, "rows"), 1) as rows:
    ...     rows.add([7.0, 8.0], 9.0); rows.flush()
    >>> np.fromfile(Path(folder.name, "rows")).reshape(-1, 3)[:, 0].tolist()
    [1.0, 7.0]
    >>> folder.cleanup()
    """

    def __init__(self, path: Path, n_kept: int) -> None:
        self.path = path
        self._n_kept = n_kept
        self._file: DurableFile | None = None
        self._buffer: list[bytes] = []
        self._n_bytes = 0
        self._is_on_disk = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, *parts: Any) -> None:
        """Add a row made of numbers and arrays."""
        row = np.concatenate([np.ravel(part) for part in parts]).astype(np.float64)
        if self._file is None:
            self.path.touch()
            self._file = DurableFile(self.path, "r+")
            if self.path.stat().st_size > self._n_kept * row.nbytes:
                self._file.truncate(self._n_kept * row.nbytes)
            self._file.seek(0, os.SEEK_END)
        self._buffer.append(row.tobytes())
        self._n_bytes += row.nbytes
        self._is_on_disk = False
        if self._n_bytes > BUFFER_BYTES:
            self._write()

    def _write(self) -> None:
        assert self._file is not None
        self._file.write(b"".join(self._buffer))
        self._buffer, self._n_bytes = [], 0

    def flush(self) -> None:
        """Bring all rows to the disk; where none was added since the last time, nothing is done."""
        if self._file is not None and not self._is_on_disk:
            self._write()
            self._file.sync()
            self._is_on_disk = True
