"""Our evaluator of GAPs against QUIP's, over options, cells and files that it must not take."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlsel.core.errors import MlselError
from mlsel.training.base import Frames
from mlsel.training.gap.evaluator import open_gap
from tests.support import Tolerance
from tests.support.gap_files import SMALL, write_gap

FORCE = 1e-8
"""eV/Å; energies agree to Tolerance.ROUNDING."""
H = 1e-4
"""Å, of finite differences."""

Case = tuple[dict[str, Any], dict[str, Any]]
CASES: dict[str, Case] = {
    "as gap_fit writes it": ({}, {}),
    "zeta 2": ({}, {"zeta": 2.0}),
    "zeta that is no whole number": ({}, {"zeta": 2.5}),
    "delta and sigma0": ({"covariance_sigma0": 0.3}, {"delta": 0.7}),
    "not normalised": ({"normalise": "F"}, {"zeta": 1.0}),
    "points beside it": ({}, {"separate": True}),
    "other sizes": ({"n_max": 5, "l_max": 6}, {}),
    "spherical": ({"n_max": 9, "l_max": 0}, {}),
    "the centre": ({"central_weight": 0.4, "central_reference_all_species": "T"}, {}),
    "before 2015": ({}, {"version": None}),
    "one element": ({"cutoff_transition_width": 1.0}, {"numbers": [11]}),
    "three elements": ({"n_max": 3}, {"numbers": [11, 17, 19]}),
    "pairs": ({}, {"pairs": {"cutoff": 4.0, "compact_clusters": "T"}}),
    "pairs, another cutoff": (
        {"cutoff": 3.5},
        {"pairs": {"cutoff": 4.0, "cutoff_transition_width": 1.3, "theta": 0.4}},
    ),
    "pairs of any element": ({}, {"pairs": {"cutoff": 3.7, "any_element": True}}),
}


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
    a, b, c = (bool(p) for p in atoms.pbc)
    return Frames(
        np.asarray(atoms.numbers, np.int64),
        atoms.positions[None],
        atoms.cell.array[None],
        (a, b, c),
    )


@pytest.mark.parametrize("case", CASES)
def test_same_as_quip(case: str, tmp_path: Path) -> None:
    from quippy.potential import Potential

    options, more = CASES[case]
    numbers = more.get("numbers", [11, 17])
    examples = structures(numbers)
    path = write_gap(
        tmp_path / "gap.xml", list(examples.values())[:2], {**SMALL, **options}, scale=2.0, **more
    )
    ours = open_gap(path)
    assert ours is not None
    assert ours.cutoff == SMALL["cutoff"]
    quip = Potential("IP GAP label=GAP_test", param_filename=str(path))
    for name, atoms in examples.items():
        found = ours.predict(as_frames(atoms))
        atoms.calc = quip
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        scale = max(1.0, np.abs(forces).max())
        assert found.energy[0] == pytest.approx(energy, rel=Tolerance.ROUNDING.value), name
        np.testing.assert_allclose(found.forces[0], forces, atol=FORCE * scale, err_msg=name)
        energies = atoms.get_potential_energies()
        np.testing.assert_allclose(found.atomic_energies[0], energies, rtol=1e-9, err_msg=name)
        if not all(atoms.pbc):
            assert found.virial is None
            continue
        assert found.virial is not None
        virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
        np.testing.assert_allclose(
            found.virial[0], virial, atol=FORCE * max(1.0, np.abs(virial).max()), err_msg=name
        )


def test_forces_and_virial_are_slopes(tmp_path: Path) -> None:
    atoms = structures([11, 17])["sheared"]
    model = open_gap(write_gap(tmp_path / "gap.xml", [atoms], scale=2.0))
    assert model is not None

    def energy(changed: Atoms) -> float:
        return float(model.predict(as_frames(changed)).energy[0])

    found = model.predict(as_frames(atoms))
    assert found.virial is not None
    assert np.abs(found.forces[0].sum(0)).max() < Tolerance.ROUNDING.value
    for atom, axis in ((0, 0), (3, 1), (7, 2)):
        sides = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * H
            sides.append(energy(moved))
        slope = -(sides[0] - sides[1]) / (2 * H)
        assert found.forces[0, atom, axis] == pytest.approx(slope, abs=1e-6)
    for a, b in ((0, 0), (1, 2)):
        sides = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += 0.5 * sign * H
            strain[b, a] += 0.5 * sign * H
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            sides.append(energy(strained))
        slope = -(sides[0] - sides[1]) / (2 * H)
        assert found.virial[0, a, b] == pytest.approx(slope, abs=1e-5)


def soap(words: str) -> tuple[str, str]:
    """A change of a descriptor's line."""
    return "l_max=", f"{words} l_max="


NOT_COVERED = {
    "has the descriptor distance_2b with dot_product": (">soap ", ">distance_2b "),
    "has the descriptor soap_turbo with dot_product": (">soap ", ">soap_turbo "),
    "has the unknown word n_maxx in a descriptor": soap("n_maxx=1"),
    "has a descriptor with radial_basis=GTO": soap("radial_basis=GTO"),
    "has a descriptor with diagonal_radial": soap("diagonal_radial=T"),
    "has a descriptor with nu_R=1": soap("nu_R=1"),
    "has a descriptor with cutoff_dexp=2": soap("cutoff_dexp=2"),
    "has another covariance than dot_product": ('covariance_type="2"', 'covariance_type="4"'),
    "has the descriptor soap with ard_se": ('covariance_type="2"', 'covariance_type="1"'),
    "has a core potential": ('do_core="F"', 'do_core="T"'),
    "does not list n_species": ("n_species=2", "n_species=3"),
    'is more than a GAP: "IP GAP label=GAP_test E_scale=2"': (
        'init_args="IP GAP label=GAP_test',
        'init_args="IP GAP label=GAP_test E_scale=2',
    ),
    "holds several potentials": (
        "<GAP_params",
        '<Potential label="B" init_args="IP GAP label=B"/>\n<GAP_params',
    ),
}
DAMAGED = {
    "no number": ("e-02\n", "x-02\n"),
    "not a number": ('alpha="', 'alpha="1.x'),
    "too many numbers": ("</sparseX_slice>", "1.0\n</sparseX_slice>"),
    "a sparse point with": ('end="145"', 'end="144"'),
    "a descriptor of 181 numbers": ("l_max=3", "l_max=4"),
    "n_coordinate says 3": ('n_coordinate="2"', 'n_coordinate="3"'),
    "where n_sparseX is 12": ('sparseX i="2"', 'sparseX i="1"'),
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("gap") / "gap.xml"
    return write_gap(path, [structures([11, 17])["crystal"]]).read_text()


def changed(text: str, change: tuple[str, str], folder: Path) -> Path:
    path = folder / "gap.xml"
    assert change[0] in text
    path.write_text(text.replace(*change, 1))
    return path


def test_files_that_end_too_early_are_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "gap.xml"
    for share in np.linspace(0.02, 0.98, 25):
        path.write_text(text[: int(share * len(text))])
        with pytest.raises(MlselError, match=str(path)):
            open_gap(path)


@pytest.mark.parametrize("reason", NOT_COVERED)
def test_other_files_are_quippys(
    reason: str, text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = changed(text, NOT_COVERED[reason], tmp_path)
    with caplog.at_level(logging.INFO):
        assert open_gap(path) is None
    assert reason in caplog.text and "quippy evaluates it" in caplog.text


@pytest.mark.parametrize("said", DAMAGED)
def test_damaged_files_are_told(said: str, text: str, tmp_path: Path) -> None:
    path = changed(text, DAMAGED[said], tmp_path)
    with pytest.raises(MlselError, match=str(path)) as error:
        open_gap(path)
    assert said in str(error.value)


def test_atoms_at_one_place_are_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "gap.xml"
    path.write_text(text)
    model = open_gap(path)
    assert model is not None
    atoms = Atoms("NaCl", np.zeros((2, 3)), cell=[9, 9, 9], pbc=True)
    with pytest.raises(MlselError, match="frame 0 cannot be evaluated: two atoms are at the same"):
        model.predict(as_frames(atoms))


def test_without_a_compiler_quippy_does_it(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mlsel.training.gap import evaluator as soap_gap

    path = tmp_path / "gap.xml"
    path.write_text(text)
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    soap_gap._library.cache_clear()
    try:
        assert open_gap(path) is None
    finally:
        soap_gap._library.cache_clear()
    assert "GAPs are evaluated by quippy" in caplog.text
