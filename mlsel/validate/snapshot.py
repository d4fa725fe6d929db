"""The snapshot that all runs start from: what it was made from, and making it where it is missing.

Where a potential of LAMMPS's is the reference it comes of that potential's NPT run (`start`), else
of a frame of the pool (`pool_start`).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.core import units
from mlsel.core.errors import MlselError, Stopped
from mlsel.core.files import take_away
from mlsel.core.parallel import on_root
from mlsel.core.progress import Progress
from mlsel.core.record import Record
from mlsel.study.folder import StudyFolder
from mlsel.study.study import defaults, record_study, recorded_study
from mlsel.validate import trial
from mlsel.validate.held_against import AUTO, LAMMPS, reference_kind

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.study.study import Study

log = logging.getLogger(__name__)

NOT_OF_THE_RUNS = (
    "models", "potentials", "repeats", "duration", "durations", "watch", "ranks_per_run",
    "checkpoint_interval", "tolerances", "frame_time",
)  # fmt: skip
"""Keys of [validation] that can change without the finished runs being others."""


def record_of(place: StudyFolder) -> Record:
    """What the validation of a folder was made from."""
    return Record(place.validation_record, defaults=defaults())


def settings_of_runs(study: Study) -> dict[str, Any]:
    """Return the keys of [validation] that decide all runs."""
    values: dict[str, Any] = study.as_dict("validation")["validation"]
    if values["reference"] == LAMMPS:
        values["reference"] = AUTO  # which it is where nothing is said
    return {key: value for key, value in values.items() if key not in NOT_OF_THE_RUNS}


def made_from_of(study: Study, place: StudyFolder) -> dict[str, Any]:
    """Return what decides the start and all runs.

    Raises
    ------
    MlselError
        If there is no such potential, or no pool or data sets.
    """
    is_potential = reference_kind(study) == LAMMPS
    return _of_density(study, place) if is_potential else _of_frames(study, place)


def _of_density(study: Study, place: StudyFolder) -> dict[str, Any]:
    from mlsel.core.provenance import digest
    from mlsel.md import deck
    from mlsel.validate.start import density_run, large_system, reference_potential

    run = density_run(study, place.root)
    potential = reference_potential(study)
    pool = run.study.as_dict("pool")["pool"]
    system = {**study.as_dict("system")["system"], "n_atoms": large_system(study).n_atoms}
    return {
        "system": system,
        "pool": {key: pool[key] for key in ("melt_temperature", "melt", "equilibration")},
        "validation": settings_of_runs(study),
        "potential_digest": digest(potential.encode()),
        **deck.files_since(potential, record_of(place)),
        "deck_digest": digest(deck.template("in.validate").encode()),
        "start_deck_digest": digest(deck.template("in.generate").encode()),
    }


def _of_frames(study: Study, place: StudyFolder) -> dict[str, Any]:
    from mlsel.core.provenance import digest
    from mlsel.md import deck
    from mlsel.pool.pool import Pool
    from mlsel.validate.pool_start import data_digests

    with Pool(place.pool) as pool:
        pool_digest = pool.digest
    system = study.as_dict("system")["system"]
    data = data_digests(study, place)
    # Data sets that were added since leave the bounds as they are.
    before = (record_of(place).read() or {}).get("training_data", data)
    return {
        "system": {key: system[key] for key in ("species", "start")},
        "validation": settings_of_runs(study),
        "pool_digest": pool_digest,
        "training_data": {name: data.get(name) for name in before},
        "deck_digest": digest(deck.template("in.validate").encode()),
    }


def prepare_start(study: Study, folder: Path, again: bool) -> None:
    """Write what the start needs that is not there yet, after checking what is.

    Raises
    ------
    MlselError
        If what is there was made from something else, and `again` is false; or LAMMPS can't run
        the reference.
    """
    place = StudyFolder(folder)
    if recorded_study(folder) is None:
        record_study(study, folder)
    if reference_kind(study) == LAMMPS:
        _prepare_density(study, place, again)
    else:
        _prepare_frames(study, place, again)


def _settle(record: Record, made_from: dict[str, Any], place: StudyFolder, again: bool) -> bool:
    """Whether what is there was made from the same; if not it is taken away."""
    is_recorded = record.settle(made_from, again=again)
    if not is_recorded:
        # The record first: what is left of the rest by a kill is then known to be stale.
        take_away(record.path)
        hidden = place.validation.glob(".*.aside")  # other hidden files are of jobs at work
        take_away(*hidden, *place.validation.glob("[!.]*"))
    return is_recorded


def _prepare_density(study: Study, place: StudyFolder, again: bool) -> None:
    from mlsel.validate.start import density_run, write_inputs

    run = density_run(study, place.root)
    made_from = made_from_of(study, place)
    record = record_of(place)
    is_recorded = _settle(record, made_from, place, again)
    write_inputs(study, run)
    if not is_recorded:
        trial.try_point(
            run.folder / "in.lammps", run.root, f"the potential {study.system.potential}"
        )
        record.write(made_from_of(study, place))


def _prepare_frames(study: Study, place: StudyFolder, again: bool) -> None:
    from mlsel.validate.pool_start import data_digests

    record, made_from = record_of(place), made_from_of(study, place)
    if not _settle(record, made_from, place, again):
        record.write({**made_from, "training_data": data_digests(study, place)})


def require_start(study: Study, folder: Path) -> None:
    """Check that the snapshot is there and of this study.

    Raises
    ------
    MlselError
        If it isn't.
    """
    place = StudyFolder(folder)
    if not (place.start.is_file() and place.validation_record.is_file()):
        raise MlselError(
            f"{folder}/validation/start.json is missing: `mlsel validate STUDY --start` makes what "
            "all runs start from, and must end before parts begin."
        )
    prepare_start(study, folder, again=False)


def make_snapshot(study: Study, folder: Path, comm: MPI.Intracomm) -> None:
    """Make the snapshot, unless it is there; collective.

    Raises
    ------
    MlselError
        If there is nothing to start from or to compare with.
    Stopped
        If a signal asked for it.
    """
    place = StudyFolder(folder)
    if on_root(comm, place.start.is_file):
        return
    if reference_kind(study) == LAMMPS:
        _run_density(study, folder, comm)
        return
    from mlsel.validate.pool_start import write_start

    start = on_root(comm, lambda: write_start(study, place))
    if comm.rank == 0:
        log.info("runs start from %s: %d atoms, %.4f g/cm³", start["from"], len(start["numbers"]),
                 start["density"])  # fmt: skip


def _run_density(study: Study, folder: Path, comm: MPI.Intracomm) -> None:
    """Have the reference's NPT run make the snapshot, all ranks together."""
    from mlsel.validate import start as validation_start
    from mlsel.validate.start import density_run, read_start

    known = StudyFolder(folder).start
    run = density_run(study, folder)
    to_ps = study.validation.timestep / units.FS_PER_PS
    progress = Progress(
        run.n_steps,
        lambda done, rate: (
            f"density of the reference: {done * to_ps:.1f} of {run.n_steps * to_ps:.1f} ps, "
            f"{rate * to_ps * 86.4:.2f} ns/day"
        ),
    )
    if comm.rank == 0:
        log.info("the reference's density: NPT of %d atoms", run.study.system.n_atoms)

    def on_report(n_steps: int) -> None:
        if n_steps < 0:
            progress.skip(-n_steps)
        else:
            progress.advance(n_steps)

    try:
        validation_start.make_start(study, folder, comm, on_report)
    except Stopped as stop:
        stop.is_everywhere = True
        raise
    progress.end()
    if comm.rank == 0:
        start = read_start(folder)
        log.info(
            "%s: %.4f g/cm³ at %g K and %g bar",
            known,
            start["density"],
            study.validation.temperature,
            study.validation.pressure,
        )
