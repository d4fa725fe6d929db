"""Stage 5: trained potentials drive large MD, beside the reference.

    python -m mlsel.validate [STUDY] [-o DIR]
    mpirun -n 4 python -m mlsel.validate

Each model chosen in the study's [validation], and the reference potential, run from the same
snapshot under the same conditions; verdicts on them stand in DIR/validation/verdicts.csv. It can be
stopped at any moment and started again with the same command. A run that blows up is a result.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.cli import open_study, study_parser
from mlsel.core import stopping, units
from mlsel.core.errors import MlselError, Stopped
from mlsel.core.parallel import on_root, share, world
from mlsel.core.progress import Progress, duration
from mlsel.core.record import Record, read_json, take_away
from mlsel.core.shards import Part, add_part_option
from mlsel.study.folder import MODEL, StudyFolder, size_of
from mlsel.study.study import defaults, record_study, recorded_study

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.study.study import Study
    from mlsel.validate.nvt_run import ValidationRun
    from mlsel.validate.verdict import Verdict

log = logging.getLogger(__name__)

NOT_OF_THE_RUNS = (
    "models", "potentials", "repeats", "duration", "durations", "watch", "ranks_per_run",
    "checkpoint_interval", "tolerances",
)  # fmt: skip
"""Keys of [validation] that can change without the finished runs being others."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage."""
    parser = study_parser("mlsel validate", "Drive large MD with trained potentials.")
    parser.add_argument(
        "--again", action="store_true", help="make runs anew whose inputs have changed"
    )
    parser.add_argument(
        "--start", action="store_true", help="make only the snapshot that all runs start from"
    )
    add_part_option(parser, "run")
    args = parser.parse_args(argv)
    if args.start and args.part:
        raise MlselError("--start and --part exclude each other: the start is made before parts.")
    comm = world()
    study, folder = open_study(args, comm)
    with stopping.heard():
        if args.start:
            make_start(study, folder, comm, again=args.again)
        elif args.part:
            validate_part(study, folder, comm, args.part, again=args.again)
        else:
            validate(study, folder, comm, again=args.again)
    return 0


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
    if not study.system.potential:
        if comm.rank == 0:
            log.info("the study has no reference potential: nothing is validated")
        return []
    size = _group_size(study, comm)
    with _locked(folder, comm):
        on_root(comm, lambda: _prepare_start(study, folder, again))
        _make_start(study, folder, comm)
        if study.validation.models:
            _find_plugins(comm)
        runs, missing, costs = on_root(comm, lambda: _prepare_runs(study, folder, again))
        _perform(study, runs, missing, costs, size, comm)
        return on_root(comm, lambda: _conclude(study, runs, folder))


def make_start(study: Study, folder: Path, comm: MPI.Intracomm, *, again: bool = False) -> None:
    """Make the snapshot that all runs start from, where it is missing.

    Raises
    ------
    MlselError, Stopped
        As `validate`.
    """
    with _locked(folder, comm):
        on_root(comm, lambda: _prepare_start(study, folder, again))
        _make_start(study, folder, comm)


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
    size = _group_size(study, comm)
    names = on_root(comm, lambda: run_names(study, folder))
    chosen = on_root(comm, lambda: part.of(names))
    with _locked(folder, comm, part.label(names)):
        on_root(comm, lambda: _require_start(study, folder))
        if study.validation.models:
            _find_plugins(comm)
        runs, missing, costs = on_root(comm, lambda: _prepare_runs(study, folder, again, chosen))
        _perform(study, runs, missing, costs, size, comm)


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


def _require_start(study: Study, folder: Path) -> None:
    """Check that the snapshot is there and of this study."""
    place = StudyFolder(folder)
    if not (place.start.is_file() and place.validation_record.is_file()):
        raise MlselError(
            f"{folder}/validation/start.json is missing: `mlsel validate STUDY --start` makes what "
            "all runs start from, and must end before parts begin."
        )
    _prepare_start(study, folder, again=False)


def _prepare_start(study: Study, folder: Path, again: bool) -> None:
    """Write the inputs of the reference's NPT run, after checking what is there."""
    from mlsel.pool.elements import check_elements

    check_elements(StudyFolder(folder), study.system.species)
    if recorded_study(folder) is None:
        record_study(study, folder)
    from mlsel.core.provenance import digest
    from mlsel.md import deck
    from mlsel.validate.start import density_run, large_system, reference_potential, write_inputs

    run = density_run(study, folder)
    pool = run.study.as_dict("pool")["pool"]
    system = {**study.as_dict("system")["system"], "n_atoms": large_system(study).n_atoms}
    made_from = {
        "system": system,
        "pool": {key: pool[key] for key in ("melt_temperature", "melt", "equilibration")},
        "validation": settings_of_runs(study),
        "potential_digest": digest(reference_potential(study).encode()),
        "deck_digest": digest(deck.template("in.validate").encode()),
        "start_deck_digest": digest(deck.template("in.generate").encode()),
    }
    place = StudyFolder(folder)
    record = record_of(place)
    is_recorded = record.settle(made_from, again=again)
    if not is_recorded:
        # The record first: what is left of the rest by a kill is then known to be stale.
        take_away(record.path)
        hidden = place.validation.glob(".*.aside")  # other hidden files are of jobs at work
        take_away(*hidden, *place.validation.glob("[!.]*"))
    write_inputs(study, run)
    if not is_recorded:
        _try_point(run.folder / "in.lammps", run.root, f"the potential {study.system.potential}")
        record.write(made_from)


def record_of(place: StudyFolder) -> Record:
    """What the validation of a folder was made from."""
    return Record(place.validation_record, defaults=defaults())


def settings_of_runs(study: Study) -> dict[str, Any]:
    """Return the keys of [validation] that decide all runs."""
    values: dict[str, Any] = study.as_dict("validation")["validation"]
    return {key: value for key, value in values.items() if key not in NOT_OF_THE_RUNS}


def _try_point(deck_path: Path, root: Path, what: str, n_steps: int = 0) -> float:
    """Have LAMMPS compute one point, so that what can't run is told before any MD starts.

    Returns
    -------
    float
        Seconds a step, if there were steps.
    """
    import time

    from mpi4py import MPI

    from mlsel.md import deck
    from mlsel.md.session import LammpsError, LammpsSession, lammps_path

    lines = deck.sections(deck_path.read_text(encoding="utf-8"))
    with LammpsSession(MPI.COMM_SELF, None, {"root": lammps_path(root)}) as session:
        try:
            session.execute([*lines[""], *lines["box"], *lines["model"]])
            session.run(0)
        except LammpsError as error:
            raise MlselError(f"LAMMPS can't run {what}: {error}") from None
        if not n_steps:
            return 0.0
        session.execute(["fix try all nve"])
        started = time.perf_counter()
        try:
            session.run(n_steps)
        except LammpsError:
            return 0.0  # a potential that blows up at once: the run itself tells it
        return (time.perf_counter() - started) / n_steps


def _make_start(study: Study, folder: Path, comm: MPI.Intracomm) -> None:
    """Make the snapshot that all runs start from, all ranks together."""
    from mlsel.validate import start as validation_start
    from mlsel.validate.start import density_run, read_start

    known = StudyFolder(folder).start
    if on_root(comm, known.is_file):
        return
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


def _is_meant(model: str, pattern: str) -> bool:
    """Whether a pattern of validation.models means a model.

    One of a learning curve's data set only where the pattern names the data set's size: else the
    curves would bring MD that nobody asked for.

    >>> _is_meant("force-n64/pair", "*"), _is_meant("force-n64/pair", "force-n*/pair")
    (False, True)
    """
    from fnmatch import fnmatch

    is_sized = size_of(model.partition("/")[0])[1] is not None
    return fnmatch(model, pattern) and (not is_sized or "-n" in pattern.partition("/")[0])


def run_names(study: Study, folder: Path) -> list[str]:
    """Return the names of all runs of a study, as `runs_of` orders them, those of models that are
    not yet trained too."""
    from mlsel.training.stage import model_names

    models = sorted({*model_names(study, folder), *StudyFolder(folder).finished_models()})
    chosen = [m for pattern in study.validation.models for m in models if _is_meant(m, pattern)]
    section = study.validation
    return [*_reference_names(study), *section.potentials, *dict.fromkeys(chosen)]


def _reference_names(study: Study) -> list[str]:
    return ["reference", *(f"reference-{i + 2}" for i in range(study.validation.repeats))]


def runs_of(
    study: Study, folder: Path, names: Collection[str] | None = None
) -> list[ValidationRun]:
    """Return all runs of a study, or those of these names: the reference, its repeats,
    potentials, models.

    Raises
    ------
    MlselError
        If a model or potential is not there or is for other species.
    """
    from mlsel.core.provenance import digest
    from mlsel.md import deck
    from mlsel.validate.nvt_run import ValidationRun
    from mlsel.validate.start import reference_potential
    from mlsel.validate.uncertainty import committee_of

    section = study.validation

    def run(
        name: str, kind: str, potential: str, made_of: str, length: float, *committee: Path
    ) -> ValidationRun:
        return ValidationRun(name, kind, potential, made_of, length, folder, study, committee)

    text = reference_potential(study)
    made_of = digest(text.encode())
    references = [name for name in _reference_names(study) if names is None or name in names]
    runs = [run(name, "reference", text, made_of, section.duration) for name in references]
    for name, path in section.potentials.items():
        if names is not None and name not in names:
            continue
        if not Path(path).is_file() and path not in deck.potential_names():
            raise MlselError(
                f'{study.source}: validation.potentials.{name} is "{path}": give the path of a '
                f"LAMMPS include file, or one of {', '.join(deck.potential_names())}."
            )
        text = deck.read_potential(path, study.system.species)
        length = section.durations.get(name, section.duration)
        runs.append(run(name, "potential", text, digest(text.encode()), length))
    for model in chosen_models(study, folder, names):
        kind, commands = _model_commands(model, study.system.species)
        text = f"# {model.parent.name}/{model.name}\n" + "\n".join(commands) + "\n"
        made_of = digest((model / MODEL).read_bytes())
        length = section.durations.get(kind, section.duration)
        committee = committee_of(model) if section.watch else ()
        name = f"{model.parent.name}/{model.name}"
        runs.append(run(name, kind, text, made_of, length, *committee))
    return runs


def chosen_models(study: Study, folder: Path, names: Collection[str] | None = None) -> list[Path]:
    """Return the folders of the trained models that the study's patterns name, or of `names`."""
    place = StudyFolder(folder)
    models, named = place.models, place.finished_models()
    chosen: list[Path] = []
    if names is not None:
        absent = [name for name in names if "/" in name and name not in named]
        if absent:
            raise MlselError(
                f"{models} lacks the trained models {', '.join(absent)}: `mlsel training` first."
            )
        return [place.model(name) for name in named if name in names]
    for pattern in study.validation.models:
        found = [place.model(name) for name in named if _is_meant(name, pattern)]
        if not found:
            known = ", ".join(named[:12]) + (", …" if len(named) > 12 else "")
            raise MlselError(
                f'{study.source}: validation.models names "{pattern}", but {models} '
                + (
                    f"holds {known}."
                    if named
                    else "holds no trained model: `mlsel training` first."
                )
            )
        chosen += [path for path in found if path not in chosen]
    return chosen


def _model_commands(model: Path, species: tuple[str, ...]) -> tuple[str, list[str]]:
    """Return a model's kind and its LAMMPS commands."""
    from mlsel.training import load_model

    trained = load_model(model)
    return trained.kind, trained.lammps_commands(species)


def _find_plugins(comm: MPI.Intracomm) -> None:
    """Let LAMMPS find the pair styles of the models, where the entry point of an installed mlsel
    has not done so."""
    import os

    from mlsel.plugins import ensure

    folder = on_root(comm, lambda: str(ensure().folder))
    known = os.environ.get("LAMMPS_PLUGIN_PATH", "")
    if folder not in known.split(os.pathsep):
        os.environ["LAMMPS_PLUGIN_PATH"] = os.pathsep.join(filter(None, (known, folder)))


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
    for index, run in enumerate(runs):
        record = Record(run.folder / "run.json", defaults={"watched_by": []})
        is_recorded = record.settle(run.identity(), again=again)
        if not is_recorded:
            take_away(verdicts, verdicts.with_suffix(".csv"), run.folder)
        run.tidy()
        if run.product.is_file():
            continue
        write_text(run.folder / "potential.lmp", run.potential)
        write_text(run.folder / "in.lammps", run.deck_text())
        missing.append(index)
        costs.append(_try_point(run.folder / "in.lammps", folder, run.name, 2))
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


def _conclude(study: Study, runs: list[ValidationRun], folder: Path) -> list[Verdict]:
    """Judge all runs beside the reference's; write verdicts.json and verdicts.csv.

    Raises
    ------
    MlselError
        If the reference is none.
    """
    from dataclasses import asdict

    from mlsel.core.files import write_json, write_text
    from mlsel.validate.criteria import SIGMAS
    from mlsel.validate.reference import Reference
    from mlsel.validate.results import read_results
    from mlsel.validate.start import compressibility
    from mlsel.validate.verdict import DEFINITIONS, VERSION, as_csv, judge

    target = StudyFolder(folder).verdicts
    own = tuple(read_results(run.product) for run in runs if run.kind == "reference")
    section = study.validation
    reference = Reference(
        own, compressibility(study, folder), section.tolerances, section.expect_solid
    )
    try:
        unknown = reference.check()
    except MlselError:
        # Verdicts of an earlier version, or of fewer runs, do not outlive it.
        take_away(target, target.with_suffix(".csv"))
        raise
    verdicts = [judge(read_results(run.product), reference) for run in runs]
    write_json(
        target,
        {
            "verdict_version": VERSION,
            "definitions": DEFINITIONS,
            "tolerances": asdict(section.tolerances),
            "sigmas": SIGMAS,
            "reference": {"thresholds": reference.thresholds, "unknown": unknown},
            "speeds": {run.name: _speed(run) for run in runs},
            "verdicts": [verdict.as_dict() for verdict in verdicts],
        },
    )
    write_text(target.with_suffix(".csv"), as_csv(verdicts))
    for verdict in verdicts:
        said = "; ".join(verdict.reasons or verdict.unseen)
        log.info("%-34s %-27s %s", verdict.name, verdict.word, said)
    for text in unknown:
        log.warning("too short to tell %s", text)
    log.info("%s", target.with_suffix(".csv"))
    return verdicts


def _speed(run: ValidationRun) -> dict[str, Any]:
    path = run.folder / "timing.json"
    return read_json(path) if path.is_file() else {}
