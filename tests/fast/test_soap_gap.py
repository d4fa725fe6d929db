"""Our evaluator of GAPs against QUIP's, over options, cells and files that it must not take."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from mlsel.core.errors import MlselError
from mlsel.training.gap.evaluator import open_gap
from tests.support import Tolerance
from tests.support.against_quip import as_frames, assert_same, changed, structures
from tests.support.gap_files import (
    MIXED,
    SMALL,
    Term,
    angle_3b,
    distance_2b,
    distance_nb,
    glue,
    mixed_soaps,
    soap,
    words,
    write_gap,
)

H = 1e-4
"""Å, of finite differences."""

SOAP_ATTRIBUTES = {"covariance_type": 2, "zeta": 4.0}
Case = tuple[dict[str, Any] | None, dict[str, Any]]
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
    "pairs": ({}, {"terms": distance_2b([11, 17], cutoff=4.0, compact_clusters="T")}),
    "pairs, another cutoff": (
        {"cutoff": 3.5},
        {"terms": distance_2b([11, 17], 0.4, cutoff=4.0, cutoff_transition_width=1.3)},
    ),
    "pairs of any element and triplets": (
        {},
        {"terms": [*distance_2b([], cutoff=3.7), *angle_3b([11, 17], cutoff=3.4)]},
    ),
    "triplets of any element, in another file": (
        None,
        {"terms": angle_3b([], cutoff=4.0, cutoff_transition_width=0.8), "separate": True},
    ),
    "compact kernel": (
        None,
        {
            "terms": [
                replace(term, attributes={"covariance_type": 4}, theta=[3.0, 2.5, 2.0])
                for term in angle_3b([11, 17], cutoff=4.0)
            ]
        },
    ),
    "clusters": (
        None,
        {
            "terms": [
                *distance_nb([[11, 17], [17, 17]], cutoff=4.0, compact_clusters="T"),
                *distance_nb([[11, 11, 11], [17, 11, 17]], cutoff=3.4, compact_clusters="T"),
                *distance_nb([[0, 0, 0]], cutoff=4.0, kernel=4, theta=3.0),
            ]
        },
    ),
    "clusters of before 2020": (
        None,
        {
            "version": 1590000000,
            "terms": [
                *distance_nb([[11, 17]], cutoff=4.0),
                *distance_nb([[11, 11, 17], [17, 17, 17]], cutoff=3.4),
            ],
        },
    ),
    "two SOAPs of any element, and f0": (
        None,
        {
            "terms": [
                Term(f"soap {words({**SMALL, 'cutoff': cutoff})}", SOAP_ATTRIBUTES)
                for cutoff in (3.0, 4.0)
            ]
            + [replace(distance_2b([], cutoff=3.5)[0], mean=0.2)]
            + [replace(angle_3b([], cutoff=3.0)[0], mean=0.3)],
        },
    ),
    "add_species=F": (
        None,
        {
            "terms": [
                Term(f"soap {words(SMALL)} n_species=1 species_Z=17 Z=11", SOAP_ATTRIBUTES),
                Term(f"soap {words(SMALL)} species_Z={{11 17}} n_species=2", SOAP_ATTRIBUTES),
            ]
        },
    ),
    "zeta where theta is": (
        None,
        {
            "version": 1480000000,
            "terms": [
                replace(
                    soap(11, [11, 17], 2.0, 1.0, **SMALL),
                    attributes={"covariance_type": 2},
                    theta=[2.0],
                )
            ],
        },
    ),
    "compressed power spectra": (
        None,
        {
            "terms": [
                Term(
                    f"soap {words(SMALL)} {how} Z={z} n_species=2 species_Z={{11 17}}",
                    SOAP_ATTRIBUTES,
                )
                for z, how in [
                    (11, "nu_R=2 nu_S=0"),
                    (17, "nu_R=1 nu_S=1"),
                    (11, "nu_R=1 nu_S=2"),
                    (17, "diagonal_radial=T"),
                    (11, "coupling=F"),
                ]
            ]
        },
    ),
    "mixed channels, each with all": (None, {"terms": mixed_soaps(MIXED)}),
    "mixed channels, each with itself": (
        None,
        {"terms": mixed_soaps(MIXED, coupling="F")},
    ),
    "a core potential": (
        None,
        {"terms": angle_3b([], cutoff=4.0), "core": glue(), "core_init": "IP Glue"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_same_as_quip(case: str, tmp_path: Path) -> None:
    from quippy.potential import Potential

    options, more = CASES[case]
    numbers = more.get("numbers", [11, 17])
    examples = structures(numbers)
    path = write_gap(
        tmp_path / "gap.xml",
        list(examples.values())[:2],
        None if options is None else {**SMALL, **options},
        scale=2.0,
        **more,
    )
    ours = open_gap(path)
    assert ours is not None
    quip = Potential("xml_label=GAP_test", param_filename=str(path))
    assert ours.cutoff == 4.0
    for name, atoms in examples.items():
        assert_same(ours, quip, atoms, name)


def test_forces_and_virial_are_slopes(tmp_path: Path) -> None:
    atoms = structures([11, 17])["sheared"]
    model = open_gap(write_gap(tmp_path / "gap.xml", [atoms], scale=2.0))
    assert model is not None

    def energy(changed: Atoms) -> float:
        return float(model.predict(as_frames(changed)).energy[0])

    found = model.predict(as_frames(atoms))
    assert found.virial is not None
    assert np.abs(found.forces[0].sum(0)).max() < Tolerance.ROUNDING
    for atom, axis in ((0, 0), (3, 1), (7, 2)):
        sides = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * H
            sides.append(energy(moved))
        slope = -(sides[0] - sides[1]) / (2 * H)
        assert found.forces[0, atom, axis] == pytest.approx(slope, abs=Tolerance.SIX_DIGITS)
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
        assert found.virial[0, a, b] == pytest.approx(slope, abs=Tolerance.FIVE_DIGITS)


def in_soap(words: str) -> tuple[str, str]:
    """A change of a descriptor's line."""
    return "l_max=", f"{words} l_max="


NOT_COVERED = {
    "has the descriptor distance_2b with dot_product": (">soap ", ">distance_2b "),
    "has the unknown word Z in a descriptor": (">soap ", ">soap_turbo "),
    "has the unknown word n_maxx in a descriptor": in_soap("n_maxx=1"),
    "has a descriptor with radial_basis=GTO": in_soap("radial_basis=GTO"),
    "has the unknown word Z_map in a descriptor": in_soap("Z_map={11,17}"),
    "has a descriptor with K=0, 0 mixed channels": in_soap("Z_mix=T"),
    "K=301, 301 mixed channels": in_soap("Z_mix=T R_mix=T K=301"),
    "has a descriptor with mix_shift=-211": in_soap("Z_mix=T K=1 mix_shift=-211"),
    "has a descriptor with sym_mix alone": in_soap("sym_mix=T"),
    "has a descriptor with nu_R=3": in_soap("nu_R=3"),
    "has a descriptor with several compressions": in_soap("nu_R=1 diagonal_radial=T"),
    "has a descriptor with cutoff_dexp=2": in_soap("cutoff_dexp=2"),
    "has the descriptor soap with pp": ('covariance_type="2"', 'covariance_type="4"'),
    "has the descriptor soap with ard_se": ('covariance_type="2"', 'covariance_type="1"'),
    'has a core potential, "IP ZBL"': (
        "IP GAP label=GAP_test",
        "Sum init_args_pot1={IP ZBL} init_args_pot2={IP GAP label=GAP_test}",
    ),
    "has no <Glue_params>": (
        "IP GAP label=GAP_test",
        "Sum init_args_pot1={IP Glue} init_args_pot2={IP GAP label=GAP_test}",
    ),
    "species_Z does not list 3 elements": ("n_species=2", "n_species=3"),
    'is more than a GAP: "IP GAP label=GAP_test E_scale=2"': (
        'init_args="IP GAP label=GAP_test',
        'init_args="IP GAP label=GAP_test E_scale=2',
    ),
}
DAMAGED = {
    "no number": ("e-02\n", "x-02\n"),
    "not a number": ('alpha="', 'alpha="1.x'),
    "too many numbers": ("</sparseX_slice>", "1.0\n</sparseX_slice>"),
    "a sparse point with": ('end="145"', 'end="144"'),
    "a descriptor of 181 numbers": ("l_max=3", "l_max=4"),
    "n_coordinate says 3": ('n_coordinate="2"', 'n_coordinate="3"'),
    "holds several potentials": (
        "<GAP_params",
        '<Potential label="B" init_args="IP GAP label=B"/>\n<GAP_params',
    ),
    "where n_sparseX is 12": ('sparseX i="2"', 'sparseX i="1"'),
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("gap") / "gap.xml"
    return write_gap(path, [structures([11, 17])["crystal"]]).read_text()


ARD, PP = {"covariance_type": 1}, {"covariance_type": 4}
PUBLISHED: dict[str, tuple[list[Term], str]] = {
    "Si, Bartók and others, PRX 8, 041048 (2018), on a pair potential": (
        [
            Term(
                "soap l_max=12 n_max=10 atom_sigma=0.5 zeta=4 cutoff=5.0 "
                "cutoff_transition_width=1.0 central_weight=1.0 delta=3.0 f0=0.0 "
                "covariance_type=dot_product n_sparse=9000 sparse_method=file "
                "sparse_file=points add_species=F config_type_n_sparse={dia:100:sh:200}",
                SOAP_ATTRIBUTES,
            )
        ],
        "",
    ),
    "carbon and other elements by distance_Nb": (
        [
            Term(
                "distance_Nb order=2 cutoff=5.0 n_sparse=15 covariance_type=ard_se delta=2.0 "
                "theta_uniform=0.5 sparse_method=uniform compact_clusters=T Z={6 6}",
                ARD,
                [0.5],
            ),
            Term(
                "distance_Nb order=3 cutoff=3.25 n_sparse=100 covariance_type=ard_se delta=2.0 "
                "theta_uniform=1.0 sparse_method=uniform compact_clusters=T Z={6 6 6}",
                ARD,
                [1.0] * 3,
            ),
            Term(
                "soap l_max=10 n_max=12 atom_sigma=0.5 cutoff=5.0 radial_scaling=0.0 "
                "cutoff_transition_width=1.0 central_weight=1.0 n_sparse=2000 delta=1.0 "
                "covariance_type=dot_product zeta=4 sparse_method=cur_points n_species=1 Z=6 "
                "species_Z={6 }",
                SOAP_ATTRIBUTES,
            ),
        ],
        "",
    ),
    "the same with two elements": (
        distance_nb([[8, 8, 14]], cutoff=3.25, compact_clusters="T"),
        "has a distance_Nb whose energy depends on the order of two atoms of one element",
    ),
    "Zuo and others, J. Phys. Chem. A 124, 731 (2020), six elements, by maml": (
        [
            Term(
                "soap cutoff=5.0 l_max=8 n_max=8 atom_gaussian_width=0.5 zeta=4 delta=1 "
                "covariance_type=dot_product sparse_method=cur_points n_sparse=2000 "
                "cutoff_transition_width=0.5 f0=0.0 add_species=T n_species=1 Z=42 species_Z={42 }",
                SOAP_ATTRIBUTES,
            )
        ],
        "",
    ),
    "an oxide: pairs and triplets on a pair potential": (
        [
            Term(
                "distance_2b cutoff=5.5 cutoff_transition_width=1.0 delta=1.6 n_sparse=20 "
                "sparse_method=uniform covariance_type=ARD_SE theta_uniform=1.5 Z1=8 Z2=39",
                ARD,
                [1.5],
            ),
            Term(
                "angle_3b cutoff=4.9 theta_uniform=2.2 covariance_type=ARD_SE n_sparse=50 "
                "delta=0.02 Z_center=39 Z1=8 Z2=8",
                ARD,
                [2.2] * 3,
            ),
        ],
        "",
    ),
    "TiAl: pairs and SOAP": (
        [
            Term(
                "distance_2b cutoff=6.5 covariance_type=ard_se delta=0.5 theta_uniform=1.0 "
                "sparse_method=uniform n_sparse=10 Z1=22 Z2=13",
                ARD,
                [1.0],
            ),
            Term(
                "soap l_max=6 n_max=12 atom_sigma=0.5 zeta=4 cutoff=6.5 central_weight=1.0 "
                "cutoff_transition_width=0.5 n_sparse=7000 delta=0.5 f0=0.0 "
                "covariance_type=dot_product sparse_method=cur_points n_species=2 Z=13 "
                "species_Z={13 22 }",
                SOAP_ATTRIBUTES,
            ),
        ],
        "",
    ),
    "hydrocarbons: triplets with pp, soap_turbo": (
        [
            Term(
                "angle_3b Z_center=6 Z1=1 Z2=6 cutoff=2.0 n_sparse=100 covariance_type=pp "
                "delta=0.01 theta_uniform=2.0 sparse_method=uniform add_species=F",
                PP,
                [2.0] * 3,
            ),
            Term(
                "soap_turbo l_max=4 alpha_max={4 4} atom_sigma_r={0.2 0.2} atom_sigma_t={0.2 0.2} "
                "atom_sigma_r_scaling={0.1 0.1} atom_sigma_t_scaling={0.1 0.1} zeta=4 "
                "rcut_hard=4.0 rcut_soft=3.5 basis=poly3gauss scaling_mode=polynomial "
                "add_species=F amplitude_scaling={2.0 2.0} n_species=2 species_Z={1 6} "
                "central_index=1 radial_enhancement=1 central_weight={1.0 1.0} "
                "compress_mode=trivial",
                SOAP_ATTRIBUTES,
            ),
        ],
        "",
    ),
    "compressed power spectra": (
        [
            Term(
                f"soap {words(SMALL)} nu_R=2 nu_S=0 n_species=2 species_Z={{11 17}}",
                SOAP_ATTRIBUTES,
            )
        ],
        "",
    ),
    "water as molecules": (
        [Term("water_monomer cutoff=2.0 covariance_type=ard_se", ARD, [1.0] * 3)],
        "has the descriptor water_monomer with ard_se",
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_headers_of_published_potentials(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As gap_fit writes them into a file: understood, or what is not is named."""
    terms, reason = PUBLISHED[name]
    core = glue([6, 8]) if "pair potential" in name else ""
    path = write_gap(tmp_path / "gap.xml", [], None, terms=terms, core=core, n_sparse=2)
    with caplog.at_level(logging.INFO):
        assert (open_gap(path) is None) == bool(reason)
    assert reason in caplog.text


def test_energies_that_depend_on_the_order_of_atoms(tmp_path: Path) -> None:
    """Of O–Si–O in compact clusters QUIP permutes the first two of (O, O, Si), though the centre
    stands first: renumbering atoms changes quippy's energy."""
    from quippy.potential import Potential

    atoms = structures([11, 17])["cluster"]
    terms = distance_nb([[11, 11, 17]], cutoff=3.9, compact_clusters="T")
    path = write_gap(tmp_path / "gap.xml", [structures([11, 17])["crystal"]], None, terms=terms)
    assert open_gap(path) is None
    quip = Potential("xml_label=GAP_test", param_filename=str(path))
    energies = []
    for renumbered in (atoms, atoms[::-1]):
        renumbered.calc = quip
        energies.append(renumbered.get_potential_energy())
    assert abs(energies[0] - energies[1]) > 1e-3


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
    soap_gap.compiled.cache_clear()
    try:
        assert open_gap(path) is None
    finally:
        soap_gap.compiled.cache_clear()
    assert "GAPs are evaluated by quippy" in caplog.text


PLAIN = ("as gap_fit writes it", "zeta 2", "one element", "pairs", "pairs, another cutoff")
VARIANCES: dict[str, Case] = {name: CASES[name] for name in PLAIN} | {
    "a small delta": ({}, {"delta": 0.7, "zeta": 2.5})
}
VARIANCE = 1e-8
"""eV²; a term's δ² is about 1."""


@pytest.mark.parametrize("case", VARIANCES)
def test_variances_are_quips(case: str, tmp_path: Path) -> None:
    from quippy.potential import Potential

    options, more = VARIANCES[case]
    examples = structures(more.get("numbers", [11, 17]))
    path = write_gap(
        tmp_path / "gap.xml",
        list(examples.values())[:2],
        None if options is None else {**SMALL, **options},
        scale=2.0,
        soap_cutoffs=False,
        **more,
    )
    ours = open_gap(path)
    assert ours is not None
    quip = Potential("xml_label=GAP_test", param_filename=str(path))
    for name, atoms in examples.items():
        quip.calculate(
            atoms, ["energy"], ["positions", "numbers", "cell", "pbc"],
            calc_args="local_gap_variance=variance",
        )  # fmt: skip
        np.testing.assert_allclose(
            ours.variances(as_frames(atoms))[0],
            quip.extra_results["atoms"]["variance"],
            atol=VARIANCE,
            err_msg=name,
        )


def test_no_variance_of_triplets(tmp_path: Path) -> None:
    examples = structures([11, 17])
    options, more = CASES["pairs of any element and triplets"]
    path = write_gap(
        tmp_path / "gap.xml", list(examples.values())[:2], {**SMALL, **(options or {})}, **more
    )
    ours = open_gap(path)
    assert ours is not None
    with pytest.raises(MlselError, match="terms over triplets"):
        ours.variances(as_frames(next(iter(examples.values()))))
