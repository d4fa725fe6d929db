"""LAMMPS dumps: types are no elements, and what ASE's reader makes up is no label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core.errors import MlselError, shortened
from mlsel.pool.extxyz import opened
from mlsel.pool.from_atoms import read_by_ase

if TYPE_CHECKING:
    from ase import Atoms


def read_dump(
    path: Path, kind: str, species: Sequence[str]
) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    """Yield the frames, and which of their results the reader filled in: an energy of 0.

    Parameters
    ----------
    kind : lammps-dump-text or lammps-dump-binary
    species : elements of the types 1, 2, …

    Raises
    ------
    MlselError
        If it isn't known which elements the atoms are, or the file is not whole.
    """
    columns = dump_columns(path)
    arguments: dict[str, Any] = {}
    has_types = "type" in columns and bool(species)
    if kind == "lammps-dump-text":
        _check_counts(path)
    if kind == "lammps-dump-text" and "element" not in columns:
        if not species:
            raise MlselError(
                f"{path} has types and no elements: say which they are, for instance "
                "--species Na Cl, in the order of the types."
            )
        arguments["specorder"] = list(species)
    if kind == "lammps-dump-text" and (has_types or "specorder" in arguments):
        _check_types(path, columns, len(species))
    for atoms in read_by_ase(path, kind, **arguments):
        filled = [] if atoms.calc is None else ["energy"]
        if atoms.calc is not None and not {"fx", "fy", "fz"} <= set(columns):
            filled += ["forces"]
        if has_types:
            _take_species(atoms, species, "element" in columns, path)
        yield atoms, {"filled_in": filled}


def _take_species(atoms: Atoms, species: Sequence[str], has_elements: bool, path: Path) -> None:
    """Give types the elements that the user names; ASE's reader goes by a column of elements or of
    masses where there is one, and nearest masses are not the user's word.

    Raises
    ------
    MlselError
        If the file names other elements.
    """
    from ase.data import atomic_numbers

    types = atoms.arrays["type"]
    numbers = np.array([atomic_numbers[symbol] for symbol in species])[types - 1]
    differ = np.flatnonzero(numbers != atoms.numbers)
    if not len(differ):
        return
    if has_elements:
        one = differ[0]
        raise MlselError(
            f"{path} has atoms of type {types[one]} that its column element calls "
            f"{atoms.symbols[one]}, and --species says {species[types[one] - 1]} (LAMMPS writes C "
            "without dump_modify element): leave --species out, or take the column out of the "
            "dump."
        )
    velocities = atoms.get_velocities() if atoms.has("momenta") else None
    atoms.numbers = numbers
    if velocities is not None:  # as momenta, with the masses of the elements
        atoms.set_velocities(velocities)


def _check_counts(path: Path) -> None:
    """Raise unless each frame has as many atoms as it says, in the first frame's columns: ASE's
    reader reads on for as many, and columns are looked at once."""
    frame, told, found = -1, 0, 0
    columns = b""
    with opened(path) as file:
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
                columns = columns or line.strip()
                if line.strip() != columns:
                    raise MlselError(
                        f"{path}, frame {frame} has other columns than the frames before: it was "
                        "put together of several dumps; import each by itself."
                    )


def dump_columns(path: Path) -> list[str]:
    """Return the columns of a dump's first frame."""
    with opened(path) as file:
        for line in file:
            if line.startswith(b"ITEM: ATOMS"):
                return str(line, "utf-8", "replace").split()[2:]
    return []


def dump_units(path: Path) -> str:
    """Return the style of units that a dump says it is in (`dump_modify units yes`), else ""."""
    with opened(path) as file:
        for line in file:
            if line.startswith(b"ITEM: UNITS"):
                return str(next(file, b""), "utf-8", "replace").strip()
            if line.startswith(b"ITEM: ATOMS"):
                return ""
    return ""


def _check_types(path: Path, columns: list[str], n_species: int) -> None:
    """Raise if a type has no element: ASE's reader would take another."""
    if "type" not in columns:
        raise MlselError(f"{path} has neither the column element nor the column type.")
    at, inside = columns.index("type"), False
    with opened(path) as file:
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
