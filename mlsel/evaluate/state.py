"""The states of a study's errors, read from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.evaluate.csv_table import ERRORS, read_table
from mlsel.study.folder import StudyFolder
from mlsel.study.parts import measured_on
from mlsel.study.stage import BEGUN, DONE, MISSING, Item

if TYPE_CHECKING:
    from mlsel.evaluate.models import Entry
    from mlsel.study.study import Study


def items(study: Study, folder: Path) -> list[Item]:
    """Return the errors of each model and the table of all, and their states."""
    from mlsel.evaluate.models import find_models
    from mlsel.pool.pool import Pool
    from mlsel.training.stage import model_names

    place = StudyFolder(folder)
    entries: dict[str, Entry] = {}
    test = measured_on(study, folder)
    if test.is_file() and place.finished_models():
        with Pool(test) as pool:
            digest = pool.digest
        entries = {entry.title: entry for entry in find_models(folder, digest)}
    is_asked = study.selection.n_test or study.evaluation.test
    names = model_names(study, folder) if is_asked else []
    names += [name for name in entries if name not in names]
    if not names:
        return []
    found = [Item(name, *_state(entries.get(name))) for name in names]
    rows: set[str] = set()
    if place.errors.is_file():
        rows = {f"{row['dataset']}/{row['model']}" for row in read_table(place.errors, ERRORS)}
    state = DONE if {*names} <= rows else BEGUN if rows else MISSING
    found.append(Item(place.errors.name, state, f"{len(rows)} models"))
    if study.evaluation.probe:
        found.append(
            Item(place.probe.name, *_state_of_probe(study, folder, list(entries.values())))
        )
    return found


def _state_of_probe(study: Study, folder: Path, entries: list[Entry]) -> tuple[str, str]:
    from mlsel.evaluate.probes import is_probed

    if not StudyFolder(folder).probe.is_file():
        return MISSING, ""
    if is_probed(study, folder, entries):
        return DONE, ""
    return BEGUN, "the models, the test set or the reference changed; evaluate makes it anew"


def _state(entry: Entry | None) -> tuple[str, str]:
    if entry is None:
        return MISSING, ""
    if entry.product.is_file():
        if entry.stored_identity() == entry.identity:
            return DONE, ""
        return BEGUN, "the model or the test set changed; evaluate makes it anew"
    n_chunks = len(list(entry.product.with_suffix("").glob("*.npz")))
    return (BEGUN, f"{n_chunks} chunks") if n_chunks else (MISSING, "")
