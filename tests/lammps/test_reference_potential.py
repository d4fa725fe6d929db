"""The reference potentials, against sums of our own, finite differences and measured crystals."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlsel.core.arrays import FloatArray
from mlsel.core.parallel import world
from mlsel.md import deck
from mlsel.md.session import LammpsSession
from mlsel.md.structures import lammps_data
from mlsel.pool.pool import Pool
from tests.lammps.ewald import energies_and_forces, read_table
from tests.support import Tolerance


def compute(
    atoms: Atoms, species: tuple[str, ...], potential: str, folder: Path, **variables: float
) -> tuple[float, FloatArray, FloatArray, float]:
    """Energy, ε_i, forces and pressure (bar) of a structure by the deck's own model section."""
    (folder / "x.data").write_text(lammps_data(atoms, species))
    # No tables: interpolation in them makes steps in the energy that a finite difference sees.
    text = deck.read_potential(potential, species) + "\npair_modify table 0\n"
    (folder / "x.lmp").write_text(text)
    values = {
        "root": os.path.relpath(folder),
        "data": "x.data",
        "potential": "x.lmp",
        **variables,
    }
    lines = deck.sections(deck.template("in.generate"))
    with LammpsSession(world(), None, values) as session:
        box = [line for line in lines["box"] if not line.startswith("velocity")]
        session.execute([*lines[""], *box, *lines["model"]])
        session.run(0)
        made = session.atoms("atomic_energy")
        assert made is not None
        thermo = session.thermo()
        total = made.atomic_energies.sum()
        assert total == pytest.approx(thermo["PotEng"], rel=Tolerance.ROUNDING)
        return thermo["PotEng"], made.atomic_energies, made.forces, thermo["Press"]


def test_a_frame_against_an_independent_ewald_sum(tiny_pool: Path, tmp_path: Path) -> None:
    """ε_i and forces of LAMMPS, its Ewald sum converged, against plain NumPy's."""
    with Pool(tiny_pool) as pool:
        block = next(pool.blocks("positions", "cell", frame_ids=range(17, 18)))
        numbers = pool.numbers(block.run)
    positions, side = block["positions"][0], block["cell"][0, 0, 0]
    atoms = Atoms(numbers, positions=positions, cell=[side] * 3, pbc=True)
    atoms.wrap()
    energy, atomic, forces, _ = compute(
        atoms, ("Na", "Cl"), "nacl-tosi-fumi", tmp_path, kspace_accuracy=1e-8, cutoff=10.0
    )
    types = np.where(numbers == 11, 1, 2)
    charges = np.where(numbers == 11, 1.0, -1.0)
    expected, expected_forces = energies_and_forces(
        atoms.positions, side, types, charges, read_table("nacl-tosi-fumi"), 10.0
    )
    np.testing.assert_allclose(atomic, expected, rtol=Tolerance.EWALD)
    scale = np.abs(expected_forces).max()
    np.testing.assert_allclose(forces, expected_forces, atol=Tolerance.EWALD * scale)
    assert energy == pytest.approx(expected.sum(), rel=Tolerance.EWALD)


def test_forces_are_the_energys_slope(tiny_pool: Path, tmp_path: Path) -> None:
    with Pool(tiny_pool) as pool:
        block = next(pool.blocks("positions", "cell", frame_ids=range(3, 4)))
        numbers = pool.numbers(block.run)
    atoms = Atoms(numbers, positions=block["positions"][0], cell=block["cell"][0], pbc=True)

    def energy_at(index: int, axis: int, shift: float) -> float:
        moved = atoms.copy()
        moved.positions[index, axis] += shift
        return compute(moved, ("Na", "Cl"), "nacl-tosi-fumi", tmp_path, kspace_accuracy=1e-8)[0]

    forces = compute(atoms, ("Na", "Cl"), "nacl-tosi-fumi", tmp_path, kspace_accuracy=1e-8)[2]
    h = 1e-4
    for index, axis in ((0, 0), (20, 1), (40, 2), (63, 0)):
        slope = (energy_at(index, axis, h) - energy_at(index, axis, -h)) / (2 * h)
        scale = np.abs(forces).max()
        assert -slope == pytest.approx(forces[index, axis], abs=Tolerance.FINITE_DIFFERENCE * scale)


def test_pool_invariants(tiny_folder: Path) -> None:
    """Σ ε_i = E = LAMMPS's own pe; no net force; the cell is the volume."""
    with Pool(tiny_folder / "pool.h5") as pool:
        for block in pool.blocks("atomic_energies", "forces", "energy", "volume", "cell"):
            total = block["atomic_energies"].sum(axis=1)
            np.testing.assert_allclose(total, block["energy"], rtol=Tolerance.ROUNDING)
            assert np.abs(block["forces"].sum(axis=1)).max() < 1e-9
            np.testing.assert_allclose(
                np.linalg.det(block["cell"]), block["volume"], rtol=Tolerance.ROUNDING
            )
        for run in pool.runs:
            log = (tiny_folder / "runs" / run.name / "log.lammps").read_text()
            rows = [line.split() for line in log.splitlines() if len(line.split()) == 7]
            printed: dict[int, float] = {}
            for row in rows:
                if row[0].isdigit():  # a step stands twice where a segment ended and one began
                    printed.setdefault(int(row[0]), float(row[4]))
            ids = range(run.first_frame, run.first_frame + run.n_frames)
            block = next(pool.blocks("step", "energy", frame_ids=ids))
            for step, energy in zip(block["step"], block["energy"], strict=True):
                # LAMMPS prints eight digits.
                assert energy == pytest.approx(printed[int(step)], rel=Tolerance.SEVEN_DIGITS)


# Rocksalt lattice constants at room temperature (Å) and lattice energies (kJ/mol), measured:
# C. Kittel, Introduction to Solid State Physics, 8th ed., chapter 3, table 7 (nearest-neighbour
# distance, doubled; lattice energy with respect to free ions, 1 kcal = 4.184 kJ).
CRYSTALS = {
    "lif": (4.028, 242.3 * 4.184),
    "licl": (5.140, 198.9 * 4.184),
    "naf": (4.634, 214.4 * 4.184),
    "nacl": (5.640, 182.6 * 4.184),
    "nabr": (5.978, 173.6 * 4.184),
    "kf": (5.348, 189.8 * 4.184),
    "kcl": (6.294, 165.8 * 4.184),
    "kbr": (6.596, 158.5 * 4.184),
}


def lattice(
    potential: str, species: tuple[str, str], guess: float, folder: Path
) -> tuple[float, float]:
    """Lattice constant (Å) and energy per ion pair (eV) of the static crystal."""

    def energy(a: float) -> float:
        # A cutoff far beyond the pool's, so that the bulk crystal's dispersion is whole.
        cell = bulk("".join(species), "rocksalt", a, cubic=True).repeat(2)
        total = compute(cell, species, potential, folder, cutoff=14.0, kspace_accuracy=1e-7)[0]
        return total / (len(cell) / 2)

    constants = guess * np.linspace(0.96, 1.02, 7)
    fit = np.polynomial.Polynomial.fit(constants, [energy(a) for a in constants], 4)
    minima = fit.deriv().roots()
    real = minima[(abs(minima.imag) < 1e-9) & (abs(minima.real / guess - 1) < 0.05)].real
    best = float(real[np.argmin(fit(real))])
    return best, float(fit(best))


@pytest.mark.parametrize("salt", sorted(CRYSTALS))
def test_rocksalt_crystals_are_the_measured_ones(salt: str, tmp_path: Path) -> None:
    """The static crystal is up to 1.5 % smaller than at room temperature, and Tosi and Fumi's
    energies lie within 3 % of the measured ones."""
    text = (deck.packaged_folder("potentials") / f"{salt}-tosi-fumi.lmp").read_text()
    species = tuple(text.split("# species:")[1].split("\n")[0].split())
    measured, energy = CRYSTALS[salt]
    a, e = lattice(f"{salt}-tosi-fumi", (species[0], species[1]), measured, tmp_path)
    assert 0.985 < a / measured < 1.002
    assert -e * 96.485 == pytest.approx(energy, rel=0.035)


def test_the_sign_of_d_makes_another_potential(tmp_path: Path) -> None:
    """A positive D is not Tosi and Fumi's potential: the crystal is larger and binds less."""
    right = lattice("nacl-tosi-fumi", ("Na", "Cl"), 5.64, tmp_path)
    wrong = lattice("nacl-tosi-fumi-positive-d", ("Na", "Cl"), 5.64, tmp_path)
    assert wrong[0] / right[0] == pytest.approx(1.007, abs=3 * Tolerance.THREE_DIGITS)
    assert wrong[1] / right[1] == pytest.approx(0.993, abs=3 * Tolerance.THREE_DIGITS)


@pytest.mark.slow
def test_npt_holds_the_pressure_and_the_melts_density(tmp_path: Path) -> None:
    """The mean pressure is the set one within its statistical error, and the melt's density is
    near the measured one, 2.1393 − 5.430e-4 T/K g/cm³ (G. J. Janz, Molten Salts Handbook, 1967):
    this potential's melt is known to be a few per cent too light."""
    from mlsel.generate import generate
    from mlsel.study.study import load_study

    study = load_study(
        "quick",
        [
            "pool.temperatures=[1200]",
            "pool.pressures=[1, 5000]",
            "pool.frames_per_run=200",
            "pool.equilibration=8",
        ],
    )
    generate(study, tmp_path / "melt", world())
    with Pool(tmp_path / "melt" / "pool.h5") as pool:
        for run in pool.runs:
            ids = range(run.first_frame, run.first_frame + run.n_frames)
            block = next(pool.blocks("pressure", "volume", "temperature", frame_ids=ids))
            attributes = pool.run_attributes(run)
            means = block["pressure"].reshape(10, -1).mean(axis=1)
            error = means.std(ddof=1) / np.sqrt(len(means))
            assert abs(means.mean() - attributes["pressure_set"]) < 4 * error
            assert block["temperature"].mean() == pytest.approx(1200, rel=0.03)
            assert attributes["molten"]
            if attributes["pressure_set"] == 1:
                density = 50 * 58.443 * 1.66053907 / block["volume"].mean()
                measured = 2.1393 - 5.430e-4 * 1200
                assert 0.88 < density / measured < 1.01


def test_a_crystal_is_flagged_as_not_molten(tmp_path: Path) -> None:
    from tests.support import make_pool

    folder = make_pool(
        tmp_path,
        "pool.melt=0",
        "pool.temperatures=[300]",
        "pool.pressures=[1]",
        "pool.frames_per_run=100",
    )
    with h5py.File(folder / "pool.h5") as file:
        (run,) = file["particles"].values()
        assert not run.attrs["molten"]
        assert abs(run.attrs["diffusion_coefficient"]) < 0.2
