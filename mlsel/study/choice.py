"""Which study a command is about: the one named, the one of the folder, or the default."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlsel.core.errors import MlselError, shortened
from mlsel.study.folder import StudyFolder
from mlsel.study.preset import DEFAULT_STUDY
from mlsel.study.sections.pool import PoolSection
from mlsel.study.sections.selection import SelectionSection
from mlsel.study.sections.system import System
from mlsel.study.sections.training import TrainingSection
from mlsel.study.sections.validation import ValidationSection
from mlsel.study.study import Study, load_study, recorded_study


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
        return study, output or Path(study.name)
    folder = output or Path(DEFAULT_STUDY)
    recorded = recorded_study(folder, overrides)
    if recorded is not None:
        return recorded, folder
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
