"""What the MD runs of a pool were made from, and whether the study still says so."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.core.errors import MlselError, shortened
from mlsel.core.provenance import digest
from mlsel.core.record import Record, told
from mlsel.study.folder import StudyFolder
from mlsel.study.stage import STALE, Item, command, require_fresh

if TYPE_CHECKING:
    from mlsel.study.study import Study


def record_of_runs(folder: Path) -> Record:
    """What the runs of a pool were made from."""
    from mlsel.study.study import defaults

    return Record(StudyFolder(folder).runs_record, defaults=defaults())


def stale_runs(study: Study, folder: Path) -> list[Item]:
    """Return the runs as one stale item where the study, or a file that it names, has changed.

    Files that are not here (a folder that was copied to another machine) have not changed.
    """
    now: dict[str, Any] = study.as_dict("system", "pool")
    record = record_of_runs(folder)
    if record.path.is_file():
        with suppress(MlselError):
            now |= _of_files(study, record)
    changed = record.differences(now)
    return [Item("runs", STALE, told(changed))] if changed else []


def _of_files(study: Study, record: Record) -> dict[str, Any]:
    """Digests of the files that a user may edit: the potential and those that it names, and the
    start unless it is a grid, as generate reads them."""
    from mlsel.md import deck
    from mlsel.md.structures import lammps_data, start_structure

    system = study.system
    potential = deck.read_potential(system.potential, system.species)
    found = {"potential_digest": potential}
    if system.start != "grid":
        found["start_digest"] = lammps_data(start_structure(system), system.species)
    digests = {key: digest(text.encode()) for key, text in found.items()}
    return {**digests, **deck.files_since(potential, record)}


def require_pool(study: Study, folder: Path) -> None:
    """Refuse a pool that was made otherwise than the study now says, and frames of other elements.

    One that says nothing of what it was made from, by other means than the study's, is taken as it
    is.

    Raises
    ------
    MlselError
        If it was made otherwise.
    """
    from mlsel.pool.elements import check_elements
    from mlsel.pool.links import remade_runs
    from mlsel.pool.pool import Pool

    if study.is_of_contents:
        return
    check_elements(StudyFolder(folder), study.system.species)
    if not StudyFolder(folder).pool.is_file():
        return
    if study.pool.import_:
        from mlsel.pool.stage import items

        require_fresh("import", items(study, folder), study, folder)
    else:
        require_fresh("generate", stale_runs(study, folder), study, folder)
        with Pool(StudyFolder(folder).pool) as pool:
            remade = remade_runs(pool)
        if remade:
            raise MlselError(
                f"{shortened(str(pool.path), 100)}: the run {remade[0]} was made anew since the "
                f"pool was written. `{command('generate', study, folder)}` writes it again."
            )
