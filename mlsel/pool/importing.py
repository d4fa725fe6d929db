"""`mlsel import`: other people's frames as a pool, and a report of what became of each value.

Sources are parsed once. Frames wait in a temporary file without a name, so that memory does not
grow with their number; what they hold is decided when all have been seen.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core import stopping, units
from mlsel.core.arrays import Array, IntArray
from mlsel.core.errors import MlselError, Stopped
from mlsel.pool.admission import MAX_NAMED, Admission, Admitted
from mlsel.pool.copies import CONTENT_HASH, content_hashes, later_copies
from mlsel.pool.elements import formula
from mlsel.pool.extras import Extra, Extras
from mlsel.pool.import_report import Report
from mlsel.pool.incoming import SOURCE_FILE, SOURCE_INDEX, Incoming
from mlsel.pool.labels import LABELS, STRESS_KEYS, LabelOptions, Survey, of_unknown_sign
from mlsel.pool.layout import ATOM_FIELDS, VIRIAL, Layout
from mlsel.pool.own import references_of, stamp_of_sources
from mlsel.pool.plausible import Plausibility
from mlsel.pool.pool import Pool
from mlsel.pool.side_by_side import SideBySide
from mlsel.pool.sources import ReadOptions, digest_of, read_batches, state_of
from mlsel.pool.spool import Spool
from mlsel.pool.stated_units import look_at_told_units, refuse_units, untold_units
from mlsel.pool.work import told, works
from mlsel.pool.writer import INTEGER, PoolWriter, RunWriter

FLUSH_BYTES = 16 * 2**20


@dataclass
class _Run:
    """Frames of one source with the same atoms and the same fields.

    Attributes
    ----------
    first : place of its first frame among all that were read
    """

    source: int
    numbers: IntArray
    periodic: tuple[bool, bool, bool]
    labels: tuple[str, ...]
    extras: dict[str, tuple[Extra, tuple[int, ...]]]
    first: int
    n: int = 0
    is_orthogonal: bool = True
    name: str = ""

    def layouts(self) -> dict[str, Layout]:
        found = {name: extra.layout(shape) for name, (extra, shape) in self.extras.items()}
        return found | ({"virial": VIRIAL} if "virial" in self.labels else {})


@dataclass
class _Places:
    """What is known of each frame that was read, in the order of the sources.

    Attributes
    ----------
    begin : of each source's frames
    run : which run it is in, −1 for none
    content : its hash
    """

    begin: IntArray
    run: IntArray
    content: IntArray

    @classmethod
    def of(cls, n_frames: Sequence[int]) -> _Places:
        begin = np.concatenate([[0], np.cumsum(n_frames)])
        return cls(begin, np.full(begin[-1], -1), np.zeros(begin[-1], dtype=np.int64))

    def at(self, frames: Incoming) -> IntArray:
        places: IntArray = self.begin[frames.source] + frames.index
        return places


def import_trajectories(
    sources: Sequence[Path],
    target: Path,
    options: LabelOptions | None = None,
    *,
    species: Sequence[str] = (),
    keep_isolated: bool = False,
    elements: Container[str] | None = None,
    digests: Sequence[str] = (),
) -> Report:
    """Make a pool of other people's trajectories; return what became of everything in them.

    Frames keep the order of the sources. Those of one source with the same atoms and fields share
    a run. Values that are no labels become observables.

    Parameters
    ----------
    species : elements of the types 1, 2, … of files that have types alone
    keep_isolated : whether isolated atoms are frames, and not element references alone
    elements : those that frames may have; None: all
    digests : of the sources' bytes, where they are known

    Raises
    ------
    MlselError
        If a file can't be read, a frame is none, or it isn't clear which values are the labels.
    Stopped
        If a signal asked for it while files were read.
    """
    options = options or LabelOptions()
    length = options.factor("length")
    survey, extras, report = Survey(options, sources), Extras(), Report()
    n_frames: list[int] = []
    told_units: dict[str, None] = {}
    hashes = list(digests)
    with Spool(target.absolute().parent) as spool, ThreadPoolExecutor(1) as worker:
        for source, path in enumerate(sources):
            before, n_before = state_of(path), survey.n_frames
            refuse_units(path, options)
            coming = None if digests else worker.submit(digest_of, path)  # meanwhile
            for batch in read_batches(path, source, ReadOptions(tuple(species))):
                if stopping.asked():
                    raise Stopped("stopped by a signal; nothing was written.", has_progress=False)
                for frames in batch:
                    _refuse_foreign(frames, path, elements)
                    told_units |= dict.fromkeys(look_at_told_units(frames, path, options))
                    frames.positions = frames.positions * length
                    frames.cell = frames.cell * length
                    survey.see(frames)
                    extras.see(frames)
                    for what in frames.not_kept:
                        report.not_kept[what] += len(frames)
                spool.append(batch)
            n_frames.append(survey.n_frames - n_before)
            if coming is not None:
                hashes.append(coming.result())
            if state_of(path) != before:
                raise MlselError(f"{path} changed while it was read: import it when it is whole.")
        if not survey.n_frames:
            raise MlselError(f"there are no frames in {', '.join(map(str, sources[:4]))}.")
        extras.settle()
        admission = Admission(survey.decide(), extras, sources, keep_isolated)
        for path in sources:
            admission.refer(path, references_of(path))
        report.n_read = survey.n_frames
        places = _Places.of(n_frames)
        runs = _runs(spool, admission, places, report, sources)
        report.left_out = admission.n_skipped
        report.references = dict(sorted(admission.references.items()))
        report.not_kept.update(extras.without_form())
        untold = [untold_units(path, options) for path in sources]
        report.warnings += [
            *filter(None, untold),
            *list(told_units)[:MAX_NAMED],
            *admission.decision.notes,
        ]
        report.warnings += [*admission.warnings(), *of_unknown_sign(report.kept)]
        made_from = {
            "sources": [str(path) for path in sources],
            "source_digests": hashes,
            "import_options": json.dumps(_told_options(options, species, keep_isolated)),
            **stamp_of_sources(sources),
        }
        _write(target, made_from, spool, admission, runs, places, report)
    with Pool(target) as pool:
        report.warnings += told([work for work in works(pool) if work.is_wrong])
    return report


def _refuse_foreign(frames: Incoming, path: Path, elements: Container[str] | None) -> None:
    from ase.data import chemical_symbols

    if elements is None:
        return
    foreign = [chemical_symbols[z] for z in np.unique(frames.numbers)]
    foreign = [symbol for symbol in foreign if symbol not in elements]
    if foreign:
        raise MlselError(
            f"{path}, frame {frames.index[0]} holds {', '.join(foreign)}, which the study does not "
            "have: name all elements of the files in system.species, or leave the frame out."
        )


def _told_options(
    options: LabelOptions, species: Sequence[str], keep_isolated: bool
) -> dict[str, Any]:
    """Return how files are read by the names of the study file's keys, [pool.import_options]."""
    keys = {f"{label}_key": list(getattr(options, label)) for label in (*LABELS, "stress")}
    return {
        **keys,
        "energy_unit": options.energy_unit,
        "length_unit": options.length_unit,
        "force_unit": options.force_unit,
        "stress_unit": options.stress_unit,
        "without_labels": options.without,
        "types": list(species),
        "keep_isolated": keep_isolated,
    }


def _runs(
    spool: Spool, admission: Admission, places: _Places, report: Report, sources: Sequence[Path]
) -> list[_Run]:
    """Look at all frames a second time: which runs there are, and which each frame is in."""
    runs: dict[tuple[Any, ...], _Run] = {}
    number: dict[tuple[Any, ...], int] = {}
    plausibility, side_by_side = Plausibility(), SideBySide(sources)
    by_label: dict[str, Counter[str]] = defaultdict(Counter)
    kept: Counter[str] = Counter()
    for admitted in (one for batch in spool for part in batch for one in admission.admit(part)):
        frames, kind, at = admitted.frames, admitted.kind, places.at(admitted.frames)
        if kind not in runs:
            shapes = {name: (extra, v.shape[1:]) for name, (extra, v) in admitted.extras.items()}
            numbers, periodic = frames.numbers, frames.periodic
            runs[kind] = _Run(frames.source, numbers, periodic, kind[3], shapes, int(at[0]))
            number[kind] = len(number)
        run = runs[kind]
        run.n += len(frames)
        run.first = min(run.first, int(at.min()))
        is_diagonal = ~frames.cell[:, ~np.eye(3, dtype=bool)].any(axis=1)
        run.is_orthogonal &= bool((is_diagonal & frames.cell.any(axis=(1, 2))).all())
        places.run[at] = number[kind]
        places.content[at] = content_hashes(
            frames.numbers, frames.positions, frames.cell, frames.periodic
        )
        for label, (key, _) in admitted.labels.items():
            by_label[label][_told_key(label, key, admission.decision.options)] += len(frames)
        for extra, _ in admitted.extras.values():
            kept[extra.key] += len(frames)
        labels = {label: values for label, (_, values) in admitted.labels.items()}
        plausibility.see(frames, places.content[at], labels)
        side_by_side.see(frames, labels)
    admission.refuse_missing(report.n_read)
    if not runs:
        raise MlselError(
            f"none of {report.n_read} frames is left: "
            f"{'; '.join(admission.warnings()) or 'all are isolated atoms (--keep-isolated)'}."[
                :390
            ]
        )
    report.labels, report.kept = dict(by_label), dict(kept)
    report.n_frames, report.n_runs = int((places.run >= 0).sum()), len(runs)
    report.n_copies = len(later_copies(places.content[places.run >= 0]))
    report.warnings += [*plausibility.warnings(), *side_by_side.warnings()]
    made = list(runs.values())
    order = sorted(range(len(made)), key=lambda index: made[index].first)
    new_number = np.empty(len(made) + 1, dtype=np.int64)
    new_number[order], new_number[-1] = np.arange(len(made)), -1
    places.run = new_number[places.run]
    made = [made[index] for index in order]
    for run in made:
        report.compositions[formula(run.numbers)] += run.n
    _name(made, admission.sources)
    return made


def _told_key(label: str, key: str, options: LabelOptions) -> str:
    if label != "virial":
        return key
    is_stress = key in options.stress or (key not in options.virial and key in STRESS_KEYS)
    return f"{key} ({'−volume × stress' if is_stress else '−dE/dε, as it is'})"


def _name(runs: Sequence[_Run], sources: Sequence[Path]) -> None:
    """Name each run by its source, and by its composition where a source has several."""
    stems = [re.sub(r"[/\s]", "_", path.name.partition(".")[0]) or "run" for path in sources]
    per_source = Counter(run.source for run in runs)
    wanted = [
        stems[run.source] + (f"-{formula(run.numbers)}" if per_source[run.source] > 1 else "")
        for run in runs
    ]
    total, taken, next_of = Counter(wanted), set(wanted), Counter[str]()
    for run, name in zip(runs, wanted, strict=True):
        if total[name] == 1:
            run.name = name
            continue
        while (numbered := f"{name}-{next_of[name]}") in taken:
            next_of[name] += 1
        taken.add(numbered)
        run.name = numbered


def _write(
    target: Path,
    made_from: Mapping[str, Any],
    spool: Spool,
    admission: Admission,
    runs: Sequence[_Run],
    places: _Places,
    report: Report,
) -> None:
    keys = admission.decision.keys
    parameters = {
        **made_from,
        "imported_keys": [f"{label}={'|'.join(found)}" for label, found in keys.items()],
    }
    again = admission.again()
    with PoolWriter(target, parameters, element_references=report.references) as writer:
        buffered = _Buffered([_add_run(writer, run) for run in runs], places)
        for batch in spool:
            for part in batch:
                for admitted in again.admit(part):
                    buffered.append(admitted)
            buffered.end_batch()
        buffered.flush()
        run_of = places.run[places.run >= 0]
        if (np.diff(run_of) < 0).any():
            order = np.argsort(run_of, kind="stable")
            begin = np.searchsorted(run_of[order], np.arange(len(runs)))
            rows = np.empty(len(run_of), dtype=np.int64)
            rows[order] = np.arange(len(run_of)) - begin[run_of[order]]
            writer.set_order(run_of, rows)


def _add_run(writer: PoolWriter, run: _Run) -> RunWriter:
    observables = {SOURCE_FILE: INTEGER, SOURCE_INDEX: INTEGER, CONTENT_HASH: INTEGER}
    if "energy" in run.labels:
        observables["energy"] = units.ENERGY
    if all(run.periodic):
        observables["volume"] = units.VOLUME
    return writer.add_run(
        run.name,
        run.numbers,
        run.n,
        ["positions", *(label for label in run.labels if label in ATOM_FIELDS)],
        observables,
        periodic=run.periodic,
        orthogonal=run.is_orthogonal,
        extras=run.layouts(),
    )


class _Buffered:
    """Hands frames to their runs' writers, many at a time and in the order of the sources."""

    def __init__(self, writers: Sequence[RunWriter], places: _Places) -> None:
        self._writers, self._places = writers, places
        self._waiting: dict[int, list[tuple[IntArray, Admitted]]] = defaultdict(list)
        self._bytes = 0

    def append(self, admitted: Admitted) -> None:
        at = self._places.at(admitted.frames)
        self._waiting[int(self._places.run[at[0]])].append((at, admitted))
        self._bytes += admitted.frames.positions.nbytes * 4 + 512 * len(at)

    def end_batch(self) -> None:
        """No frame of those that follow stands before one that was appended."""
        if self._bytes > FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        for run, waiting in self._waiting.items():
            fields: dict[str, list[Array]] = defaultdict(list)
            for at, admitted in waiting:
                for name, values in self._fields(at, admitted).items():
                    fields[name].append(values)
            order = np.argsort(np.concatenate([at for at, _ in waiting]), kind="stable")
            is_sorted = bool((np.diff(order) > 0).all())
            arrays: dict[str, Array] = {}
            for name, parts in fields.items():
                joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
                arrays[name] = joined if is_sorted else joined[order]
            index = arrays[SOURCE_INDEX]
            self._writers[run].append(index, np.zeros(len(index)), **arrays)
        self._waiting.clear()
        self._bytes = 0

    def _fields(self, at: IntArray, admitted: Admitted) -> dict[str, Array]:
        frames = admitted.frames
        fields: dict[str, Array] = {
            "positions": frames.positions,
            "cell": frames.cell,
            SOURCE_FILE: np.full(len(frames), frames.source),
            SOURCE_INDEX: frames.index,
            CONTENT_HASH: self._places.content[at],
        }
        if all(frames.periodic):
            fields["volume"] = frames.volume
        fields |= {label: values for label, (_, values) in admitted.labels.items()}
        return fields | {name: values for name, (_, values) in admitted.extras.items()}
