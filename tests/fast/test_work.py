"""Forces against energies of consecutive frames: EMT's, right and made wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlsel.core import units
from mlsel.core.arrays import FloatArray
from mlsel.pool.check import check
from mlsel.pool.importing import import_trajectories
from mlsel.pool.pool import Pool

BOHR = units.factor("Hartree/Bohr", "force")


def wandering(
    step: float, strain: float = 0.0, n: int = 24
) -> list[tuple[Atoms, float, FloatArray, FloatArray]]:
    """Copper whose atoms move at random, by so many Å a frame; energies, forces and stresses."""
    rng = np.random.default_rng(1)
    atoms = bulk("Cu", cubic=True) * (2, 2, 1)
    atoms.rattle(0.1, seed=1)
    atoms.calc = EMT()
    made = []
    for _ in range(n):
        atoms.positions += rng.normal(0, step, atoms.positions.shape)
        atoms.set_cell(atoms.cell * (1 + rng.normal(0, strain)), scale_atoms=True)
        atoms.wrap()  # an atom that leaves on one side has not moved by a cell
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        made.append((atoms.copy(), energy, forces, atoms.get_stress(voigt=False)))
    return made


Frames = list[tuple[Atoms, float, FloatArray, FloatArray]]


def bring(folder: Path, frames: Frames, name: str = "a", *, stress: bool = False) -> Path:
    """Write frames with their labels; return the file."""
    for atoms, energy, forces, of_stress in frames:
        more = {"stress": of_stress} if stress else {}
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, **more)
    write(folder / f"{name}.extxyz", [atoms for atoms, *_ in frames])
    return folder / f"{name}.extxyz"


def changed(
    frames: Frames,
    energy: Callable[[float, Atoms], float] = lambda e, a: e,
    forces: float = 1.0,
) -> Frames:
    return [(a, energy(e, a), forces * f, s) for a, e, f, s in frames]


@pytest.mark.parametrize(
    ("energy", "forces", "told"),
    [
        (lambda e, a: e, -1.0, "their sign is wrong"),
        (lambda e, a: e, 1 / BOHR, "as if they were in Hartree/Bohr"),
        (lambda e, a: e, -23.06, "their sign is wrong and as if they were in kcal/mol"),
        (lambda e, a: e, 7.0, "another unit, or the energies are others'"),
        (lambda e, a: e / len(a), 1.0, "as if energies were per atom"),
        (lambda e, a: 3.0, 1.0, "conserved one"),
    ],
)
def test_labels_that_contradict_each_other_are_told(
    energy: Callable[[float, Atoms], float], forces: float, told: str, tmp_path: Path
) -> None:
    frames = changed(wandering(0.01), energy, forces)
    report = import_trajectories([bring(tmp_path, frames)], tmp_path / "a.h5")
    assert [told in warning for warning in report.warnings].count(True) == 1
    assert all(len(warning) <= 400 for warning in report.warnings)
    with Pool(tmp_path / "a.h5") as pool:
        found = check(pool)
    assert found.frames().tolist() == list(range(len(frames)))
    assert any(told in note for note in found.notes)


def test_one_source_of_two_is_named(tmp_path: Path) -> None:
    frames = wandering(0.01)
    good = bring(tmp_path, frames, "good")
    bad = bring(tmp_path, changed(frames, forces=-1.0), "bad")
    import_trajectories([good, bad], tmp_path / "a.h5")
    with Pool(tmp_path / "a.h5") as pool:
        found = check(pool)
        (wrong,) = [f for f in found.findings if "forces that their energies" in f.what]
    assert wrong.frames.tolist() == list(range(len(frames), 2 * len(frames)))
    assert [note.partition(":")[0] for note in found.notes if "is wrong" in note] == ["bad.extxyz"]


def test_right_labels_are_called_right_also_where_the_cell_breathes(tmp_path: Path) -> None:
    for name, strain, stress in (("still", 0.0, False), ("npt", 1e-3, True)):
        path = bring(tmp_path, wandering(0.01, strain), name, stress=stress)
        report = import_trajectories([path], tmp_path / f"{name}.h5")
        assert not any("forces give" in warning for warning in report.warnings)
        with Pool(tmp_path / f"{name}.h5") as pool:
            found = check(pool)
        assert not found.frames().size
        (note,) = [note for note in found.notes if "signs and units are right" in note]
        assert "differences of 23 pairs" in note  # of 24 frames, those that cross the cell too


def test_frames_too_far_apart_or_strained_without_a_virial_say_nothing(tmp_path: Path) -> None:
    far = bring(tmp_path, changed(wandering(0.4), forces=-1.0), "far")
    breathing = bring(tmp_path, changed(wandering(0.01, 1e-3), forces=-1.0), "breathing")
    for path in (far, breathing):
        import_trajectories([path], tmp_path / f"{path.stem}.h5")
        with Pool(tmp_path / f"{path.stem}.h5") as pool:
            assert not any("forces give" in note for note in check(pool).notes)


def test_energies_with_another_zero_are_told(tmp_path: Path) -> None:
    frames = wandering(0.01)
    one = bring(tmp_path, frames, "pbe")
    other = bring(tmp_path, changed(frames, lambda e, a: e - 3.7 * len(a)), "scan")
    import_trajectories([one, other], tmp_path / "a.h5")
    with Pool(tmp_path / "a.h5") as pool:
        found = check(pool)
    told = [note for note in found.notes if "other settings" in note]
    assert told == [
        "energies of Cu16 in scan.extxyz lie 3.7 eV/atom below those in pbe.extxyz: were they "
        "computed by other settings?"
    ]
