"""The study: everything that a user sets, read from TOML into frozen dataclasses.

Each section of the file is one dataclass of `mlsel.study.sections`; a field's default, unit and
bounds stand in its declaration and are checked when it is read, so that a mistake is told before
anything runs. A stage that is added brings its section: a dataclass and a field of `Study`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from mlsel.core.errors import MlselError, nearest, shortened
from mlsel.core.record import Record
from mlsel.study.folder import StudyFolder, can_be_part
from mlsel.study.preset import DEFAULT_STUDY, preset_file, presets
from mlsel.study.schema import (
    NOT_IN_A_FILE,
    build,
    default_values,
    plain,
    quantity,
    replaced,
    set_key,
    values_of,
)
from mlsel.study.sections.evaluation import OF_PART, EvaluationSection
from mlsel.study.sections.pool import PoolSection
from mlsel.study.sections.refine import RefineSection
from mlsel.study.sections.selection import LearningSection, SelectionSection
from mlsel.study.sections.system import System
from mlsel.study.sections.training import TrainingSection
from mlsel.study.sections.validation import ValidationSection
from mlsel.study.toml_text import parse_toml, read_toml

ORDER = (
    ("import", "generate"),
    ("selection",),
    ("training",),
    ("evaluate",),
    ("validate",),
    ("refine",),
    ("report",),
)
"""The names of the stages in order, side by side those of which a study has one."""
MAX_PARTS = 100


@dataclass(frozen=True)
class Study:
    """A study: its name and its sections.

    Attributes
    ----------
    until : the last stage that `mlsel run` does of it; "": all
    parts : by name what each part has in place of the study's own keys
    part : the name of the part of a study that it is itself, "" for none
    """

    name: str
    source: str
    system: System
    pool: PoolSection
    selection: SelectionSection
    training: TrainingSection
    validation: ValidationSection
    learning: LearningSection = field(default_factory=LearningSection)
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)
    refine: RefineSection = field(default_factory=RefineSection)
    until: str = quantity("", choices=("", *(name for names in ORDER for name in names)))
    parts: Mapping[str, Mapping[str, Any]] = quantity({})
    part: str = ""

    @functools.cached_property
    def studies_of_parts(self) -> dict[str, Study]:
        """The parts by their names, each a study of its own: this one with some keys replaced.

        Raises
        ------
        MlselError
            If a part has a key that there is not, or a value that is not allowed.
        """
        found = {}
        own = {key: value for key, value in values_of(self).items() if key != "parts"}
        for name, others in self.parts.items():
            source = f"{self.source}, part {name}"
            for key in (*NOT_IN_A_FILE, "parts"):
                if key in others:
                    raise MlselError(
                        f"{source}: a part can't have the key {key}: it has sections of the study "
                        f"and until, and [parts.{name}] gives it its name."
                    )
            values = replaced(Study, own, others)
            known = {"name": f"{self.name}-{name}", "part": name, "source": self.source}
            found[name] = build(Study, {**values, **known}, source)
        return found

    def _problem_of_parts(self) -> str | None:
        """Return what is wrong with the parts, None if nothing is."""
        if len(self.parts) > MAX_PARTS:
            return f"there are {len(self.parts)} parts: a study has at most {MAX_PARTS}"
        for name in self.parts:
            if not can_be_part(name):
                return (
                    f'parts names one "{shortened(name, 40)}", which can\'t be a folder in the '
                    "study's: give a word of at most 60 letters, digits, _ and -, that begins with "
                    "a letter and is no folder of a study's own (data, models, validation, …)"
                )
        for study in (self, *self.studies_of_parts.values()):
            tested, of = study.evaluation.part, f"part {study.part}: " if study.part else ""
            if not study.evaluation.test.startswith(OF_PART):
                continue
            if tested not in self.studies_of_parts:
                known = ", ".join(self.parts) or "none"
                return (
                    f'{of}evaluation.test is "{shortened(study.evaluation.test, 40)}"'
                    f"{nearest(tested, self.parts)}: the study's parts are {shortened(known, 150)}"
                )
            part = self.studies_of_parts[tested]
            if not part.selection.n_test or part.until in ORDER[0]:
                return (
                    f'{of}evaluation.test is "{study.evaluation.test}", and that part makes no '
                    f"test set: set parts.{tested}.selection.n_test above 0, and its until to "
                    "selection or later"
                )
        return None

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
        return None if self.part else self._problem_of_parts()

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
            _check_part(override, values)
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
            _check_part(override, values)
            set_key(values, override)
        for key in ("source", "part"):
            if key in values:
                raise MlselError(f"{source}: unknown key {key}: it says where a study is from.")
        study = build(Study, {"name": name, "source": source, **values}, source)
    except MlselError as error:
        raise MlselError(shortened(str(error))) from None
    assert isinstance(study, Study)
    return study


def _check_part(override: str, values: Mapping[str, Any]) -> None:
    """Refuse a key of a part that there is not, which would be a part of its own."""
    first, _, rest = override.partition("=")[0].strip().partition(".")
    name, known = rest.partition(".")[0], values.get("parts", {})
    if first == "parts" and isinstance(known, dict) and name not in known:
        parts = shortened(", ".join(known) or "none", 150)
        raise MlselError(
            f"--set {shortened(override, 100)}: there is no part {shortened(name, 40)}"
            f"{nearest(name, known)}; the study's parts are {parts}."
        )


def is_file(path: Path) -> bool:
    """Whether there is a file of this name, which may be any text."""
    try:
        return path.is_file()
    except OSError:  # a name that is too long, say
        return False
