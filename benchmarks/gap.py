"""How fast GAPs are: our evaluator against QUIP on the same configurations, side by side.

    python -m benchmarks.gap [--gap gap.xml] [--repeats 5]

Without a file, a GAP of the paper's size is made: Table 3's SOAP and 200 sparse points for each
element, their weights by chance, on which the time does not depend. QUIP and we have one thread.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before any library counts the cores

import numpy as np
from ase.io import write

from benchmarks.claims import Claims
from mlsel.plugins import ensure
from mlsel.training.frames import Frames
from mlsel.training.gap.model import PRODUCT, GapModel
from tests.plugins.support import environment, melts
from tests.support.gap_files import PAPER, angle_3b, distance_2b, soap_turbo, write_gap

N_SPARSE = 200
N_POWER = 952
"""Numbers of a power spectrum: 7 l × 136 pairs of 16 channels."""
PAIRS = distance_2b([11, 17], cutoff=6.5)
SUMS = {"2b + SOAP": PAIRS, "2b + 3b + SOAP": [*PAIRS, *angle_3b([11, 17], cutoff=4.0)]}
TURBO = soap_turbo(
    l_max=8, alpha_max="{8 8}", rcut_hard=5.5, rcut_soft=5.0, atom_sigma_r=0.5, atom_sigma_t=0.5,
    atom_sigma_r_scaling=0.0, atom_sigma_t_scaling=0.0, nf=4.0, amplitude_scaling=1.0,
    central_weight=1.0,
)  # fmt: skip
"""As published ones are: eight radial functions, compress_mode=trivial."""
STEPS = {"quip": 30, "quip library": 1}


def deck(style: str, gap: Path) -> str:
    """1024 ions at 1400 K; so short a step that the neighbours stay what they are."""
    return f"""
        variable steps index 1
        units metal
        read_data melt.data
        pair_style {style}
        pair_coeff * * {gap} 11 17
        velocity all create 1 1 loop geom
        fix 1 all nve
        timestep 0.00001
        thermo 1000000
        run 1 post no
        run ${{steps}} pre no
    """


def lammps_seconds(folder: Path, plugins: Path, style: str, n_ranks: int, n_runs: int = 1) -> float:
    """Seconds of a processor a step, of the slowest of some runs side by side: LAMMPS's loop time
    times the share that it had of a core, so that other work on the machine counts less."""
    n = STEPS[style]
    started = [
        subprocess.Popen(
            ["mpirun", "-n", str(n_ranks), "lmp", "-in", f"in.{style.replace(' ', '-')}",
             "-var", "steps", str(n), "-log", "none"],
            cwd=folder, env=environment(plugins), stdout=subprocess.PIPE, text=True,
        )
        for _ in range(n_runs)
    ]  # fmt: skip
    outputs = [run.communicate()[0] for run in started]
    if any(run.returncode for run in started):
        raise RuntimeError(f"lmp failed: {outputs}")
    times = [float(re.findall(r"Loop time of ([0-9.eE+-]+)", out)[-1]) for out in outputs]
    shares = [float(re.findall(r"([0-9.]+)% CPU use", out)[-1]) / 100 for out in outputs]
    return max(time * share for time, share in zip(times, shares, strict=True)) / n


def in_turns(calls: Sequence[Callable[[], float]], repeats: int) -> list[list[float]]:
    """Call one after the other, again and again: what disturbs one disturbs all."""
    rounds = [[call() for call in calls] for _ in range(repeats)]
    return [list(times) for times in zip(*rounds, strict=True)]


def seconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def product_rate() -> float:
    """GFlop/s of NumPy's matrix product, at the size of ours: a bound for what we can reach."""
    rng = np.random.default_rng(1)
    a, b = rng.random((36, N_POWER)), rng.random((N_POWER, N_SPARSE))
    best = min(seconds(lambda: [a @ b for _ in range(50)]) for _ in range(5)) / 50
    return float(2 * a.size * b.shape[1] / best / 1e9)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--gap", type=Path, help="a GAP of Na and Cl, of the paper's size")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(argv)
    plugins = ensure().folder
    claims = Claims()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gap = arguments.gap.resolve() if arguments.gap else folder / PRODUCT
        if not arguments.gap:
            write_gap(gap, melts(), PAPER, n_sparse=N_SPARSE)
        melt = melts()[1].repeat((4, 2, 2))
        write(folder / "melt.data", melt, format="lammps-data", specorder=["Na", "Cl"],
              atom_style="atomic", masses=True)  # fmt: skip
        for style in STEPS:
            (folder / f"in.{style.replace(' ', '-')}").write_text(deck(style, gap))

        def lammps(style: str, n_ranks: int, n_runs: int = 1) -> Callable[[], float]:
            return lambda: lammps_seconds(folder, plugins, style, n_ranks, n_runs)

        own, library, two, apart = in_turns(
            [lammps("quip", 1), lammps("quip library", 1), lammps("quip", 2), lammps("quip", 1, 2)],
            arguments.repeats,
        )
        step = statistics.median(own)
        claims.at_least("pair_style quip over QUIP's library, 1024 ions", ratio(library, own), 15)
        claims.at_least("pair_style quip, 2 ranks over 1", ratio(own, two), 1.85)
        claims.note(f"two independent runs, which share nothing: {2 * ratio(own, apart):.2f}")
        if not arguments.gap:
            for name, terms in SUMS.items():
                write_gap(gap, melts(), PAPER, n_sparse=N_SPARSE, terms=terms)
                own, library = in_turns(
                    [lammps("quip", 1), lammps("quip library", 1)], arguments.repeats
                )
                claims.at_least(
                    f"{name}: pair_style quip over QUIP's library", ratio(library, own), 50
                )
            write_gap(gap, melts(), None, n_sparse=N_SPARSE, terms=TURBO)
            own, library = in_turns(
                [lammps("quip", 1), lammps("quip library", 1)], arguments.repeats
            )
            claims.at_least(
                "soap_turbo: pair_style quip over QUIP's library", ratio(library, own), 10
            )
            write_gap(gap, melts(), PAPER, n_sparse=N_SPARSE)

        if gap.parent != folder:
            (folder / PRODUCT).write_bytes(gap.read_bytes())
        label = re.search('Potential label="([^"]*)"', gap.read_text(encoding="utf-8"))
        assert label is not None
        model = GapModel(folder, {"numbers": [11, 17]})
        atoms = melts()[1].repeat((2, 1, 1))
        rng = np.random.default_rng(1)  # no frame twice: quippy keeps what it has computed
        moved = atoms.positions + 0.01 * rng.standard_normal(
            (arguments.repeats + 1, *atoms.positions.shape)
        )
        frames = Frames(atoms.numbers, moved, np.repeat(atoms.cell.array[None], len(moved), 0))
        model.predict(frames)
        model.predict_with_quippy(frames.take([0]))
        rows = iter(range(1, len(moved)))
        ours, quippys = in_turns(
            [
                lambda: seconds(lambda: model.predict(frames)) / len(frames),
                lambda: seconds(lambda: model.predict_with_quippy(frames.take([next(rows)]))),
            ],
            arguments.repeats,
        )
        claims.at_least("predict over quippy, 128 ions a frame", ratio(quippys, ours), 15)
        per_atom, in_predict = step / len(melt), statistics.median(ours) / len(atoms)
        claims.note(f"µs an atom: pair style {per_atom * 1e6:.1f}, predict {in_predict * 1e6:.1f}")
        rate = 2 * 2 * N_POWER * N_SPARSE / per_atom / 1e9
        claims.note(
            f"products with the sparse points: {rate:.1f} GFlop/s of a step's whole time; "
            f"NumPy's product alone, same size: {product_rate():.1f}"
        )
    return claims.end()


if __name__ == "__main__":
    raise SystemExit(main())
