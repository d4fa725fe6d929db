"""The stage: every model of a study on every data set, or one model on one data set.

Models are shared over ranks; each leaves models/<data set>/<model>/, whose model.json is
written last and names what made it. A model that is there is not trained again; one that was
made with other parameters, from other data or by another trainer is named, never reused.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.cli import open_study, study_parser
from mlsel.core import stopping
from mlsel.core.errors import MlselError, StageIncomplete, Stopped
from mlsel.core.files import remove, write_json, write_text
from mlsel.core.parallel import on_root, share, world
from mlsel.core.progress import Progress, duration
from mlsel.core.provenance import differing_keys
from mlsel.core.shards import Part, add_part_option
from mlsel.study.study import Study
from mlsel.training.base import MODEL_FILE, TrainedModel, Trainer, describe, read_frames

if TYPE_CHECKING:
    from mpi4py import MPI

log = logging.getLogger(__name__)


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
        help="a data set to validate on (default: a share of the frames)",
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
        raise MlselError("--part is for a whole study: leave it away with --data.")
    return _train_one(args)


def _train_one(args: argparse.Namespace) -> int:
    from mlsel.study.study import load_study
    from mlsel.training.registry import trainer_named

    study = load_study(args.study, args.set)
    if not args.model:
        raise MlselError("--data needs --model NAME, for instance --model schnet-small.")
    trainer = trainer_named(study.training, args.model)
    use_threads()
    out = args.output or Path(trainer.name)
    task = Task(args.data.stem, args.data, args.validation, trainer, args.n, out)
    if task.is_done(again=args.again):
        log.info("%s is there already, made from the same data and parameters", task.out)
        return 0
    progress = Progress(1.0, lambda done, rate: line[0])
    line = [trainer.name]

    def report(value: Report) -> None:
        line[0] = value.text
        progress.advance(value.share - progress.done)

    model = task.perform(report)
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
        if self.validation is not None and self.trainer.uses_validation:
            with Pool(self.validation) as pool:
                data["validation_digest"] = pool.digest
        return {"parameters": self.trainer.parameters, "data": data}

    def is_done(self, *, again: bool = False) -> bool:
        """Whether the model is there, made from the same.

        Raises
        ------
        MlselError
            If it is there and made from something else, and `again` is false.
        """
        path = self.out / MODEL_FILE
        made_from = self.made_from()
        if not path.is_file():
            return False
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
            changed = differing_keys({k: there[k] for k in made_from}, made_from)
        except (ValueError, KeyError, TypeError):
            changed = ["model.json is damaged"]
        if not changed:
            return True
        if not again:
            raise MlselError(
                f"{self.out} is stale: {'; '.join(changed)}. Give --again to train it anew, or "
                "choose another folder with -o."
            )
        log.info("%s is stale (%s): trained anew", self.out, "; ".join(changed))
        shutil.rmtree(self.out)
        return False

    def perform(self, report: Callable[[Report], None]) -> TrainedModel:
        """Train, or go on training, and finish with model.json."""
        from mlsel.pool.pool import Pool

        made_from = self.made_from()
        with Pool(self.data) as pool:
            frames = list(read_frames(pool, range(made_from["data"]["n_frames"])))
        validation = []
        if self.validation is not None and self.trainer.uses_validation:
            with Pool(self.validation) as pool:
                validation = list(read_frames(pool))
        self.trainer.on_report = lambda share, text: report(Report(share, text))
        self.out.mkdir(parents=True, exist_ok=True)
        remove(self.failure)
        try:
            model = self.trainer.fit(frames, validation, self.out)
        except Stopped:
            raise
        except MlselError as error:
            write_text(self.failure, f"{error}\n")
            raise
        self.trainer.illustrate(self.out)
        description = describe(self.trainer, made_from["data"])
        write_json(self.out / MODEL_FILE, {**description, "result": model.facts})
        return model


VALIDATION, TEST = "-validation", "test"


def data_sets(study: Study, folder: Path) -> list[str]:
    """Return the names of the data sets to train on.

    They are those of the study's selection methods, and any other that lies beside them.
    """
    names = list(study.selection.methods)
    others = sorted(path.stem for path in (folder / "data").glob("*.h5"))
    names += [x for x in others if x != TEST and not x.endswith(VALIDATION) and x not in names]
    return names


def model_names(study: Study, folder: Path) -> list[str]:
    """Return <data set>/<model> of all models of a study, those not yet made too."""
    from mlsel.training.registry import trainers

    models = [trainer.name for trainer in trainers(study.training)]
    return [f"{name}/{model}" for name in data_sets(study, folder) for model in models]


def tasks_of(study: Study, folder: Path) -> list[Task]:
    """Return all models to be made, as `model_names` orders them.

    Raises
    ------
    MlselError
        If a data set of the study is not there.
    """
    from mlsel.training.registry import trainers

    data = folder / "data"
    names = data_sets(study, folder)
    absent = [name for name in names if not (data / f"{name}.h5").is_file()]
    if absent:
        raise MlselError(
            f"{data} lacks the data sets {', '.join(absent)}: make them with `mlsel selection`."
        )
    made = []
    for name in names:
        validation = data / f"{name}{VALIDATION}.h5"
        for trainer in trainers(study.training):
            made.append(
                Task(
                    name,
                    data / f"{name}.h5",
                    validation if validation.is_file() else None,
                    trainer,
                    trainer.n_train,
                    folder / "models" / name / trainer.name,
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
    lock = FolderLock(folder / "models", part.label(names) if part else "")
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
