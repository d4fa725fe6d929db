"""What HDF5 says of a damaged file, as a sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlsel.core.errors import MlselError
from mlsel.core.hdf5_file import bounded


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Turn what h5py does with a damaged file into a sentence: what it raises, and what never ends.
    Nothing but reading belongs into the block."""
    with errors_told(path), bounded(path):
        yield


@contextmanager
def errors_told(path: Path) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into a sentence."""
    try:
        yield
    except (KeyError, OSError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.EACCES, errno.EIO):
            raise
        raise MlselError(
            f"{path} is damaged ({first_words(error)}): take a copy of it, or make it again."
        ) from None
    except (OverflowError, MemoryError, IndexError, AssertionError) as error:
        raise MlselError(
            f"{path} is damaged ({type(error).__name__}): take a copy of it, or make it again."
        ) from None


def first_words(error: BaseException) -> str:
    """Return what an error says, in one line of at most 160 characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else text[:157] + "…"
