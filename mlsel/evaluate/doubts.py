"""What makes measured errors other than they seem: frames of the test set that a model was trained
on, and tables of another test set or of models that there are no longer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core.errors import shortened
from mlsel.core.record import read_json
from mlsel.evaluate.models import Entry, find_models
from mlsel.pool.copies import hashes
from mlsel.pool.pool import Pool
from mlsel.study.folder import MODEL, StudyFolder, size_of
from mlsel.study.parts import measured_on

if TYPE_CHECKING:
    from mlsel.core.arrays import IntArray
    from mlsel.study.study import Study


@dataclass(frozen=True)
class TrainedOn:
    """Which models were trained on frames of a test set.

    Attributes
    ----------
    shared : of how many frames copies, bit for bit, were trained on, by the models' titles
    unknown : titles of the models whose data set is there no longer, or another
    """

    shared: Mapping[str, int]
    unknown: Sequence[str]

    @classmethod
    def of(cls, entries: Sequence[Entry], test: Path, place: StudyFolder) -> TrainedOn:
        """Look at each model's data set."""
        with Pool(test) as pool:
            tested = _contents(pool)
        known: dict[str, tuple[str, IntArray]] = {}
        shared: dict[str, int] = {}
        unknown: list[str] = []
        for entry in entries:
            data = read_json(entry.folder / MODEL).get("data", {})
            for name in (entry.dataset, size_of(entry.dataset)[0]):
                path = place.data_set(name)
                if name not in known and path.is_file():
                    with Pool(path) as pool:
                        known[name] = pool.digest, _contents(pool)
                digest, contents = known.get(name, (None, tested))
                if digest is not None and digest == data.get("digest"):
                    found = np.isin(tested, contents[: data.get("n_frames")]).sum()
                    shared |= {entry.title: int(found)} if found else {}
                    break
            else:
                unknown.append(entry.title)
        return cls(shared, unknown)

    def told(self, test: Path, place: StudyFolder) -> list[str]:
        """Return the sentences on models that were trained on frames of the test set, and on those
        of which that is not known."""
        told = []
        if self.shared:
            text = (
                f"{_several(list(self.shared))}: trained on up to {max(self.shared.values())} of "
                f"the frames of {test.name}, so that errors are smaller than on frames that are "
                "new to them."
            )
            if test == place.test_set:
                text += (
                    " `mlsel selection --again` makes one that shares no frame with the data sets."
                )
            told.append(text)
        if self.unknown:
            what = "what they were" if len(self.unknown) > 1 else "what it was"
            told.append(
                f"Whether {_several(self.unknown)} had frames of {test.name} to train on is not "
                f"known: {what} trained on is no longer in {place.data}."
            )
        return told


def _contents(pool: Pool) -> IntArray:
    found = hashes(pool, of_any=True)
    assert found is not None
    return found


def doubts(study: Study | None, folder: Path) -> list[str]:
    """Return what is to be said of the tables in DIR/evaluation, a sentence each."""
    place, test = StudyFolder(folder), measured_on(study, folder)
    if not (place.errors.is_file() and place.finished_models()):
        return []
    if not test.is_file():
        return [
            f"The test set {shortened(str(test), 120)} is not there: whether these errors were "
            "measured on it, and whether a model was trained on its frames, can't be told."
        ]
    with Pool(test) as pool:
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
            f"{shortened(str(test), 80) if test != place.test_set else test.name}, or of models "
            "that have changed since: `mlsel evaluate` makes them anew."
        )
    return [*told, *TrainedOn.of(entries, test, place).told(test, place)]


def _several(titles: Sequence[str]) -> str:
    """Name models, the first few of many.

    >>> _several(["random/pair"]), _several(list("abcd"))
    ('1 model (random/pair)', '4 models (a, b, c, …)')
    """
    more = ", …" if len(titles) > 3 else ""
    plural = "s" if len(titles) > 1 else ""
    return f"{len(titles)} model{plural} ({', '.join(titles[:3])}{more})"
