"""A job that is killed at its k-th change of a folder: every such point is counted, no luck."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHANGES = ("rename", "replace", "unlink", "rmdir")
"""Of `os`: whatever gives a file its name or takes it away goes through these."""


class Cut(BaseException):
    """What a kill is to the code: it happens, and nothing after it does."""


class Changes:
    """Counts the changes of names in the file system; from the k-th on each raises `Cut`."""

    def __init__(self) -> None:
        self.n = 0
        self.limit: int | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in CHANGES:
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **options: Any) -> Any:
            self.n += 1
            if self.limit is not None and self.n >= self.limit:
                raise Cut
            return real(*arguments, **options)

        return change


def at_every_point(folder: Path, act: Callable[[], None], check: Callable[[], None]) -> int:
    """Cut `act` at its first, second, … change; after each cut `check`. Return how many there are.

    Parameters
    ----------
    folder : path
        What `act` changes; each time it begins with it as it is now.
    check : callable
        Starts again, and looks at what comes of it.
    """
    before = folder.with_name(f"{folder.name}-before")
    shutil.copytree(folder, before)
    for k in range(1, 1000):
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        with pytest.MonkeyPatch.context() as monkeypatch:
            changes = Changes()
            changes.install(monkeypatch)
            changes.limit = k
            try:
                act()
                was_cut = False
            except Cut:
                was_cut = True
        if not was_cut:
            return k - 1
        check()
    raise AssertionError("it never came to its end")


def names(folder: Path) -> list[str]:
    """Return all files of a folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
