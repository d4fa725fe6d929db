"""The stage: every model of a study on every data set, or one model on one data set.

Models are shared over ranks; each leaves models/<data set>/<model>/, whose model.json is
written last and names what made it. A model that is there is not trained again; one that was
made with other parameters, from other data or by another trainer is named, never reused.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.cli import open_study, study_parser
from mlsel.core import stopping
from mlsel.core.errors import MlselError, StageIncomplete, Stopped
from mlsel.core.files import remove, sweep, sweep_partials, take_away, write_json, write_text
from mlsel.core.parallel import on_root, share, world
from mlsel.core.progress import Progress, duration
from mlsel.core.provenance import digest
from mlsel.core.record import Record
from mlsel.core.shards import Part, add_part_option
from mlsel.selection.learning import sized_sets
from mlsel.study.folder import StudyFolder, size_of
from mlsel.study.seeds import family
from mlsel.study.study import Study
from mlsel.training.base import (
    ISOLATED_ATOMS,
    MODEL_FILE,
    Frames,
    TrainedModel,
    Trainer,
    describe,
    read_frames,
)
from mlsel.training.baseline import Baseline
from mlsel.training.core import FILE as CORE
from mlsel.training.core import Core, read_core

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.pool.pool import Pool

log = logging.getLogger(__name__)

BEGUN = "begun.json"
"""What a training that is not finished was begun from."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage, or with --data train one model."""
    parser = study_parser("mlsel training", "Train every model of a study on every data set.")
    one = parser.add_argument_group("one model on one data set")
    one.add_argument("--data", type=Path, metavar="FILE", help="a pool or data set")
    one.add_argument("--model", metavar="NAME", help="which of the study's models")
    one.add_argument(
        "--validation",
        type=Path,
        metavar="FILE",
        help="a data set held out to stop by (default: a share of the frames)",
    )
    one.add_argument("-n", type=int, metavar="N", help="use the first N frames (default: all)")
    parser.add_argument(
        "--again", action="store_true", help="train models anew whose parameters or data changed"
    )
    add_part_option(parser, "model")
    args = parser.parse_args(argv)
    world()  # before: MPICH puts a handler of its own on SIGUSR1 when it starts
    with stopping.heard():
        return _main(args)


def _main(args: argparse.Namespace) -> int:
    if args.data is None:
        for option in ("model", "validation", "n"):
            if getattr(args, option) is not None:
                raise MlselError(f"--{option} is for one model: say on which --data, too.")
        comm = world()
        study, folder = open_study(args, comm)
        train_study(study, folder, comm, again=args.again, part=args.part)
        return 0
    if args.part is not None:
        raise MlselError("--part is for a whole study: leave it out with --data.")
    return _train_one(args)


def _train_one(args: argparse.Namespace) -> int:
    from mlsel.study.study import DEFAULT_STUDY, load_study
    from mlsel.training.registry import trainer_named

    study = load_study(args.study or DEFAULT_STUDY, args.set)  # its [training] alone is used
    if not args.model:
        raise MlselError("--data needs --model NAME, for instance --model schnet-small.")
    trainer = trainer_named(study.training, args.model)
    use_threads()
    out = args.output or Path(trainer.name)
    baseline = Baseline.of(study.training.baseline, study.system.species)
    has_core = bool(study.training.core)
    task = Task(
        args.data.stem, args.data, args.validation, trainer, args.n, out, baseline, has_core
    )
    if task.is_done(again=args.again):
        task.settle_core()
        log.info("%s is there already, made from the same data and parameters", task.out)
        return 0
    progress = Progress(1.0, lambda done, rate: line[0])
    line = [trainer.name]

    def report(value: Report) -> None:
        line[0] = value.text
        progress.advance(value.share - progress.done)

    model = task.perform(report)
    task.settle_core()
    progress.end()
    log.info("%s: trained in %s", model.folder, duration(progress.elapsed))
    return 0


@dataclass(frozen=True)
class Report:
    """How far a task is: share 0 … 1, and a few words."""

    share: float
    text: str


@dataclass(frozen=True)
class Task:
    """A model to be trained: which trainer, on which frames, into which folder."""

    dataset: str
    data: Path
    validation: Path | None
    trainer: Trainer
    n: int | None
    out: Path
    baseline: Baseline | None = None
    has_core: bool = False
    start: Path | None = None
    """The folder of a model of the same kind and size whose weights it begins from."""

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.trainer.name}"

    @property
    def failure(self) -> Path:
        """Holds the message where the last training of this model failed."""
        return self.out / "error.txt"

    def made_from(self) -> dict[str, Any]:
        """What decides the product: parameters, data and how many frames of it.

        Raises
        ------
        MlselError
            If there is no data set or it has too few frames.
        """
        from mlsel.pool.pool import Pool

        with Pool(self.data) as pool:
            n = pool.n_frames if self.n is None else self.n
            if pool.n_frames == 0:
                raise MlselError(f"{self.data} holds no frames: there is nothing to train on.")
            if not 1 <= n <= pool.n_frames:
                raise MlselError(
                    f"{self.trainer.name} wants {n} frames and {self.data} has {pool.n_frames}: "
                    f"ask for 1 to {pool.n_frames}, or select more."
                )
            data = {"name": self.dataset, "digest": pool.digest, "n_frames": n}
            references = self._references(pool)
        if self.validation is not None and self.trainer.uses_validation:
            with Pool(self.validation) as pool:
                data["validation_digest"] = pool.digest
        baseline = {} if self.baseline is None else self.baseline.identity
        made: dict[str, Any] = {
            "parameters": self.trainer.parameters,
            "data": data,
            "baseline": baseline,
            "references": references,
        }
        if self.start is not None and self.trainer.has_weights:
            made["start"] = digest((self.start / MODEL_FILE).read_bytes())
        return made

    def _references(self, pool: Pool) -> dict[str, Any]:
        """What the energies of elements are from, and those of isolated atoms if it is these.

        They are those of the potential without a baseline, which adds nothing to an atom alone.
        """
        known = pool.element_references
        elements = {int(z) for run in pool.runs for z in pool.numbers(run)}
        if not self.trainer.uses_isolated_atoms or not elements <= known.keys():
            return {"from": self.trainer.references_from}
        return {"from": ISOLATED_ATOMS, "energies": {str(z): known[z] for z in sorted(elements)}}

    def is_done(self, *, again: bool = False) -> bool:
        """Whether the model is there, made from the same; what is stale is taken away.

        Raises
        ------
        MlselError
            If it, or what was begun of it, is made from something else, and `again` is false.
        """
        sweep(self.out)
        sweep_partials(self.out, alone=True)
        made_from = self.made_from()
        model = self._record(MODEL_FILE)
        if model.settle(made_from, again=again):
            take_away(self.out / BEGUN)
            return True
        begun = self._record(BEGUN)
        # Without a record an earlier mlsel began it: its checkpoint says of what it is.
        is_mine = begun.settle(made_from, again=again) if begun.path.is_file() else not again
        if model.path.is_file() or not is_mine:
            take_away(self.out)
        return False

    def _record(self, name: str) -> Record:
        """What is there was made from; a parameter that was added since had its default."""
        known = vars(type(self.trainer)).get("__dataclass_fields__", {})
        added = {key: field.default for key, field in known.items() if field.default is not MISSING}
        defaults = {
            "baseline": {},
            "parameters": added,
            "references": {"from": self.trainer.references_from},
        }
        return Record(self.out / name, defaults=defaults)

    def differences(self) -> list[str]:
        """Return how what is there, finished or begun, was made otherwise than is asked for now."""
        for name in (MODEL_FILE, BEGUN):
            record = self._record(name)
            if record.path.is_file():
                return record.differences(self.made_from())
        return []

    def perform(self, report: Callable[[Report], None]) -> TrainedModel:
        """Train, or go on training, and finish with model.json."""
        from mlsel.pool.pool import Pool

        made_from = self.made_from()
        with Pool(self.data) as pool:
            frames = self._read(pool, range(made_from["data"]["n_frames"]))
        validation = []
        if self.validation is not None and self.trainer.uses_validation:
            with Pool(self.validation) as pool:
                validation = self._read(pool)
        if self.trainer.has_weights:
            self.trainer.start = self.start
        if self.trainer.uses_isolated_atoms:
            energies = made_from["references"].get("energies", {})
            self.trainer.isolated_atoms = {int(z): e for z, e in energies.items()}
        self.trainer.on_report = lambda share, text: report(Report(share, text))
        self.out.mkdir(parents=True, exist_ok=True)
        remove(self.failure)
        if not any(self.out.glob("[!.]*")):  # else it goes on, with what an earlier mlsel left too
            Record(self.out / BEGUN).write(made_from)
        try:
            if self.baseline is not None:
                self.baseline.write(self.out)
                frames, validation = (
                    [self.baseline.taken_from(part) for part in parts]
                    for parts in (frames, validation)
                )
            model = self.trainer.fit(frames, validation, self.out)
        except Stopped:
            raise
        except MlselError as error:
            write_text(self.failure, f"{error}\n")
            raise
        self.trainer.illustrate(self.out)
        description = describe(self.trainer, made_from["data"])
        whole = {
            **description,
            **{key: made_from[key] for key in ("start",) if key in made_from},
            "baseline": made_from["baseline"],
            "references": made_from["references"],
            "result": model.facts,
        }
        write_json(self.out / MODEL_FILE, whole)
        take_away(self.out / BEGUN)
        return model

    def settle_core(self) -> None:
        """Put the guard rail beside a finished model, or take it away, as is asked for."""
        from mlsel.pool.pool import Pool

        if not (self.out / MODEL_FILE).is_file():
            return
        if not self.has_core:
            remove(self.out / CORE)
        elif read_core(self.out) is None:
            with Pool(self.data) as pool:
                Core.of_frames(self._read(pool, range(self.made_from()["data"]["n_frames"]))).write(
                    self.out
                )

    def _read(self, pool: Pool, frame_ids: range | None = None) -> list[Frames]:
        for label, key in self.trainer.labels.items():
            if label not in pool.fields:
                raise MlselError(
                    f"{self.trainer.name} learns the {label}, which not every frame of {pool.path} "
                    f"has (all have {', '.join(pool.fields)}): set {key} to 0, or label the frames."
                )
        more = [label for label in self.trainer.labels if label != "virial"]  # comes anyway
        return list(read_frames(pool, frame_ids, more=more))


def data_sets(study: Study, folder: Path) -> list[str]:
    """Return the names of the data sets to train on.

    They are those of the study's selection methods and seeds, and any other that lies beside them.
    """
    names = study.selection.data_sets()
    names += [sized.name for sized in sized_sets(study)]
    return names + [name for name in StudyFolder(folder).data_sets() if name not in names]


def trainers_of(study: Study, dataset: str) -> list[Trainer]:
    """Return the trainers of a data set's models.

    On a learning curve's data set they use all frames; a model that the study trains on the same
    frames of the method's own data set is not trained twice.
    """
    from fnmatch import fnmatch

    from mlsel.training.registry import trainers

    base, n = size_of(dataset)
    if n is None:
        return trainers(study.training, study.selection.seed_of(dataset))
    own = trainers(study.training, family(base)[1])
    chosen = [t for t in own if any(fnmatch(t.name, p) for p in study.learning.models)]
    sized = next((s for s in sized_sets(study) if s.name == dataset), None)
    if sized is None or not sized.is_first_frames:
        return chosen
    return [t for t in chosen if sized.n != (t.n_train or study.selection.n_train)]


def model_names(study: Study, folder: Path) -> list[str]:
    """Return <data set>/<model> of all models of a study, those not yet made too."""
    return [
        f"{name}/{trainer.name}"
        for name in data_sets(study, folder)
        for trainer in trainers_of(study, name)
    ]


def tasks_of(study: Study, folder: Path, *, must_exist: bool = True) -> list[Task]:
    """Return all models to be made, as `model_names` orders them.

    Raises
    ------
    MlselError
        If a data set of the study is not there, and they `must_exist`.
    """
    place = StudyFolder(folder)
    names = data_sets(study, folder)
    absent = [name for name in names if not place.data_set(name).is_file()]
    if absent and must_exist:
        raise MlselError(
            f"{place.data} lacks the data sets {', '.join(absent)}: make them with "
            "`mlsel selection`."
        )
    baseline = Baseline.of(study.training.baseline, study.system.species)
    made = []
    for name in names:
        base, n = size_of(name)
        held_out = place.held_out(base)
        if n is not None and not held_out.is_file():  # a seed of the learning curves alone
            held_out = place.held_out(family(base)[0])
        for trainer in trainers_of(study, name):
            made.append(
                Task(
                    name,
                    place.data_set(name),
                    held_out if held_out.is_file() else None,
                    trainer,
                    trainer.n_train if n is None else None,
                    place.model(f"{name}/{trainer.name}"),
                    baseline,
                    bool(study.training.core),
                )
            )
    return made


def train_study(
    study: Study,
    folder: Path,
    comm: MPI.Intracomm,
    *,
    again: bool = False,
    part: Part | None = None,
) -> None:
    """Train every model of the study that is missing, or those of a part.

    Raises
    ------
    MlselError
        If data sets are missing or a model is stale.
    StageIncomplete
        If some models could not be trained; the others are there.
    """
    from mlsel.core.lock import FolderLock

    names = on_root(comm, lambda: model_names(study, folder))
    lock = FolderLock(StudyFolder(folder).models, part.label(names) if part else "")
    chosen = on_root(comm, lambda: part.of(names) if part else names)
    on_root(comm, lock.acquire)
    try:
        tasks = on_root(
            comm, lambda: [task for task in tasks_of(study, folder) if task.name in chosen]
        )
        missing = on_root(
            comm, lambda: [i for i, task in enumerate(tasks) if not task.is_done(again=again)]
        )
        use_threads()
        failures = _perform(study, tasks, missing, folder, comm)
        on_root(comm, lambda: settle_cores(tasks))
    finally:
        if comm.rank == 0:
            lock.release()
    if failures:
        raise StageIncomplete(
            f"{len(failures)} of {len(tasks)} models could not be trained: "
            + "; ".join(f"{name}: {text}" for name, text in failures[:3])
            + ("; …" if len(failures) > 3 else ""),
            everywhere=True,
        )


def settle_cores(tasks: Sequence[Task]) -> None:
    """Put guard rails beside finished models, or take them away, as is asked for."""
    for task in tasks:
        task.settle_core()


def _perform(
    study: Study, tasks: list[Task], missing: list[int], folder: Path, comm: MPI.Intracomm
) -> list[tuple[str, str]]:
    """Train the missing models; return names and messages of those that failed."""
    order = sorted(missing, key=lambda i: -tasks[i].trainer.cost)
    cost = sum(tasks[i].trainer.cost for i in order)
    shares = dict.fromkeys(order, 0.0)
    words = {"now": ""}
    progress = Progress(cost, lambda done, rate: words["now"])
    if comm.rank == 0:
        log.info("%d of %d models to train on %d ranks", len(order), len(tasks), comm.size)

    def on_report(place: int, value: Report | None) -> None:
        index = order[place]
        share_now = 1.0 if value is None else value.share
        words["now"] = f"{sum(s >= 1 for s in shares.values())} of {len(order)} models" + (
            "" if value is None else f", {tasks[index].dataset}/{value.text}"
        )
        progress.advance((share_now - shares[index]) * tasks[index].trainer.cost)
        shares[index] = share_now

    def work(index: int, _: Any, report: Callable[[Report], None]) -> str:
        task = tasks[index]
        if stopping.asked():
            raise Stopped("", has_progress=False)
        try:
            with task.trainer.admission(study.training.memory):
                task.perform(report)
        except Stopped:
            raise
        except MlselError as error:
            return str(error)
        return ""

    side_by_side = [] if comm.size > 1 else [i for i in order if tasks[i].trainer.is_external]
    messages: dict[int, str] = {}
    if len(side_by_side) > 1:
        # One rank alone: fits are programs of their own, so that all cores can have one each.
        with ThreadPoolExecutor(_cores()) as pool:
            done = pool.map(
                lambda i: work(i, None, lambda value: on_report(order.index(i), value)),
                side_by_side,
            )
            messages = dict(zip(side_by_side, _finished(done), strict=True))
        for i in side_by_side:
            on_report(order.index(i), None)
    rest = [i for i in order if i not in messages]
    results = share(
        comm, rest, work, on_report=lambda place, v: on_report(order.index(rest[place]), v)
    )
    progress.end()
    messages |= dict(zip(rest, results, strict=True))
    failures = [(tasks[i].name, messages[i]) for i in order if messages[i]]
    if comm.rank == 0 and order:
        log.info("%d models trained in %s", len(order) - len(failures), duration(progress.elapsed))
    return failures


def _finished(results: Iterator[str]) -> list[str]:
    """Return the results of fits side by side.

    Raises
    ------
    Stopped
        If a signal ended one of them.
    """
    done = []
    try:
        for result in results:
            done.append(result)
            stopping.count_unit()
    except Stopped as stop:
        raise Stopped(
            f"stopped by a signal{f': {stop}' if str(stop) else ''}; the same command goes on from "
            "here.",
            has_progress=bool(stopping.units_done()),
            everywhere=True,
        ) from None
    return done


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads() -> None:
    """Compute with one thread, or with OMP_NUM_THREADS.

    These networks are small: threads of one model wait for each other, and on a busy machine most
    of the time. Cores are used by training several models.
    """
    import torch

    wanted = os.environ.get("OMP_NUM_THREADS", "")
    torch.set_num_threads(int(wanted) if wanted.isdigit() and int(wanted) else 1)
