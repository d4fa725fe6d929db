"""A trajectory as users bring it: extended XYZ with REF_energy and REF_forces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write


def write_trajectory(path: Path, n: int = 60) -> Path:
    """Write n shaken cells of 8 copper atoms, labelled by ASE's EMT."""
    rng = np.random.default_rng(1)
    frames = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
        atoms.positions += (0.05 + 0.1 * k / n) * rng.standard_normal(atoms.positions.shape)
        atoms.calc = EMT()
        frame = atoms.copy()
        frame.info["REF_energy"] = atoms.get_potential_energy()
        frame.arrays["REF_forces"] = atoms.get_forces()
        frames.append(frame)
    write(path, frames)
    return path
