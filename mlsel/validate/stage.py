"""Stage 5: trained potentials drive large MD, beside the reference.

    python -m mlsel.validate [STUDY] [-o DIR]
    mpirun -n 4 python -m mlsel.validate

Each model chosen in the study's [validation], and the reference where it is a potential, run from
the same snapshot under the same conditions; verdicts on them stand in DIR/validation/verdicts.csv.
Other references are the pool's own trajectories, or none. It can be stopped at any moment and
started again with the same command. A run that blows up is a result.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.core import units
from mlsel.core.errors import MlselError
from mlsel.core.files import sweep, take_away
from mlsel.core.parallel import on_root, share
from mlsel.core.progress import Progress, duration
from mlsel.core.record import read_json
from mlsel.core.shards import Part
from mlsel.plugins import show_plugins
from mlsel.pool.elements import check_elements
from mlsel.selection.state import require_data_sets
from mlsel.study.folder import StudyFolder
from mlsel.training.state import require_models
from mlsel.validate import trial
from mlsel.validate.held_against import LAMMPS, reference_kind
from mlsel.validate.judgement import conclude
from mlsel.validate.runs import run_names, runs_of
from mlsel.validate.snapshot import make_snapshot, prepare_start, require_start

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.study.study import Study
    from mlsel.validate.nvt_run import ValidationRun
    from mlsel.validate.verdict import Verdict

log = logging.getLogger(__name__)


def validate(
    study: Study, folder: Path, comm: MPI.Intracomm, *, again: bool = False
) -> list[Verdict]:
    """Make what is missing in DIR/validation; return the verdicts, the reference's first.

    Raises
    ------
    MlselError
        If the study is not fit to run, a model is missing or for other species, runs that are
        there were made from something else (and `again` is false), or another job works there.
    Stopped
        If a signal asked for it; runs then stand at checkpoints.
    """
    if not _has_runs(study, comm):
        return []
    size = _group_size(study, comm)
    with _locked(folder, comm):
        on_root(comm, lambda: _require_fresh(study, folder))
        on_root(comm, lambda: prepare_start(study, folder, again))
        make_snapshot(study, folder, comm)
        if study.validation.models:
            show_plugins(comm)
        runs, missing, costs = on_root(comm, lambda: _prepare_runs(study, folder, again))
        _perform(study, runs, missing, costs, size, comm)
        return on_root(comm, lambda: conclude(study, runs, folder))


def make_start(study: Study, folder: Path, comm: MPI.Intracomm, *, again: bool = False) -> None:
    """Make the snapshot that all runs start from, where it is missing.

    Raises
    ------
    MlselError, Stopped
        As `validate`.
    """
    if not _has_runs(study, comm):
        return
    with _locked(folder, comm):
        on_root(comm, lambda: _require_fresh(study, folder, ()))
        on_root(comm, lambda: prepare_start(study, folder, again))
        make_snapshot(study, folder, comm)


def validate_part(
    study: Study, folder: Path, comm: MPI.Intracomm, part: Part, *, again: bool = False
) -> None:
    """Make the runs of a part that are missing; jobs with other parts may work beside it.

    Verdicts are not written: `validate` does so when all runs are there.

    Raises
    ------
    MlselError, Stopped
        As `validate`; also if the snapshot that runs start from is missing.
    """
    if not _has_runs(study, comm):
        return
    size = _group_size(study, comm)
    names = on_root(comm, lambda: run_names(study, folder))
    chosen = on_root(comm, lambda: part.of(names))
    with _locked(folder, comm, part.label(names)):
        on_root(comm, lambda: _require_fresh(study, folder, chosen))
        on_root(comm, lambda: require_start(study, folder))
        if study.validation.models:
            show_plugins(comm)
        runs, missing, costs = on_root(comm, lambda: _prepare_runs(study, folder, again, chosen))
        _perform(study, runs, missing, costs, size, comm)


def _has_runs(study: Study, comm: MPI.Intracomm) -> bool:
    """Whether the study asks for any run; told if it doesn't."""
    if reference_kind(study):
        return True
    if comm.rank == 0:
        log.info("validation.models is empty: nothing is put to the test")
    return False


def _require_fresh(study: Study, folder: Path, names: Collection[str] | None = None) -> None:
    """Refuse models that were made otherwise than the study now says, and a pool and data sets that
    the start comes from; what the reference alone needs is its potential.

    Parameters
    ----------
    names : of the runs; None: all
    """
    names = run_names(study, folder) if names is None else names
    if any("/" in name for name in names):
        require_models(study, folder, names)
    elif reference_kind(study) != LAMMPS:
        require_data_sets(study, folder)
    else:
        check_elements(StudyFolder(folder), study.system.species)


@contextmanager
def _locked(folder: Path, comm: MPI.Intracomm, part: str = "") -> Iterator[None]:
    from mlsel.core.lock import FolderLock

    lock = FolderLock(StudyFolder(folder).validation, part)
    on_root(comm, lock.acquire)
    try:
        yield
    finally:
        if comm.rank == 0:
            lock.release()


def _group_size(study: Study, comm: MPI.Intracomm) -> int:
    """Return how many ranks share a run."""
    size = study.validation.ranks_per_run or comm.size
    if (comm.size % size and comm.size > 1) or size > comm.size:
        raise MlselError(
            f"validation.ranks_per_run is {size}, but there are {comm.size} ranks: start a "
            f"multiple of {size} with mpirun -n, or set it to 0 (all ranks for each run).",
            everywhere=True,
        )
    return size


def _prepare_runs(
    study: Study, folder: Path, again: bool, names: Collection[str] | None = None
) -> tuple[list[ValidationRun], list[int], list[float]]:
    """Write the inputs of all runs, or those of these names; return the runs, which are missing,
    and seconds a step of these.

    Raises
    ------
    MlselError
        If a run that is there, or begun, was made from something else.
    """
    from mlsel.core.files import write_text

    runs = runs_of(study, folder, names)
    verdicts = StudyFolder(folder).verdicts
    missing, costs = [], []
    for path in (verdicts, verdicts.with_suffix(".csv"), *(run.folder for run in runs)):
        sweep(path)  # what a killed --again took away, though its study may not be this one
    for index, run in enumerate(runs):
        record = run.record
        is_recorded = record.settle(run.identity(), again=again)
        if not is_recorded:
            take_away(verdicts, verdicts.with_suffix(".csv"), run.folder)
        run.tidy()
        if run.product.is_file():
            continue
        write_text(run.folder / "potential.lmp", run.potential)
        write_text(run.folder / "in.lammps", run.deck_text())
        missing.append(index)
        costs.append(trial.try_point(run.folder / "in.lammps", folder, run.name, 2))
        if not is_recorded:
            record.write(run.identity())
    return runs, missing, costs


def _perform(
    study: Study,
    runs: list[ValidationRun],
    missing: list[int],
    costs: list[float],
    size: int,
    comm: MPI.Intracomm,
) -> None:
    """Do the missing runs, the longest first."""
    seconds = {i: max(cost, 1e-6) for i, cost in zip(missing, costs, strict=True)}
    order = sorted(missing, key=lambda i: -seconds[i] * runs[i].schedule.total)
    to_ps = study.validation.timestep / units.FS_PER_PS
    all_ps = sum(runs[i].schedule.total for i in order) * to_ps
    done_ps = before_ps = 0.0
    progress = Progress(
        sum(seconds[i] * runs[i].schedule.total for i in order),
        lambda done, rate: (
            f"{before_ps + done_ps:.1f} of {all_ps:.1f} ps, "
            f"{done_ps / max(progress.elapsed, 1e-9) * 86.4:.3g} ns/day"
        ),
    )
    if comm.rank == 0 and order:
        log.info(
            "%d of %d runs to do (%.4g ps) on %d ranks", len(order), len(runs), all_ps, comm.size
        )

    def on_report(place: int, steps: int | None) -> None:
        nonlocal done_ps, before_ps
        index = order[place]
        if steps is None:
            log.info("%s", _line(runs[index]))
            return
        if steps < 0:
            before_ps -= steps * to_ps
            progress.skip(-steps * seconds[index])
            return
        done_ps += steps * to_ps
        progress.advance(steps * seconds[index])

    share(
        comm,
        order,
        lambda index, group, report: runs[index].perform(group, report),
        ranks_per_task=size,
        on_report=on_report,
    )
    progress.end()
    if comm.rank == 0 and order:
        log.info("%d runs in %s", len(order), duration(progress.elapsed))


def _line(run: ValidationRun) -> str:
    """How a run ended, in a line."""
    from mlsel.validate.results import read_results

    results = read_results(run.product)
    path = run.folder / "timing.json"
    timing = read_json(path) if path.is_file() else {}
    speed = f", {timing['ns_per_day']:.3g} ns/day" if timing.get("ns_per_day") else ""
    how = f"ended early: {results.ended_by}" if results.ended_by else "done"
    return f"{run.name}: {results.averaged_time:.4g} ps averaged{speed}; {how}"
