"""Frames of other people's files: what a file holds, value by value, before anything is decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core import units
from mlsel.core.errors import MlselError, shortened
from mlsel.core.provenance import digest, file_digest
from mlsel.pool.convergence import convergence_of
from mlsel.pool.cp2k import files_beside, is_cp2k, read_cp2k
from mlsel.pool.extxyz import opened, read_extxyz
from mlsel.pool.from_atoms import checked, from_atoms, read_by_ase
from mlsel.pool.incoming import Incoming, gathered
from mlsel.pool.own import is_pool, read_pool

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class ReadOptions:
    """What a file does not say by itself: the elements of its types (LAMMPS dumps)."""

    species: tuple[str, ...] = ()


BATCH_BYTES = 8 * 2**20


def read_batches(path: Path, source: int, options: ReadOptions) -> Iterator[list[Incoming]]:
    """Yield a file's frames, checked; those of a batch come before those of the next.

    Raises
    ------
    MlselError
        If the file can't be read, or a frame is none that a potential could be trained on.
    """
    if path.stat().st_size == 0:
        raise MlselError(f"{path} is empty.")
    try:
        kind = kind_of(path)
        if kind == "extxyz":
            yield from read_extxyz(path, source)
        elif kind == "pool":
            for batch in read_pool(path, source):
                yield gathered([one for frames in batch for one in checked(frames, path)])
        else:
            frames = (
                from_atoms(atoms, more, source, index)
                for index, (atoms, more) in enumerate(_read(path, kind, options))
            )
            yield from _batches(frames, path)
    except (MlselError, MemoryError, GeneratorExit):
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise _unreadable(path, error) from None
    except Exception as error:  # ASE's readers raise whatever they like
        raise _unreadable(path, error) from None


def _batches(frames: Iterable[Incoming], path: Path) -> Iterator[list[Incoming]]:
    """Check frames, and put those that are alike together, some megabytes at a time."""
    waiting: list[Incoming] = []
    n_bytes = 0
    for frame in frames:
        waiting += checked(frame, path)
        n_bytes += 8 * frame.positions.nbytes + 4096
        if n_bytes > BATCH_BYTES:
            yield gathered(waiting)
            waiting, n_bytes = [], 0
    if waiting:
        yield gathered(waiting)


def _read(path: Path, kind: str, options: ReadOptions) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    """Yield ASE's Atoms, and what else is known of each: filled_in, info, not_kept."""
    if kind == "db":
        yield from _database(path)
    elif kind == "h5md":
        from mlsel.pool.h5md import read_h5md

        yield from read_h5md(path, options.species)
    elif kind == "cp2k":
        yield from read_cp2k(path)
    elif kind in ("lammps-dump-text", "lammps-dump-binary"):
        from mlsel.pool.lammps_dump import read_dump

        yield from read_dump(path, kind, options.species)
    else:
        yield from _by_ase(path, kind)


def files_of(path: Path) -> list[Path]:
    """Return the files that a source is read from: itself, and for CP2K those beside it."""
    is_of_cp2k = path.suffix.lower() in (".xyz", ".extxyz") and is_cp2k(path)
    return [path, *files_beside(path)] if is_of_cp2k else [path]


def state_of(path: Path) -> tuple[int, int]:
    """Return a source's size in bytes and when it was changed last, ns.

    Raises
    ------
    MlselError
        If there is no such file.
    """
    if path.is_dir():
        raise MlselError(
            f"{path} is a folder: name the files in it. DeePMD-kit's arrays are not read; dpdata "
            "writes them as extended XYZ."
        )
    if not path.is_file():
        raise MlselError(f"there is no file {path}.")
    states = [file.stat() for file in files_of(path)]
    return sum(one.st_size for one in states), max(one.st_mtime_ns for one in states)


def digest_of(path: Path) -> str:
    """Return a source's hash."""
    first, *more = [file_digest(file) for file in files_of(path)]
    return digest([first, *more]) if more else first


def _unreadable(path: Path, error: Exception) -> MlselError:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return MlselError(f"{path} can't be read: {shortened(text, 200)}")


def kind_of(path: Path) -> str:
    """Return what a file is: extxyz, pool, h5md, cp2k, db, or ASE's name of its format.

    Raises
    ------
    MlselError
        If that isn't known.
    """
    import h5py
    from ase.io.formats import UnknownFileTypeError, filetype

    if h5py.is_hdf5(path):
        return "pool" if is_pool(path) else "h5md"
    name = path.name.removesuffix(".gz").lower()
    if name.endswith((".xyz", ".extxyz")):
        return "cp2k" if path.suffix != ".gz" and is_cp2k(path) else "extxyz"
    if name.endswith(".db"):
        return "db"
    with opened(path) as file:
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


def _by_ase(path: Path, kind: str) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    arguments: dict[str, Any] = {}
    more: dict[str, Any] = {}
    if kind == "runnerdata":  # input.data of RuNNer and n2p2, each in units of its writer's
        from ase.io.runner.runneratoms import Units

        arguments["input_units"] = Units.ASE  # as the numbers stand there
        with opened(path) as file:
            if any(line.startswith(b"comment") for line in file):
                more["not_kept"] = ["comment"]
    has_converged = convergence_of(path, kind)
    for atoms in read_by_ase(path, kind, **arguments):
        done = has_converged(atoms)
        yield atoms, more if done is None else {**more, "info": {"scf_converged": done}}


# ------------------------------------------------------------------ other formats


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


def units_of_database(path: Path) -> dict[str, tuple[str, str]]:
    """Return the units that an ASE database says, as `h5md.units_of_h5md`."""
    from ase.db import connect

    metadata = connect(str(path)).metadata
    found: dict[str, tuple[str, str]] = {}
    if metadata.get("_distance_unit"):
        found["length"] = "distance", str(metadata["_distance_unit"])
    for name, unit in metadata.get("_property_unit_dict", {}).items():
        for quantity in _QUANTITIES:
            if unit and units.is_unit(str(unit), quantity):
                found.setdefault(quantity, (name, str(unit)))
    return found


_QUANTITIES = ("energy", "force", "stress", "length", "charge")


def _property_factor(unit: str) -> float:
    known = (q for q in _QUANTITIES if units.is_unit(unit, q))
    return next((units.factor(unit, quantity) for quantity in known), 1.0)
