"""What makes measured errors other than they seem: frames of the test set that a model was trained
on, and tables of another test set or of models that there are no longer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core.record import read_json
from mlsel.evaluate.models import Entry, find_models
from mlsel.pool.copies import hashes
from mlsel.pool.pool import Pool
from mlsel.study.folder import MODEL, StudyFolder, size_of

if TYPE_CHECKING:
    from mlsel.core.arrays import IntArray


def frames_trained_on(entries: list[Entry], test: Path, place: StudyFolder) -> dict[str, int]:
    """Return of how many frames of a test set copies, bit for bit, were trained on, by the model's
    title; a model whose data set is there no longer, or another, is left out."""
    with Pool(test) as pool:
        tested = _contents(pool)
    known: dict[str, tuple[str, IntArray]] = {}
    found: dict[str, int] = {}
    for entry in entries:
        data = read_json(entry.folder / MODEL).get("data", {})
        for name in (entry.dataset, size_of(entry.dataset)[0]):
            path = place.data_set(name)
            if name not in known and path.is_file():
                with Pool(path) as pool:
                    known[name] = pool.digest, _contents(pool)
            digest, contents = known.get(name, ("", tested))
            if digest == data.get("digest"):
                shared = np.isin(tested, contents[: data.get("n_frames")]).sum()
                found |= {entry.title: int(shared)} if shared else {}
                break
    return found


def _contents(pool: Pool) -> IntArray:
    found = hashes(pool, of_any=True)
    assert found is not None
    return found


def doubts(folder: Path) -> list[str]:
    """Return what is to be said of the tables in DIR/evaluation, a sentence each."""
    place = StudyFolder(folder)
    if not (place.errors.is_file() and place.test_set.is_file() and place.finished_models()):
        return []
    with Pool(place.test_set) as pool:
        entries = find_models(folder, pool.digest)
    stale = [
        entry.title
        for entry in entries
        if entry.product.is_file() and entry.stored_identity() != entry.identity
    ]
    told = []
    if stale:
        told.append(
            f"The errors of {_several(stale)} were measured on another test set than "
            f"{place.test_set.name}, or of models that have changed since: `mlsel evaluate` makes "
            "them anew."
        )
    shared = frames_trained_on(entries, place.test_set, place)
    return [*told, *shared_told(shared, place.test_set, place)]


def shared_told(shared: dict[str, int], test: Path, place: StudyFolder) -> list[str]:
    """Return the sentence on models that were trained on frames of the test set, if any were."""
    if not shared:
        return []
    told = (
        f"{_several(list(shared))}: trained on up to {max(shared.values())} of the frames of "
        f"{test.name}, so that errors are smaller than on frames that are new to them."
    )
    if test == place.test_set:
        told += " `mlsel selection --again` makes one that shares no frame with the data sets."
    return [told]


def _several(titles: list[str]) -> str:
    """Name models, the first few of many.

    >>> _several(["random/pair"]), _several(list("abcd"))
    ('1 model (random/pair)', '4 models (a, b, c, …)')
    """
    more = ", …" if len(titles) > 3 else ""
    plural = "s" if len(titles) > 1 else ""
    return f"{len(titles)} model{plural} ({', '.join(titles[:3])}{more})"
