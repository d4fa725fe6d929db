"""The pair potential: what it learns, its slopes, and what it says where there are no data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import BSpline

from mlsel.core.errors import MlselError
from mlsel.training.frames import Frames
from mlsel.training.pair import trainer as fitting
from mlsel.training.pair.basis import DEGREE, Basis
from mlsel.training.pair.model import PairModel
from mlsel.training.pair.trainer import PairTrainer
from mlsel.training.registry import load_model
from tests.support import Tolerance
from tests.support.training_data import CUTOFF, frames, labels, pair_energy

LEARNT = 0.005
"""Force RMSE, eV/Å, of 60 small frames' pair potential; the forces scatter by 1.6 eV/Å."""
SPLINES = 0.02
"""eV: how near 16 splines come to a pair energy, where there are data."""


def trainer() -> PairTrainer:
    return PairTrainer(cutoff=CUTOFF)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> PairModel:
    return trainer().fit([frames(60, side=3)], [], tmp_path_factory.mktemp("pair"))


def moved(part: Frames, positions: object = None, cell: object = None) -> Frames:
    return Frames(
        part.numbers,
        np.asarray(part.positions if positions is None else positions),
        np.asarray(part.cell if cell is None else cell),
    )


def test_it_learns_a_pair_potential(fitted: PairModel) -> None:
    part = frames(5, seed=9, side=3)
    assert part.forces is not None and part.energy is not None
    prediction = fitted.predict(part)
    assert np.sqrt(np.mean((prediction.forces - part.forces) ** 2)) < LEARNT
    assert np.abs(prediction.energy - part.energy).max() / part.n_atoms < LEARNT
    np.testing.assert_allclose(prediction.atomic_energies.sum(1), prediction.energy)
    r = np.linspace(2.4, CUTOFF, 50)
    assert fitted.curves.basis.curves == [(11, 11), (11, 17), (17, 17)]
    for curve, product in enumerate((1.0, -1.0, 1.0)):
        found = fitted.curves(np.full(len(r), curve), r)[0]
        np.testing.assert_allclose(found, pair_energy(r, product)[0], atol=SPLINES)


def test_forces_and_virial_are_slopes_of_the_energy(fitted: PairModel) -> None:
    """Among them those of two atoms driven into their wall."""
    part = frames(1, seed=12)
    x = part.positions.copy()
    x[0, 1] = x[0, 0] + np.array([0.3, 0.8, 1.0])
    part = moved(part, x)
    h = 1e-5
    prediction = fitted.predict(part)
    assert prediction.virial is not None
    limit = Tolerance.FINITE_DIFFERENCE * np.abs(prediction.forces).max()
    for atom in range(3):
        for axis in range(3):
            energies = []
            for sign in (1, -1):
                y = x.copy()
                y[0, atom, axis] += sign * h
                energies.append(fitted.predict(moved(part, y)).energy[0])
            slope = (energies[0] - energies[1]) / (2 * h)
            assert prediction.forces[0, atom, axis] == pytest.approx(-slope, abs=limit)
    for a in range(3):
        for b in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[a, b] += sign * h
                strained = moved(part, x @ strain, part.cell @ strain)
                energies.append(fitted.predict(strained).energy[0])
            slope = (energies[0] - energies[1]) / (2 * h)
            limit = Tolerance.FINITE_DIFFERENCE * np.abs(prediction.virial).max()
            assert prediction.virial[0, a, b] == pytest.approx(-slope, abs=limit)


def test_the_splines_are_de_boors() -> None:
    basis = Basis.of((11,), 4.0, 0.5)
    h, n = basis.spacing, basis.n_functions
    knots = h * np.arange(-DEGREE, n + DEGREE + 1)
    r = np.linspace(0.01, 3.99, 77)
    first, values, slopes = basis.values(r)
    for j in range(n):
        coefficients = np.eye(n + DEGREE)[j]
        expected = BSpline(knots, coefficients, DEGREE)
        inside = (first <= j) & (j <= first + DEGREE)
        column = np.clip(j - first, 0, DEGREE)
        found = np.where(inside, values[np.arange(len(r)), column], 0.0)
        slope = np.where(inside, slopes[np.arange(len(r)), column], 0.0)
        np.testing.assert_allclose(found, expected(r), atol=Tolerance.ROUNDING)
        np.testing.assert_allclose(slope, expected(r, 1), atol=Tolerance.ROUNDING)


def test_below_the_data_stands_a_wall(fitted: PairModel) -> None:
    """Force and energy rise without an end, and without a step where the data begin."""
    for curve, start in enumerate(fitted.curves.starts):
        r = np.linspace(0.0, start, 400)
        energy, slope = fitted.curves(np.full(len(r), curve), r)
        assert (np.diff(energy) < 0).all() and (np.diff(-slope) < 0).all()
        assert energy[0] > 50
        around = start + np.array([-1e-9, 1e-9])
        for value in fitted.curves(np.full(2, curve), around):
            assert value[0] == pytest.approx(value[1], abs=Tolerance.SIX_DIGITS)
    everything, basis = frames(60, side=3), fitted.curves.basis
    found = [
        basis.find(everything.numbers, x, c, everything.periodic)
        for x, c in zip(everything.positions, everything.cell, strict=True)
    ]
    curve_of = np.concatenate([pairs.curve for pairs in found])
    distance = np.concatenate([pairs.distance for pairs in found])
    for curve, start in enumerate(fitted.curves.starts):
        assert np.count_nonzero(distance[curve_of == curve] < start) == fitting.N_SHORTEST - 1


def test_energy_and_force_end_at_the_cutoff(fitted: PairModel) -> None:
    r = CUTOFF + np.array([-1e-4, 0.0, 1.0])
    for curve in range(3):
        energy, slope = fitted.curves(np.full(3, curve), r)
        assert np.abs(energy[:2]).max() < 1e-8 and np.abs(slope[:2]).max() < 1e-5
        assert energy[2] == slope[2] == 0.0


def test_blocks_don_t_matter_and_a_fit_repeats_to_the_bit(
    fitted: PairModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = trainer().fit([frames(60, side=3)], [], tmp_path / "again")
    assert again.facts == fitted.facts
    monkeypatch.setattr(fitting, "ROWS", 100)
    parts = frames(60, side=3)
    pieces = [parts.take(range(k, k + 20)) for k in (0, 20, 40)]
    small = trainer().fit(pieces, [], tmp_path / "small")
    test = frames(3, seed=5, side=3)
    limit = Tolerance.ROUNDING * 100
    np.testing.assert_allclose(
        small.predict(test).forces, fitted.predict(test).forces, atol=limit
    )  # fmt: skip


def test_each_element_has_its_energy(tmp_path: Path) -> None:
    """Where the composition varies both are found."""
    alone = {11: -1.25, 17: -3.5}
    parts = []
    for seed in (1, 2, 3):
        part = frames(20, seed=seed, side=3)
        numbers = np.where(np.random.default_rng(seed).random(27) < 0.3 * seed, 11, 17)
        found = [labels(numbers, x, c) for x, c in zip(part.positions, part.cell, strict=True)]
        energy = np.array([e.sum() for e, _ in found]) + sum(alone[int(z)] for z in numbers)
        forces = np.array([f for _, f in found])
        parts.append(Frames(numbers, part.positions, part.cell, energy=energy, forces=forces))
    model = trainer().fit(parts, [], tmp_path)
    assert model.energies == pytest.approx(alone, abs=LEARNT)


def test_a_pair_that_no_frame_holds_is_told_and_repels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One chlorine in a cell wider than the cutoff."""
    part = frames(10, side=3)
    numbers = np.full(27, 11)
    numbers[0] = 17
    lone = Frames(
        numbers, part.positions, part.cell, energy=part.energy, forces=part.forces
    )  # fmt: skip
    model = trainer().fit([lone], [], tmp_path)
    assert "no frame holds Cl-Cl within the cutoff of 4 Å" in caplog.text
    r = np.array([1.0, 2.0, 2.5, 3.0])
    energy, slope = model.curves(np.full(4, 2), r)
    assert energy[0] > energy[1] > 0 and energy[3] == 0.0 and (slope[:2] < 0).all()


def test_one_element_and_a_single_atom(tmp_path: Path) -> None:
    part = frames(12, side=2)
    argon = Frames(
        np.full(8, 18), part.positions, part.cell, energy=part.energy, forces=part.forces
    )  # fmt: skip
    model = trainer().fit([argon], [], tmp_path)
    atom = Frames(np.array([18]), np.zeros((1, 1, 3)), np.eye(3)[None] * 20, (False,) * 3)
    prediction = model.predict(atom)
    assert prediction.energy[0] == model.energies[18]
    assert not prediction.forces.any() and prediction.virial is None


def test_what_is_there_and_what_is_not(fitted: PairModel, tmp_path: Path) -> None:
    assert {path.name for path in fitted.folder.iterdir()} == {"pair.json", "pair.eam.alloy"}
    assert fitted.lammps_commands(["Cl", "Na"]) == [
        "pair_style eam/alloy",
        f'pair_coeff * * "{(fitted.folder / "pair.eam.alloy").resolve()}" Cl Na',
    ]
    with pytest.raises(MlselError, match="cannot say anything of K"):
        fitted.lammps_commands(["K"])
    with pytest.raises(MlselError, match=r"holds no pair potential \(pair.json is missing\)"):
        PairModel.load(tmp_path)
    (tmp_path / "pair.json").write_text('{"numbers": [11]}')
    with pytest.raises(MlselError, match="is damaged: train the model again"):
        PairModel.load(tmp_path)
    with pytest.raises(MlselError, match="holds no finished model"):
        load_model(tmp_path)


def test_ase_has_the_same(fitted: PairModel) -> None:
    part = frames(1, seed=3)
    atoms = part.atoms(0)
    atoms.calc = fitted.calculator()
    prediction = fitted.predict(part)
    assert prediction.virial is not None
    assert atoms.get_potential_energy() == prediction.energy[0]
    np.testing.assert_array_equal(atoms.get_forces(), prediction.forces[0])
    np.testing.assert_allclose(
        atoms.get_stress(voigt=False), -prediction.virial[0] / atoms.get_volume()
    )  # fmt: skip
