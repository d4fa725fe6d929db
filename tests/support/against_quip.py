"""GAPs by our evaluator held against QUIP: configurations, and what of them must agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlsel.training.frames import Frames
from tests.support import Tolerance

FORCE = 1e-8
"""eV/Å, of forces up to 1 eV/Å; energies agree to Tolerance.ROUNDING."""


def structures(numbers: list[int]) -> dict[str, Atoms]:
    """What a list of neighbours may get wrong."""
    rng = np.random.default_rng(7)
    crystal = bulk("NaCl", "rocksalt", a=5.7, cubic=True)
    crystal.rattle(0.25, rng=rng)
    sheared = crystal.copy()
    sheared.set_cell(sheared.cell.array @ [[1, 0, 0], [0.4, 1, 0], [-0.3, 0.5, 1.1]], True)
    tiny = bulk("NaCl", "rocksalt", a=4.6)  # every neighbour several times
    tiny.rattle(0.1, rng=rng)
    cluster = crystal.copy()
    cluster.pbc = False
    lonely = Atoms("NaCl", [[1, 1, 1], [9, 9, 9]], cell=[20, 20, 20], pbc=True)
    one = Atoms("Na8", crystal.positions, cell=crystal.cell, pbc=True)  # no chlorine
    far = crystal.copy()
    far.positions += 100.0 * crystal.cell.array[0]
    found = {
        "crystal": crystal,
        "sheared": sheared,
        "tiny": tiny,
        "cluster": cluster,
        "lonely": lonely,
        "one element": one,
        "far": far,
    }
    for atoms in found.values():
        if numbers == [11]:
            atoms.numbers[:] = 11
        elif 19 in numbers and len(atoms) > 2 and (atoms.numbers == 17).any():
            atoms.numbers[:2] = 19
    return found


def as_frames(atoms: Atoms) -> Frames:
    """One configuration, without labels."""
    a, b, c = (bool(p) for p in atoms.pbc)
    return Frames(
        np.asarray(atoms.numbers, np.int64),
        atoms.positions[None],
        atoms.cell.array[None],
        (a, b, c),
    )


def assert_same(ours: Any, quip: Any, atoms: Atoms, name: str) -> None:
    """Our energies, forces and virial of a configuration are those of quippy's calculator."""
    found = ours.predict(as_frames(atoms))
    atoms.calc = quip
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    scale = max(1.0, np.abs(forces).max())
    assert found.energy[0] == pytest.approx(energy, rel=Tolerance.ROUNDING), name
    np.testing.assert_allclose(found.forces[0], forces, atol=FORCE * scale, err_msg=name)
    energies = atoms.get_potential_energies()
    np.testing.assert_allclose(
        found.atomic_energies[0], energies, rtol=Tolerance.SUMS, err_msg=name
    )
    if not all(atoms.pbc):
        assert found.virial is None
        return
    assert found.virial is not None
    virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
    np.testing.assert_allclose(
        found.virial[0], virial, atol=FORCE * max(1.0, np.abs(virial).max()), err_msg=name
    )


def changed(text: str, change: tuple[str, str], folder: Path) -> Path:
    """Write a file with one place of its text changed."""
    path = folder / "gap.xml"
    assert change[0] in text
    path.write_text(text.replace(*change, 1))
    return path
