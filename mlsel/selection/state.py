"""The states of a study's data sets, read from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.core.errors import MlselError, shortened
from mlsel.core.record import differences, told
from mlsel.selection.learning import sized_sets
from mlsel.selection.sets import StudySets, compared
from mlsel.study.folder import HELD_OUT, TEST, StudyFolder
from mlsel.study.stage import DONE, MISSING, STALE, Item, require_fresh

if TYPE_CHECKING:
    from mlsel.core.arrays import IntArray
    from mlsel.pool.pool import Pool
    from mlsel.selection.sets import Choose
    from mlsel.study.study import Study

_BY_OTHERS = ("n_excluded", "excluded")
"""What a data set was asked for that is known only where those before it are there."""


class _Look(StudySets):
    """The data sets of a study as they are: nothing is made, and what was made otherwise noted."""

    def __init__(self, study: Study, pool: Pool, folder: StudyFolder) -> None:
        super().__init__(study, pool, folder)
        self.changed: dict[str, str] = {}
        self._is_whole = True

    def _settled(
        self, path: Path, expected: Mapping[str, Any], choose: Choose, how: str
    ) -> IntArray:
        import numpy as np

        from mlsel.pool.pool import Pool

        if not path.is_file():
            self._is_whole = False
            return np.empty(0, dtype=np.int64)
        with Pool(path) as data:
            recorded, asked = compared(data, expected)
            if not self._is_whole:
                asked = {key: value for key, value in asked.items() if key not in _BY_OTHERS}
            found = differences(recorded, asked, {})
            if found:
                self._is_whole = False
                self.changed[path.stem] = told(found)
                return np.empty(0, dtype=np.int64)
            frames: IntArray = data.values("source_frame")
        return frames

    def _tell_left_out(self) -> None:
        """It was told when they were made."""

    def _check(self, test: IntArray, taken: IntArray) -> None:
        """Some of the data sets may be missing."""


def _changed(study: Study, place: StudyFolder) -> dict[str, str]:
    """Return how data sets were made otherwise than the study now says, by their names.

    Where the pool is not here, nothing can be said of that.
    """
    from mlsel.pool.pool import Pool

    if not place.pool.is_file() or not any(place.data.glob("*.h5")):
        return {}
    with Pool(place.pool) as pool:
        look = _Look(study, pool, place)
        try:
            look.go_through()
        except MlselError as error:  # the pool has no such run, say: none of them can be made
            there = [name for name in _wanted(study) if place.data_set(name).is_file()]
            return look.changed or dict.fromkeys(there, shortened(str(error), 200))
    return look.changed


def _wanted(study: Study) -> dict[str, int]:
    """Return the names of the data sets that a study asks for, and their numbers of frames."""
    section = study.selection
    wanted = dict.fromkeys(section.data_sets(), section.n_train)
    if section.n_validation:
        wanted |= {name + HELD_OUT: section.n_validation for name in section.data_sets()}
    if section.n_test:
        wanted[TEST] = section.n_test + (section.n_unseen if section.unseen_runs else 0)
    return wanted | {sized.name: sized.n for sized in sized_sets(study)}


def items(study: Study, folder: Path) -> list[Item]:
    """Return the data sets and their states."""
    from mlsel.pool.pool import Pool

    place, wanted = StudyFolder(folder), _wanted(study)
    changed = _changed(study, place)
    found = []
    for name, n_wanted in wanted.items():
        path = place.data_set(name)
        if not path.is_file():
            found.append(Item(name, MISSING))
            continue
        with Pool(path) as data:
            n = len(data)
        if name in changed:
            found.append(Item(name, STALE, changed[name]))
        elif n != n_wanted:
            found.append(Item(name, STALE, f"{n} frames, and the study wants {n_wanted}"))
        else:
            found.append(Item(name, DONE, f"{n} frames"))
    for path in sorted(place.data.glob("*.h5")):
        if path.stem not in wanted:
            with Pool(path) as data:
                found.append(Item(path.stem, DONE, f"{len(data)} frames, not of the study"))
    return found


def require_data_sets(study: Study, folder: Path) -> None:
    """Refuse to go on where the pool or a data set was made otherwise than the study now says.

    Data sets of other makes than `mlsel selection`, which don't say what they are of, are taken as
    they are.

    Raises
    ------
    MlselError
        If one was.
    """
    from mlsel.md.pool_record import require_pool

    if study.is_of_contents:
        return
    require_pool(study, folder)
    place = StudyFolder(folder)
    found = items(study, folder)
    ours = [item for item in found if item.state == STALE and _is_ours(place.data_set(item.name))]
    require_fresh("selection", ours, study, folder)


def _is_ours(path: Path) -> bool:
    from mlsel.pool.pool import Pool

    with Pool(path) as data:
        return "pool_digest" in data.attributes
