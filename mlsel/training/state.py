"""The states of a study's models, read from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.core.errors import MlselError
from mlsel.core.record import read_json, told
from mlsel.study.folder import MODEL, StudyFolder
from mlsel.study.stage import BEGUN, DONE, FAILED, MISSING, STALE, Item
from mlsel.training.ending import ending

if TYPE_CHECKING:
    from mlsel.study.study import Study
    from mlsel.training.task import Task


def items(study: Study, folder: Path) -> list[Item]:
    """Return the models of a study and their states."""
    from mlsel.training.stage import tasks_of

    found = [
        Item(task.name, *_state(task), part, on_gpu=task.trainer.uses_gpu)
        for part, task in enumerate(tasks_of(study, folder, must_exist=False), 1)
    ]
    asked = {item.name for item in found}
    others = [name for name in StudyFolder(folder).finished_models() if name not in asked]
    return found + [Item(name, DONE, "not of the study") for name in others]


def _state(task: Task) -> tuple[str, str]:
    """Return a model's state, and how far it is in a few words."""
    if task.data.is_file():  # without its data nothing can be compared
        try:
            changed = task.differences()
        except MlselError as error:
            changed = [str(error)] if (task.out / MODEL).is_file() else []
        if changed:
            return STALE, told(changed)
    if (task.out / MODEL).is_file():
        described = read_json(task.out / MODEL)
        return DONE, ending(described.get("parameters", {}), described.get("result", {}))
    if task.failure.is_file():
        return FAILED, task.failure.read_text(encoding="utf-8").partition("\n")[0]
    text = task.trainer.progress(task.out)
    return (BEGUN if text else MISSING), text
