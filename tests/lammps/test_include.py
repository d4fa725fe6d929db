"""Energies, forces and virials of LAMMPS includes: against finite differences and a plain sum."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlsel.core.errors import MlselError
from mlsel.md import deck
from mlsel.md.include import Evaluation, IncludePotential
from mlsel.md.session import LammpsError
from tests.lammps.ewald import energies_and_forces, read_table
from tests.support import Tolerance

ZBL = """pair_style zbl 3.0 5.5
pair_coeff 1 1 11 11
pair_coeff 1 2 11 17
pair_coeff 2 2 17 17
"""
STEP = 1e-4
"""Å, or a strain."""


@pytest.fixture(scope="module")
def zbl() -> Iterator[IncludePotential]:
    with IncludePotential(ZBL, ("Na", "Cl")) as potential:
        yield potential


def evaluate(potential: IncludePotential, atoms: Atoms) -> Evaluation:
    a, b, c = (bool(p) for p in atoms.pbc)
    return potential.evaluate(
        atoms.numbers, atoms.get_positions()[None], atoms.cell.array[None], (a, b, c)
    )


def crystal(turned: bool = False) -> Atoms:
    atoms = bulk("NaCl", "rocksalt", 5.6, cubic=True) * (2, 1, 1)
    atoms.rattle(0.2, seed=2)
    rng = np.random.default_rng(1)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.15, (3, 3))), scale_atoms=True)
    if turned:  # a left-handed cell, atoms far outside it
        atoms.set_cell(atoms.cell.array[[1, 0, 2]], scale_atoms=False)
        atoms.positions += 40.0
    return atoms


def wire() -> Atoms:
    """Periodic along one direction, which is no axis."""
    cell = [[3.1, 0.4, 0.2], [0, 0, 0], [0, 0, 0]]
    places = [[0, 0, 0], [2.0, 0.3, 0], [0.2, 1.0, 2.5]]
    return Atoms("NaClNa", places, cell=cell, pbc=(True, False, False))


def cluster() -> Atoms:
    return Atoms("NaClCl", [[0, 0, 0], [1.9, 0.3, 0], [0.2, 1.0, 2.5]])


@pytest.mark.parametrize(
    "atoms", [crystal(), crystal(turned=True), wire(), cluster()], ids=["", "left", "wire", "open"]
)
def test_forces_are_the_slope_of_the_energy(zbl: IncludePotential, atoms: Atoms) -> None:
    found = evaluate(zbl, atoms)
    assert found.atomic_energies.sum() == pytest.approx(found.energy[0], rel=Tolerance.SAME_NUMBERS)
    for atom, axis in ((0, 0), (1, 1), (2, 2)):
        energies = []
        for step in (STEP, -STEP):
            moved = atoms.copy()
            moved.positions[atom, axis] += step
            energies.append(evaluate(zbl, moved).energy[0])
        slope = (energies[1] - energies[0]) / (2 * STEP)
        assert found.forces[0, atom, axis] == pytest.approx(
            slope, rel=Tolerance.FINITE_DIFFERENCE, abs=Tolerance.SIX_DIGITS
        )


@pytest.mark.parametrize("strained", [(0, 0), (0, 1), (1, 2), (2, 2)])
def test_virial_is_the_slope_with_strain(zbl: IncludePotential, strained: tuple[int, int]) -> None:
    atoms = crystal()
    energies = []
    for step in (STEP, -STEP):
        strain = np.zeros((3, 3))
        strain[strained] += step / 2
        strain[strained[::-1]] += step / 2
        moved = atoms.copy()
        moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        energies.append(evaluate(zbl, moved).energy[0])
    slope = (energies[1] - energies[0]) / (2 * STEP)
    virial = evaluate(zbl, atoms).virial[0]
    assert virial[strained] == pytest.approx(slope, rel=Tolerance.FINITE_DIFFERENCE)
    np.testing.assert_allclose(virial, virial.T, rtol=Tolerance.SUMS)


def test_charges_against_a_plain_ewald_sum() -> None:
    text = deck.read_potential("nacl-tosi-fumi", ("Na", "Cl"))
    text = text.replace("kspace_accuracy index 1.0e-5", "kspace_accuracy index 1.0e-8")
    atoms = bulk("NaCl", "rocksalt", 5.6, cubic=True)
    atoms.rattle(0.1, seed=3)
    atoms.wrap()
    with IncludePotential(text + "pair_modify table 0\n", ("Na", "Cl")) as potential:
        found = evaluate(potential, atoms)
    types = np.where(atoms.numbers == 11, 1, 2)
    charges = np.where(types == 1, 1.0, -1.0)
    energies, forces = energies_and_forces(
        atoms.positions, 5.6, types, charges, read_table("nacl-tosi-fumi"), 10.0
    )
    tolerance = Tolerance.EWALD
    np.testing.assert_allclose(found.atomic_energies[0], energies, rtol=tolerance)
    np.testing.assert_allclose(found.forces[0], forces, atol=10 * tolerance)


def test_frames_one_after_the_other_are_each_alone(zbl: IncludePotential) -> None:
    """Many frames of changing cells and two compositions give what each gives by itself."""
    frames = []
    for seed in range(6):
        atoms = crystal() if seed % 2 else bulk("NaCl", "rocksalt", 5.2, cubic=True)
        atoms.rattle(0.1, seed=seed)
        frames.append(atoms)
    together = [evaluate(zbl, atoms) for atoms in frames]
    for atoms, found in zip(frames, together, strict=True):
        with IncludePotential(ZBL, ("Na", "Cl")) as potential:
            alone = evaluate(potential, atoms)
        np.testing.assert_allclose(found.energy, alone.energy, rtol=10 * Tolerance.LAST_DIGITS)
        np.testing.assert_allclose(found.forces, alone.forces, atol=Tolerance.SAME_NUMBERS)


def test_wrong_input_is_told(zbl: IncludePotential) -> None:
    with pytest.raises(MlselError, match="is for Na, Cl, and a frame holds K"):
        evaluate(zbl, Atoms("K", [[0, 0, 0]]))
    with pytest.raises(MlselError, match="cell has no volume"):
        evaluate(zbl, Atoms("NaCl", [[0, 0, 0], [2, 0, 0]], cell=[3, 0, 0], pbc=True))
    with (
        IncludePotential("pair_style zlb 1 2", ("Na",), "my.lmp") as potential,
        pytest.raises(LammpsError, match=r"does not take my\.lmp: .*zlb"),
    ):
        evaluate(potential, Atoms("Na", [[0, 0, 0]]))
