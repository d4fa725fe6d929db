"""Frames that wait on the disk until all have been seen."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mlsel.pool.incoming import Incoming


class Spool:
    """Frames in a file without a name; it is gone with the process, however that ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by __exit__
        self._n = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, batch: list[Incoming]) -> None:
        pickle.dump(batch, self._file, protocol=5)
        self._n += 1

    def __iter__(self) -> Iterator[list[Incoming]]:
        self._file.seek(0)
        for _ in range(self._n):
            yield pickle.load(self._file)
