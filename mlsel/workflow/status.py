"""What a study's folder holds of it: every stage's products and their states.

    mlsel status [DIR] [STUDY]

It reads the products themselves, so that it tells the same whoever made them, on whatever machine,
and needs neither MPI nor a batch system. Exit code 0 only when all is done.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.cli import Parser, add_folder_argument
from mlsel.core.errors import MlselError, nearest
from mlsel.study.study import Study, load_study, presets, recorded_study

if TYPE_CHECKING:
    from mlsel.md.npt_run import MdRun

DONE, BEGUN, FAILED, STALE, MISSING = "done", "begun", "failed", "stale", "missing"


@dataclass(frozen=True)
class Item:
    """A product: a run, a data set, a model, a table.

    Attributes
    ----------
    name : as the stage calls it
    state : done, begun, failed, stale (made from something else than the study now says), missing
    text : how far it is, or why not
    part : its number for --part, 0 where the stage has no parts
    """

    name: str
    state: str
    text: str = ""
    part: int = 0


@dataclass(frozen=True)
class StageState:
    """A stage: its products, and who works on it.

    Attributes
    ----------
    name : the command
    items : products
    workers : jobs that hold a lock and are not known to have ended, in words
    """

    name: str
    items: list[Item] = field(default_factory=list)
    workers: list[str] = field(default_factory=list)

    @property
    def undone(self) -> list[Item]:
        return [item for item in self.items if item.state != DONE]

    @property
    def is_done(self) -> bool:
        return not self.undone


def main(argv: Sequence[str] | None = None) -> int:
    """Print the state; return 0 only if all is done."""
    parser = Parser(prog="mlsel status", description="Tell what of a study is done.")
    add_folder_argument(parser)
    parser.add_argument(
        "study",
        nargs="?",
        metavar="STUDY",
        help="a TOML file or preset (default: the study that the folder's pool was made for)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of STUDY"
    )
    parser.add_argument("--all", action="store_true", help="list what is done, too")
    args = parser.parse_args(argv)
    study = study_of(args.folder, args.study, args.set)
    stages = states(study, args.folder)
    print(table(study, args.folder, stages, everything=args.all))
    return 0 if all(stage.is_done for stage in stages) else 1


def study_of(folder: Path, source: str | None, overrides: Sequence[str] = ()) -> Study:
    """Return the study named, else the one recorded in a folder, else that of the folder's name.

    Raises
    ------
    MlselError
        If none of these is there.
    """
    if source is not None:
        return load_study(source, overrides)
    if overrides:
        raise MlselError("--set overrides keys of a study: name it after DIR.")
    recorded = recorded_study(folder)
    if recorded is not None:
        return recorded
    name = folder.resolve().name
    for candidate in (name, f"{name}.toml"):
        if candidate in presets() or (candidate.endswith(".toml") and Path(candidate).is_file()):
            return load_study(candidate)
    raise MlselError(
        f"{folder} does not say which study it is of, and none has its name: give the study after "
        f"the folder, `mlsel status {folder} STUDY`: a TOML file, or one of "
        f"{', '.join(presets())}{nearest(name, presets())}."
    )


def states(study: Study, folder: Path) -> list[StageState]:
    """Return the state of each stage of a study, in order."""
    found: list[tuple[str, Path, Callable[[Study, Path], list[Item]]]] = [
        ("generate", folder, _generate),
        ("selection", folder, _selection),
        ("training", folder / "models", _training),
        ("evaluate", folder / "evaluation", _evaluate),
        ("validate", folder / "validation", _validate),
        ("report", folder, _report),
    ]
    stages = []
    in_folder = _workers(folder)  # the lock of generate and selection is the same
    for name, place, look in found:
        stage = StageState(name, look(study, folder))
        if place != folder:
            stage.workers.extend(_workers(place))
        elif not stage.is_done:
            stage.workers.extend(in_folder)
            in_folder = []
        stages.append(stage)
    return stages


def _workers(folder: Path) -> list[str]:
    """Jobs that work in a folder."""
    from mlsel.core.lock import holder_of, lock_files

    holders = [holder_of(path) for path in lock_files(folder)]
    return [str(holder) for holder in holders if holder is not None and not holder.has_ended()]


def _generate(study: Study, folder: Path) -> list[Item]:
    from mlsel.md.npt_run import MdRun
    from mlsel.pool.pool import Pool

    runs = [MdRun(t, p, folder, study) for p in study.pool.pressures
            for t in study.pool.temperatures]  # fmt: skip
    changed = _changed(folder / "runs" / "settings.json", study.as_dict("system", "pool"))
    if changed:
        return [Item("runs", STALE, changed)]
    items = [Item(run.name, *_state_of_run(run)) for run in runs]
    path = folder / "pool.h5"
    n_done = sum(item.state == DONE for item in items)
    if not path.is_file():
        return [*items, Item("pool.h5", MISSING)]
    with Pool(path) as pool:
        there = {run.name for run in pool.runs}
        whole = there == {run.name for run in runs}
        text = f"{len(pool)} frames of {len(pool.runs)} runs"
    if n_done > len(there):
        text += f", while {n_done} are done: generate writes it anew"
    return [*items, Item("pool.h5", DONE if whole else STALE if n_done > len(there) else BEGUN,
                         text)]  # fmt: skip


def _state_of_run(run: MdRun) -> tuple[str, str]:
    if run.product.is_file():
        return DONE, ""
    if run.failure.is_file():
        return FAILED, _first_line(run.failure)
    done = _last_checkpoint(run.folder)
    if done:
        return BEGUN, f"{done / run.n_steps:.0%} of {run.n_steps} steps"
    return MISSING, ""


def _last_checkpoint(folder: Path) -> int:
    """Return the step of a run's newest restart file, 0 if there is none."""
    steps = [path.stem.rpartition("-")[2] for path in folder.glob("*.restart")]
    return max((int(step) for step in steps if step.isdigit()), default=0)


def _selection(study: Study, folder: Path) -> list[Item]:
    from mlsel.pool.pool import Pool

    section = study.selection
    wanted = dict.fromkeys(section.methods, section.n_train)
    if section.n_validation:
        wanted |= {f"{method}-validation": section.n_validation for method in section.methods}
    if section.n_test:
        wanted["test"] = section.n_test
    digest = None
    if (folder / "pool.h5").is_file():
        with Pool(folder / "pool.h5") as pool:
            digest = pool.digest
    items = []
    for name, n in wanted.items():
        path = folder / "data" / f"{name}.h5"
        if not path.is_file():
            items.append(Item(name, MISSING))
            continue
        with Pool(path) as data:
            n_there, made_from = len(data), data.attributes.get("pool_digest")
        if n_there != n:
            items.append(Item(name, STALE, f"{n_there} frames, and the study wants {n}"))
        elif digest is not None and made_from != digest:
            items.append(Item(name, STALE, "selected from another pool than pool.h5 now is"))
        else:
            items.append(Item(name, DONE, f"{n} frames"))
    return items


def _training(study: Study, folder: Path) -> list[Item]:
    from mlsel.training.base import MODEL_FILE
    from mlsel.training.registry import trainers
    from mlsel.training.stage import Task, data_sets, tasks_of

    try:
        tasks = tasks_of(study, folder)
        can_compare = True
    except MlselError:  # data sets are missing: the models are told all the same
        tasks = [
            Task(name, Path(), None, trainer, trainer.n_train, folder / "models" / name
                 / trainer.name)
            for name in data_sets(study, folder)
            for trainer in trainers(study.training)
        ]  # fmt: skip
        can_compare = False
    items = []
    for part, task in enumerate(tasks, 1):
        state, text = MISSING, ""
        if (task.out / MODEL_FILE).is_file():
            state = DONE
            if can_compare:
                text = _difference(task)
                state = STALE if text else DONE
        elif task.failure.is_file():
            state, text = FAILED, _first_line(task.failure)
        else:
            text = task.trainer.progress(task.out)
            state = BEGUN if text else MISSING
        items.append(Item(task.name, state, text, part))
    return items


def _difference(task: Any) -> str:
    """Say how a finished model was made otherwise than the study now says, "" if it was not."""
    try:
        task.is_done()
    except MlselError as error:
        return str(error)
    return ""


def _evaluate(study: Study, folder: Path) -> list[Item]:
    from mlsel.evaluate.stage import find_models
    from mlsel.pool.pool import Pool
    from mlsel.training.stage import model_names

    if not study.selection.n_test:
        return []
    test = folder / "data" / "test.h5"
    entries = {}
    if test.is_file() and list((folder / "models").glob("*/*/model.json")):
        with Pool(test) as pool:
            digest = pool.digest
        entries = {entry.title: entry for entry in find_models(folder, digest)}
    items = []
    for name in model_names(study, folder):
        entry = entries.get(name)
        if entry is None:
            items.append(Item(name, MISSING))
        elif entry.product.is_file():
            fits = entry.stored_identity() == entry.identity
            text = "" if fits else "the model or the test set changed; evaluate makes it anew"
            items.append(Item(name, DONE if fits else BEGUN, text))
        else:
            n_chunks = len(list(entry.product.with_suffix("").glob("*.npz")))
            items.append(Item(name, BEGUN if n_chunks else MISSING, f"{n_chunks} chunks"
                              if n_chunks else ""))  # fmt: skip
    table = folder / "evaluation" / "errors.csv"
    rows: set[str] = set()
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as file:
            rows = {f"{row['dataset']}/{row['model']}" for row in csv.DictReader(file)}
    whole = {item.name for item in items} <= rows
    items.append(
        Item("errors.csv", DONE if whole else BEGUN if rows else MISSING, f"{len(rows)} models")
    )
    return items


def _validate(study: Study, folder: Path) -> list[Item]:
    from mlsel.core.provenance import digest
    from mlsel.validate.schedule import Schedule
    from mlsel.validate.stage import NOT_OF_THE_RUNS, run_names
    from mlsel.validate.start import density_run

    target = folder / "validation"
    names = run_names(study, folder)
    section = study.validation
    settings = {
        key: value
        for key, value in study.as_dict("validation")["validation"].items()
        if key not in NOT_OF_THE_RUNS
    }
    changed = _changed(target / "settings.json", {"validation": settings})
    if changed:
        items = [Item("start", STALE, changed)]
    elif (target / "start.json").is_file():
        items = [Item("start", DONE)]
    else:
        items = [Item("start", *_state_of_run(density_run(study, folder)))]
        if items[0].state == DONE:
            items = [Item("start", BEGUN)]
    for part, name in enumerate(names, 1):
        place = target / name
        model = folder / "models" / name / "model.json"
        kind = json.loads(model.read_text())["kind"] if model.is_file() else name
        length = section.durations.get(kind, section.duration)
        state, text = MISSING, ""
        total = Schedule.of(study, length).total
        known = place / "run.json"
        made_of = json.loads(known.read_text())["potential"] if known.is_file() else None
        if (place / "results.h5").is_file():
            failure = place / "failure.json"
            state = DONE
            if failure.is_file():
                text = f"LAMMPS ended it: {json.loads(failure.read_text())['message']}"
        elif (done := _last_checkpoint(place)) > 0:
            state, text = BEGUN, f"{done / total:.0%} of {total} steps"
        if made_of is not None and model.is_file() and made_of != digest(model.read_bytes()):
            state, text = STALE, f"the model changed; --again drives it anew ({place})"
        items.append(Item(name, state, text, part))
    judged: set[str] = set()
    verdicts = target / "verdicts.json"
    if verdicts.is_file():
        judged = {str(v["name"]) for v in json.loads(verdicts.read_text())["verdicts"]}
    whole = set(names) <= judged
    state = DONE if whole else BEGUN if judged else MISSING
    return [*items, Item("verdicts.csv", state, f"{len(judged)} runs")]


def _report(_: Study, folder: Path) -> list[Item]:
    path = folder / "report.html"
    if not path.is_file():
        return [Item("report.html", MISSING)]
    sources = ("pool.h5", "evaluation/errors.csv", "validation/verdicts.json")
    newer = [name for name in sources if (folder / name).is_file()
             and (folder / name).stat().st_mtime > path.stat().st_mtime]  # fmt: skip
    if newer:
        return [Item("report.html", BEGUN, f"older than {', '.join(newer)}")]
    return [Item("report.html", DONE)]


def _changed(record: Path, settings: dict[str, Any]) -> str:
    """Say in which keys a stage's record differs from the study."""
    from mlsel.core.provenance import differing_keys

    if not record.is_file():
        return ""
    there = json.loads(record.read_text(encoding="utf-8"))
    return "; ".join(differing_keys({key: there.get(key) for key in settings}, settings))


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0]


def table(
    study: Study, folder: Path, stages: Sequence[StageState], *, everything: bool = False
) -> str:
    """Return the states for a terminal."""
    lines = [f"study {study.name} in {folder}"]
    for stage in stages:
        n_done = len(stage.items) - len(stage.undone)
        counts = f"{n_done} of {len(stage.items)}" if stage.items else "nothing to do"
        lines.append(f"{stage.name:10} {'done' if stage.is_done else counts:12}".rstrip())
        if stage.is_done and stage.items:
            lines[-1] += f" {counts}"
        lines += [f"  at work: {worker}" for worker in stage.workers]
        shown = stage.items if everything else stage.undone
        if not everything and n_done == 0 and all(item.state == MISSING for item in shown):
            continue  # a stage that was not begun needs no list
        for item in shown:
            part = f" (part {item.part})" if item.part else ""
            text = f": {item.text}" if item.text else ""
            lines.append(f"  {item.state:8} {item.name}{part}{text}")
    return "\n".join(lines)
