"""The test set of a study's models: its own, another part's, or any data set."""

from __future__ import annotations

from pathlib import Path

from mlsel.selection.state import require_data_sets
from mlsel.study.parts import measured_on, no_test_set, tested_part
from mlsel.study.study import Study


def require_test_set(study: Study, folder: Path, named: Path | None = None) -> Path:
    """Return the data set to measure on: the one that was named, or the study's.

    Raises
    ------
    MlselError
        If it is not there, or is of a part of the study that was made otherwise than it now says.
    """
    path = named or measured_on(study, folder)
    if not path.is_file():
        raise no_test_set(study, folder, path)
    part = tested_part(study, folder) if named is None else None
    if part is not None:
        require_data_sets(part.study, part.folder)
    return path
