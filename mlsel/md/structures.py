"""Start structures: a rocksalt-like grid, or a file that ASE reads; as LAMMPS data files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core.errors import MlselError
from mlsel.study.sections.system import System

if TYPE_CHECKING:
    from ase import Atoms


def grid_shape(n_sites: int) -> tuple[int, int, int]:
    """Return the sides of the most cube-like grid with at least n_sites sites, one side even.

    Few vacant sites come before a cubic shape: 100 sites are 5 × 5 × 4.

    >>> grid_shape(100), grid_shape(1000), grid_shape(7)
    ((5, 5, 4), (10, 10, 10), (2, 2, 2))
    """
    best: tuple[float, tuple[int, int, int]] | None = None
    limit = round(n_sites ** (1 / 3)) + 3
    for a in range(1, limit + 1):
        for b in range(a, limit + 1):
            c = max(b, -(-n_sites // (a * b)))
            for side in (c, c + 1):
                if (a * b * side) % 2 and n_sites > 1:
                    continue
                vacant = a * b * side - n_sites
                cost = vacant / n_sites + 0.5 * (side / a - 1)
                shape = (side, b, a)
                if best is None or cost < best[0]:
                    best = (cost, shape)
    assert best is not None
    return best[1]


def grid_structure(system: System) -> Atoms:
    """Return atoms on a simple cubic grid whose neighbours differ in species where that is
    possible (rocksalt for a 1:1 salt), in a cubic box of n_sites · spacing³.

    Where a side of the grid is odd, like ions meet across the boundary; it melts all the same.
    """
    from ase import Atoms

    shape = grid_shape(system.n_atoms)
    sites = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1).reshape(-1, 3)
    parity = sites.sum(axis=1) % 2
    # Even sites first: the first species fills them, the last the odd ones. Vacancies, where the
    # grid has more sites than atoms, are spread evenly over both.
    ranked = np.concatenate([sites[parity == 0], sites[parity == 1]])
    chosen = ranked[np.arange(system.n_atoms) * len(ranked) // system.n_atoms]
    unit = system.formula_unit
    n_units = system.n_atoms // sum(unit)
    symbols = [s for s, n in zip(system.species, unit, strict=True) for _ in range(n * n_units)]
    side = (len(sites) ** (1 / 3)) * system.spacing
    positions = chosen / np.array(shape) * side
    return Atoms(symbols, positions=positions, cell=[side] * 3, pbc=True)


def start_structure(system: System) -> Atoms:
    """Return the start structure of a system.

    Raises
    ------
    MlselError
        If the file is missing, unreadable, not periodic, or holds other species.
    """
    if system.start == "grid":
        return grid_structure(system)
    from ase.io import read

    path = Path(system.start)
    if not path.is_file():
        raise MlselError(
            f'system.start is "{system.start}", and there is no such file: give "grid", or the '
            "path of a structure file that ASE reads."
        )
    try:
        atoms = read(path, parallel=False)  # on rank 0 alone
    except Exception as error:  # ASE's readers raise whatever they like
        raise MlselError(f"system.start: ASE can't read {path} ({error}).") from None
    found = list(dict.fromkeys(atoms.get_chemical_symbols()))
    unknown = [symbol for symbol in found if symbol not in system.species]
    if unknown:
        raise MlselError(
            f"system.start: {path} holds {', '.join(unknown)}, which system.species does not "
            f"name: it names {', '.join(system.species)}."
        )
    if atoms.cell.rank < 3:
        raise MlselError(f"system.start: {path} has no periodic cell, which NPT runs need.")
    atoms.pbc = True
    return atoms


def lammps_data(atoms: Atoms, species: tuple[str, ...]) -> str:
    """Return a LAMMPS data file, atom_style charge, types in the order of species."""
    from ase.io.lammpsdata import write_lammps_data

    text = io.StringIO()
    atoms = atoms.copy()
    atoms.set_initial_charges(np.zeros(len(atoms)))
    write_lammps_data(
        text, atoms, specorder=list(species), masses=True, atom_style="charge", units="metal"
    )
    return text.getvalue()
