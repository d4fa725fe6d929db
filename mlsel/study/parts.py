"""A study and its parts as the folders that they are: FOLDER, and FOLDER/NAME for each part.

A part is the study with some keys replaced, and a study of its own in its own folder: every command
works on it. What it shares with the others, the pool that is made from the same and the test set
that `evaluation.test` names, is found here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlsel.core.errors import MlselError, shortened
from mlsel.study.folder import StudyFolder
from mlsel.study.study import ORDER, Study, record_study, recorded_study


@dataclass(frozen=True)
class Member:
    """The study itself, or one of its parts, and its folder."""

    study: Study
    folder: Path

    @property
    def title(self) -> str:
        """What it is called."""
        return f"part {self.study.part}" if self.study.part else "study"

    def test_parts(self) -> list[str]:
        """The parts whose test sets it needs, itself not counted."""
        name = self.study.evaluation.part
        return [name] if name and name != self.study.part else []


def members(study: Study, folder: Path) -> list[Member]:
    """Return a study and its parts, in the order of the file."""
    place = StudyFolder(folder)
    parts = study.studies_of_parts if study.parts else {}
    return [
        Member(study, folder),
        *(Member(part, place.part(name)) for name, part in parts.items()),
    ]


def record_members(study: Study, folder: Path) -> None:
    """Keep each part in its folder, and the study in its own where that is empty, so that every
    command works on them; the stages keep what is kept already up to date."""
    for one in members(study, folder) if study.parts else []:
        place = StudyFolder(one.folder)
        if not (place.study.is_file() or place.contents()):
            record_study(one.study, one.folder)


def beside(study: Study, folder: Path) -> list[Path]:
    """Return the folders that may hold the same pool: those of the study and of its other parts."""
    if study.part:
        around = [
            folder.parent,
            *sorted(path.parent for path in folder.parent.glob("*/study.json")),
        ]
        return [path for path in around if path != folder]
    return [one.folder for one in members(study, folder)[1:]]


def place_in_order(stage: str) -> int:
    """Return how-manieth a stage is, from 0 on; those of which a study has one are alike."""
    return next(k for k, names in enumerate(ORDER) if stage in names)


def measured_on(study: Study | None, folder: Path) -> Path:
    """Return the data set that a study's models are measured on, there or not."""
    test = study.evaluation.test if study is not None else ""
    if study is not None and study.evaluation.part:
        return StudyFolder(_folder_of_part(study, folder)).test_set
    return Path(test) if test else StudyFolder(folder).test_set


def _folder_of_part(study: Study, folder: Path) -> Path:
    root = StudyFolder(folder.parent if study.part else folder)
    return root.part(study.evaluation.part)


def tested_part(study: Study, folder: Path) -> Member | None:
    """Return the other part of the study whose test set this one's models are measured on, as it is
    asked for now or was begun; None where there is none.

    Raises
    ------
    MlselError
        If what its folder keeps of it is damaged.
    """
    name = study.evaluation.part
    if not name or name == study.part:
        return None
    place = _folder_of_part(study, folder)
    part = recorded_study(place) if study.part else study.studies_of_parts[name]
    return None if part is None else Member(part, place)


def no_test_set(study: Study, folder: Path, path: Path) -> MlselError:
    """Return what to say where the test set is not there."""
    way = "make it with `mlsel selection`"
    if study.evaluation.part and path == measured_on(study, folder):
        place = shortened(str(_folder_of_part(study, folder)), 60)
        way = f"`mlsel run` of the study makes it, or `mlsel selection -o {place}`"
    elif study.evaluation.test:
        way = "evaluation.test of the study names it: make it, or name another"
    return MlselError(f"There is no test set {shortened(str(path), 100)}: {way}.")
