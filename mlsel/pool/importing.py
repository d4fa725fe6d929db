"""`mlsel import`: other people's frames as a pool, and a report of what became of each value.

Sources are parsed once. Frames wait in a temporary file without a name, so that memory does not
grow with their number; what they hold is decided when all have been seen.
"""

from __future__ import annotations

import json
import pickle
import re
import tempfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from mlsel.core import stopping, units
from mlsel.core.arrays import Array
from mlsel.core.errors import MlselError, Stopped
from mlsel.core.provenance import file_digest
from mlsel.pool.copies import CONTENT_HASH, content_hash, later_copies
from mlsel.pool.elements import formula
from mlsel.pool.labels import (
    LABELS,
    STRESS_KEYS,
    USUAL_KEYS,
    Decision,
    LabelOptions,
    Survey,
)
from mlsel.pool.plausible import Plausibility
from mlsel.pool.pool import ATOM_FIELDS, OBSERVABLE_UNITS, VIRIAL, Layout
from mlsel.pool.sources import (
    ARRAYS,
    SOURCE_FILE,
    SOURCE_INDEX,
    Frame,
    Json,
    ReadOptions,
    read_frames,
)
from mlsel.pool.writer import INTEGER, PoolWriter, RunWriter

RESERVED = {
    *ATOM_FIELDS,
    *OBSERVABLE_UNITS,
    *(layout.element for layout in ATOM_FIELDS.values()),
    *("virial", "cell", "box", "species", "step", "time", "source_frame", "source_run"),
    *(SOURCE_FILE, SOURCE_INDEX, CONTENT_HASH),
}
FLUSH_BYTES = 32 * 2**20
MAX_NAMED = 3


@dataclass
class Report:
    """What `mlsel import` prints."""

    n_frames: int = 0
    n_read: int = 0
    n_runs: int = 0
    compositions: Counter[str] = field(default_factory=Counter)
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    not_kept: Counter[str] = field(default_factory=Counter)
    references: dict[int, float] = field(default_factory=dict)
    left_out: int = 0
    n_copies: int = 0
    warnings: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the report."""
        from ase.data import chemical_symbols

        shown = [f"{formula} ({n})" for formula, n in self.compositions.most_common(6)]
        more = len(self.compositions) - len(shown)
        lines = [
            f"{self.n_frames} frames in {self.n_runs} run{'s' if self.n_runs != 1 else ''}: "
            f"{', '.join(shown)}{f' and {more} more compositions' if more > 0 else ''}",
        ]
        for label in LABELS:
            keys = self.labels.get(label)
            for key, n in keys.items() if keys else ():
                lines.append(f"  {label:16} from {key}: {n} of {self.n_frames} frames")
            if not keys:
                lines.append(f"  {label:16} none")
        for title, counts in (("kept as found", self.kept), ("not kept", self.not_kept)):
            names = [f"{name} ({n})" for name, n in sorted(counts.items())]
            lines.append(f"{title}: {', '.join(names) or 'nothing else'}")
        if self.references:
            energies = [f"{chemical_symbols[z]} {e:.6g} eV" for z, e in self.references.items()]
            lines.append(f"isolated atoms, kept as element references: {', '.join(energies)}")
        if self.left_out:
            lines.append(f"left out: {self.left_out} of {self.n_read} frames, without a label")
        if self.n_copies:
            lines.append(
                f"copies: {self.n_copies} of {self.n_frames} frames have the atoms, positions and "
                "cell of another: a selection takes one of each (`mlsel check` names them)"
            )
        return lines + [f"warning: {warning}" for warning in self.warnings]


class _Spool:
    """Frames in a file without a name; it is gone with the process, however that ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  closed by __exit__
        self._n = 0

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, frame: Frame) -> None:
        pickle.dump(frame, self._file, protocol=5)
        self._n += 1

    def __iter__(self) -> Iterator[Frame]:
        self._file.seek(0)
        for _ in range(self._n):
            yield pickle.load(self._file)


@dataclass
class _Extra:
    """A value that is no label, over all frames that have it."""

    place: str
    key: str
    name: str = ""
    n: int = 0
    kinds: set[str] = field(default_factory=set)
    shape: tuple[int, ...] | None = None
    has_one_shape: bool = True
    follows_atoms: bool = True
    longest: int = 1

    def see(self, value: Array | str, n_atoms: int) -> None:
        """Take note of a frame's value."""
        self.n += 1
        if isinstance(value, str):
            self.kinds.add("json" if isinstance(value, Json) else "text")
            self.has_one_shape &= self.shape in (None, ())
            self.shape, self.follows_atoms = (), False
            return
        self.kinds.add("text" if value.dtype.kind == "U" else value.dtype.kind)
        self.has_one_shape &= self.shape in (None, value.shape)
        self.follows_atoms &= value.ndim > 0 and value.shape[0] == n_atoms
        self.shape = value.shape

    @property
    def is_per_atom(self) -> bool:
        known = self.key in ("magmoms", "charges", "stresses", "energies", "forces")
        likely = self.place == ARRAYS or known or not self.has_one_shape
        return self.follows_atoms and likely

    @property
    def encoding(self) -> str:
        """number, text, json, or nothing for what has no form of its own."""
        if self.kinds <= {"b", "i", "f"} and (self.is_per_atom or self.has_one_shape):
            return "number"
        if self.kinds == {"text"} and (self.is_per_atom or self.shape == ()):
            return "text"
        return "" if self.place == ARRAYS else "json"

    def encode(self, value: Array | str) -> Array:
        """Return a value as it is stored."""
        if self.encoding == "json":
            if not isinstance(value, Json):
                value = json.dumps(value if isinstance(value, str) else value.tolist())
            value = str(value)
        stored = np.asarray(value)
        if self.encoding == "number":
            return stored
        encoded = np.strings.encode(stored, "utf-8")
        self.longest = max(self.longest, encoded.dtype.itemsize)
        return stored

    def layout(self, value: Array) -> Layout:
        """Return how the value, as it is stored, lies in a run."""
        numbers = {"b": "b1", "i": "i8", "f": "f8"}
        kind = max(self.kinds & set(numbers), key=list(numbers).index, default="f")
        told = [("key", self.key), ("place", self.place)]
        if self.encoding == "json":
            told.append(("encoding", "json"))
        return Layout(
            self.is_per_atom,
            value.shape[1:] if self.is_per_atom else value.shape,
            numbers[kind] if self.encoding == "number" else f"S{self.longest}",
            "",
            tuple(told),
        )


class _Extras:
    """All values that are no labels: what they are called in the pool and how they lie there."""

    def __init__(self) -> None:
        self.of: dict[tuple[str, str], _Extra] = {}

    def see(self, frame: Frame) -> None:
        for (place, key), value in frame.values.items():
            extra = self.of.setdefault((place, key), _Extra(place, key))
            extra.see(value, len(frame.numbers))

    def settle(self) -> None:
        """Give each a name of its own, in an order that is not the frames'."""
        taken = set(RESERVED)
        for place, key in sorted(self.of):
            name = re.sub(r"[/\s]", "_", key).strip(".") or "unnamed"
            if name in taken:
                name += "_of_source"
            while name in taken:
                name += "_"
            taken.add(name)
            self.of[place, key].name = name

    def of_frame(self, frame: Frame, used: Container[str]) -> dict[str, tuple[_Extra, Array]]:
        """Return a frame's values beside its labels, as they are stored, by name."""
        made = {}
        for (place, key), value in frame.values.items():
            extra = self.of[place, key]
            if key not in used and extra.encoding:
                made[extra.name] = extra, extra.encode(value)
        return made


@dataclass
class _Run:
    """Frames of one source with the same atoms and the same fields."""

    frame: Frame
    labels: tuple[str, ...]
    extras: dict[str, tuple[_Extra, tuple[int, ...]]]
    n: int = 0
    is_orthogonal: bool = True
    name: str = ""

    def layouts(self) -> dict[str, Layout]:
        found = {
            name: extra.layout(np.empty(shape, dtype=np.int8))
            for name, (extra, shape) in self.extras.items()
        }
        return found | ({"virial": VIRIAL} if "virial" in self.labels else {})


@dataclass
class _Admitted:
    """A frame that becomes one of the pool's."""

    frame: Frame
    labels: dict[str, tuple[str, Array]]
    extras: dict[str, tuple[_Extra, Array]]

    @property
    def kind(self) -> tuple[Any, ...]:
        frame = self.frame
        shapes = tuple(sorted((name, value.shape) for name, (_, value) in self.extras.items()))
        labels = tuple(label for label in LABELS if label in self.labels)
        return frame.source, frame.numbers.tobytes(), frame.periodic, labels, shapes


class _Admission:
    """Decides frame by frame who becomes a frame, an element reference, or neither."""

    def __init__(
        self, decision: Decision, extras: _Extras, sources: Sequence[Path], keep_isolated: bool
    ) -> None:
        self.decision = decision
        self._extras = extras
        self._sources = sources
        self._keep_isolated = keep_isolated
        self.references: dict[int, float] = {}
        self.odd: dict[str, list[str]] = defaultdict(list)
        self.n_odd: Counter[str] = Counter()
        self.n_skipped = 0

    def admit(self, frame: Frame) -> _Admitted | None:
        labels = self.decision.labels(frame)
        for key in frame.filled_in:
            self._note(f"have {key} that the reader or a constraint filled in: no label", frame)
        if frame.is_isolated_atom and ("energy" in labels or not self._keep_isolated):
            self._refer(frame, labels)
            if not self._keep_isolated:
                return None
            if "forces" in self.decision.keys and "forces" not in labels:
                labels["forces"] = "symmetry (an isolated atom)", np.zeros((1, 3))
        missing = [label for label in self.decision.required if label not in labels]
        if missing:
            why = "no" if not self._is_there(frame, missing[0]) else "no finite"
            self._note(f"have {why} {missing[0]}", frame)
            if self.decision.options.without == "skip":
                self.n_skipped += 1
                return None
        self._look(frame)
        used = {key for _, (key, _) in sorted(labels.items())}
        return _Admitted(frame, labels, self._extras.of_frame(frame, used))

    def _is_there(self, frame: Frame, label: str) -> bool:
        return any(frame.find(key) is not None for key in self.decision.keys[label])

    def _refer(self, frame: Frame, labels: dict[str, tuple[str, Array]]) -> None:
        number = int(frame.numbers[0])
        if "energy" not in labels:
            self._note("are isolated atoms without an energy: left out", frame)
            return
        energy = float(labels["energy"][1])
        known = self.references.setdefault(number, energy)
        if abs(known - energy) > 1e-6:
            self._note("are isolated atoms of one element with another energy: the lowest", frame)
            self.references[number] = min(known, energy)

    def _look(self, frame: Frame) -> None:
        if np.linalg.det(frame.cell) < 0:
            self._note("have a left-handed cell", frame)
        if 0 < sum(frame.periodic) < 3:
            self._note("are periodic in some directions only", frame)
        for key in ("scf_converged", "converged", "scf_convergence"):
            found = frame.find(key)
            if found is not None and not isinstance(found[1], str) and not found[1].all():
                self._note(f"did not converge ({key}): their labels may be wrong", frame)

    def _note(self, what: str, frame: Frame) -> None:
        self.n_odd[what] += 1
        if len(self.odd[what]) < MAX_NAMED:
            self.odd[what].append(f"{self._sources[frame.source]}, frame {frame.index}")

    def warnings(self) -> list[str]:
        return [
            f"{n} frame{'s' if n > 1 else ''} {what} "
            f"({'; '.join(self.odd[what])}{'; …' if n > len(self.odd[what]) else ''})"
            for what, n in sorted(self.n_odd.items())
        ]

    def refuse_missing(self, n_frames: int) -> None:
        """Raise if frames lack what others have, and nothing was said of that."""
        lacking = [what for what in self.n_odd if what.startswith("have no ")]
        if self.decision.options.without != "refuse" or not lacking:
            return
        told = "; ".join(
            f"{self.n_odd[what]} of {n_frames} frames {what} (first: {self.odd[what][0]})"
            for what in sorted(lacking)
        )
        raise MlselError(
            f"{told}: --without-labels skip leaves them out, --without-labels keep keeps them."
        )


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
    survey, extras, report = Survey(options, sources), _Extras(), Report()
    with _Spool(target.absolute().parent) as spool:
        for source, path in enumerate(sources):
            before = _state(path)
            for frame in read_frames(path, source, ReadOptions(tuple(species))):
                if stopping.asked():
                    raise Stopped("stopped by a signal; nothing was written.", has_progress=False)
                _refuse_foreign(frame, path, elements)
                frame.positions, frame.cell = frame.positions * length, frame.cell * length
                survey.see(frame)
                extras.see(frame)
                report.not_kept.update(frame.not_kept)
                spool.append(frame)
            if _state(path) != before:
                raise MlselError(f"{path} changed while it was read: import it when it is whole.")
        if not survey.n_frames:
            raise MlselError(f"there are no frames in {', '.join(map(str, sources[:4]))}.")
        extras.settle()
        admission = _Admission(survey.decide(), extras, sources, keep_isolated)
        report.n_read = survey.n_frames
        runs, run_of = _runs(spool, admission, report)
        report.left_out = admission.n_skipped
        report.references = dict(sorted(admission.references.items()))
        _tell_extras(extras, report)
        report.warnings += [*admission.decision.notes, *admission.warnings()]
        made_from = {
            "sources": [str(path) for path in sources],
            "source_digests": list(digests) or [file_digest(path) for path in sources],
            "import_options": json.dumps(_told_options(options, species, keep_isolated)),
        }
        _write(target, made_from, spool, admission, runs, run_of, report)
    return report


def _state(path: Path) -> tuple[int, int]:
    if not path.is_file():
        raise MlselError(f"there is no file {path}.")
    state = path.stat()
    return state.st_size, state.st_mtime_ns


def _refuse_foreign(frame: Frame, path: Path, elements: Container[str] | None) -> None:
    from ase.data import chemical_symbols

    if elements is None:
        return
    foreign = [chemical_symbols[z] for z in np.unique(frame.numbers)]
    foreign = [symbol for symbol in foreign if symbol not in elements]
    if foreign:
        raise MlselError(
            f"{path}, frame {frame.index} holds {', '.join(foreign)}, which the study does not "
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


def _runs(spool: _Spool, admission: _Admission, report: Report) -> tuple[list[_Run], array[int]]:
    """Look at all frames a second time: which runs there are, and which each frame is in."""
    runs: dict[tuple[Any, ...], _Run] = {}
    order: dict[tuple[Any, ...], int] = {}
    run_of, contents = array("q"), array("q")
    plausibility = Plausibility()
    by_label: dict[str, Counter[str]] = defaultdict(Counter)
    kept: Counter[str] = Counter()
    for frame in spool:
        admitted = admission.admit(frame)
        if admitted is None:
            continue
        kind = admitted.kind
        if kind not in runs:
            shapes = {name: (extra, v.shape) for name, (extra, v) in admitted.extras.items()}
            runs[kind] = _Run(frame, kind[3], shapes)
            order[kind] = len(order)
        run = runs[kind]
        run.n += 1
        off_diagonal = frame.cell[~np.eye(3, dtype=bool)]
        run.is_orthogonal &= not off_diagonal.any() and bool(frame.cell.any())
        run_of.append(order[kind])
        contents.append(_content(frame))
        for label, (key, _) in admitted.labels.items():
            by_label[label][_told_key(label, key, admission.decision.options)] += 1
        kept.update(extra.key for extra, _ in admitted.extras.values())
        plausibility.see(
            frame.numbers,
            frame.positions,
            frame.cell,
            frame.periodic,
            {label: value for label, (_, value) in admitted.labels.items()},
        )
    admission.refuse_missing(report.n_read)
    if not runs:
        raise MlselError(
            f"none of {report.n_read} frames is left: "
            f"{'; '.join(admission.warnings()) or 'all are isolated atoms (--keep-isolated)'}."[
                :390
            ]
        )
    report.labels, report.kept = dict(by_label), dict(kept)
    report.n_frames, report.n_runs = len(run_of), len(runs)
    report.n_copies = len(later_copies(np.asarray(contents)))
    report.warnings += plausibility.warnings()
    made = list(runs.values())
    for run in made:
        report.compositions[formula(run.frame.numbers)] += run.n
    _name(made, admission)
    return made, run_of


def _content(frame: Frame) -> int:
    return content_hash(frame.numbers, frame.positions, frame.cell, frame.periodic)


def _told_key(label: str, key: str, options: LabelOptions) -> str:
    if label != "virial":
        return key
    is_stress = key in options.stress or (key not in options.virial and key in STRESS_KEYS)
    return f"{key} ({'−volume × stress' if is_stress else '−dE/dε, as it is'})"


def _name(runs: Sequence[_Run], admission: _Admission) -> None:
    """Name each run by its source, and by its composition where a source has several."""
    stems = [
        re.sub(r"[/\s]", "_", path.name.partition(".")[0]) or "run" for path in admission._sources
    ]
    per_source = Counter(run.frame.source for run in runs)
    wanted = [
        stems[run.frame.source]
        + (f"-{formula(run.frame.numbers)}" if per_source[run.frame.source] > 1 else "")
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


def _tell_extras(extras: _Extras, report: Report) -> None:
    for (_, key), extra in extras.of.items():
        if not extra.encoding:
            report.not_kept[key] += extra.n
    suspicious = [
        key
        for key in report.kept
        if re.search("stress|virial", key.lower()) and key not in USUAL_KEYS["virial"]
    ]
    if suspicious:
        report.warnings.append(
            f"{', '.join(sorted(suspicious))}: the sign and unit are not known, so it is no label "
            "but kept as found: --stress-key (positive in tension) or --virial-key (−dE/dε)"
        )


def _write(
    target: Path,
    made_from: Mapping[str, Any],
    spool: _Spool,
    admission: _Admission,
    runs: Sequence[_Run],
    run_of: array[int],
    report: Report,
) -> None:
    keys = admission.decision.keys
    parameters = {
        **made_from,
        "imported_keys": [f"{label}={'|'.join(found)}" for label, found in keys.items()],
    }
    again = _Admission(
        admission.decision, admission._extras, admission._sources, admission._keep_isolated
    )
    with PoolWriter(target, parameters, element_references=report.references) as writer:
        buffered = _Buffered([_add_run(writer, run) for run in runs])
        number = 0
        for frame in spool:
            admitted = again.admit(frame)
            if admitted is not None:
                buffered.append(run_of[number], admitted)
                number += 1
        buffered.flush()
        runs_in_order = np.asarray(run_of)
        if (np.diff(runs_in_order) < 0).any():
            seen = np.zeros(len(runs), dtype=np.int64)
            rows = np.empty(len(runs_in_order), dtype=np.int64)
            for place, run in enumerate(runs_in_order):
                rows[place] = seen[run]
                seen[run] += 1
            writer.set_order(runs_in_order, rows)


def _add_run(writer: PoolWriter, run: _Run) -> RunWriter:
    observables = {SOURCE_FILE: INTEGER, SOURCE_INDEX: INTEGER, CONTENT_HASH: INTEGER}
    if "energy" in run.labels:
        observables["energy"] = units.ENERGY
    if all(run.frame.periodic):
        observables["volume"] = units.VOLUME
    return writer.add_run(
        run.name,
        run.frame.numbers,
        run.n,
        ["positions", *(label for label in run.labels if label in ATOM_FIELDS)],
        observables,
        periodic=run.frame.periodic,
        orthogonal=run.is_orthogonal,
        extras=run.layouts(),
    )


class _Buffered:
    """Hands frames to their runs' writers, many at a time."""

    def __init__(self, writers: Sequence[RunWriter]) -> None:
        self._writers = writers
        self._waiting: dict[int, list[_Admitted]] = defaultdict(list)
        self._bytes = 0

    def append(self, run: int, admitted: _Admitted) -> None:
        self._waiting[run].append(admitted)
        self._bytes += admitted.frame.positions.nbytes * 4 + 512
        if self._bytes > FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        for run, waiting in self._waiting.items():
            fields: dict[str, list[Any]] = defaultdict(list)
            for admitted in waiting:
                frame = admitted.frame
                fields["positions"].append(frame.positions)
                fields["cell"].append(frame.cell)
                fields[SOURCE_FILE].append(frame.source)
                fields[SOURCE_INDEX].append(frame.index)
                fields[CONTENT_HASH].append(_content(frame))
                if all(frame.periodic):
                    fields["volume"].append(frame.volume)
                for label, (_, value) in admitted.labels.items():
                    fields[label].append(value)
                for name, (_, value) in admitted.extras.items():
                    fields[name].append(value)
            index = fields[SOURCE_INDEX]
            arrays = {name: np.asarray(values) for name, values in fields.items()}
            self._writers[run].append(index, np.zeros(len(index)), **arrays)
        self._waiting.clear()
        self._bytes = 0
