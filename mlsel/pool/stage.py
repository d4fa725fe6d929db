"""Stage 1 of a study of one's own data: files to the pool.

    mlsel import STUDY [-o DIR] [--again]

The pool says which files it was made of, by the hashes of their bytes, and how they were read. One
whose files or options have changed is named and refused, or made anew with --again.
"""

from __future__ import annotations

import glob
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.core.errors import MlselError, Stopped, shortened
from mlsel.core.files import link, write_json
from mlsel.core.parallel import on_root
from mlsel.core.record import differences, read_json, settle, told
from mlsel.pool.elements import check_elements, foreign_elements
from mlsel.pool.pool import Pool
from mlsel.pool.sources import digest_of, state_of
from mlsel.pool.sources import files_of as sources_of
from mlsel.study.folder import StudyFolder
from mlsel.study.parts import beside
from mlsel.study.stage import DONE, MISSING, STALE, Item
from mlsel.study.study import record_study, recorded_study

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.pool.labels import LabelOptions
    from mlsel.study.sections.pool import ImportSection
    from mlsel.study.study import Study

log = logging.getLogger(__name__)

SETTLED = 2 * 10**9
"""Nanoseconds after which a file that is changed again has another time of change."""


def import_study(study: Study, folder: Path, comm: MPI.Intracomm, *, again: bool = False) -> None:
    """Make DIR/pool.h5 of the study's files, unless it is there. Rank 0 does it alone.

    Raises
    ------
    MlselError
        If the pool that is there was made of other files or otherwise (and `again` is false), a
        file can't be read or holds other elements than the study, or another job works there.
    Stopped
        If a signal asked for it; nothing is written then.
    """
    from mlsel.core.lock import FolderLock

    if not study.pool.import_:
        raise MlselError(
            f"{study.source} imports no files: name some as pool.import, or make the pool by MD "
            "with `mlsel generate`.",
            everywhere=True,
        )
    lock = FolderLock(folder)
    on_root(comm, lock.acquire)
    try:
        on_root(comm, lambda: _make(study, StudyFolder(folder), again))
    finally:
        if comm.rank == 0:
            lock.release()


def _make(study: Study, place: StudyFolder, again: bool) -> None:
    from mlsel.pool.importing import import_trajectories

    if place.runs_record.is_file():
        raise MlselError(
            f"{place.root} holds the MD runs of another study: choose another folder with -o."
        )
    sources = files_of(study)
    if place.pool.is_file() and not any(sources.values()):
        check_elements(place, study.system.species)
        log.info("%s: its files are not here, so whether they changed is not known", place.pool)
        return
    for pattern, paths in sources.items():
        if not paths:
            raise MlselError(
                f'{study.source}: pool.import names "{pattern}", and there is no such file (seen '
                f"from {Path.cwd()})."
            )
    paths = _once(sources)
    options = label_options(study.pool.import_options)
    _take_pool(study, place)
    hashes = _hashes(place, paths, keep=True)
    if place.pool.is_file() and _is_of(place, study, hashes, again):
        check_elements(place, study.system.species)
        return
    try:
        report = import_trajectories(
            paths,
            place.pool,
            options,
            species=study.pool.import_options.types,
            keep_isolated=study.pool.import_options.keep_isolated,
            elements=study.system.species,
            digests=list(hashes.values()),
        )
    except Stopped:
        raise
    except MlselError as error:
        raise MlselError(shortened(by_keys(str(error)), 400)) from None
    record_study(study, place.root)
    log.info("%s: %s", place.pool, by_keys("\n".join(report.lines())))


def _take_pool(study: Study, place: StudyFolder) -> None:
    """Give the pool of the study, or of another part of it, a second name here, where there is none
    and that one is what the study asks for, of the same elements."""
    if place.pool.is_file() or not (study.part or study.parts):
        return
    for folder in beside(study, place.root):
        other = recorded_study(folder)
        if other is None or other.as_dict("system", "pool") != study.as_dict("system", "pool"):
            continue
        if StudyFolder(folder).pool.is_file() and items(study, folder)[0].state == DONE:
            link(StudyFolder(folder).pool, place.pool)
            log.info("%s is that of %s, which is made from the same", place.pool, folder)
            return


_OPTION = re.compile(
    r"--((?:energy|forces|atomic-energies|virial|stress)-key|(?:energy|length|force|stress)-unit"
    r"|without-labels|keep-isolated|species)\b"
    r"(?: (free_energy|nm|Bohr|Hartree(?:/Bohr)?|skip|keep|Na Cl)(?![\w/]))?"
)
"""The options of `mlsel import`, with the values that its sentences give as examples."""


def by_keys(text: str) -> str:
    """Return a sentence with the study's keys in place of the command's options.

    >>> by_keys("--energy-key free_energy takes it; say --species Na Cl; which (--virial-key)?")
    'pool.import_options.energy_key = ["free_energy"] takes it; say \
pool.import_options.types = ["Na", "Cl"]; which (pool.import_options.virial_key)?'
    """

    def key(match: re.Match[str]) -> str:
        name = {"species": "types"}.get(match[1], match[1].replace("-", "_"))
        is_list = name == "types" or name.endswith("_key")
        value = match[2]
        told = "" if value is None else f" = {json.dumps(value.split() if is_list else value)}"
        return f"pool.import_options.{name}{told}"

    return _OPTION.sub(key, text)


def files_of(study: Study) -> dict[str, list[Path]]:
    """Return the files that each pattern of pool.import stands for, by name."""
    return {pattern: _files(pattern) for pattern in study.pool.import_}


def _files(pattern: str) -> list[Path]:
    if Path(pattern).is_file():  # whatever signs its name has
        return [Path(pattern)]
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207  Path.glob takes no absolute pattern
    return [path for path in map(Path, sorted(names)) if path.is_file()]


def _once(sources: Mapping[str, Sequence[Path]]) -> list[Path]:
    """The files in the order of the patterns, each once."""
    return list(dict.fromkeys(path for paths in sources.values() for path in paths))


def label_options(section: ImportSection) -> LabelOptions:
    """Return what a study says of its files' labels."""
    from mlsel.pool.labels import LABELS, LabelOptions

    return LabelOptions(
        **{label: getattr(section, f"{label}_key") for label in (*LABELS, "stress")},
        without=section.without_labels,
        energy_unit=section.energy_unit,
        length_unit=section.length_unit,
        force_unit=section.force_unit,
        stress_unit=section.stress_unit,
    )


def _hashes(place: StudyFolder, paths: Sequence[Path], *, keep: bool) -> dict[str, str]:
    """The hash of each file; those are known from before whose size and times are the same.

    A copy can have the size and the time of what it replaces (`cp -p`, `rsync -t`); when the file
    system itself last touched it nobody sets.
    """
    record = place.import_record
    known = read_json(record) if record.is_file() else {}
    written = record.stat().st_mtime_ns if record.is_file() else 0
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        n_bytes, changed = state_of(path)
        touched = max(file.stat().st_ctime_ns for file in sources_of(path))
        of_file: dict[str, Any] = {"bytes": n_bytes, "changed": changed, "touched": touched}
        before = {"touched": touched, **known.get(str(path), {})}  # an earlier mlsel didn't look
        is_known = before.items() > of_file.items() and changed < written - SETTLED
        of_file["digest"] = before["digest"] if is_known else digest_of(path)
        found[str(path)] = of_file
    if keep and found != known:
        write_json(record, found)
    return {name: of_file["digest"] for name, of_file in found.items()}


def _made_from(study: Study, hashes: Mapping[str, str]) -> dict[str, Any]:
    options = study.as_dict("pool")["pool"]["import_options"]
    return {"import_options": options, "files": dict(hashes)}


def _recorded(pool: Pool, now: Mapping[str, Any]) -> dict[str, Any]:
    """What a pool says that it was made from; files that were moved alone have not changed."""
    attributes = pool.attributes
    hashes = [str(text) for text in attributes.get("source_digests", ())]
    files = dict(zip([str(text) for text in attributes.get("sources", ())], hashes, strict=False))
    if hashes == list(now["files"].values()):
        files = dict(now["files"])
    return {"import_options": json.loads(attributes.get("import_options", "{}")), "files": files}


def _is_of(place: StudyFolder, study: Study, hashes: Mapping[str, str], again: bool) -> bool:
    now = _made_from(study, hashes)
    with Pool(place.pool) as pool:
        return settle(place.pool, _recorded(pool, now), now, again=again)


def items(study: Study, folder: Path) -> list[Item]:
    """Return the pool and its state."""
    place = StudyFolder(folder)
    sources = files_of(study)
    paths = _once(sources)
    if not place.pool.is_file():
        lacking = [pattern for pattern, found in sources.items() if not found]
        text = f"{len(paths)} files to import"
        return [Item(place.pool.name, MISSING, f"no file {lacking[0]}" if lacking else text)]
    with Pool(place.pool) as pool:
        text = f"{len(pool)} frames"
        problem = foreign_elements(pool, study.system.species)
        if problem:
            return [Item(place.pool.name, STALE, problem)]
        if not paths:
            return [Item(place.pool.name, DONE, f"{text}; its files are not here")]
        now = _made_from(study, _hashes(place, paths, keep=False))
        changed = differences(_recorded(pool, now), now, {})
    if changed:
        return [Item(place.pool.name, STALE, told(changed))]
    return [Item(place.pool.name, DONE, f"{text} of {len(paths)} files")]
