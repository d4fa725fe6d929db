"""Elements: what frames are of, and whether a folder's data are of its study's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlsel.core.arrays import Array
from mlsel.core.errors import MlselError
from mlsel.pool.pool import Pool
from mlsel.study.folder import StudyFolder


def check_elements(place: StudyFolder, species: Sequence[str]) -> None:
    """Refuse a folder whose pool or data sets hold elements that the study does not have.

    Raises
    ------
    MlselError
        It names the file and both sides.
    """
    paths = sorted(place.data.glob("*.h5"))
    if place.pool.is_file() and not place.runs_record.is_file():  # else it is of the stage's runs
        paths.append(place.pool)
    for path in paths:
        with Pool(path) as pool:
            problem = foreign_elements(pool, species)
        if problem:
            raise MlselError(
                f"{path} {problem}: name the study that this folder is of, or choose another "
                "folder with -o."
            )


def foreign_elements(pool: Pool, species: Sequence[str]) -> str:
    """Say that frames hold elements which a study does not have, "" where they don't."""
    from ase.data import chemical_symbols

    found = {chemical_symbols[z] for run in pool.runs for z in set(pool.numbers(run).tolist())}
    if found <= set(species):
        return ""
    return f"holds {', '.join(sorted(found))}, and the study is of {', '.join(species)}"


def formula(numbers: Array) -> str:
    """Return the composition of atoms in Hill's order."""
    from ase.data import chemical_symbols
    from ase.formula import Formula

    symbols, counts = np.unique(numbers, return_counts=True)
    pairs = zip(symbols, counts, strict=True)
    return str(Formula.from_dict({chemical_symbols[z]: int(n) for z, n in pairs}).format("hill"))
