"""Generation: what LAMMPS's own options for charges give, in speed and in accuracy.

    python -m benchmarks.deck_options [--steps N] [--repeats N]

100 ions at 1400 K and 1 bar go on from one molten snapshot with each option in turn; steps a second
of processor time, the best of the repeats. Forces and energy of the snapshot are compared with
those of an Ewald sum of 1e-9. The last option has hardly a reciprocal sum: it is no model of the
salt, and no treatment of that sum can be faster.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.claims import Claims
from benchmarks.generate import prepare
from mlsel.core.parallel import world
from mlsel.md import deck
from mlsel.md.library import lammps_path
from mlsel.md.npt_run import MdRun
from mlsel.md.session import LammpsSession

OPTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "the usual deck: pppm 1e-4, skin 2 Å": ((), ("kspace_style pppm 1e-4", "neighbor 2.0 bin")),
    "ours: ewald 1e-5, skin 1 Å": ((), ()),
    "ours, by the OPENMP package on one thread": (("package omp 1", "suffix omp"), ()),
    "ours, skin 1.5 Å": ((), ("neighbor 1.5 bin",)),
    "ewald 1e-4": ((), ("kspace_style ewald 1e-4",)),
    "hardly a reciprocal sum: ewald 0.05": ((), ("kspace_style ewald 0.05",)),
}
"""Lines before the model, and after it."""
USUAL, OURS, *_, NO_SUM = OPTIONS
TIGHT: tuple[tuple[str, ...], tuple[str, ...]] = ((), ("kspace_style ewald 1e-9",))


def opened(
    run: MdRun, data: Path, option: tuple[tuple[str, ...], tuple[str, ...]]
) -> LammpsSession:
    """Return a session with the ions of a data file."""
    lines = deck.sections((run.folder / "in.lammps").read_text())
    known = {"root": lammps_path(run.root), "data": data.relative_to(run.root)}
    session = LammpsSession(world(), None, {**known, "start_temperature": 1400})
    before, after = option
    session.execute([*lines[""], *before, *lines["box"], *lines["model"], *after])
    return session


def main() -> int:
    """Print each option's speed and accuracy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    claims = Claims()
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(Path(folder))
        data = run.folder / "molten.data"
        lines = deck.sections((run.folder / "in.lammps").read_text())
        with opened(run, run.folder / "start.data", OPTIONS[OURS]) as session:
            session.execute(lines["melt"])
            session.run(3000)
            session.execute([f"write_data {data} nocoeff"])

        def forces_and_energy(
            option: tuple[tuple[str, ...], tuple[str, ...]],
        ) -> tuple[np.ndarray, float]:
            with opened(run, data, option) as session:
                session.run(0)
                atoms = session.atoms("atomic_energy")
                assert atoms is not None
                return atoms.forces, float(atoms.atomic_energies.sum())

        true_forces, true_energy = forces_and_energy(TIGHT)
        speeds: dict[str, float] = dict.fromkeys(OPTIONS, 0.0)
        for _ in range(args.repeats):
            for name, option in OPTIONS.items():
                with opened(run, data, option) as session:
                    session.execute(lines["equilibrate"])
                    session.run(100)
                    start = time.process_time()
                    session.run(args.steps)
                    speed = args.steps / (time.process_time() - start)
                speeds[name] = max(speeds[name], speed)
        for name, option in OPTIONS.items():
            forces, energy = forces_and_energy(option)
            off = np.sqrt(np.square(forces - true_forces).sum(axis=1).mean())
            claims.note(
                f"{name}: {speeds[name]:.0f} steps/s, {speeds[name] / speeds[USUAL]:.2f} x the "
                f"usual deck; forces {off * 1e3:.2f} meV/Å rms, energy "
                f"{(energy - true_energy) / len(forces) * 1e3:+.4f} meV/atom off"
            )
    claims.at_least("steps/s of our deck over the usual", speeds[OURS] / speeds[USUAL], 3.0)
    claims.at_least(
        "the same with hardly a reciprocal sum: the bound", speeds[NO_SUM] / speeds[USUAL], 3.0
    )
    return claims.end()


if __name__ == "__main__":
    sys.exit(main())
