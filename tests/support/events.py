"""Waiting for what happens in place of looking for it: changes in folders, the end of processes.

A limit says when a test gives up; nothing that it decides depends on time.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

MODIFIED, MOVED_FROM, MOVED_TO, CREATED, DELETED = 0x2, 0x40, 0x80, 0x100, 0x200
"""inotify(7)."""
CHANGES = MODIFIED | MOVED_FROM | MOVED_TO | CREATED | DELETED
MILLISECONDS = 1000


class FolderEvents:
    """Changes below a folder, in folders that come meanwhile too."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._system = ctypes.CDLL(None, use_errno=True)
        self._watched: set[str] = set()
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._descriptor = self._system.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def look_out(self) -> None:
        """Watch the folders that there are now."""
        for folder, _, _ in os.walk(self._root):
            if folder not in self._watched:
                self._system.inotify_add_watch(self._descriptor, folder.encode(), CHANGES)
                self._watched.add(folder)

    def wait(self, seconds: float) -> bool:
        """Wait for changes since the last call; return whether there were any."""
        if not is_readable(self._descriptor, seconds):
            return False
        self._forget_removed(os.read(self._descriptor, 2**20))
        return True

    def _forget_removed(self, events: bytes) -> None:
        """A folder that is made again is to be watched again."""
        at = 0
        while at < len(events):
            _, mask, _, length = struct.unpack_from("iIII", events, at)
            if mask & (DELETED | MOVED_FROM):
                self._watched = {folder for folder in self._watched if Path(folder).is_dir()}
            at += 16 + length


def until(condition: Callable[[], object], root: Path, seconds: float) -> bool:
    """Wait until something is so, asking again whenever something changed below a folder.

    Returns
    -------
    bool
        Whether it came to be so; False after so many seconds.
    """
    end = time.monotonic() + seconds
    with FolderEvents(root) as events:
        while True:
            events.look_out()  # first: what changes from here on is told
            if condition():
                return True
            left = end - time.monotonic()
            if left <= 0 or not events.wait(left):
                return bool(condition())


def is_readable(descriptor: int, seconds: float) -> bool:
    """Wait until a file can be read from; return whether that came."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(seconds * MILLISECONDS))


def has_ended(pid: int, seconds: float) -> bool:
    """Wait for the end of a process, which need not be this one's child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return is_readable(descriptor, seconds)
    finally:
        os.close(descriptor)
