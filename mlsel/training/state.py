"""The states of a study's models, read from its folder."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.core.errors import MlselError, shortened
from mlsel.core.record import read_json, told
from mlsel.study.folder import MODEL, StudyFolder
from mlsel.study.stage import BEGUN, DONE, FAILED, MISSING, STALE, Item, command, require_fresh
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
        try:
            added = task.added_differences()
        except MlselError as error:
            return BEGUN, str(error)
        if added:
            return BEGUN, f"{told(added)}: `mlsel training` writes it beside the model"
        described = read_json(task.out / MODEL)
        return DONE, ending(described.get("parameters", {}), described.get("result", {}))
    if task.failure.is_file():
        return FAILED, task.failure.read_text(encoding="utf-8").partition("\n")[0]
    text = task.trainer.progress(task.out)
    return (BEGUN if text else MISSING), text


def require_models(study: Study, folder: Path, names: Collection[str] | None = None) -> None:
    """Refuse to go on where the pool, a data set or a finished model was made otherwise than the
    study now says.

    Parameters
    ----------
    names : <data set>/<model> of those that are used; None: all

    Raises
    ------
    MlselError
        If one was.
    """
    from mlsel.selection.state import require_data_sets
    from mlsel.training.stage import tasks_of

    if study.is_of_contents:
        return
    require_data_sets(study, folder)
    used = [
        task
        for task in tasks_of(study, folder, must_exist=False)
        if (task.out / MODEL).is_file() and (names is None or task.name in names)
    ]
    items = [Item(task.name, *_state(task)) for task in used]
    require_fresh("training", items, study, folder)
    for task in used:
        added = task.added_differences()
        if added:
            raise MlselError(
                f"{shortened(str(task.out), 60)} has not what the study now says: {told(added)}. "
                f"`{command('training', study, folder)}` writes it beside the models, in seconds; "
                "or set these keys back."
            )
