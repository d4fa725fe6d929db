"""Frames of other people's files: what a file holds, value by value, before anything is decided."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core import units
from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.core.errors import MlselError, nearest, shortened
from mlsel.core.neighbours import LARGEST

if TYPE_CHECKING:
    from ase import Atoms

RESULTS, INFO, ARRAYS = "results", "info", "arrays"
PLACES = (RESULTS, INFO, ARRAYS)
"""Where ASE keeps a value: its calculator's results, Atoms.info, Atoms.arrays."""
LONGEST_TEXT = 2**16
SOURCE_FILE, SOURCE_INDEX = "source_file", "source_index"
"""Of every imported frame: which of the attribute `sources` it is from, and its place there."""


class Json(str):
    """A value that is neither a number, an array nor a text, as JSON."""


Value = Array | str


@dataclass(slots=True)
class Frame:
    """A frame as its source has it; lengths in Å where the source says its unit.

    Attributes
    ----------
    values : dict of (place, key) to value
    not_kept : names of what has no form that could be kept
    filled_in : names of labels that a reader filled in where the source has none
    """

    source: int
    index: int
    numbers: IntArray
    positions: FloatArray
    cell: FloatArray
    periodic: tuple[bool, bool, bool]
    values: dict[tuple[str, str], Value]
    not_kept: list[str]
    filled_in: list[str]

    def find(self, key: str) -> tuple[str, Value] | None:
        """Return where a key is, and its value."""
        for place in PLACES:
            if (place, key) in self.values:
                return place, self.values[place, key]
        return None

    @property
    def volume(self) -> float:
        """Of the cell, Å³; 0 without a cell."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def is_isolated_atom(self) -> bool:
        """One atom and called so, or with nothing but images of itself 8 Å away or more."""
        if len(self.numbers) != 1:
            return False
        called = self.values.get((INFO, "config_type"))
        if isinstance(called, str) and "isolatedatom" in re.sub(r"\W|_", "", called.lower()):
            return True
        spacings = [
            np.inf if not along else self.volume / np.linalg.norm(np.cross(*others))
            for along, others in zip(
                self.periodic,
                (self.cell[[1, 2]], self.cell[[2, 0]], self.cell[[0, 1]]),
                strict=True,
            )
        ]
        return min(spacings) >= 8.0


@dataclass(frozen=True)
class ReadOptions:
    """What a file does not say by itself: the elements of its types (LAMMPS dumps)."""

    species: tuple[str, ...] = ()


def read_frames(path: Path, source: int, options: ReadOptions) -> Iterator[Frame]:
    """Yield the frames of a file, checked.

    Raises
    ------
    MlselError
        If the file can't be read, or a frame is none that a potential could be trained on.
    """
    if path.stat().st_size == 0:
        raise MlselError(f"{path} is empty.")
    for index, (atoms, more) in enumerate(_read(path, options)):
        frame = _frame(atoms, more, path, source, index)
        _refuse_odd(frame, atoms, path)
        yield frame


def _read(path: Path, options: ReadOptions) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    """Yield ASE's Atoms, and what else is known of each: filled_in, info, results."""
    try:
        kind = _kind_of(path)
        if kind == "extxyz":
            yield from _extxyz(path)
        elif kind == "db":
            yield from _database(path)
        elif kind == "h5md":
            from mlsel.pool.h5md import read_h5md

            yield from ((atoms, {}) for atoms in read_h5md(path, options.species))
        elif kind in ("lammps-dump-text", "lammps-dump-binary"):
            yield from _dump(path, kind, options)
        else:
            yield from _by_ase(path, kind)
    except (MlselError, MemoryError, GeneratorExit):
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise _unreadable(path, error) from None
    except Exception as error:  # ASE's readers raise whatever they like
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> MlselError:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return MlselError(f"{path} can't be read: {shortened(text, 200)}")


def _kind_of(path: Path) -> str:
    import h5py
    from ase.io.formats import UnknownFileTypeError, filetype

    if h5py.is_hdf5(path):
        return "h5md"
    name = path.name.removesuffix(".gz").lower()
    if name.endswith((".xyz", ".extxyz")):
        return "extxyz"
    if name.endswith(".db"):
        return "db"
    with _open(path) as file:
        first = file.read(1024)
    if first.startswith(b"ITEM: "):
        return "lammps-dump-text"
    try:
        return str(filetype(str(path)))
    except UnknownFileTypeError:
        raise MlselError(
            f"{path}: the format is not known from its name or beginning: give it the suffix of "
            "its format (.extxyz, .traj, .db, .dump, .h5, vasprun.xml, OUTCAR, …)."
        ) from None


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _by_ase(path: Path, kind: str) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    from ase.io import iread

    converged = _scf_converged(path, kind)
    for atoms in iread(
        str(path), index=":", format=kind, parallel=False, do_not_split_by_at_sign=True
    ):
        done = next(converged, None)
        yield atoms, {} if done is None else {"info": {"scf_converged": done}}


# ------------------------------------------------------------------ extended XYZ


def _extxyz(path: Path) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    """Frame by frame through ASE, each first held against what its own header promises."""
    from ase.io.extxyz import read_extxyz

    with _open(path) as raw:
        file = io.TextIOWrapper(raw, encoding="utf-8")
        number = 0
        while True:
            try:
                line = file.readline(2**20)
                if not line:
                    return
                if not line.strip():
                    continue
                where = f"{path}, frame {number}"
                if line.startswith("VEC"):
                    raise MlselError(f"{where}: VEC lines are not read; put the cell in Lattice.")
                try:
                    n_atoms = int(line)
                except ValueError:
                    raise MlselError(
                        f"{where} begins with {_quote(line)} where the number of atoms belongs: a "
                        "frame before has more lines than it says, or the file is no XYZ."
                    ) from None
                if n_atoms < 1:
                    raise MlselError(f"{where} has {n_atoms or 'no'} atoms: leave it out.")
                header = file.readline()
                rows = []
                for k in range(n_atoms):
                    row = file.readline()
                    if not row.strip():
                        raise MlselError(
                            f"{where} ends after {k} of {n_atoms} atoms: it was cut short; leave "
                            "it out."
                        )
                    rows.append(row)
            except UnicodeDecodeError as error:
                raise MlselError(f"{path}, frame {number} is no UTF-8 text: {error}.") from None
            _check_header(header, rows[0], where)
            text = f"{n_atoms}\n{header}{''.join(rows)}"
            yield next(iter(read_extxyz(io.StringIO(text), index=0))), {}
            number += 1


def _check_header(header: str, first: str, where: str) -> None:
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|\{[^}]*\}|\[[^]]*\]', '""', header)
    keys = re.findall(r"(?:^|\s)([^\s=\"]+)\s*=", bare)
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise MlselError(f"{where} has the key {twice} twice: leave one of them out.")
    for key in keys:
        for known in ("Lattice", "Properties", "pbc"):
            if key != known and key.lower() == known.lower():
                raise MlselError(f"{where} has the key {key}: it is written {known}.")
    found = re.search(r'(?:^|\s)Properties\s*=\s*"?([^\s"]+)', header)
    if found is None:
        return
    parts = found[1].split(":")
    counts = parts[2::3]
    if len(parts) % 3 or not all(count.isdigit() for count in counts):
        raise MlselError(f"{where}: Properties={_quote(found[1])} is no list of name:type:columns.")
    n_columns, n_there = sum(map(int, counts)), len(first.split())
    if n_columns != n_there:
        raise MlselError(
            f"{where}: Properties names {n_columns} columns ({_quote(found[1])}), its first atom "
            f"has {n_there}."
        )
    names = parts[::3]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise MlselError(f"{where}: Properties names the column {_quote(double)} twice.")
    for columns, told in ((("pos", "positions"), "pos"), (("species", "Z", "numbers"), "species")):
        if not set(columns) & set(names):
            near = next((name for name in names if name.lower() in columns), None)
            hint = f": {near} is written {told}" if near else nearest(told, names)
            raise MlselError(f"{where}: Properties names no column {told}{hint}.")


def _quote(text: str) -> str:
    plain = repr(text.strip())
    return plain if len(plain) <= 80 else plain[:79] + "…'"


# ------------------------------------------------------------------ other formats


def _dump(path: Path, kind: str, options: ReadOptions) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    """LAMMPS dumps: types are no elements, and ASE's reader fills in an energy of 0."""
    from ase.io import iread

    columns = next((c for c in _dump_columns(path)), [])
    arguments: dict[str, Any] = {}
    if kind == "lammps-dump-text":
        _check_counts(path)
    if kind == "lammps-dump-text" and "element" not in columns:
        if not options.species:
            raise MlselError(
                f"{path} has types and no elements: say which they are, for instance "
                "--species Na Cl, in the order of the types."
            )
        arguments["specorder"] = list(options.species)
        _check_types(path, columns, len(options.species))
    for atoms in iread(
        str(path),
        index=":",
        format=kind,
        parallel=False,
        do_not_split_by_at_sign=True,
        **arguments,
    ):
        filled = [] if atoms.calc is None else ["energy"]
        if atoms.calc is not None and not {"fx", "fy", "fz"} <= set(columns):
            filled += ["forces"]
        yield atoms, {"filled_in": filled}


def _check_counts(path: Path) -> None:
    """Raise unless each frame has as many atoms as it says: ASE's reader reads on for as many."""
    frame, told, found = -1, 0, 0
    with _open(path) as file:
        for line in chain(file, [b"ITEM: TIMESTEP"]):
            if not line.startswith(b"ITEM:"):
                found += 1
            elif line.startswith(b"ITEM: TIMESTEP"):
                if frame >= 0 and found != told:
                    raise MlselError(
                        f"{path}, frame {frame} says it has {told} atoms and has {found}: it was "
                        "cut short, or put together wrongly; leave it out."
                    )
                frame, told = frame + 1, 0
            elif line.startswith(b"ITEM: NUMBER OF ATOMS"):
                words = next(file, b"").split()
                if len(words) != 1 or not words[0].isdigit():
                    said = shortened(b" ".join(words).decode("utf-8", "replace"), 40)
                    raise MlselError(f"{path}, frame {frame} has {said!r} atoms: leave it out.")
                told = int(words[0])
            elif line.startswith(b"ITEM: ATOMS"):
                found = 0


def _dump_columns(path: Path) -> Iterator[list[str]]:
    with _open(path) as file:
        for line in file:
            if line.startswith(b"ITEM: ATOMS"):
                yield line.decode("utf-8", "replace").split()[2:]


def _check_types(path: Path, columns: list[str], n_species: int) -> None:
    """Raise if a type has no element: ASE's reader would take another."""
    if "type" not in columns:
        raise MlselError(f"{path} has neither the column element nor the column type.")
    at, inside = columns.index("type"), False
    with _open(path) as file:
        for line in file:
            if line.startswith(b"ITEM:"):
                inside = line.startswith(b"ITEM: ATOMS")
            elif inside:
                words = line.split()
                kind = int(words[at]) if len(words) > at and words[at].isdigit() else 0
                if not 1 <= kind <= n_species:
                    raise MlselError(
                        f"{path} has atoms of type {kind}, --species names {n_species} elements: "
                        "give one for each type."
                    )


def _database(path: Path) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    """ASE's databases, with what rows carry beside the atoms; schnetpack's say their units."""
    from ase.db import connect

    database = connect(str(path))
    metadata = database.metadata
    of_property = metadata.get("_property_unit_dict", {})
    length = metadata.get("_distance_unit")
    scale = units.factor(length, "length") if length else 1.0
    for row in database.select(sort="id"):
        atoms = row.toatoms()
        if scale != 1.0:
            atoms.set_cell(atoms.cell.array * scale)
            atoms.positions *= scale
        info: dict[str, Any] = dict(row.key_value_pairs)
        for key, value in row.data.items():
            unit = of_property.get(key)
            factor = _property_factor(str(unit)) if unit else 1.0
            array = np.asarray(value)
            if array.dtype.kind in "fiu" and (factor != 1.0 or array.shape == (1,)):
                value = (array * factor).reshape(() if array.shape == (1,) else array.shape)
            info[key] = value
        yield atoms, {"info": info}


def _property_factor(unit: str) -> float:
    for quantity in ("energy", "force", "stress", "length", "charge"):
        try:
            return units.factor(unit, quantity)
        except MlselError:
            continue
    return 1.0


def _scf_converged(path: Path, kind: str) -> Iterator[bool]:
    """Yield for each ionic step of a VASP run whether its electrons converged."""
    if kind == "vasp-out":
        converged = False
        with _open(path) as file:
            for line in file:
                if b"aborting loop because EDIFF is reached" in line:
                    converged = True
                elif b"FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in line:
                    yield converged
                    converged = False
    elif kind == "vasp-xml":
        from xml.etree import ElementTree

        most, steps = 0, 0
        with _open(path) as file:
            for _, element in ElementTree.iterparse(file, ["end"]):
                if element.tag == "i" and element.get("name") == "NELM":
                    most = int(element.text or 0)
                elif element.tag == "scstep":
                    steps += 1
                elif element.tag == "calculation":
                    yield not most or steps < most
                    steps = 0
                    element.clear()


# ------------------------------------------------------------------ one form for all


def _frame(atoms: Atoms, more: dict[str, Any], path: Path, source: int, index: int) -> Frame:
    values: dict[tuple[str, str], Value] = {}
    not_kept: list[str] = []
    filled = list(more.get("filled_in", ()))
    results = {} if atoms.calc is None else dict(atoms.calc.results)
    for key in filled:
        results.pop(key, None)
    info = {**atoms.info, **more.get("info", {})}
    arrays = {k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}
    _keep_constraints(atoms, arrays, not_kept)
    if np.any(atoms.get_celldisp()):
        not_kept.append("the cell's origin (celldisp)")
    for place, found in ((RESULTS, results), (INFO, info), (ARRAYS, arrays)):
        for key, value in found.items():
            kept = _normal(value)
            if kept is None or (isinstance(kept, str) and len(kept) > LONGEST_TEXT):
                if value is not None:
                    not_kept.append(str(key))
                continue
            values[place, str(key)] = kept
    frame = Frame(
        source,
        index,
        atoms.numbers.astype(np.int64),
        np.asarray(atoms.positions, dtype=np.float64),
        np.asarray(atoms.cell.array, dtype=np.float64),
        (bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2])),
        values,
        not_kept,
        filled,
    )
    _drop_zero_forces_of_fixed_atoms(frame)
    return frame


def _keep_constraints(atoms: Atoms, arrays: dict[str, Any], not_kept: list[str]) -> None:
    from ase.constraints import FixAtoms

    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            not_kept.append(f"constraint {type(constraint).__name__}")
        elif len(constraint.index):
            free = np.ones(len(atoms), dtype=bool)
            free[constraint.index] = False
            arrays["move_mask"] = free


def _drop_zero_forces_of_fixed_atoms(frame: Frame) -> None:
    """Forces that are exactly zero on every fixed atom and nowhere else are no label."""
    free = frame.values.get((ARRAYS, "move_mask"))
    if free is None or isinstance(free, str) or free.ndim != 1:
        return
    for place, key in [k for k in frame.values if k[1].lower().endswith(("force", "forces"))]:
        forces = frame.values[place, key]
        if isinstance(forces, str) or forces.shape != (len(frame.numbers), 3):
            continue
        if not forces[~free].any() and (forces[free].any() or not free.any()):
            del frame.values[place, key]
            frame.filled_in.append(key)


def _normal(value: Any) -> Value | None:
    """Return a value as an array of numbers or texts, a text or JSON; None if it is none."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, int, float, np.generic, np.ndarray, list, tuple)):
        try:
            array = np.asarray(value)
        except ValueError:  # a ragged list
            array = np.empty(0, dtype=object)
        if array.dtype == object and array.size and all(isinstance(x, str) for x in array.flat):
            array = array.astype(str)  # as ASE reads columns of text
        if array.dtype.kind == "b":
            return array
        if array.dtype.kind in "iu" and array.dtype.itemsize <= 8:
            wide = array.astype(np.int64)
            return wide if (wide == array).all() else array.astype(np.float64)
        if array.dtype.kind == "f":
            return array.astype(np.float64)
        if array.dtype.kind == "U" and isinstance(value, np.ndarray):
            return array
    try:
        return Json(json.dumps(value, sort_keys=True, default=_plain))
    except (TypeError, ValueError):
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(type(value).__name__)


def _refuse_odd(frame: Frame, atoms: Atoms, path: Path) -> None:
    where = f"{path}, frame {frame.index}"
    if not len(frame.numbers):
        raise MlselError(f"{where} has no atoms: leave it out.")
    if not (np.isfinite(frame.positions).all() and np.isfinite(frame.cell).all()):
        raise MlselError(f"{where} has a position or a cell that is NaN or infinite: leave it out.")
    largest = max(np.abs(frame.cell).max(), np.abs(frame.positions).max())
    if largest > LARGEST:
        raise MlselError(
            f"{where} has a position or a cell of {largest:.3g} Å, and {LARGEST:g} Å are the most: "
            "leave it out, or say the unit (--length-unit)."
        )
    if frame.numbers.min() < 1 or frame.numbers.max() > 118:
        bad = frame.numbers[(frame.numbers < 1) | (frame.numbers > 118)][0]
        raise MlselError(f"{where} has an atom of no element (atomic number {bad}).")
    if any(frame.periodic) and not frame.cell.any():
        raise MlselError(
            f'{where} is periodic (pbc) and has no cell: give its Lattice, or pbc="F F F".'
        )
    lengths = np.linalg.norm(frame.cell, axis=1)
    if all(frame.periodic) and frame.volume < 1e-6 * lengths.prod():
        raise MlselError(
            f"{where} is periodic and its cell has no volume: {frame.cell.round(3).tolist()}."
        )
    if any(along and not length for along, length in zip(frame.periodic, lengths, strict=True)):
        raise MlselError(f"{where} is periodic along a cell vector that is zero.")
    if len(frame.numbers) > 1 and not np.ptp(frame.positions, axis=0).any():
        raise MlselError(
            f"{where} has all {len(frame.numbers)} atoms at one point "
            f"({', '.join(f'{x:g}' for x in frame.positions[0])}): are its positions under another "
            "name?"
        )
