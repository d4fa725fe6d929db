"""A pair potential as a file for LAMMPS's pair_style eam/alloy (DYNAMO's setfl).

A pair_style table holds no energies of single atoms, so that total energies would be off by a
constant for each element. An EAM potential without electron density has them: its embedding
energies are those of the elements. It also knows all distances down to zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlsel.core.arrays import FloatArray
from mlsel.core.files import write_text
from mlsel.training.frames import symbols
from mlsel.training.pair.curve import Curves

N_DISTANCES = 10000
N_DENSITIES = 10


def write_eam(path: Path, curves: Curves, energies: Mapping[int, float]) -> None:
    """Write the file.

    The masses in it are the standard ones; LAMMPS takes them in place of a data file's.

    Parameters
    ----------
    energies : mapping of atomic number to eV
    """
    from ase.data import atomic_masses, atomic_numbers

    basis = curves.basis
    names = symbols(basis.numbers).split(", ")
    step = basis.cutoff / (N_DISTANCES - 1)
    distance: FloatArray = step * np.arange(N_DISTANCES, dtype=np.float64)
    lines = [
        "Pair potential by mlsel: eV, Angstrom. UNITS: metal",
        "No electron density; the embedding energy of an element is its energy for each atom.",
        "Below "
        + ", ".join(
            f"{r:.3f} ({symbols([a])}-{symbols([b])})"
            for (a, b), r in zip(basis.curves, curves.starts, strict=True)
        )
        + " A: an exponential wall, a guess",
        f"{len(names)} {' '.join(names)}",
        f"{N_DENSITIES} 1.0 {N_DISTANCES} {step:.17g} {basis.cutoff:.17g}",
    ]
    for name in names:
        z = atomic_numbers[name]
        lines.append(f"{z} {atomic_masses[z]:.17g} 0.0 none")
        lines += [f"{energies[z]:.17g}"] * N_DENSITIES + ["0"] * N_DISTANCES
    place = {pair: k for k, pair in enumerate(basis.curves)}
    for k, a in enumerate(basis.numbers):
        for b in basis.numbers[: k + 1]:
            curve = np.full(N_DISTANCES, place[min(a, b), max(a, b)])
            lines += [f"{x:.17g}" for x in distance * curves(curve, distance)[0]]
    write_text(path, "\n".join(lines) + "\n")
