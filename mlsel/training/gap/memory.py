"""How much memory gap_fit takes, and how many fits may run side by side."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GIB = 2**30
PROGRAM_BYTES = 100 * 2**20
"""gap_fit before it reads anything, with its libraries."""


def total_memory() -> int:
    """Return the bytes that this process may use: the machine's, or its control group's."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
    except OSError:
        return total
    return min(total, int(text)) if text.isdigit() else total


@contextmanager
def admitted(need: int, memory: float) -> Iterator[int]:
    """Hold one of as many places as fits have room for in this machine's memory.

    A place is a lock on a file, which the system takes back when the process ends.
    """
    room = memory or 0.9 * total_memory()
    n_places = max(1, int(room // max(1, need)))
    folder = Path(tempfile.gettempdir(), f"mlsel-fits-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    waited = 0.05
    while True:
        for place in range(n_places):
            with (folder / str(place)).open("w", encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield file.fileno()
                return
        time.sleep(waited)
        waited = min(1.0, 1.5 * waited)
