"""What validation's observables and checkpoints cost, and how far MD gets in a day.

    python -m benchmarks.validation                     the reference, 1000 ions
    python -m benchmarks.validation --study DIR         and models of a study's folder
    mpirun -n 2 python -m benchmarks.validation …       on two ranks

Plain LAMMPS with the same pair style and no observables, and validation with all of them, take
turns in one process; rates are medians over the turns. On a busy machine give --cpu: the time is
then that of the processor, which others don't lengthen.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.claims import Claims
from mlsel.core.files import write_text
from mlsel.core.parallel import world
from mlsel.md import deck
from mlsel.md.library import lammps_path
from mlsel.md.session import LammpsSession
from mlsel.plugins import show_plugins
from mlsel.study.study import Study, load_study
from mlsel.validate.nvt_run import ValidationRun
from mlsel.validate.recorder import Recorder
from mlsel.validate.runs import model_commands
from mlsel.validate.snapshot import prepare_start
from mlsel.validate.start import make_start, reference_potential

RATIO, RESTART = 0.97, 0.01
CHECKPOINT = 10.0
"""ps between checkpoints."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a claim; return 1 if one falls short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, metavar="DIR", help="a folder with trained models")
    parser.add_argument("--models", action="append", metavar="PATTERN", help="default: *")
    parser.add_argument("--n-atoms", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=6.0, help="of a turn, about")
    parser.add_argument("--cpu", action="store_true", help="processor time instead of wall time")
    args = parser.parse_args(argv)
    comm = world()
    study = load_study(
        "paper",
        [f"validation.n_atoms={args.n_atoms}", "validation.density_time=0.5", "pool.melt=1.0",
         "pool.equilibration=1.0"],
    )  # fmt: skip
    claims = Claims(comm.rank == 0)
    show_plugins(comm)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(comm.bcast(scratch))
        if comm.rank == 0:
            prepare_start(study, folder, again=False)
        comm.Barrier()
        make_start(study, folder, comm, lambda steps: None)
        for name, potential in subjects(study, args.study, args.models or ["*"]):
            run = ValidationRun(name, "potential", potential, "", 1000.0, folder, study)
            clock = time.process_time if args.cpu else time.perf_counter
            measure(claims, run, args.turns, args.seconds, clock)
        comm.Barrier()
    return claims.end()


def subjects(study: Study, folder: Path | None, patterns: Sequence[str]) -> list[tuple[str, str]]:
    """Return names and LAMMPS commands: the reference, then models."""
    found = [("reference", reference_potential(study))]
    models = sorted((folder / "models").glob("*/*/model.json")) if folder else []
    for path in models:
        name = f"{path.parts[-3]}/{path.parts[-2]}"
        if any(fnmatch(name, pattern) for pattern in patterns):
            _, commands = model_commands(path.parent, study.system.species)
            found.append((name, "\n".join(commands) + "\n"))
    return found


def measure(
    claims: Claims, run: ValidationRun, turns: int, seconds: float, clock: Callable[[], float]
) -> None:
    """Measure one potential and print its lines."""
    comm = world()
    if comm.rank == 0:
        write_text(run.folder / "potential.lmp", run.potential)
        write_text(run.folder / "in.lammps", run.deck_text())
    comm.Barrier()
    lines = deck.sections((run.folder / "in.lammps").read_text(encoding="utf-8"))
    root = {"root": lammps_path(run.root)}
    sample = run.schedule.sample
    observables = ("comm_modify", "compute", "thermo")
    plain_model = [line for line in lines["model"] if not line.startswith(observables)]
    with LammpsSession(comm, None, root) as plain, LammpsSession(comm, None, root) as full:
        for session, model in ((plain, plain_model), (full, lines["model"])):
            session.execute([*lines[""], *lines["box"], *model, *lines["equilibrate"]])
            session.run(sample)
        begun = time.perf_counter()
        plain.run(sample, setup=False)
        per_sample = comm.bcast(time.perf_counter() - begun)
        n_samples = max(1, round(seconds / per_sample))
        plain_rates, full_rates = [], []
        with Recorder(run, full, 0, lambda steps: None) as recorder:
            for _ in range(turns):
                comm.Barrier()
                start = clock()
                plain.run(n_samples * sample, setup=False)
                comm.Barrier()
                plain_rates.append(n_samples * sample / (clock() - start))
                start = clock()
                for _ in range(n_samples):
                    full.run(sample, setup=False)
                    recorder.sample("production")
                comm.Barrier()
                full_rates.append(n_samples * sample / (clock() - start))
            costs = []
            for _ in range(3):
                start = clock()
                run.checkpoint(full, "production", recorder)
                full.run(0)
                costs.append(clock() - start)
                full.run(sample, setup=False)
    if comm.rank:
        return
    ratio = statistics.median([f / p for f, p in zip(full_rates, plain_rates, strict=True)])
    rate = statistics.median(full_rates)
    timestep = run.study.validation.timestep
    restart = statistics.median(costs) * rate * timestep / 1000 / CHECKPOINT
    claims.at_least(f"{run.name}: rate with observables over plain LAMMPS", ratio, RATIO)
    claims.at_most(f"{run.name}: restart every {CHECKPOINT:g} ps, share of time", restart, RESTART)
    per_day = rate * timestep * 1e-6 * 86400
    claims.note(
        f"{run.name}: {run.study.validation.n_atoms} atoms, {comm.size} ranks: {rate:.4g} steps/s, "
        f"{per_day:.4g} ns/day, 1000 ps take {1e6 / timestep / rate / 3600:.3g} h"
    )


if __name__ == "__main__":
    sys.exit(main())
