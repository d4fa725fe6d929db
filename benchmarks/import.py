"""Import against ASE's own reading of the same extended XYZ: ratios, measured side by side.

    python -m benchmarks.import [--frames 16000] [--repeats 3]

- time of `mlsel import`, from the file to the finished pool, against `ase.io.iread` to the last
  frame, both after Python and their packages are there, in turn and each in a process of its own;
- the same on one core, and what of the text is read in a second of processor time;
- peak memory of an import of n and of 8 n frames;
- the same of molecules of a hundred compositions in any order;
- whether the pool is the one that is made through ASE.

Exit code 1 when a claim falls short.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.claims import Claims

ONE = """
import json, os, resource, sys, time
from pathlib import Path
what, path, pool, cores = sys.argv[1:]
if cores == "1":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from ase.io import iread
import mlsel.pool.importing as importing
from mlsel.pool.extxyz_scan import library
from mlsel.pool.pool import Pool
from mlsel.pool.sources import ReadOptions, read_batches
library()
told = {}
wall, work = time.perf_counter(), time.process_time()
if what == "ase":
    for _ in iread(path):
        pass
elif what == "read":
    for _ in read_batches(Path(path), 0, ReadOptions()):
        pass
else:
    importing.import_trajectories([Path(path)], Path(pool))
told["wall"], told["work"] = time.perf_counter() - wall, time.process_time() - work
told["MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
if what == "import":
    with Pool(pool) as made:
        told["digest"] = made.digest
print(json.dumps(told))
"""


def one(what: str, path: Path, *, cores: int = 2, kernels: bool = True) -> dict[str, float]:
    """Do one thing with a file in a process of its own; return its wall and work (s) and MiB."""
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[1]), OMP_NUM_THREADS="1")
    if not kernels:
        environment["MLSEL_NO_KERNELS"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", ONE, what, str(path), str(path.with_suffix(".h5")), str(cores)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{what} failed:\n{done.stderr[-4000:]}")
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def write_melt(path: Path, n_frames: int, n_atoms: int = 100) -> None:
    """Write frames of one composition with energy, forces, stress and a name, as ASE would."""
    generator = np.random.default_rng(1)
    species = ["Na", "Cl"] * (n_atoms // 2)
    grid = np.stack(np.meshgrid(*[np.arange(5) * 2.9] * 3), -1).reshape(-1, 3)[:n_atoms]
    properties = "Properties=species:S:1:pos:R:3:REF_forces:R:3"
    with path.open("w", encoding="ascii") as file:
        for k in range(n_frames):
            stress = " ".join(map(repr, generator.normal(size=9).tolist()))
            file.write(
                f'{n_atoms}\nLattice="14.5 0.0 0.0 0.0 14.5 0.0 0.0 0.0 14.5" {properties} '
                f'REF_energy={generator.normal(-340)!r} REF_stress="{stress}" config_type=melt '
                f'name=frame-{k} pbc="T T T"\n'
            )
            rows = np.hstack([grid + generator.normal(0, 0.2, grid.shape),
                              generator.normal(size=grid.shape)])  # fmt: skip
            file.writelines(
                f"{symbol:2} {a:16.8f} {b:16.8f} {c:16.8f} {d:16.8f} {e:16.8f} {f:16.8f}\n"
                for symbol, (a, b, c, d, e, f) in zip(species, rows.tolist(), strict=True)
            )


def write_molecules(path: Path, n_frames: int) -> None:
    """Write molecules of a hundred compositions, shuffled."""
    generator = np.random.default_rng(2)
    kinds = [["C"] * (2 + k % 10) + ["H"] * (4 + k // 10) for k in range(100)]
    with path.open("w", encoding="ascii") as file:
        for k in generator.integers(len(kinds), size=n_frames):
            positions = 1.5 * np.arange(len(kinds[k]))[:, None] + generator.normal(
                size=(len(kinds[k]), 3)
            )
            file.write(
                f"{len(kinds[k])}\nProperties=species:S:1:pos:R:3:forces:R:3 "
                f'energy={generator.normal(-50)!r} pbc="F F F"\n'
            )
            for symbol, row in zip(kinds[k], positions, strict=True):
                numbers = [*row.tolist(), *generator.normal(size=3).tolist()]
                file.write(f"{symbol} {' '.join(f'{x:.8f}' for x in numbers)}\n")


def ratio(path: Path, repeats: int, cores: int, what: str) -> float:
    """Return ASE's time over the import's, the median of pairs in turn."""
    pairs = [
        (one("ase", path, cores=cores)[what], one("import", path, cores=cores)[what])
        for _ in range(repeats)
    ]
    return median(ase / ours for ase, ours in pairs)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the claims; return 1 if one falls short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--frames", type=int, default=16000, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="default: %(default)s")
    args = parser.parse_args(argv)
    claims = Claims()
    n, repeats = args.frames, args.repeats
    with tempfile.TemporaryDirectory() as name:
        large, small = Path(name) / "large.extxyz", Path(name) / "small.extxyz"
        molecules = Path(name) / "molecules.extxyz"
        write_melt(large, n)
        write_melt(small, max(n // 8, 1))
        write_molecules(molecules, n)
        size = large.stat().st_size
        claims.note(f"{n} frames of 100 atoms, {size / 2**20:.0f} MiB")
        claims.at_least("import over ase.io.iread, speed", ratio(large, repeats, 2, "wall"), 5)
        claims.at_least(
            "import over ase.io.iread, speed on one core", ratio(large, repeats, 1, "wall"), 5
        )
        reading = median(one("read", large, cores=1)["work"] for _ in range(repeats))
        claims.at_least("text read to arrays / GB a second of one core", size / reading / 1e9, 0.2)
        memory = [median(one("import", path)["MiB"] for _ in range(repeats))
                  for path in (small, large)]  # fmt: skip
        claims.note(f"peak memory {memory[0]:.0f} and {memory[1]:.0f} MiB")
        claims.at_most("peak memory, 8 n over n frames / MiB", memory[1] - memory[0], 32)
        claims.at_least(
            "the same of molecules of 100 compositions, shuffled",
            ratio(molecules, repeats, 2, "wall"),
            2,
        )
        for path in (small, molecules):
            same = one("import", path)["digest"] == one("import", path, kernels=False)["digest"]
            claims.at_least(f"the pool of {path.stem} is the one through ASE", float(same), 1)
    return claims.end()


if __name__ == "__main__":
    sys.exit(main())
