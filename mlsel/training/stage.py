"""The stage: every model of a study on every data set, or one model on one data set.

Models are shared over ranks; each leaves models/<data set>/<model>/, whose model.json is
written last and names what made it. A model that is there is not trained again; one that was
made with other parameters, from other data or by another trainer is named, never reused.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.core import stopping
from mlsel.core.blas import wanted_threads
from mlsel.core.errors import MlselError, StageIncomplete, Stopped
from mlsel.core.parallel import on_root, share
from mlsel.core.progress import Progress, duration
from mlsel.core.shards import Part
from mlsel.selection.learning import sized_sets
from mlsel.study.folder import StudyFolder, size_of
from mlsel.study.seeds import family
from mlsel.study.study import Study
from mlsel.training.base import Trainer
from mlsel.training.baseline import Baseline
from mlsel.training.task import Report, Task

if TYPE_CHECKING:
    from mpi4py import MPI

log = logging.getLogger(__name__)


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
    made = []
    for name in names:
        n = size_of(name)[1]
        held_out = held_out_of(place, name)
        for trainer in trainers_of(study, name):
            made.append(
                Task(
                    name,
                    place.data_set(name),
                    held_out,
                    trainer,
                    trainer.n_train if n is None else None,
                    place.model(f"{name}/{trainer.name}"),
                    baseline_of(study, trainer),
                    bool(study.training.core),
                )
            )
    return made


def baseline_of(study: Study, trainer: Trainer) -> Baseline | None:
    """Return what a model learns beside; None: nothing."""
    section, where = study.training.baseline_named(trainer.beside)
    return Baseline.of(section, study.system.species, where)


def held_out_of(place: StudyFolder, dataset: str) -> Path | None:
    """Return the frames that trainings on a data set are judged with; None where there are none."""
    base, n = size_of(dataset)
    found = place.held_out(base)
    if n is not None and not found.is_file():  # a seed of the learning curves alone
        found = place.held_out(family(base)[0])
    return found if found.is_file() else None


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
        If data sets are missing, or they, the pool or a model are stale.
    StageIncomplete
        If some models could not be trained; the others are there.
    """
    from mlsel.core.lock import FolderLock
    from mlsel.selection.state import require_data_sets

    on_root(comm, lambda: require_data_sets(study, folder))
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
        if has_networks([tasks[i].trainer for i in missing]):
            use_threads()
        failures = _perform(study, tasks, missing, folder, comm)
        on_root(comm, lambda: settle_added(tasks))
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


def settle_added(tasks: Sequence[Task]) -> None:
    """Write beside finished models what is added to them in use and not learnt."""
    for task in tasks:
        task.settle_added()


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

    def work(index: int, group: MPI.Intracomm | None, report: Callable[[Report], None]) -> str:
        task = tasks[index]
        ranks = group if group is not None and group.size > 1 else None
        if ranks is None and stopping.asked():
            raise Stopped("", has_progress=False)
        try:
            with task.trainer.admission(study.training.memory):
                task.perform(report, ranks)
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
            results = pool.map(
                lambda i: work(i, None, lambda value: on_report(order.index(i), value)),
                side_by_side,
            )
            messages = dict(zip(side_by_side, _finished(results), strict=True))
        for i in side_by_side:
            on_report(order.index(i), None)
    if len(order) < comm.size:  # there are ranks to spare
        shared = [i for i in order if tasks[i].trainer.shares_ranks]
        done = share(
            comm,
            shared,
            work,
            ranks_per_task=comm.size // max(1, len(shared)),
            on_report=lambda place, v: on_report(order.index(shared[place]), v),
        )
        messages |= dict(zip(shared, done, strict=True))
    rest = [i for i in order if i not in messages]
    done = share(
        comm, rest, work, on_report=lambda place, v: on_report(order.index(rest[place]), v)
    )
    progress.end()
    messages |= dict(zip(rest, done, strict=True))
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


def has_networks(trainers: Sequence[Trainer]) -> bool:
    """Whether one of them computes with torch, which takes seconds and 300 MB to load."""
    return any("torch" in trainer.packages or not trainer.packages for trainer in trainers)


def use_threads() -> None:
    """Compute with one thread, or with OMP_NUM_THREADS.

    These networks are small: threads of one model wait for each other, and on a busy machine most
    of the time. Cores are used by training several models.
    """
    import torch

    torch.set_num_threads(wanted_threads())
