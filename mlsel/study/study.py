"""The study: everything that a user sets, read from TOML into frozen dataclasses.

Each section of the file is one dataclass of `mlsel.study.sections`; a field's default, unit and
bounds stand in its declaration and are checked when it is read, so that a mistake is told before
anything runs. A stage that is added brings its section: a dataclass and a field of `Study`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from mlsel.core.errors import MlselError, nearest, shortened
from mlsel.core.record import Record
from mlsel.study.folder import StudyFolder
from mlsel.study.preset import DEFAULT_STUDY, preset_file, presets
from mlsel.study.schema import build, default_values, plain, set_key, values_of
from mlsel.study.sections.pool import PoolSection
from mlsel.study.sections.refine import RefineSection
from mlsel.study.sections.selection import LearningSection, SelectionSection
from mlsel.study.sections.system import System
from mlsel.study.sections.training import TrainingSection
from mlsel.study.sections.validation import ValidationSection
from mlsel.study.toml_text import parse_toml, read_toml


@dataclass(frozen=True)
class Study:
    """A study: its name and its sections."""

    name: str
    source: str
    system: System
    pool: PoolSection
    selection: SelectionSection
    training: TrainingSection
    validation: ValidationSection
    learning: LearningSection = field(default_factory=LearningSection)
    refine: RefineSection = field(default_factory=RefineSection)

    def check(self) -> str | None:
        unknown = [m for m in self.learning.methods if m not in self.selection.methods]
        if unknown:
            return (
                f"learning.methods names {', '.join(unknown)}: give some of selection.methods "
                f"({', '.join(self.selection.methods)})"
            )
        if not self.name or self.name in (".", "..") or "/" in self.name or len(self.name) > 200:
            return f'name is "{self.name}": it must be one that a folder can have'
        if not (self.system.potential or self.pool.import_):
            return (
                "system.potential is missing: give a text (a name in potentials/, or the path of a "
                "LAMMPS include), or files of your own as pool.import, which need none"
            )
        return None

    @property
    def is_of_contents(self) -> bool:
        """Whether it only stands for what a folder holds: nobody named or kept a study."""
        return not (self.system.potential or self.pool.import_)

    def as_dict(self, *sections: str) -> dict[str, Any]:
        """Return sections as plain values, for provenance and comparison."""
        return {name: values_of(getattr(self, name)) for name in sections}


def defaults() -> dict[str, Any]:
    """Return the defaults of the sections' keys, as plain values."""
    hints = get_type_hints(Study)
    sections = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    return {name: plain(default_values(section)) for name, section in sections.items()}


def record_study(study: Study, folder: Path) -> None:
    """Keep a study in its folder, so that `recorded_study` knows it."""
    Record(StudyFolder(folder).study).write(values_of(study))


def recorded_study(folder: Path, overrides: Sequence[str] = ()) -> Study | None:
    """Return the study that was kept in a folder, with overrides; None if there is none.

    Raises
    ------
    MlselError
        If the file is damaged or its values are not allowed.
    """
    record = Record(StudyFolder(folder).study)
    values = record.read()
    if values is None:
        return None
    try:
        for override in overrides:
            set_key(values, override)
        study = build(Study, values, str(record.path))
    except MlselError as error:
        raise MlselError(shortened(str(error))) from None
    assert isinstance(study, Study)
    return study


def load_study(source: str = DEFAULT_STUDY, overrides: Sequence[str] = ()) -> Study:
    """Read a study file, or a preset by its name, and check it.

    Parameters
    ----------
    source : str
        The path of a TOML file, or a preset's name.
    overrides : sequence of str
        "section.key=value", the value in TOML's notation (a bare word is a string).

    Raises
    ------
    MlselError
        In one sentence: the file, the key, the value found and the values allowed.

    Examples
    --------
    >>> load_study("quick", ["pool.seed=7"]).pool.seed
    7
    """
    path = Path(source)
    try:
        if is_file(path):
            values, name = read_toml(path), path.stem
        elif source in presets():
            preset = preset_file(source).read_text(encoding="utf-8")
            values, name = parse_toml(preset, source), source
        else:
            hint = f"; {source} is a folder: say -o {source}" if path.is_dir() else ""
            raise MlselError(
                f"There is no study {source}: give the path of a TOML file or one of the presets "
                f"{', '.join(presets())}{nearest(source, presets())}{hint}."
            )
        for override in overrides:
            set_key(values, override)
        if "source" in values:
            raise MlselError(f"{source}: unknown key source: it is where a study was read from.")
        study = build(Study, {"name": name, "source": source, **values}, source)
    except MlselError as error:
        raise MlselError(shortened(str(error))) from None
    assert isinstance(study, Study)
    return study


def is_file(path: Path) -> bool:
    """Whether there is a file of this name, which may be any text."""
    try:
        return path.is_file()
    except OSError:  # a name that is too long, say
        return False
