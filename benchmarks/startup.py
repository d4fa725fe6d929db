"""Start-up: what `mlsel COMMAND --help` costs, for every command.

    python -m benchmarks.startup

The processor time of a new process (the least of a few), which other users of the machine change
less than the clock. `tests/fast/test_imports.py` holds what it follows from: no command imports
NumPy or h5py before it has work to do.
"""

from __future__ import annotations

import resource
import subprocess
import sys

from benchmarks.claims import Claims
from mlsel.__main__ import COMMANDS, TOOLS

REPEATS = 5


def processor_time(words: list[str]) -> float:
    """Return the least processor time of a command / s."""
    times = []
    for _ in range(REPEATS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def main() -> int:
    """Time every command's --help."""
    claims = Claims()
    times = {name: processor_time(["-m", "mlsel", name, "--help"]) for name in (*COMMANDS, *TOOLS)}
    claims.note(f"python -c pass {processor_time(['-c', 'pass']):.3f} s of processor time")
    for name, time in sorted(times.items(), key=lambda item: -item[1]):
        claims.at_most(f"mlsel {name} --help / s of processor time", time, 0.15)
    return claims.end()


if __name__ == "__main__":
    sys.exit(main())
