"""HDF5 files: written so that the library never meets an error of the disk, read so that a damaged
one is a sentence.

On a full disk the library leaves its own state broken: what follows is another error, or a crash.
So it writes through a file of ours, which keeps the first error and takes what comes after it as if
nothing were wrong; nothing of that file is kept, and the error is raised as what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import h5py

from mlsel.core.endless import told_if_endless
from mlsel.core.files import DurableFile, creating


class _Patient(DurableFile):
    """A file that keeps its first error."""

    failure: BaseException | None = None

    def write(self, data: Any) -> int:
        if self.failure is None:
            try:
                return super().write(data)
            except BaseException as error:  # nothing may be raised through HDF5
                self.failure = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        if self.failure is None:
            try:
                return super().truncate(size)
            except BaseException as error:  # nothing may be raised through HDF5
                self.failure = error
        return size or 0

    def check(self) -> None:
        """Raise the error that was kept, if there is one."""
        if self.failure is not None:
            raise self.failure


@contextmanager
def creating_hdf5(path: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Yield a new HDF5 file that becomes `path` if the block succeeds, and a function that raises
    what went wrong so far; the end of the block does so in any case.

    >>> import tempfile; folder = tempfile.TemporaryDirectory()
    >>> with creating_hdf5(Path(folder.name, "x.h5")) as (file, check):
    ...     file["a"] = [1.0, 2.0]; check()
    >>> with h5py.File(Path(folder.name, "x.h5")) as file:
    ...     file["a"][()].tolist()
    [1.0, 2.0]
    >>> folder.cleanup()
    """
    with creating(path, _Patient) as raw:
        try:
            with h5py.File(raw, "w") as file:
                yield file, raw.check
        except Exception:
            raw.check()  # the cause of whatever came after it
            raise
        raw.check()


def bounded(path: Path) -> AbstractContextManager[None]:
    """Return what ends the process with a sentence if HDF5 reads a damaged file without end."""
    return told_if_endless(
        f"{path} is damaged: the HDF5 library reads in it without end; take a copy of it, or make "
        "it again."
    )


@contextmanager
def reading_hdf5(path: Path) -> Iterator[h5py.File]:
    """Yield an HDF5 file open for reading, which is read within the block and nothing else done."""
    with bounded(path), h5py.File(path, "r", locking=False) as file:
        yield file
