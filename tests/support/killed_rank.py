"""Run an mlsel command of which one rank kills itself at a counted operation on the disk.

    python killed_rank.py RANK K COUNTS COMMAND…

Before its K-th operation; with K = 0 it writes their number to the file COUNTS instead.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from mlsel.__main__ import main
from mlsel.cli import run_main
from mlsel.core import files
from mlsel.core.parallel import launched_rank

if __name__ == "__main__":
    _, rank, k, counts, *words = sys.argv
    n = 0

    def count(kind: str, path: Path) -> None:
        global n
        n += 1
        if n == int(k):
            os.kill(os.getpid(), signal.SIGKILL)

    if launched_rank() != int(rank):
        sys.exit(run_main(main, words))
    with files.operations(count):
        code = run_main(main, words)
    if int(k) == 0:
        Path(counts).write_text(str(n), encoding="utf-8")
    sys.exit(code)
