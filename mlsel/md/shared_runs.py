"""Finished MD runs that a part of a study takes from the study, or from another of its parts.

Two pools of the same system and [pool], with the same potential, start and deck, are made of the
same runs. The second takes those that the first has finished under names of its own (hard links; a
finished run's files are never written to again), so that each folder is whole by itself and may be
moved or removed alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.core.errors import MlselError
from mlsel.core.files import creating_folder, link
from mlsel.md.pool_record import record_of_runs
from mlsel.study.folder import StudyFolder
from mlsel.study.parts import beside

if TYPE_CHECKING:
    from mlsel.md.npt_run import MdRun
    from mlsel.study.study import Study

log = logging.getLogger(__name__)

INPUTS = ("in.lammps", "start.data")


@dataclass(frozen=True)
class Lender:
    """A folder whose runs are those of the study's pool.

    Attributes
    ----------
    finished : names of those that it has and the study's folder has not
    """

    folder: Path
    finished: Sequence[str]


def find_lender(
    study: Study, folder: Path, runs: Sequence[MdRun], made_from: Mapping[str, Any]
) -> Lender | None:
    """Return the folder of the study, or of another part, that has most of the runs that are not
    here; None where none has one of them."""
    missing = [run for run in runs if not run.product.is_file()]
    found = []
    for other in beside(study, folder) if missing else []:
        record = record_of_runs(other)
        try:
            if not record.path.is_file() or record.differences(made_from):
                continue
        except MlselError:  # damaged: its own commands say so
            continue
        has = [run.name for run in missing if (other / run.product.relative_to(folder)).is_file()]
        found += [Lender(other, has)] if has else []
    return max(found, key=lambda lender: len(lender.finished), default=None)


def take_runs(runs: Sequence[MdRun], lender: Lender, folder: Path) -> None:
    """Take the lender's finished runs, and the inputs of the others where nothing is here yet.

    Where nothing is here all of it gets its name at once, with the record of what the runs were
    made from; a run that is taken later gets its name when it is whole.
    """
    place, other = StudyFolder(folder), StudyFolder(lender.folder)
    taken = [run for run in runs if run.name in lender.finished]
    if not place.runs_record.is_file():
        link_missing(other.root / "potential.lmp", place.root / "potential.lmp")
        with creating_folder(place.runs) as partial:
            for run in runs:
                names = () if run.name in lender.finished else INPUTS
                _link_all(other.runs / run.name, partial / run.name, names)
            link(other.runs_record, partial / other.runs_record.name)
    else:
        for run in taken:
            with creating_folder(run.folder) as partial:
                _link_all(other.runs / run.name, partial)
    log.info("%s: %d runs are those of %s, which are made from the same", folder, len(taken),
             lender.folder)  # fmt: skip


def link_missing(source: Path, target: Path) -> None:
    """Give a file a second name, unless something has that already."""
    if not os.path.lexists(target):
        link(source, target)


def _link_all(source: Path, target: Path, names: Sequence[str] = ()) -> None:
    """Link the files of a run's folder; those of these names, or all but hidden ones."""
    for path in sorted(source.iterdir()):
        if path.is_file() and (path.name in names if names else not path.name.startswith(".")):
            link(path, target / path.name)
