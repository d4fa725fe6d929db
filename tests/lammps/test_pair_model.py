"""A pair potential in LAMMPS and in Python: the same energies, forces and virial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from mlsel.core.parallel import world
from mlsel.md.session import LammpsSession
from mlsel.md.structures import lammps_data
from mlsel.training.frames import Frames
from mlsel.training.pair.model import PairModel
from mlsel.training.pair.trainer import PairTrainer
from tests.support.training_data import CUTOFF, frames

BAR = 1.602176634e6
"""1 eV/Å³."""
TABLE_ENERGY, TABLE_FORCE = 1e-8, 1e-5
"""eV an atom, eV/Å: what the 10,000 distances of the file lose."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PairModel:
    return PairTrainer(cutoff=CUTOFF).fit([frames(40, side=3)], [], tmp_path_factory.mktemp("p q"))


def in_lammps(
    model: PairModel, atoms: Atoms, species: tuple[str, ...], folder: Path
) -> tuple[Any, ...]:
    """Energy, ε_i, forces and pressure (bar)."""
    path = folder / "x.data"
    path.write_text(lammps_data(atoms, species))
    lines = [
        "units metal",
        "atom_style charge",
        f"read_data {path}",
        *model.lammps_commands(species),
        "compute atomic_energy all pe/atom",
        "thermo_style custom step pe press",
        "velocity all set 0 0 0",
    ]
    with LammpsSession(world(), None) as session:
        session.execute(lines)
        session.run(0)
        made = session.atoms("atomic_energy")
        assert made is not None
        thermo = session.thermo()
        return thermo["PotEng"], made.atomic_energies, made.forces, thermo["Press"]


@pytest.mark.parametrize("species", [("Na", "Cl"), ("Cl", "Na")])
@pytest.mark.parametrize("distance", [None, 1.3, 0.4])
def test_lammps_says_the_same(
    model: PairModel, species: tuple[str, ...], distance: float | None, tmp_path: Path
) -> None:
    """Also of two atoms far nearer than any of the data."""
    part = frames(1, seed=7, side=3)
    side = 8.6
    positions = np.mod(part.positions, side)
    if distance:
        positions[0, 1] = positions[0, 0] + np.array([0.6, 0.0, 0.8]) * distance
    part = Frames(part.numbers, positions, np.eye(3)[None] * side)
    atoms = part.atoms(0)
    energy, atomic, forces, pressure = in_lammps(model, atoms, species, tmp_path)
    prediction = model.predict(part)
    assert prediction.virial is not None
    scale = max(1.0, np.abs(prediction.forces).max())
    assert energy == pytest.approx(prediction.energy[0], abs=27 * TABLE_ENERGY * scale)
    np.testing.assert_allclose(
        atomic, prediction.atomic_energies[0], atol=TABLE_ENERGY * scale
    )  # fmt: skip
    np.testing.assert_allclose(forces, prediction.forces[0], atol=TABLE_FORCE * scale)
    expected = np.trace(prediction.virial[0]) / 3 / atoms.get_volume() * BAR
    assert pressure == pytest.approx(expected, abs=scale * TABLE_FORCE * BAR * 9 / side**2)
