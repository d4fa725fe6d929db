"""How products get onto the disk: the one door for everything that must survive a kill.

A product is written under a temporary name and renamed when it is whole, so that its final name is
the only sign of completion. The temporary name carries the process that writes it: two commands
never share one, and what a killed one left is known to be dead and swept.

Every operation that a kill or a full disk can come between (write, truncate, sync, rename, link,
remove) goes through here, so that `operations` can count them and let any one fail.
"""

from __future__ import annotations

import errno
import glob
import gzip
import io
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, cast

PARTIAL = ".partial"
Watcher = Callable[[str, Path], None]
_watchers: list[Watcher] = []
_live: set[Path] = set()
"""Temporary files that this process is writing."""


@contextmanager
def operations(watcher: Watcher) -> Iterator[None]:
    """Call watcher(kind, path) before each operation during the block; what it raises comes in the
    operation's place."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


@contextmanager
def operation(kind: str, path: Path) -> Iterator[None]:
    """Do an operation on the disk; an error of the system says on which file."""
    try:
        for watcher in _watchers:
            watcher(kind, path)
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            raise OSError(error.errno, os.strerror(error.errno), str(_product(path))) from None
        raise


def rename(source: Path, target: Path) -> None:
    """Give a file or folder another name in one step, replacing a file that has it."""
    with operation("rename", target):
        source.replace(target)


NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


def link(source: Path, target: Path) -> None:
    """Give a file that is never written to again a second name, in one step; a copy where the file
    system has no such names."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with operation("link", target):
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            with finishing(target) as partial:
                shutil.copyfile(source, partial)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it is there."""
    if os.path.lexists(path):
        with operation("remove", path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def aside(path: Path) -> Path:
    """Return where a product lies that was taken away but is not yet removed."""
    return path.with_name(f".{path.name}.aside")


def take_away(*paths: Path) -> None:
    """Remove products, each gone from its place in one step."""
    for path in paths:
        sweep(path)
        with suppress(FileNotFoundError):
            rename(path, aside(path))
            sweep(path)


def sweep(path: Path) -> None:
    """Remove what an earlier start took away from this place and was killed before removing."""
    remove(aside(path))


def sync(path: Path) -> None:
    """Bring a file that someone else wrote to the disk."""
    with operation("sync", path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def publish(partial: Path, path: Path) -> None:
    """Give a finished temporary file its final name, durably."""
    sync(partial)
    rename(partial, path)


class DurableFile(io.FileIO):
    """An unbuffered binary file, opened with mode "w", "x+" or "r+"."""

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self.path = path

    def write(self, data: Any) -> int:
        """Write all of it."""
        with memoryview(data).cast("B") as view:
            with operation("write", self.path):
                done = 0
                while done < len(view):
                    done += super().write(view[done:])
            return len(view)

    def truncate(self, size: int | None = None) -> int:
        with operation("truncate", self.path):
            return super().truncate(size)

    def sync(self) -> None:
        """Bring what was written to the disk."""
        with operation("sync", self.path):
            os.fsync(self.fileno())


@cache
def _here() -> str:
    """Where process ids mean something: a host and its namespace of them."""
    namespace = ""
    with suppress(OSError):
        namespace = re.sub(r"\D", "", Path("/proc/self/ns/pid").readlink().name)
    return f"{socket.gethostname()}-{namespace}"


def partial_path(path: Path) -> Path:
    """Return this process's temporary name for a product: hidden, beside it, without its suffix.

    >>> partial_path(Path("runs/a/run.h5")).name.startswith(".run.h5.")
    True
    """
    return path.with_name(f".{path.name}.{_here()}.{os.getpid()}{PARTIAL}")


def _product(path: Path) -> Path:
    """Return what a temporary file of this process's is to become."""
    name = path.name.removesuffix(f".{_here()}.{os.getpid()}{PARTIAL}")
    return path if name == path.name else path.with_name(name.removeprefix("."))


def _is_dead(partial: Path) -> bool:
    """Whether the process that wrote a temporary file is known to have ended."""
    if partial in _live:
        return False
    head, _, pid = partial.name.rpartition(PARTIAL)[0].rpartition(".")
    if not head.endswith(f".{_here()}") or not pid.isdigit():
        return False
    if int(pid) != os.getpid():
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
    return int(pid) == os.getpid()


def sweep_partials(folder: Path, product: str = "", *, alone: bool = False) -> None:
    """Remove the temporary files that killed processes left in a folder, and what others put
    beside these under longer names (SQLite's journal, gap_fit's sparse points).

    Parameters
    ----------
    folder : path
    product : str, optional
        Only those of the product of this name.
    alone : bool
        Whether nobody else writes in the folder, so that those of other hosts go too.
    """
    pattern = f".{glob.escape(product)}.*{PARTIAL}*" if product else f".*{PARTIAL}*"
    for partial in sorted(folder.glob(pattern)):
        if partial not in _live and (alone or _is_dead(partial)):
            remove(partial)


@contextmanager
def _partial_of(path: Path) -> Iterator[Path]:
    """Yield an empty temporary file, this process's alone; it is removed if it is still there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_partials(path.parent, path.name)
    partial = partial_path(path)
    partial.touch(exist_ok=False)
    _live.add(partial)
    try:
        yield partial
    finally:
        _live.discard(partial)
        remove(partial)


@contextmanager
def finishing(path: Path) -> Iterator[Path]:
    """Yield a temporary file's path that becomes `path` if the block succeeds and vanishes if not;
    for what others write. `creating` is for what we write ourselves."""
    with _partial_of(path) as partial:
        try:
            yield partial
            publish(partial, path)
        finally:
            for left in path.parent.glob(f"{glob.escape(partial.name)}?*"):
                remove(left)


@contextmanager
def creating[F: DurableFile](path: Path, kind: type[F]) -> Iterator[F]:
    """Yield a new file, open, that becomes `path` if the block succeeds and vanishes if not."""
    with _partial_of(path) as partial:
        with kind(partial, "r+") as file:
            yield file
            file.sync()
        rename(partial, path)


@contextmanager
def creating_text(path: Path, *, packed: bool = False) -> Iterator[io.TextIOWrapper]:
    """Yield a new text file, written in large pieces, that becomes `path` as with `creating`.

    Packed by gzip it says neither name nor time: the same text is the same file.
    """
    with creating(path, DurableFile) as raw:
        pieces = io.BufferedWriter(raw, 2**20)
        file = gzip.GzipFile("", "wb", fileobj=pieces, mtime=0) if packed else pieces
        text = io.TextIOWrapper(cast("io.BufferedWriter", file), encoding="utf-8", newline="\n")
        yield text
        text.flush()
        if packed:
            file.close()
            pieces.flush()


@contextmanager
def creating_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` if the block succeeds and vanishes if not; what
    has the name until then is taken away in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_partials(path.parent, path.name)
    sweep(path)
    partial = partial_path(path)
    partial.mkdir()
    _live.add(partial)
    try:
        yield partial
        take_away(path)
        rename(partial, path)
    finally:
        _live.discard(partial)
        remove(partial)


def write_bytes(path: Path, data: Any) -> None:
    """Write a file by rename."""
    with creating(path, DurableFile) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file by rename."""
    write_bytes(path, text.encode())


FORMAT = 1
"""Of the files that mlsel writes; one without `format_version` is of version 1."""


def write_json(path: Path, value: Any) -> None:
    """Write JSON by rename, keys in the order given; an object says its format_version."""
    if isinstance(value, dict):
        value = {"format_version": FORMAT, **value}
    write_text(path, json.dumps(value, indent=2) + "\n")
