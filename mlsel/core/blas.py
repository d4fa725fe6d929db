"""The threads of NumPy's and SciPy's linear algebra.

OpenBLAS starts as many as there are cores, in every rank, and they wait by spinning. What
OMP_NUM_THREADS says counts when a library is loaded; afterwards only the library itself decides.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAMES = [
    f"{prefix}openblas_{{}}_num_threads{suffix}"
    for prefix in ("scipy_", "")
    for suffix in ("64_", "")
]


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Compute with n threads during the block; where BLAS is another one, as before."""
    before = []
    for library in _loaded():
        for name in _NAMES:
            if hasattr(library, name.format("set")):
                before.append((library, name, getattr(library, name.format("get"))()))
                getattr(library, name.format("set"))(n)
                break
    try:
        yield
    finally:
        for library, name, number in before:
            getattr(library, name.format("set"))(number)


def wanted_threads() -> int:
    """Return OMP_NUM_THREADS, or 1: cores are used by other ranks."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdigit() and int(said) else 1


def _loaded() -> list[ctypes.CDLL]:
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[-1] for line in lines if "openblas" in line}
    return [ctypes.CDLL(path) for path in sorted(paths)]
