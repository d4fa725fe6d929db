"""Stage 1: molecular dynamics runs to the pool.

    python -m mlsel.generate [STUDY] [-o DIR]
    mpirun -n 64 python -m mlsel.generate

One run for each temperature and pressure of the study, shared out over the ranks. It can be
stopped at any moment and started again with the same command.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.cli import open_study, run_main, study_parser
from mlsel.core import stopping
from mlsel.core.errors import MlselError, StageIncomplete
from mlsel.core.parallel import on_root, share, wait_for_all, world
from mlsel.core.progress import Progress, duration
from mlsel.md.pool_record import record_of_runs, stale_runs
from mlsel.study.folder import StudyFolder
from mlsel.study.stage import BEGUN, DONE, MISSING, STALE, Item

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.md.npt_run import MdRun
    from mlsel.study.study import Study

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage."""
    parser = study_parser("mlsel generate", "Make the pool: MD runs through LAMMPS.")
    parser.add_argument(
        "--pack",
        action="store_true",
        help="write pool.h5 as one portable file instead of links to the runs' files",
    )
    args = parser.parse_args(argv)
    comm = world()
    study, folder = open_study(args, comm)
    with stopping.heard():
        generate(study, folder, comm, pack=args.pack)
    return 0


def generate(study: Study, folder: Path, comm: MPI.Intracomm, *, pack: bool = False) -> None:
    """Make DIR/pool.h5, doing only the runs that are missing.

    Raises
    ------
    MlselError
        If the study is not fit to run, its folder holds another study's runs, or another job
        works there.
    StageIncomplete
        If LAMMPS ended some runs with an error; the pool then holds the others.
    Stopped
        If a signal asked for it; runs then stand at checkpoints.
    """
    from mlsel.core.lock import FolderLock
    from mlsel.study.study import record_study

    if study.pool.import_:
        raise MlselError(
            f"the frames of {study.source} come from files (pool.import): `mlsel import` takes "
            "the place of generate.",
            everywhere=True,
        )
    size = study.pool.ranks_per_run
    if (comm.size % size and comm.size > 1) or size > comm.size:
        raise MlselError(
            f"pool.ranks_per_run is {size}, but there are {comm.size} ranks: start a multiple of "
            f"{size} with mpirun -n.",
            everywhere=True,
        )
    lock = FolderLock(folder)
    on_root(comm, lock.acquire)
    try:
        runs = _prepare(study, folder, comm)
        on_root(comm, lambda: record_study(study, folder))
        failures = _perform(study, runs, comm)
        on_root(comm, lambda: _finish(study, runs, failures, folder, pack))
    finally:
        if comm.rank == 0:
            lock.release()
    if failures:
        raise StageIncomplete(
            f"{len(failures)} of {len(runs)} runs were ended by LAMMPS: "
            + "; ".join(f"{name}: {text}" for name, text in failures[:3])
            + ("; …" if len(failures) > 3 else "")
            + f". Their messages stand in {folder}/runs/<run>/error.txt; pool.h5 holds the others.",
            everywhere=True,
        )


def _prepare(study: Study, folder: Path, comm: MPI.Intracomm) -> list[MdRun]:
    """Write the inputs of all runs, after checking that they can be run and are this study's.

    The ranks share the writing: one alone would take minutes for ten thousands of runs.
    """
    runs, data, made_from = on_root(comm, lambda: _check(study, folder))
    if data:
        for run in runs[comm.rank :: comm.size]:
            _write_inputs(run, data)
        wait_for_all(comm)
        on_root(comm, lambda: record_of_runs(folder).write(made_from))
    for run in runs[comm.rank :: comm.size]:
        run.tidy()
    wait_for_all(comm)
    return runs


def runs_of(study: Study, folder: Path) -> list[MdRun]:
    """Return the runs of a study's pool."""
    from mlsel.md.npt_run import MdRun

    return [
        MdRun(temperature, pressure, folder, study)
        for pressure in study.pool.pressures
        for temperature in study.pool.temperatures
    ]


def _write_inputs(run: MdRun, data: str) -> None:
    from mlsel.core.files import write_text

    write_text(run.folder / "start.data", data)
    write_text(run.folder / "in.lammps", run.deck_text())


def _check(study: Study, folder: Path) -> tuple[list[MdRun], str, dict[str, Any]]:
    """Return the runs, and what decides them; the start structure too if inputs are missing.

    Raises
    ------
    MlselError
        If the folder holds another study's runs, or LAMMPS can't run the first one.
    """
    from mlsel.core.files import write_text
    from mlsel.core.provenance import digest
    from mlsel.md import deck
    from mlsel.md.npt_run import deck_template
    from mlsel.md.shared_runs import find_lender, take_runs
    from mlsel.md.structures import lammps_data, start_structure

    potential = deck.read_potential(study.system.potential, study.system.species)
    data = lammps_data(start_structure(study.system), study.system.species)
    made_from: dict[str, Any] = {
        **study.as_dict("system", "pool"),
        "potential_digest": digest(potential.encode()),
        "start_digest": digest(data.encode()),
        "deck_digest": digest(deck_template(study).encode()),
    }
    record = record_of_runs(folder)
    made_from |= deck.files_since(potential, record)
    is_recorded = record.settle(made_from)
    runs = runs_of(study, folder)
    if len({run.name for run in runs}) < len(runs):
        raise MlselError(
            f"{study.source}: two runs of the pool would have the same name to six digits: give "
            "temperatures and pressures that differ more."
        )
    place = StudyFolder(folder)
    if not is_recorded:
        _refuse_others(study, place, runs)
    lender = find_lender(study, folder, runs, made_from)
    if lender is not None:
        take_runs(runs, lender, folder)
    if is_recorded or lender is not None:
        return runs, "", made_from
    write_text(folder / "potential.lmp", potential)
    _write_inputs(runs[0], data)
    _try_model(runs[0])
    return runs, data, made_from


def _refuse_others(study: Study, place: StudyFolder, runs: Sequence[MdRun]) -> None:
    """Refuse a folder that holds a pool, data or runs of which nothing says that they are these."""
    from mlsel.pool.elements import check_elements

    if place.pool.is_file():
        raise MlselError(
            f"{place.pool} is there and was not made by this stage: it would be overwritten. "
            "Choose another folder with -o, or go on with `mlsel selection`."
        )
    check_elements(place, study.system.species)
    made = [run.name for run in runs if run.product.is_file()]
    if made:
        raise MlselError(
            f"{place.runs} holds {len(made)} finished runs and no settings.json that says what "
            "they were made from: remove these runs, or choose another folder with -o."
        )


def _try_model(run: MdRun) -> None:
    """Have LAMMPS compute one point, so that a wrong potential is told before any MD starts."""
    from mpi4py import MPI

    from mlsel.md import deck
    from mlsel.md.library import lammps_path
    from mlsel.md.session import LammpsError, LammpsSession

    lines = deck.sections((run.folder / "in.lammps").read_text(encoding="utf-8"))
    with LammpsSession(MPI.COMM_SELF, None, {"root": lammps_path(run.root)}) as session:
        try:
            session.execute([*lines[""], *lines["box"], *lines["model"]])
            session.run(0)
        except LammpsError as error:
            raise MlselError(
                f"LAMMPS can't run the potential {run.study.system.potential}: {error}"
            ) from None


def _perform(study: Study, runs: list[MdRun], comm: MPI.Intracomm) -> list[tuple[str, str]]:
    """Do the runs that are missing; return the names and messages of those that failed."""
    missing = on_root(comm, lambda: [i for i, run in enumerate(runs) if not run.product.exists()])
    # The denser a run, the more pairs and the slower: first those of high pressure, then the cold.
    missing.sort(key=lambda i: (-runs[i].pressure, runs[i].temperature))
    steps_of = [run.n_steps for run in runs]
    n_steps = sum(steps_of)
    done_before = n_steps - sum(runs[i].n_steps for i in missing)
    to_ns = study.pool.timestep * 1e-6
    progress = Progress(
        n_steps,
        lambda done, rate: (
            f"{done * to_ns:.3g} of {progress.total * to_ns:.3g} ns, "
            f"{rate * to_ns * 86400:.1f} ns/day"
        ),
        done_before,
    )
    if comm.rank == 0 and missing:
        log.info(
            "%d of %d runs to do (%.3g ns) on %d ranks",
            len(missing),
            len(runs),
            (n_steps - done_before) * to_ns,
            comm.size,
        )

    def on_report(task: int, steps: int | None) -> None:
        run, known = runs[missing[task]], steps_of[missing[task]]
        if run.measures and run.n_steps != known:  # it has chosen its interval since
            progress.total += run.n_steps - known
            steps_of[missing[task]] = run.n_steps
        if steps is not None and steps < 0:
            progress.skip(-steps)
        else:
            progress.advance(steps or 0)

    results = share(
        comm,
        missing,
        lambda index, group, report: runs[index].perform(group, report),
        ranks_per_task=study.pool.ranks_per_run,
        on_report=on_report,
    )
    progress.end()
    failures = [
        (runs[i].name, message) for i, message in zip(missing, results, strict=True) if message
    ]
    if comm.rank == 0 and missing:
        log.info(
            "%d runs in %s: %.3g ns, %.1f ns/day",
            len(missing) - len(failures),
            duration(progress.elapsed),
            progress.done_here * to_ns,
            progress.rate * to_ns * 86400,
        )
    return failures


def _finish(
    study: Study, runs: list[MdRun], failures: list[tuple[str, str]], folder: Path, pack: bool
) -> None:
    """Write pool.h5 over all finished runs, unless it is there already, and tell what it is."""
    from mlsel.pool.pool import Pool
    from mlsel.pool.writer import PoolWriter

    failed = {name for name, _ in failures}
    finished = [run for run in runs if run.name not in failed]
    path = StudyFolder(folder).pool
    if not finished:
        return
    if not path.is_file() or not _holds(path, [run.name for run in finished], pack):
        with PoolWriter(path, finished[0].parameters()) as writer:
            for run in finished:
                writer.link_run(run.product, copy=pack)
    with Pool(path) as pool:
        n_solid = sum(not pool.run_attributes(run)["molten"] for run in pool.runs)
        n_atoms = pool.runs[0].n_atoms
        log.info("%s: %d runs, %d frames of %d atoms", path, len(pool.runs), len(pool), n_atoms)
        if n_solid:
            log.info("%d runs did not stay molten; `mlsel info %s` names them", n_solid, path)
        n_bounded = sum(
            pool.run_attributes(run).get("sampling_bounded") == "greatest" for run in pool.runs
        )
        if n_bounded:
            log.warning(
                "%d runs are correlated for longer than pool.correlation.greatest_interval (%d "
                "steps): their frames are not independent",
                n_bounded,
                study.pool.correlation.greatest_interval,
            )


def _holds(path: Path, names: list[str], pack: bool) -> bool:
    """Whether a pool is made of these runs as they are, packed or linked as asked."""
    from mlsel.pool.links import remade_runs
    from mlsel.pool.pool import Pool

    with Pool(path) as pool:
        is_same = [run.name for run in pool.runs] == names and pool.is_packed == pack
        return is_same and not remade_runs(pool)


def items(study: Study, folder: Path) -> list[Item]:
    """Return the runs and the pool, and their states."""
    from mlsel.md.state import state_of_run
    from mlsel.pool.links import remade_runs
    from mlsel.pool.pool import Pool

    if study.is_of_contents:
        imported = StudyFolder(folder).pool
        return [Item(imported.name, DONE, "imported")] if imported.is_file() else []
    stale = stale_runs(study, folder)
    if stale:
        return stale
    runs = runs_of(study, folder)
    found = [Item(run.name, *state_of_run(run)) for run in runs]
    path = StudyFolder(folder).pool
    n_done = sum(item.state == DONE for item in found)
    if not path.is_file():
        return [*found, Item(path.name, MISSING)]
    with Pool(path) as pool:
        names = {run.name for run in pool.runs}
        text = f"{len(pool)} frames of {len(pool.runs)} runs"
        remade = remade_runs(pool)
    if remade:
        text += f", of which {remade[0]} was made anew: generate writes it anew"
        return [*found, Item(path.name, BEGUN, text)]
    if n_done > len(names):
        text += f", while {n_done} are done: generate writes it anew"
    is_whole = names == {run.name for run in runs}
    state = DONE if is_whole else STALE if n_done > len(names) else BEGUN
    return [*found, Item(path.name, state, text)]


if __name__ == "__main__":
    sys.exit(run_main(main))
