"""Kills at counted operations on the disk, in one process.

From the k-th operation on none succeeds, so that neither a `finally` nor an `except` can do what a
killed process can't.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path

from mlsel.core import files

NOT_COMPARED = (".lock-guard",)
VOLATILE = ("log.lammps", "timing.json", "checkpoint.pt", "model.pt")
"""Files whose contents differ from run to run: times, what a run that went on printed, the numbers
that TorchScript gives to the classes of a process."""


class Killed(BaseException):
    """What nothing catches."""


WRITES = ("write", "sync")
"""Operations that a full disk refuses."""


class Operations:
    """Counts operations, and names them."""

    def __init__(self) -> None:
        self.n = 0
        self.kinds: list[str] = []

    def __call__(self, kind: str, path: Path) -> None:
        self.n += 1
        self.kinds.append(f"{kind} {path.name}")


class Kill(Operations):
    """Kills at the k-th operation."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def __call__(self, kind: str, path: Path) -> None:
        super().__call__(kind, path)
        if self.n >= self.k:
            raise Killed(f"operation {self.n}: {kind} {path}")


class FullDisk(Operations):
    """Refuses writes from the k-th operation on."""

    def __init__(self, k: int, number: int) -> None:
        super().__init__()
        self.k, self.number = k, number

    def __call__(self, kind: str, path: Path) -> None:
        super().__call__(kind, path)
        if self.n >= self.k and kind in WRITES:
            raise OSError(self.number, os.strerror(self.number))


def count(work: Callable[[], object]) -> Operations:
    """Return how many operations some work does."""
    operations = Operations()
    with files.operations(operations):
        work()
    return operations


def killed_at(k: int, work: Callable[[], object]) -> bool:
    """Do some work up to its k-th operation; return whether it came to that."""
    try:
        with files.operations(Kill(k)):
            work()
    except Killed:
        return True
    return False


def contents(folder: Path) -> dict[str, str]:
    """Return every file and empty folder below a folder, with a hash of what is in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name in NOT_COMPARED or (path.is_dir() and any(path.iterdir())):
            continue
        found[str(path.relative_to(folder))] = "" if path.is_dir() else _digest(path)
    return found


def _digest(path: Path) -> str:
    if path.name in VOLATILE:
        return ""
    data = path.read_bytes()
    if path.name == "verdicts.json":
        known = json.loads(data)
        known.pop("speeds")
        data = json.dumps(known).encode()
    if path.name == "metrics.csv":  # the last column is a rate
        data = b"".join(line.rpartition(b",")[0] for line in data.splitlines())
    return hashlib.sha256(data).hexdigest()


def sample(n: int, size: int | None) -> list[int]:
    """Return the points to try of 1 … n: all, or a seeded sample with the last ones."""
    if size is None or n <= size:
        return list(range(1, n + 1))
    chosen = random.Random(20261125).sample(range(1, n - 1), size - 2)
    return sorted({*chosen, n - 1, n})


def try_points(
    prepare: Callable[[Path], Callable[[], object]], folder: Path, size: int | None
) -> None:
    """Check that work killed at its points and done again leaves what work left alone leaves.

    Every third time it is killed once more while it goes on.

    Parameters
    ----------
    prepare : callable
        Gets an empty folder, lays down what the work needs; returns the work. What does not
        change goes beside the folder.
    folder : path
        An empty folder.
    size : int, optional
        How many points are tried; None: all.
    """

    def begin(name: str) -> tuple[Path, Callable[[], object]]:
        place = folder / name
        place.mkdir()
        return place, prepare(place)

    twin, work = begin("twin")
    whole = count(work)
    expected = contents(twin)
    assert whole.n > 5
    for k in sample(whole.n, size):
        place, work = begin(f"killed-{k}")
        assert killed_at(k, work), f"{k} of {whole.n}"
        if k % 3 == 0:
            killed_at(random.Random(k).randint(1, whole.n), work)
        work()
        found = contents(place)
        differing = {name for name, _ in found.items() ^ expected.items()}
        assert not differing, f"{k} of {whole.n}, {whole.kinds[k - 1]}: {sorted(differing)}"
