"""Check on ranks: what one process tells."""

from __future__ import annotations

from pathlib import Path

import h5py

from benchmarks.synthetic import write_synthetic_pool
from tests.support import run_mlsel


def test_ranks_share_the_frames(tmp_path: Path) -> None:
    pool = tmp_path / "pool.h5"
    write_synthetic_pool(pool, 60, n_atoms=10, frames_per_run=35)
    with h5py.File(pool, "r+") as file:
        run = file["particles/run-0001"]
        for name in ("position", "box/edges"):
            values = run[name]["value"]
            values[20] = values[3]
            values[21] = values[4]
        run["position/value"][21] = run["position/value"][4] + 1e-4
    one = run_mlsel("check", pool)
    two = run_mlsel("check", pool, ranks=2)
    assert one.returncode == two.returncode == 0, two.stderr
    assert one.stdout == two.stdout
    assert "are copies of each other with other energies" in one.stdout
    assert "are nearly a frame before" in one.stdout
