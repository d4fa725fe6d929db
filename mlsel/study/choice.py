"""Which study a command is about: the one named, the one of the folder, or the default."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from mlsel.core.errors import MlselError, shortened
from mlsel.core.provenance import differing_keys
from mlsel.core.record import Record, told
from mlsel.study.folder import StudyFolder
from mlsel.study.preset import DEFAULT_STUDY
from mlsel.study.schema import values_of
from mlsel.study.sections.pool import PoolSection
from mlsel.study.sections.selection import SelectionSection
from mlsel.study.sections.system import System
from mlsel.study.sections.training import TrainingSection
from mlsel.study.sections.validation import ValidationSection
from mlsel.study.study import Study, is_file, load_study, recorded_study

log = logging.getLogger(__name__)


def choose_study(
    source: str | None,
    output: Path | None,
    overrides: Sequence[str] = (),
    *,
    needs_study: bool = True,
) -> tuple[Study, Path]:
    """Return the study and its folder.

    Parameters
    ----------
    source : str, optional
        What the user named: a file or a preset.
    output : path, optional
        The folder that the user named.
    needs_study : bool
        Whether the command makes something that only a study can ask for. Else the products of a
        folder without one are enough.

    Raises
    ------
    MlselError
        If no study is named and the folder, or the current one, holds data of none that is known:
        the default would be another system.
    """
    if source is not None:
        study = load_study(source, overrides)
        folder = output or Path(study.name)
        return of_folder(study, folder), folder
    folder = output or Path(DEFAULT_STUDY)
    kept = kept_study(folder, overrides)
    if kept is not None:
        return kept, folder
    contents = StudyFolder(folder).contents()
    if contents and needs_study:
        raise MlselError(
            f"{folder} holds {shortened(', '.join(contents), 100)}, but no study.json that says of "
            "which study: name one (a TOML file), or give the options for one product (--help "
            "tells them)."
        )
    if contents:
        return study_of_contents(folder), folder
    here = StudyFolder(Path()).contents()
    if output is None and here:
        raise MlselError(
            f"this folder holds {shortened(', '.join(here), 100)}: say -o . to work in it, or name "
            f"a STUDY. Without either the study would be {DEFAULT_STUDY}, in ./{folder}."
        )
    return load_study(DEFAULT_STUDY, overrides), folder


def of_folder(study: Study, folder: Path) -> Study:
    """Return the study that was named, or the part of it that a folder is of.

    Raises
    ------
    MlselError
        If the folder is of a part that the study has not.
    """
    try:
        name = (Record(StudyFolder(folder).study).read() or {}).get("part", "")
    except MlselError:  # damaged: who names the study goes on without it
        name = ""
    return _part_of(study, str(name), folder) if name else study


def _part_of(study: Study, name: str, folder: Path) -> Study:
    if name not in study.studies_of_parts:
        known = ", ".join(study.parts) or "none"
        raise MlselError(
            f"{shortened(str(folder), 80)} is of the part {name} of a study, and "
            f"{shortened(study.source, 80)} has no such part (its parts: {shortened(known, 120)}): "
            "choose another folder with -o."
        )
    return study.studies_of_parts[name]


def kept_study(folder: Path, overrides: Sequence[str] = ()) -> Study | None:
    """Return the study that a folder is of, None if it says none; say where the file that it was
    read from differs: who edits that and doesn't name it would wait for nothing."""
    recorded = recorded_study(folder, overrides)
    before = recorded_study(folder)
    if recorded is None or before is None or not is_file(Path(recorded.source)):
        return recorded
    try:
        now = load_study(recorded.source)
        now = _part_of(now, before.part, folder) if before.part else now
        changed = differing_keys(values_of(before), values_of(now))
    except MlselError as error:
        changed = [str(error)]
    if changed:
        log.warning(
            "%s is what is gone by, and %s, which it was made from, differs: %s. To go by the "
            "file name it, as STUDY.",
            StudyFolder(folder).study, recorded.source, told(changed),
        )  # fmt: skip
    return recorded


def study_of_contents(folder: Path) -> Study:
    """Return the study of a folder that was made product by product: it asks for nothing more."""
    return Study(
        name=folder.resolve().name,
        source=str(folder),
        system=System(species=(), potential=""),
        pool=PoolSection(temperatures=(), pressures=()),
        selection=SelectionSection(
            methods=(), n_train=0, n_validation=0, n_test=0, test_methods=()
        ),
        training=TrainingSection(kinds=()),
        validation=ValidationSection(models=(), repeats=0),
    )
