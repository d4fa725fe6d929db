"""What a study's folder holds of it: every stage's products and their states.

    mlsel status [DIR] [STUDY]

It reads the products themselves, so that it tells the same whoever made them, on whatever machine,
and needs neither MPI nor a batch system. Exit code 0 only when all is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.cli import Parser, add_folder_argument
from mlsel.core.errors import MlselError, nearest
from mlsel.study.folder import StudyFolder
from mlsel.study.parts import members
from mlsel.study.preset import presets
from mlsel.study.stage import MISSING, STALE, StageState
from mlsel.workflow.stages import stages_of

if TYPE_CHECKING:
    from mlsel.study.parts import Member
    from mlsel.study.study import Study


def main(argv: Sequence[str] | None = None) -> int:
    """Print the state; return 0 only if all is done."""
    parser = Parser(prog="mlsel status", description="Tell what of a study is done.")
    add_folder_argument(parser)
    parser.add_argument(
        "study",
        nargs="?",
        metavar="STUDY",
        help="a TOML file or preset (default: the study that the folder is of)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of STUDY"
    )
    parser.add_argument("--all", action="store_true", help="list what is done, too")
    args = parser.parse_args(argv)
    study = study_of(args.folder, args.study, args.set)
    stages = states(study, args.folder)
    print(table(study, args.folder, stages, everything=args.all))
    is_done = all(stage.is_done for stage in stages)
    for part in members(study, args.folder)[1:]:
        of_part = states(part.study, part.folder)
        print(part_line(part, of_part))
        is_done &= all(stage.is_done for stage in of_part)
    return 0 if is_done else 1


def study_of(folder: Path, source: str | None, overrides: Sequence[str] = ()) -> Study:
    """Return the study named, else the one recorded in a folder, else that of its contents or name.

    Raises
    ------
    MlselError
        If none of these is there.
    """
    from mlsel.study.choice import kept_study, of_folder, study_of_contents
    from mlsel.study.study import load_study

    if source is not None:
        return of_folder(load_study(source, overrides), folder)
    if overrides:
        raise MlselError("--set overrides keys of a study: name it after DIR.")
    kept = kept_study(folder)
    if kept is not None:
        return kept
    if StudyFolder(folder).contents():
        return study_of_contents(folder)
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
    found = []
    told: set[str] = set()  # a job whose lock is that of several stages works on the first undone
    for stage in stages_of(study):
        state = StageState(stage.name, stage.items(study, folder))
        if stage.place or not state.is_done:
            state.workers.extend(w for w in stage.workers(folder) if stage.place not in told)
            told.add(stage.place)
        found.append(state)
    return found


def part_line(part: Member, stages: Sequence[StageState]) -> str:
    """Return in a line what is undone of a part of the study."""
    undone = [stage for stage in stages if not stage.is_done]
    if not undone:
        return f"{part.title:20} done"
    told = []
    for stage in undone:
        n_done = len(stage.items) - len(stage.undone)
        stale = sum(item.state == STALE for item in stage.items)
        begun = any(item.state != MISSING for item in stage.items)
        told.append(f"{stage.name} {n_done} of {len(stage.items)}" if begun else stage.name)
        told[-1] += f" ({stale} stale)" if stale else ""
    is_begun = any(item.state != MISSING for stage in stages for item in stage.items)
    text = f"undone: {', '.join(told)}" if is_begun else "not begun"
    workers = [worker for stage in stages for worker in stage.workers]
    at_work = f"; at work: {', '.join(workers)}" if workers else ""
    return f"{part.title:20} {text}{at_work}; `mlsel status {part.folder}` lists it"


def table(
    study: Study, folder: Path, stages: Sequence[StageState], *, everything: bool = False
) -> str:
    """Return the states for a terminal."""
    lines = [f"study {study.name} in {folder}"]
    if study.is_of_contents:
        lines = [f"{folder}, which is of no study that is known: what is there"]
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
