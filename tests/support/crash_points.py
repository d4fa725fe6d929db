"""Kills and refused writes at counted operations on the disk.

All operations go through `mlsel.core.files`, and a process that is killed at one leaves the folder
as it is right then. So one undisturbed run shows all crash points: before each operation its folder
is copied. Each copy that differs from the others is put back and the work done again, and the end
must be the twin's files and nothing else; what a run that goes on shows is tried like the rest.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mlsel.cli import _told as told
from mlsel.core import files
from mlsel.core.errors import MlselError

Work = Callable[[], object]
Prepare = Callable[[Path], Work]
"""Gets an empty folder, lays down what the work needs; returns the work. What does not change goes
beside the folder."""

Again = tuple[Callable[[bool], object], Work]
"""work(again) of a study, and the work of another whose products are there."""

VOLATILE = ("log.lammps", "timing.json", "checkpoint.pt", "model.pt", "gap_fit.log")
"""Files whose contents differ from run to run: times, what a run that went on printed, the numbers
that TorchScript gives to the classes of a process."""
NOT_READ = ("log.lammps", "gap_fit.log", "timing.json")
"""Files that no start looks at, but for a speed."""
WRITES = ("write", "sync")
"""Operations that a full disk refuses."""
SEED = 20261125


class Killed(BaseException):
    """What nothing catches."""


class Operations:
    """Counts operations, and names them."""

    def __init__(self) -> None:
        self.n = 0
        self.kinds: list[str] = []

    def __call__(self, kind: str, path: Path) -> None:
        self.n += 1
        self.kinds.append(f"{kind} {path.name}")


class Kill(Operations):
    """Kills at the k-th operation: from it on none succeeds, so that neither a `finally` nor an
    `except` can do what a killed process can't."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def __call__(self, kind: str, path: Path) -> None:
        super().__call__(kind, path)
        if self.n >= self.k:
            raise Killed(f"operation {self.n}: {kind} {path}")


@dataclass(frozen=True)
class Point:
    """A crash point: what comes next, the how-manieth time in a row, and the folder as it is."""

    name: str
    kind: str
    path: Path
    folder: Path
    n_alike: int = 1
    """How many operations in a row are this one, writes of one file."""


class Snapshots(Operations):
    """Copies a folder before each operation, unless it was already seen as it is."""

    def __init__(self, place: Path, store: Path, known: set[str]) -> None:
        super().__init__()
        self._place, self._store, self._known = place, store, known
        self.points: list[Point] = []
        self.writes: list[Point] = []
        self._digests: dict[tuple[object, ...], str] = {}
        self._last: tuple[str, Path, int] | None = None

    def __call__(self, kind: str, path: Path) -> None:
        super().__call__(kind, path)
        if self._last is not None and self._last[:2] == (kind, path) and _is_partial(path):
            if kind in WRITES:
                last = self.writes.pop()
                self.writes.append(replace(last, n_alike=last.n_alike + 1))
            return  # one more piece of a temporary file, which no start reads
        point = self._take(f"{self.n}, {kind} {path.name}", kind, path)
        if self._last is not None and self._last[0] == "write" and not _is_partial(self._last[1]):
            self._take_torn(*self._last[1:])
        if kind in WRITES:
            self.writes.append(point)
        size = path.stat().st_size if path.is_file() else 0
        self._last = kind, path, size

    def _take(self, name: str, kind: str, path: Path) -> Point:
        key = self.key()
        folder = self._store / key
        point = Point(name, kind, path.relative_to(self._place), folder)
        if key not in self._known:
            self._known.add(key)
            _copy(self._place, folder)
            self.points.append(point)
        return point

    def _take_torn(self, path: Path, before: int) -> None:
        """A write in place may be killed in its middle."""
        after = path.stat().st_size if path.is_file() else 0
        name = f"{self.n}, in the middle of a write of {path.name}"
        key = hashlib.sha256(f"{self.key()} {(before + after) // 2}".encode()).hexdigest()
        if after - before < 2 or path.name in NOT_READ or key in self._known:
            return
        self._known.add(key)
        folder = self._store / key
        _copy(self._place, folder)
        os.truncate(folder / path.relative_to(self._place), (before + after) // 2)
        self.points.append(Point(name, "write", path.relative_to(self._place), folder))

    def key(self) -> str:
        """Return a hash of all that a start can read in the folder."""
        found: list[str] = []
        self._add_to(found, str(self._place), len(str(self._place)) + 1)
        return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()

    def _add_to(self, found: list[str], folder: str, n: int) -> None:
        """Add what is in a folder; by os.scandir, since this is done before each operation."""
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".lock"):
                    continue
                is_read, said = files.PARTIAL not in entry.path[n:], ""
                if entry.is_dir(follow_symlinks=False):
                    if is_read:
                        self._add_to(found, entry.path, n)
                elif is_read and entry.name not in NOT_READ:
                    stat = entry.stat()
                    mark = (entry.path, stat.st_ino, stat.st_mtime_ns, stat.st_size)
                    if mark not in self._digests:
                        self._digests[mark] = _digest(Path(entry.path))
                    said = self._digests[mark]
                found.append(f"{entry.path[n:]} {said}")


class FullDisk(Operations):
    """Refuses writes from the k-th operation on."""

    def __init__(self, k: int, number: int) -> None:
        super().__init__()
        self.k, self.number = k, number

    def __call__(self, kind: str, path: Path) -> None:
        super().__call__(kind, path)
        if self.n >= self.k and kind in WRITES:
            raise OSError(self.number, os.strerror(self.number))


class Refusal(Operations):
    """Refuses all writes from the k-th operation of this kind on this file on."""

    def __init__(self, kind: str, path: Path, k: int, number: int) -> None:
        super().__init__()
        self._what, self._k, self._number = (kind, path), k, number
        self._is_full = False

    def __call__(self, kind: str, path: Path) -> None:
        super().__call__(kind, path)
        self._k -= (kind, path) == self._what
        self._is_full |= self._k == 0
        if self._is_full and kind in WRITES:
            raise OSError(self._number, os.strerror(self._number))


@contextmanager
def unsynced() -> Iterator[None]:
    """Bring nothing to the disk for a while: what the process wrote, a start after it reads."""
    fsync = os.fsync
    os.fsync = lambda fd: None
    try:
        yield
    finally:
        os.fsync = fsync


def count(work: Work) -> Operations:
    """Return the operations that some work does."""
    operations = Operations()
    with files.operations(operations):
        work()
    return operations


def at_the_kth(k: int, there: Callable[[], None], work: Work) -> int:
    """Do something else before the k-th operation of some work; return the operations."""
    n = 0

    def watch(kind: str, path: Path) -> None:
        nonlocal n
        n += 1
        if n == k:
            there()

    with files.operations(watch):
        work()
    return n


def contents(folder: Path) -> dict[str, str]:
    """Return every file and empty folder below a folder, with a hash of what is in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name == ".lock-guard" or (path.is_dir() and any(path.iterdir())):
            continue
        is_told = path.is_dir() or path.name in VOLATILE
        found[str(path.relative_to(folder))] = "" if is_told else _digest(path)
    return found


def _is_partial(path: Path) -> bool:
    """Whether a file or folder is temporary, or in a temporary folder: no start reads it."""
    return files.PARTIAL in str(path)


def _copy(folder: Path, target: Path) -> None:
    """Copy a folder, in which another program may be at work (gap_fit, in a temporary one)."""

    def copy(source: str, made: str) -> None:
        try:
            shutil.copy2(source, made)
        except FileNotFoundError:
            assert _is_partial(Path(source))

    shutil.copytree(folder, target, ignore=shutil.ignore_patterns(".lock*"), copy_function=copy)


def _digest(path: Path) -> str:
    data = path.read_bytes()
    if path.name == "verdicts.json":
        known = json.loads(data)
        known.pop("speeds")
        data = json.dumps(known).encode()
    if path.name == "metrics.csv":  # the last column is a rate
        data = b"".join(line.rpartition(b",")[0] for line in data.splitlines())
    if path.name == "gap.json":  # how long it took
        known = json.loads(data)
        known.pop("seconds")
        data = json.dumps(known).encode()
    if path.name == "model.json":
        known = json.loads(data)
        for part in (known, known.get("result", {})):
            part.pop("seconds", None)
        known.get("files", {}).pop("gap.json", None)  # which says how long it took
        data = json.dumps(known).encode()
    return hashlib.sha256(data).hexdigest()


def sample[T](things: list[T], size: int | None) -> list[T]:
    """Return all, or a seeded sample with the last ones, in their order."""
    if size is None or len(things) <= size:
        return things
    last = [len(things) - 1, len(things) - 2][: max(0, size - 1)]
    chosen = random.Random(SEED).sample(range(len(things) - len(last)), size - len(last))
    return [things[k] for k in sorted([*chosen, *last])]


class Trial:
    """Some work, done once as it should be and looked at while it is done.

    Parameters
    ----------
    prepare : see `Prepare`
    folder : path
        An empty folder.
    """

    def __init__(self, prepare: Prepare, folder: Path) -> None:
        self.place, self._store = folder / "work", folder / "states"
        self.place.mkdir()
        self._store.mkdir()
        prepared = prepare(self.place)

        def work() -> None:
            with unsynced():
                prepared()

        self.work = work
        self._known: set[str] = set()
        self.whole = self._snapshots()
        with files.operations(self.whole):
            self.work()
        self.points, self.writes = list(self.whole.points), list(self.whole.writes)
        self.expected = contents(self.place)
        self.sound = {self.whole.key()}
        """States that a start is known to bring to the twin's files."""

    def _snapshots(self) -> Snapshots:
        return Snapshots(self.place, self._store, self._known)

    def restore(self, point: Point) -> None:
        """Put the folder back to a crash point."""
        shutil.rmtree(self.place)
        shutil.copytree(point.folder, self.place)

    def check(self, what: str) -> None:
        """Compare with the twin."""
        found = contents(self.place)
        differing = sorted({name for name, _ in found.items() ^ self.expected.items()})
        assert not differing, f"{what}: {differing}"

    def kills(self, size: int | None = None) -> int:
        """Check each crash point, or a sample, then a share of those that restarts have.

        Returns
        -------
        int
            Starts that were tried.
        """
        seconds: list[Point] = []
        chosen = sample(self.points, size)
        for point in chosen:
            seconds += self._again_from(point)
        twice = sample(seconds, max(2, len(chosen) // 4))
        for point in twice:
            self._again_from(point)
        return len(chosen) + len(twice)

    def _again_from(self, point: Point) -> list[Point]:
        """Start again; return the crash points of this start that were not seen before."""
        self.restore(point)
        snapshots = self._snapshots()
        with files.operations(snapshots):
            self.work()
        self.check(f"killed before operation {point.name}")
        self.sound.add(point.folder.name)
        for one in snapshots.points:
            if "middle" not in one.name:
                object.__setattr__(one, "name", f"{one.name}, after {point.name}")
        return snapshots.points

    def refusals(self, size: int | None = None, *, every_piece: bool = False) -> int:
        """Check that each write that is refused, with ENOSPC and with EIO, is told in a sentence,
        and that a start with room again makes the twin.

        Parameters
        ----------
        every_piece : bool
            Of the many writes of one temporary file try all, not three.

        Returns
        -------
        int
            Writes that were refused.
        """
        n_refused = 0
        for point in sample(self.writes, size):
            n = point.n_alike
            pieces = {1, n // 2 + 1, n}
            for k in range(1, n + 1) if every_piece else sorted(pieces):
                for number in (errno.ENOSPC, errno.EIO):
                    n_refused += self._refuse(point, k, number)
        return n_refused

    def _refuse(self, point: Point, k: int, number: int) -> bool:
        what = f"{os.strerror(number)} at piece {k} of {point.name}"
        self.restore(point)
        snapshots = self._snapshots()
        try:
            with files.operations(Refusal(point.kind, self.place / point.path, k, number)):
                self.work()
        except OSError as error:
            assert error.errno == number and told(error), what
        except MlselError as error:
            assert os.strerror(number) in str(error) and len(str(error)) <= 400, what
        else:
            self.check(f"{what}, which was not to be written")
            return False
        key = snapshots.key()
        if key not in self.sound:
            self.work()
            self.check(what)
            self.sound.add(key)
        return True


def again_points(
    prepare: Callable[[Path], Again],
    folder: Path,
    size: int | None = None,
) -> Counter[str]:
    """Check `--again` killed at its crash points: whatever is done then, nothing stands for
    something else.

    Parameters
    ----------
    prepare : callable
        Gets an empty folder and makes in it the products of one study; returns work(again) of
        another study, and the work of the first.

    Returns
    -------
    Counter
        How often the command without --again was "refused", or "finished"; and for the first
        study's command "the first refused" and "the first finished".
    """
    works: list[tuple[Callable[[bool], object], Work]] = []
    old: dict[str, str] = {}

    def begin(place: Path) -> Work:
        works.append(prepare(place))
        old.update(contents(place))
        return lambda: works[0][0](True)

    trial = Trial(begin, folder)
    make, make_first = works[0]
    found: Counter[str] = Counter()
    for point in sample(trial.points, size):
        trial.restore(point)
        try:
            make(False)
        except MlselError as error:
            assert "--again" in str(error), f"{point.name}: {error}"
            found["refused"] += 1
            make(True)
        else:
            found["finished"] += 1
        trial.check(f"--again killed before operation {point.name}")
        trial.restore(point)
        try:
            make_first()
        except MlselError as error:
            assert "--again" in str(error), f"{point.name}: {error}"
            found["the first refused"] += 1
        else:
            there = contents(trial.place)
            differing = sorted({name for name, _ in there.items() ^ old.items()})
            assert not differing, f"the first study's, {point.name}: {differing}"
            found["the first finished"] += 1
    return found
