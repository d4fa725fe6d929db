"""How fast `mlsel check` is, against one h5py read of what it looks at.

    python -m benchmarks.check SCRATCH [--frames 100000]

Processor time of one core; near duplicates, which need a descriptor, apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py

from benchmarks.claims import Claims
from benchmarks.synthetic import write_synthetic_pool
from mlsel.check import CUTOFF, NEAR, checked_pool
from mlsel.pool.check import check
from mlsel.pool.pool import Pool
from mlsel.pool.thresholds import Thresholds

READ = ("particles/{}/position/value", "particles/{}/force/value", "particles/{}/box/edges/value",
        "observables/{}/energy/value")  # fmt: skip


def read_once(path: Path) -> None:
    """Read the datasets of every run with h5py alone."""
    with h5py.File(path, "r") as file:
        for run in list(file["particles"]):
            for name in READ:
                file[name.format(run)][()]


def busy(function: Callable[[], object], repeats: int) -> float:
    """Return the least processor time of some calls, s."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="benchmarks.check", description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--frames", type=int, default=100_000)
    args = parser.parse_args(argv)
    claims = Claims()
    args.scratch.mkdir(parents=True, exist_ok=True)
    path = args.scratch / f"pool-{args.frames}.h5"
    if not path.exists():
        write_synthetic_pool(path, args.frames)
    read_once(path)  # warms the cache
    reading = busy(lambda: read_once(path), 5)
    with Pool(path) as pool:
        plain = busy(lambda: check(pool), 1)
        whole = busy(lambda: checked_pool(pool, Thresholds(), NEAR, None), 1)
    claims.note(
        f"{args.frames} frames x 100 atoms: h5py {reading:.3f} s, check {plain:.2f} s, with near "
        f"duplicates (descriptors to {CUTOFF:g} Å) {whole:.2f} s"
    )
    claims.at_most("check without near duplicates: time / one h5py read", plain / reading, 3.0)
    return claims.end()


if __name__ == "__main__":
    sys.exit(main())
