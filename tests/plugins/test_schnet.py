"""pair_style schnet against schnetpack in Python, and against itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.plugins.support import (
    Agreement,
    Evaluation,
    box_commands,
    evaluate_lammps,
    evaluate_model,
    melts,
    open_lammps,
)
from tests.support import Tolerance

pytestmark = pytest.mark.usefixtures("plugins")

PATHS = [("schnet", "torchscript"), ("schnet", "compressed"), ("painn", "torchscript")]


def evaluate(
    files: dict[str, Path], name: str, mode: str, atoms: Any, more: str = ""
) -> Evaluation:
    return evaluate_lammps(atoms, f"schnet {mode} threads 1", f"{files[name]} Na Cl", more)


def check_same(found: Evaluation, expected: Evaluation) -> None:
    assert found.energy == pytest.approx(
        expected.energy, rel=Agreement.ENERGY_SAME_MODEL.value, abs=0
    )
    assert np.abs(found.forces - expected.forces).max() < Agreement.FORCE_SAME_MODEL.value
    assert (
        np.abs(found.atomic_energies - expected.atomic_energies).max()
        < Agreement.FORCE_SAME_MODEL.value
    )
    largest = max(np.abs(expected.virial).max(), np.abs(expected.atomic_virials).max())
    tolerance = Agreement.VIRIAL_SAME_MODEL.value * largest
    assert np.abs(found.virial - expected.virial).max() < tolerance
    assert np.abs(found.atomic_virials - expected.atomic_virials).max() < tolerance


@pytest.mark.parametrize(("model", "mode"), PATHS)
def test_same_as_schnetpack(
    model: str, mode: str, models: dict[str, Any], files: dict[str, Path]
) -> None:
    for atoms in melts():
        check_same(evaluate(files, model + "64", mode, atoms), evaluate_model(models[model], atoms))


@pytest.mark.parametrize("mode", ["torchscript", "compressed"])
def test_tilted_cell_smaller_than_the_cutoff(
    mode: str, models: dict[str, Any], files: dict[str, Path]
) -> None:
    from ase.build import bulk

    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)
    atoms = atoms.repeat((1, 1, 2))
    atoms.rattle(0.1, seed=1)
    assert atoms.cell.lengths().min() < 6.0
    atoms.wrap()
    check_same(evaluate(files, "schnet64", mode, atoms), evaluate_model(models["schnet"], atoms))


def test_compressed_float32_is_the_model(models: dict[str, Any], files: dict[str, Path]) -> None:
    from ase import Atoms

    configurations = melts()
    for pair in ((11, 11), (11, 17), (17, 17)):
        for distance in np.linspace(0.8, 5.99, 14):
            configurations.append(
                Atoms(pair, [[1, 1, 1], [1 + distance, 1, 1]], cell=[20, 20, 20], pbc=True)
            )
    for atoms in configurations:
        found = evaluate(files, "schnet32", "compressed", atoms)
        expected = evaluate_model(models["schnet"], atoms)
        assert np.abs(found.forces - expected.forces).max() < Agreement.FORCE_COMPRESSED.value


def test_sums(files: dict[str, Path]) -> None:
    atoms = melts()[0]
    for name, mode in (("schnet32", "compressed"), ("schnet32", "torchscript")):
        found = evaluate(files, name, mode, atoms)
        assert found.atomic_energies.sum() == pytest.approx(
            found.energy, rel=Tolerance.SAME_NUMBERS
        )
        assert np.abs(found.atomic_virials.sum(0) - found.virial).max() < 1e-8
        assert np.abs(found.forces.sum(0)).max() < Agreement.FORCE_COMPRESSED.value


@pytest.mark.parametrize("mode", ["torchscript", "compressed"])
def test_forces_are_the_slope_of_the_energy(mode: str, files: dict[str, Path]) -> None:
    atoms, h = melts()[1], 1e-4
    forces = evaluate(files, "schnet64", mode, atoms).forces
    for atom, axis in ((0, 0), (17, 1), (63, 2)):
        energies = []
        for step in (-h, h):
            moved = atoms.copy()
            moved.positions[atom, axis] += step
            energies.append(evaluate(files, "schnet64", mode, moved).energy)
        slope = -(energies[1] - energies[0]) / (2 * h)
        assert slope == pytest.approx(
            forces[atom, axis], abs=Agreement.FORCE_FINITE_DIFFERENCE.value
        )


@pytest.mark.parametrize("mode", ["torchscript", "compressed"])
def test_virial_is_the_slope_by_strain(mode: str, files: dict[str, Path]) -> None:
    atoms, h = melts()[1], 1e-5
    virial = evaluate(files, "schnet64", mode, atoms).virial
    strains = {0: (0, 0), 2: (2, 2), 3: (0, 1), 5: (1, 2)}
    for component, (a, b) in strains.items():
        energies = []
        for step in (-h, h):
            strain = np.eye(3)
            strain[b, a] += step  # rows are cell vectors: LAMMPS's cells are lower triangles
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(evaluate(files, "schnet64", mode, strained).energy)
        slope = -(energies[1] - energies[0]) / (2 * h)
        assert slope == pytest.approx(
            virial[component],
            abs=Agreement.STRESS_FINITE_DIFFERENCE.value * np.abs(virial).max(),
        )


@pytest.mark.parametrize("kernel", ["baseline", "avx2", "avx512"])
def test_kernels_agree(
    kernel: str,
    files: dict[str, Path],
    models: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLSEL_KERNEL", kernel)
    atoms = melts()[2]
    try:
        found = evaluate(files, "schnet64", "compressed", atoms)
    except Exception as error:
        if "does not have" not in str(error) or kernel == "baseline":
            raise
        pytest.skip(f"this machine does not have {kernel}")
    check_same(found, evaluate_model(models["schnet"], atoms))


def test_threads_agree(files: dict[str, Path]) -> None:
    atoms = melts()[1]
    one, three = (
        evaluate_lammps(atoms, f"schnet compressed threads {n}", f"{files['schnet64']} Na Cl")
        for n in (1, 3)
    )
    assert np.abs(one.forces - three.forces).max() < Agreement.RANKS.value


@pytest.mark.parametrize("mode", ["torchscript", "compressed"])
def test_in_a_hybrid(mode: str, files: dict[str, Path]) -> None:
    atoms = melts()[0]
    alone = evaluate(files, "schnet64", mode, atoms)
    lennard_jones = evaluate_lammps(atoms, "lj/cut 5.0", "0.01 2.0")
    styles = {
        f"schnet {mode} threads 1": f"schnet {files['schnet64']} Na Cl",
        "lj/cut 5.0": "lj/cut 0.01 2.0",
    }
    for words, coeffs in (
        (" ".join(order), [styles[one] for one in order])
        for order in (list(styles), list(styles)[::-1])
    ):
        both = evaluate_lammps(
            atoms, f"hybrid/overlay {words}", coeffs[0], f"pair_coeff * * {coeffs[1]}"
        )
        difference = both.forces - alone.forces - lennard_jones.forces
        assert np.abs(difference).max() < Agreement.RANKS.value
        assert both.energy == pytest.approx(
            alone.energy + lennard_jones.energy, rel=Tolerance.SAME_NUMBERS
        )


@pytest.mark.parametrize("mode", ["torchscript", "compressed"])
def test_types_that_are_not_ours(mode: str, files: dict[str, Path], models: dict[str, Any]) -> None:
    """NULL: the other atoms are not there for this style."""
    atoms = melts()[0]
    found = evaluate_lammps(
        atoms,
        f"hybrid/overlay schnet {mode} threads 1 zero 6.0",
        f"schnet {files['schnet64']} Na NULL",
        "pair_coeff * * zero",
    )
    sodium = atoms.numbers == 11
    expected = evaluate_model(models["schnet"], atoms[sodium])
    assert np.abs(found.forces[sodium] - expected.forces).max() < Agreement.FORCE_SAME_MODEL.value
    assert np.abs(found.forces[~sodium]).max() == 0
    assert found.energy == pytest.approx(expected.energy, rel=Agreement.ENERGY_SAME_MODEL.value)


def test_clear_and_a_second_lammps(files: dict[str, Path]) -> None:
    first, second = open_lammps(), open_lammps()
    for lmp in (first, second):
        lmp.command("clear")
        assert lmp.has_style("pair", "schnet")
        assert lmp.has_style("pair", "quip")
        lmp.close()
    evaluate(files, "schnet64", "compressed", melts()[0])


DRIFT = 1e-5
"""eV/atom/ps: a study's longest run, 1000 ps, then gains less than a tenth of its heat."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mode"),
    [("schnet64", "torchscript"), ("schnet64", "compressed"), ("schnet32", "compressed")],
)
def test_energy_is_conserved(name: str, mode: str, files: dict[str, Path]) -> None:
    """NVE of 64 ions at 0.5 fs. The line's slope is known to a third of the bound or better."""
    n_steps = 4000 if mode == "torchscript" else 16000
    drift, uncertainty = nve_drift(files[name], mode, n_steps)
    assert uncertainty < DRIFT / 3
    assert abs(drift) < DRIFT + 2 * uncertainty


def nve_drift(file: Path, mode: str, n_steps: int) -> tuple[float, float]:
    """eV/atom/ps, by the mean total energies of eight parts of the run, and its uncertainty. A
    repulsion is added, without which random weights collapse the melt."""
    atoms, n_parts = melts()[1], 8
    lmp = open_lammps()
    lmp.commands_string(box_commands(atoms))
    n = len(atoms)
    types = [1 if number == 11 else 2 for number in atoms.numbers]
    lmp.create_atoms(n, list(range(1, n + 1)), types, atoms.positions.ravel().tolist())
    length = n_steps // n_parts
    lmp.commands_string(
        f"""
        pair_style hybrid/overlay schnet {mode} threads 1 born 6.0
        pair_coeff * * schnet {file} Na Cl
        pair_coeff * * born 0.25 0.317 2.7 0 0
        pair_modify shift yes
        velocity all create 1400 1 loop geom
        timestep 0.0005
        thermo_modify norm no
        fix 1 all nve
        run 1000 post no
        reset_timestep 0
        variable energy equal etotal
        fix 2 all ave/time 1 {length} {length} v_energy
        """
    )
    energies = []
    for _ in range(n_parts):
        lmp.command(f"run {length} post no")
        energies.append(lmp.extract_fix("2", 0, 0) / n)
    lmp.close()
    times = length * 0.0005 * np.arange(n_parts)
    line, covariance = np.polyfit(times, energies, 1, cov=True)
    return float(line[0]), float(np.sqrt(covariance[0, 0]))


@pytest.mark.parametrize("mode", ["torchscript", "compressed"])
def test_golden(mode: str) -> None:
    """A file of format version 1 is read as long as this passes, whatever is installed."""
    from tests.plugins.golden import FOLDER

    expected = np.load(FOLDER / "melt.npz")
    found = evaluate_lammps(melts()[1], f"schnet {mode} threads 1", f"{FOLDER / 'model.pt'} Na Cl")
    energy = float(expected["energy"])
    assert found.energy == pytest.approx(energy, rel=Agreement.ENERGY_SAME_MODEL.value)
    difference = np.abs(found.forces - expected["forces"]).max()
    assert difference < Agreement.FORCE_SAME_MODEL.value
    virial = np.abs(found.virial - expected["virial"]).max()
    assert virial < Agreement.VIRIAL_SAME_MODEL.value * np.abs(expected["virial"]).max()
