"""Our evaluator of soap_turbo against quippy, and against slopes of quippy's energies."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsel.core.errors import MlselError
from mlsel.training.gap.evaluator import open_gap
from tests.support import Tolerance
from tests.support.against_quip import as_frames, assert_same, changed, structures
from tests.support.gap_files import Term, distance_2b, forget_turbo_basis, soap_turbo, write_gap

H = 1e-3
"""Å, of finite differences."""
ONE = {
    "alpha_max": "{4}", "atom_sigma_r": "{0.5}", "atom_sigma_t": "{0.5}", "n_species": 1,
    "atom_sigma_r_scaling": "{0.0}", "atom_sigma_t_scaling": "{0.0}", "species_Z": "{11}",
    "amplitude_scaling": "{1.0}", "central_weight": "{1.0}", "central_index": 1,
}  # fmt: skip
CASES: dict[str, list[Term]] = {
    "as gap_fit writes it": soap_turbo(),
    "polynomials alone": soap_turbo(basis="poly3", alpha_max="{4 3}", radial_enhancement=2),
    "an amplitude that is none": soap_turbo(
        amplitude_scaling="{0.0 1.5}", radial_enhancement=0, central_weight="{0.0 0.3}"
    ),
    "all products": soap_turbo(compress_mode="None", alpha_max="{3 2}", l_max=5),
    "compressed": [soap_turbo(compress_mode=mode)[k] for k, mode in enumerate(("1_2", "2_0"))],
    "soft within four widths": soap_turbo(basis="poly3", rcut_soft=2.0, nf=9),
    "narrow": soap_turbo(atom_sigma_r="{0.2 0.15}", atom_sigma_t="{0.2 0.2}"),
    "one element, with pairs": [*soap_turbo(**ONE), *distance_2b([11, 17], cutoff=4.0)],
    "two cutoffs": [
        *soap_turbo(basis="poly3"),
        *soap_turbo(basis="poly3", rcut_hard=3.2, rcut_soft=2.6, alpha_max="{2 2}"),
    ],
}


def opened(path: Path) -> tuple[Any, Any]:
    """Ours and quippy's."""
    from quippy.potential import Potential

    ours = open_gap(path)
    assert ours is not None
    return ours, Potential("xml_label=GAP_test", param_filename=str(path))


def potentials(path: Path, terms: list[Term]) -> tuple[Any, Any]:
    examples = list(structures([11, 17]).values())[:2]
    return opened(write_gap(path, examples, None, terms=terms, scale=2.0))


RARE = ("compressed", "narrow", "soft within four widths", "two cutoffs")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case in RARE else ()) for case in CASES]
)
def test_same_as_quip(case: str, tmp_path: Path) -> None:
    ours, quip = potentials(tmp_path / "gap.xml", CASES[case])
    names = ["sheared", "tiny", "cluster"]
    if case == "as gap_fit writes it":
        names += ["crystal", "lonely", "one element"]
    for name in names:
        assert_same(ours, quip, structures([11, 17])[name], name)


TRANSFORMATIONS = {
    "what is kept": "4\n17\n3\n60\n1\n",
    "sums": "P_transformation\n1 3 0.5\n2 17 1\n1 18 -0.25\n3 84 2\n2 1 0.3\nend_transformation\n",
}


@pytest.mark.parametrize("how", TRANSFORMATIONS)
def test_transformed_by_a_file(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands beside the GAP, and counts whatever the mode."""
    monkeypatch.chdir(tmp_path)
    end = " " if how == "what is kept" else " 0\n"
    Path("kept.dat").write_text(f"3 3 3{end}{TRANSFORMATIONS[how]}")
    path = write_gap(
        tmp_path / "gap.xml", [structures([11, 17])["crystal"]], None,
        terms=soap_turbo(compress_file="kept.dat"), scale=2.0,
    )  # fmt: skip
    monkeypatch.chdir(tmp_path.parent)
    ours, quip = opened(path)
    for name in ("sheared", "cluster"):
        assert_same(ours, quip, structures([11, 17])[name], name)
    (tmp_path / "kept.dat").write_text("3 3 3 9\n17\n85\n")
    with pytest.raises(MlselError, match="has 85 in line 3, which is none of 84 numbers"):
        open_gap(path)
    (tmp_path / "kept.dat").write_text("3 3 4 9\n17\n")
    assert open_gap(path) is None
    (tmp_path / "kept.dat").unlink()
    with pytest.raises(MlselError, match=r"kept\.dat cannot be read"):
        open_gap(path)


def test_forces_are_slopes_of_quippys_energies(tmp_path: Path) -> None:
    """Where QUIP's own are not: its derivatives take for granted that the filter ends before the
    hard cutoff, e^{−nf²/2} = 0."""
    ours, quip = potentials(tmp_path / "gap.xml", soap_turbo(basis="poly3", nf=2.5))
    atoms = structures([11, 17])["sheared"]
    found = ours.predict(as_frames(atoms))
    atoms.calc = quip
    forces = atoms.get_forces()
    assert found.energy[0] == pytest.approx(atoms.get_potential_energy(), rel=Tolerance.ROUNDING)
    place = np.unravel_index(np.abs(found.forces[0] - forces).argmax(), forces.shape)

    def energy(steps: int) -> float:
        moved = atoms.copy()
        moved.positions[place] += steps * H
        moved.calc = quip
        return float(moved.get_potential_energy())

    slope = -(8 * (energy(1) - energy(-1)) - (energy(2) - energy(-2))) / (12 * H)
    assert found.forces[0][place] == pytest.approx(slope, abs=Tolerance.EIGHT_DIGITS)
    assert abs(forces[place] - slope) > 10 * Tolerance.SIX_DIGITS


def test_virial_is_a_slope(tmp_path: Path) -> None:
    ours, _ = potentials(tmp_path / "gap.xml", soap_turbo(nf=4.0))
    atoms = structures([11, 17])["sheared"]
    virial = ours.predict(as_frames(atoms)).virial[0]
    for a, b in ((0, 0), (1, 2)):

        def energy(steps: int, a: int = a, b: int = b) -> float:
            strain = np.eye(3)
            strain[a, b] += 0.5 * steps * H
            strain[b, a] += 0.5 * steps * H
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            return float(ours.predict(as_frames(strained)).energy[0])

        slope = -(8 * (energy(1) - energy(-1)) - (energy(2) - energy(-2))) / (12 * H)
        assert virial[a, b] == pytest.approx(slope, abs=Tolerance.SIX_DIGITS)


@pytest.mark.slow
@pytest.mark.parametrize("basis", ["poly3", "poly3gauss"])
def test_eight_functions_to_what_quip_knows_of_them(basis: str, tmp_path: Path) -> None:
    """S^{−1/2} of functions that are almost the same: QUIP has it from LAPACK in double."""
    terms = soap_turbo(basis=basis, alpha_max="{8 8}", l_max=4)
    ours, quip = potentials(tmp_path / "gap.xml", terms)
    atoms = structures([11, 17])["crystal"]
    atoms.calc = quip
    energy = float(ours.predict(as_frames(atoms)).energy[0])
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=Tolerance.SIX_DIGITS)


NOT_COVERED = {
    "has a soap_turbo with basis=poly3operator": ("basis=poly3gauss", "basis=poly3operator"),
    "has a descriptor with alpha_max=9 3": ("alpha_max={3 3}", "alpha_max={9 3}"),
    "has alpha_max that is no whole number": ("alpha_max={3 3}", "alpha_max={2.5 3}"),
    "whose atom_sigma_t lists 3 numbers for 2 species": ("{0.5 0.6}", "{0.5 0.6 0.7}"),
    "has a descriptor with atom_sigma_r=0.5 0": ("{0.5 0.4}", "{0.5 0}"),
    "has a soap_turbo with rcut_hard=4.000000, rcut_soft=4.000000": ("soft=3.5", "soft=4.0"),
    "has a descriptor with scaling_mode=other": ("=polynomial", "=other"),
    "has a soap_turbo with radial_enhancement=3": ("enhancement=1", "enhancement=3"),
    "has a soap_turbo with compress_mode=3_1": ("mode=trivial", "mode=3_1"),
    "compress_mode=1_1 and different alpha_max": ("{3 3}", "{3 2} compress_mode=1_1"),
    "has a soap_turbo with central_index=3 of 2 species": ("central_index=1", "central_index=3"),
    "has a descriptor with an element twice in species_Z": (
        "species_Z={11 17}",
        "species_Z={11 11}",
    ),
    "has l_max=30": ("l_max=3", "l_max=30"),
    "has the unknown word rcut in": ("l_max=3", "rcut=3 l_max=3"),
    "different radial functions, but as many": ("atom_sigma_r={0.5 0.4}", "atom_sigma_r=0.5"),
}
DAMAGED = {
    'atom_sigma_r="0.x", not a number': ("atom_sigma_r={0.5", "atom_sigma_r={0.x"),
    "a descriptor of 55 numbers": ("l_max=3", "l_max=4"),
    "zeta=-1": ('zeta="4.0"', 'zeta="-1"'),
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("turbo") / "gap.xml"
    return write_gap(path, [structures([11, 17])["crystal"]], None, terms=soap_turbo()).read_text()


@pytest.mark.parametrize("reason", NOT_COVERED)
def test_others_are_quippys(
    reason: str, text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if "compress_mode=1_1" in reason:
        text = text.replace(" compress_mode=trivial", "", 1)
    with caplog.at_level(logging.INFO):
        assert open_gap(changed(text, NOT_COVERED[reason], tmp_path)) is None
    assert reason in caplog.text and "quippy evaluates it" in caplog.text


def test_one_species_without_its_centre_is_quippys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    terms = soap_turbo(**{**ONE, "central_weight": "{0.5}"})
    with caplog.at_level(logging.INFO):
        assert open_gap(write_gap(tmp_path / "gap.xml", [], None, terms=terms)) is None
    assert "with central_weight=0.5" in caplog.text


@pytest.mark.parametrize("said", DAMAGED)
def test_damaged_files_are_told(said: str, text: str, tmp_path: Path) -> None:
    path = changed(text, DAMAGED[said], tmp_path)
    with pytest.raises(MlselError, match=str(path)) as error:
        open_gap(path)
    assert said in str(error.value)


@pytest.mark.slow
def test_quip_keeps_radial_functions(tmp_path: Path) -> None:
    """Of another basis, as long as there are as many: what forget_turbo_basis is for, and why files
    with both are left to QUIP."""
    terms = soap_turbo(basis="poly3")
    ours, quip = potentials(tmp_path / "gap.xml", terms)
    atoms = structures([11, 17])["crystal"]
    energy = float(ours.predict(as_frames(atoms)).energy[0])
    write_gap(tmp_path / "other.xml", [atoms], None, terms=soap_turbo())
    atoms.calc = quip
    assert abs(atoms.get_potential_energy() - energy) > 1e-3
    forget_turbo_basis()
    again = atoms.copy()
    again.positions += 1.0  # else quippy tells the old energy
    again.calc = quip
    assert again.get_potential_energy() == pytest.approx(energy, rel=Tolerance.ROUNDING)


@pytest.mark.slow
def test_variances_are_quips(tmp_path: Path) -> None:
    from quippy.potential import Potential

    atoms = structures([11, 17])["crystal"]
    path = write_gap(tmp_path / "gap.xml", [atoms], None, terms=soap_turbo(), soap_cutoffs=False)
    ours = open_gap(path)
    assert ours is not None
    quip = Potential("xml_label=GAP_test", param_filename=str(path))
    quip.calculate(
        atoms, ["energy"], ["positions", "numbers", "cell", "pbc"],
        calc_args="local_gap_variance=variance",
    )  # fmt: skip
    np.testing.assert_allclose(
        ours.variances(as_frames(atoms))[0],
        quip.extra_results["atoms"]["variance"],
        atol=Tolerance.EIGHT_DIGITS,
    )
