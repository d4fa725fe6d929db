"""Run an mlsel command that gets a signal at an exact moment: after a file has got its name.

    python at_operation.py PATTERN NUMBER COMMAND…

Each process sends itself the signal, once, before the first operation after a path that matches.
"""

from __future__ import annotations

import os
import sys
from fnmatch import fnmatch
from pathlib import Path

from mlsel.__main__ import main
from mlsel.cli import run_main
from mlsel.core import files


class AfterNaming:
    """Sends the signal."""

    def __init__(self, pattern: str, number: int) -> None:
        self._pattern, self._number = pattern, number
        self._is_named = self._is_done = False

    def __call__(self, kind: str, path: Path) -> None:
        if self._is_named and not self._is_done:
            self._is_done = True
            os.kill(os.getpid(), self._number)
        if kind == "rename" and fnmatch(str(path), self._pattern):
            self._is_named = True


if __name__ == "__main__":
    _, pattern, number, *words = sys.argv
    with files.operations(AfterNaming(pattern, int(number))):
        sys.exit(run_main(main, words))
