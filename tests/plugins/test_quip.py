"""pair_style quip, by our evaluator and by QUIP's library, against quippy's calculator."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsel.training.frames import Frames
from mlsel.training.gap.evaluator import open_gap
from tests.plugins.support import Agreement, environment, evaluate_lammps, melts, voigt
from tests.support import Tolerance

pytestmark = pytest.mark.usefixtures("plugins")


STYLES = ("quip", "quip library")
REFERENCE = """
import sys
import numpy as np
from ase.io import read
from quippy.potential import Potential
from tests.plugins.support import melts

xml, out = sys.argv[1:]
label = open(xml).read().split('<Potential label="', 1)[1].split('"', 1)[0]
calculator = Potential(f"Potential xml_label={label}", param_filename=xml)
found = {}
configurations = melts()
configurations.append(configurations[0][configurations[0].numbers == 11])
for k, atoms in enumerate(configurations):
    atoms.calc = calculator
    found[f"energy{k}"] = atoms.get_potential_energy()
    found[f"forces{k}"] = atoms.get_forces()
    found[f"virial{k}"] = -atoms.get_stress(voigt=False) * atoms.get_volume()
    found[f"energies{k}"] = calculator.get_potential_energies(atoms)
np.savez(out, **found)
"""
ENERGY = """
from quippy.potential import Potential
from tests.plugins.support import melts

atoms = melts()[0]
atoms.calc = Potential("{init}", param_filename="{path}")
print("energy", repr(float(atoms.get_potential_energy())))
"""


@pytest.fixture(scope="session")
def reference(gap: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What quippy's calculator says, from a process of its own: QUIP has one state a process, and
    quippy's end of it complains of what LAMMPS left there."""
    out = tmp_path_factory.mktemp("quippy") / "reference.npz"
    subprocess.run([sys.executable, "-c", REFERENCE, str(gap), str(out)], check=True)
    return np.load(out)


@pytest.mark.parametrize("style", STYLES)
def test_same_as_quippy(style: str, gap: Path, reference: Any) -> None:
    for k, atoms in enumerate(melts()):
        found = evaluate_lammps(atoms, style, f'{gap} "" 11 17')
        assert found.energy == pytest.approx(
            reference[f"energy{k}"], rel=Agreement.ENERGY_SAME_MODEL.value
        )
        forces, energies = reference[f"forces{k}"], reference[f"energies{k}"]
        assert np.abs(found.forces - forces).max() < Agreement.FORCE_SAME_MODEL.value
        assert np.abs(found.atomic_energies - energies).max() < Agreement.FORCE_SAME_MODEL.value
        virial = voigt(reference[f"virial{k}"])
        scale = np.abs(virial).max()
        assert np.abs(found.virial - virial).max() < Agreement.VIRIAL_SAME_MODEL.value * scale
        assert np.abs(found.atomic_virials.sum(0) - found.virial).max() < 1e-8 * scale


def test_the_label_may_be_left_out(gap: Path) -> None:
    label = gap.read_text().split('<Potential label="', 1)[1].split('"', 1)[0]
    atoms = melts()[0]
    energies = {
        evaluate_lammps(atoms, "quip", f"{gap} {init} 11 17").energy
        for init in ("", '""', f'"Potential xml_label={label}"')
    }
    assert len(energies) == 1


@pytest.mark.parametrize("style", STYLES)
def test_in_a_hybrid_with_other_types(style: str, gap: Path, reference: Any) -> None:
    atoms = melts()[0]
    found = evaluate_lammps(
        atoms,
        f"hybrid/overlay {style} zero 6.0",
        f"quip {gap} 11 NULL",
        "pair_coeff * * zero",
    )
    mine = found.forces[atoms.numbers == 11]
    assert np.abs(mine - reference["forces3"]).max() < Agreement.FORCE_SAME_MODEL.value
    assert np.abs(found.forces[atoms.numbers == 17]).max() == 0


def test_atom_by_atom_as_the_library(gap: Path) -> None:
    """The virial's shares too, where QUIP gives them to the neighbour."""
    for atoms in (melts()[1], sheared()):
        own, library = (evaluate_lammps(atoms, style, f"{gap} 11 17") for style in STYLES)
        assert own.energy == pytest.approx(library.energy, rel=Agreement.ENERGY_SAME_MODEL.value)
        assert np.abs(own.forces - library.forces).max() < Agreement.FORCE_SAME_MODEL.value
        for name in ("virial", "atomic_virials", "atomic_energies"):
            mine, theirs = getattr(own, name), getattr(library, name)
            scale = np.abs(theirs).max()
            assert np.abs(mine - theirs).max() < Agreement.VIRIAL_SAME_MODEL.value * scale, name


def test_all_terms_as_the_library(gap_sum: Path) -> None:
    """Pairs, triplets and SOAPs of four cutoffs on a core potential. QUIP's sums of
    weights that cancel each other leave some 1e-11 eV an atom."""
    for atoms in (melts()[1], sheared()):
        own, library = (evaluate_lammps(atoms, style, f"{gap_sum} 11 17") for style in STYLES)
        assert own.energy == pytest.approx(library.energy, abs=Tolerance.ROUNDING * len(atoms))
        assert np.abs(own.forces - library.forces).max() < Agreement.FORCE_SAME_MODEL.value
        # QUIP halves a pair's energy between its atoms, and ghosts have no energy there
        difference = np.abs(own.atomic_energies - library.atomic_energies).max()
        assert difference < Agreement.FORCE_SAME_MODEL.value
        for name in ("virial", "atomic_virials"):
            mine, theirs = getattr(own, name), getattr(library, name)
            scale = np.abs(theirs).max()
            assert np.abs(mine - theirs).max() < Agreement.VIRIAL_SAME_MODEL.value * scale, name


def quippy_energy(path: Path, init: str) -> float:
    """Of the first melt, from a process of its own."""
    code = ENERGY.format(init=init, path=path)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(told.stdout.split("energy ")[1])


def test_a_core_potential_is_taken_or_left(gap_sum: Path) -> None:
    """As the init string says: quippy's energies of both."""
    atoms = melts()[0]
    label = gap_sum.read_text().split('<Potential label="', 1)[1].split('"', 1)[0]
    for init, said in (("", f"xml_label={label}"), ('"IP GAP"', f"IP GAP label={label}")):
        found = evaluate_lammps(atoms, "quip", f"{gap_sum} {init} 11 17")
        expected = pytest.approx(quippy_energy(gap_sum, said), abs=Tolerance.ROUNDING * len(atoms))
        assert found.energy == expected


@pytest.mark.parametrize(
    "name",
    [
        "gap_others",
        pytest.param("gap_sw", marks=pytest.mark.slow),
        pytest.param("gap_coordination", marks=pytest.mark.slow),
    ],
)
def test_other_terms_by_the_library(name: str, request: pytest.FixtureRequest) -> None:
    """test_ranks.py has gap_others on more ranks."""
    path = request.getfixturevalue(name)
    assert open_gap(path) is None
    found = evaluate_lammps(melts()[0], "quip", f"{path} 11 17")
    energy = quippy_energy(path, "xml_label=GAP_test")
    assert found.energy == pytest.approx(energy, rel=Agreement.ENERGY_SAME_MODEL.value)


@pytest.mark.slow
def test_a_core_without_virials_of_atoms_is_refused(gap_zbl: Path) -> None:
    with pytest.raises(Exception, match="ZBL_Calc: local_virial calculation requested but not"):
        evaluate_lammps(melts()[0], "quip", f"{gap_zbl} 11 17")


@pytest.mark.parametrize("name", ["gap_turbo", "gap_mixed"])
def test_rare_soaps_as_the_library(name: str, request: pytest.FixtureRequest) -> None:
    """tests/fast/test_soap_turbo.py and test_soap_gap.py hold ours to quippy, test_ranks.py
    has more ranks."""
    path = request.getfixturevalue(name)
    for atoms in (melts()[1], sheared()):
        own, library = (evaluate_lammps(atoms, style, f"{path} 11 17") for style in STYLES)
        assert own.energy == pytest.approx(library.energy, abs=Tolerance.ROUNDING * len(atoms))
        assert np.abs(own.forces - library.forces).max() < Agreement.FORCE_SAME_MODEL.value
        for quantity in ("virial", "atomic_virials"):
            mine, theirs = getattr(own, quantity), getattr(library, quantity)
            scale = np.abs(theirs).max()
            assert np.abs(mine - theirs).max() < Agreement.VIRIAL_SAME_MODEL.value * scale, quantity


def test_clusters_as_quippy(gap_clusters: Path) -> None:
    """Our evaluator under LAMMPS and in Python; tests/fast/test_soap_gap.py holds it to quippy."""
    model = open_gap(gap_clusters)
    assert model is not None
    for atoms in (melts()[1], sheared()):
        found = evaluate_lammps(atoms, "quip", f"{gap_clusters} 11 17")
        frames = Frames(atoms.numbers, atoms.positions[None], atoms.cell.array[None])
        expected = model.predict(frames)
        assert found.energy == pytest.approx(
            expected.energy[0], abs=Tolerance.ROUNDING * len(atoms)
        )
        assert np.abs(found.forces - expected.forces[0]).max() < Agreement.FORCE_SAME_MODEL.value
        difference = np.abs(found.atomic_energies - expected.atomic_energies[0]).max()
        assert difference < Agreement.FORCE_SAME_MODEL.value


def sheared() -> Any:
    """A small tilted cell, where an atom meets its own images."""
    from ase.build import bulk

    atoms = bulk("NaCl", "rocksalt", a=5.5, cubic=True)
    atoms.rattle(0.15, seed=2)
    atoms.set_cell([[5.5, 0, 0], [1.5, 5.3, 0], [-1.2, 2.0, 6.0]], scale_atoms=True)
    return atoms


def test_forces_and_virial_are_slopes(gap: Path) -> None:
    """Ten times the bounds for networks: a fit's energy is a difference of large numbers, and its
    cutoff function has a kink in its second derivative."""
    atoms, h = melts()[2], 1e-4
    found = evaluate_lammps(atoms, "quip", f"{gap} 11 17")

    def slope(changed: Callable[[float], Any]) -> float:
        up, down = (
            evaluate_lammps(changed(sign * h), "quip", f"{gap} 11 17").energy for sign in (1, -1)
        )
        return -(up - down) / (2 * h)

    for atom, axis in ((0, 0), (40, 2)):

        def moved(step: float, atom: int = atom, axis: int = axis) -> Any:
            changed = atoms.copy()
            changed.positions[atom, axis] += step
            return changed

        expected = pytest.approx(slope(moved), abs=10 * Agreement.FORCE_FINITE_DIFFERENCE.value)
        assert found.forces[atom, axis] == expected
    for k, (a, b) in {0: (0, 0), 5: (1, 2)}.items():

        def strained(step: float, a: int = a, b: int = b) -> Any:
            changed = atoms.copy()
            strain = np.eye(3)
            strain[b, a] += step  # keeps the cell as LAMMPS wants it; the energy turns with it
            changed.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            return changed

        limit = 10 * Agreement.STRESS_FINITE_DIFFERENCE.value * np.abs(found.virial).max()
        assert found.virial[k] == pytest.approx(slope(strained), abs=limit)


def test_threads_agree(gap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = melts()[1]
    found = []
    for n in (1, 3):
        monkeypatch.setenv("OMP_NUM_THREADS", str(n))
        found.append(evaluate_lammps(atoms, "quip", f"{gap} 11 17"))
    one, three = found
    assert one.energy == pytest.approx(three.energy, rel=Agreement.RANKS.value)
    for name in ("forces", "atomic_energies", "atomic_virials"):
        difference = np.abs(getattr(one, name) - getattr(three, name)).max()
        assert difference < Agreement.RANKS.value * max(1.0, np.abs(getattr(one, name)).max())


@pytest.mark.parametrize("kernel", ["baseline", "avx2", "avx512"])
def test_kernels_agree(kernel: str, gap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = melts()[1]
    best = evaluate_lammps(atoms, "quip", f"{gap} 11 17")
    monkeypatch.setenv("MLSEL_KERNEL", kernel)
    try:
        found = evaluate_lammps(atoms, "quip", f"{gap} 11 17")
    except Exception as error:
        assert "this machine or this build does not have" in str(error)
        pytest.skip(f"no {kernel} here")
    assert np.abs(found.forces - best.forces).max() < Agreement.RANKS.value


def test_two_at_once(gap: Path) -> None:
    """Our evaluator has no state that two styles share; the library has."""
    atoms = melts()[0]
    alone = evaluate_lammps(atoms, "quip", f"{gap} 11 17")
    both = evaluate_lammps(
        atoms,
        "hybrid/overlay quip quip",
        f"quip 1 {gap} 11 17",
        f"pair_coeff * * quip 2 {gap} 11 17",
    )
    assert np.abs(both.forces - 2 * alone.forces).max() < Agreement.FORCE_SAME_MODEL.value
    with pytest.raises(Exception, match="there can be one pair_style quip that uses QUIP's"):
        evaluate_lammps(
            atoms,
            "hybrid/overlay quip library quip library",
            f"quip 1 {gap} 11 17",
            f"pair_coeff * * quip 2 {gap} 11 17",
        )


def test_which_one_evaluates_is_in_the_log(gap: Path, plugins: Path, tmp_path: Path) -> None:
    changed = gap.with_name("covered.xml")
    changed.write_text(gap.read_text().replace("l_max=3", "nu_R=2 cutoff_dexp=0 l_max=3"))
    other = gap.with_name("other.xml")
    other.write_text(gap.read_text().replace("l_max=3", "unknown=2 l_max=3"))
    said = {
        ("quip", gap): "mlsel's own evaluator (",
        ("quip", changed): "mlsel's own evaluator (",
        ("quip library", gap): "QUIP's library evaluates .*: it is asked for",
        ("quip", other): "QUIP's library evaluates .* has the unknown word unknown in a descr",
    }
    for (style, path), words in said.items():
        (tmp_path / "in.log").write_text(
            "units metal\nregion cell block 0 9 0 9 0 9\ncreate_box 2 cell\nmass * 1.0\n"
            f"pair_style {style}\npair_coeff * * {path} 11 17\n"
        )
        ended = subprocess.run(
            ["lmp", "-in", "in.log", "-log", "none"],
            cwd=tmp_path, env=environment(plugins), capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert re.search(words.replace("(", r"\("), ended.stdout), ended.stdout


def test_elements_in_another_order_are_warned_of(
    gap: Path, files: dict[str, Path], plugins: Path, tmp_path: Path
) -> None:
    """By the masses of the types, once; the energy would be another crystal's."""
    deck = (
        "clear\nunits metal\nregion cell block 0 9 0 9 0 9\ncreate_box 2 cell\n"
        "create_atoms 1 single 1 1 1\nmass 1 {}\nmass 2 {}\n"
        "pair_style {}\npair_coeff * * {}\nrun 0 post no\nrun 0 post no\n"
    )
    styles = {"quip": f"{gap} 11 17", "schnet": f"{files['schnet64']} Na Cl"}
    warned = r"WARNING: pair_style (\w+): atom type (\d) has the mass [\d.]+ and is evaluated as"
    types_of = {
        (22.99, 35.45): "",
        (24.0, 37.0): "",
        (35.45, 22.99): "12",
        (29.5, 28.0): "12",  # nearer to the other's
        (10.0, 35.45): "1",  # nobody's
    }
    for masses, types in types_of.items():
        (tmp_path / "in.order").write_text(
            "".join(deck.format(*masses, *one) for one in styles.items())
        )
        ended = subprocess.run(
            ["lmp", "-in", "in.order", "-log", "none"],
            cwd=tmp_path, env=environment(plugins), capture_output=True, text=True, check=True,
        )  # fmt: skip
        found = re.findall(warned, ended.stdout)
        assert found == [(style, type) for style in styles for type in types]


def test_no_library_in_the_process(gap: Path, plugins: Path, tmp_path: Path) -> None:
    """MD with a GAP that is covered needs no QUIP: none is opened."""
    code = (
        "from tests.plugins.support import evaluate_lammps, melts\n"
        f"evaluate_lammps(melts()[0], 'quip', '{gap} 11 17')\n"
        "print('libPotentials' in open('/proc/self/maps').read())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment(plugins), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert ended.stdout.split()[-1] == "False"


WRONG: dict[str, Callable[[str], str | None]] = {
    "there is no file": lambda text: None,
    "cut off": lambda text: text[: len(text) // 2],
    "no XML": lambda text: "\x00\x01binary" + text,
    "closes": lambda text: text.replace("</gpSparse>", "</other>", 1),
    "no <Potential": lambda text: text.replace("<Potential", "<Potentiel", 1),
    # the case gap_distance_Nb3: other energies on other ranks and with another skin
    "the descriptor distance_Nb order=3": lambda text: text.replace(
        "soap ", "distance_Nb order=3 compact_clusters=T ", 1
    ),
    "the descriptor distance_Nb order=4": lambda text: text.replace(
        "soap ", "distance_Nb order=4 ", 1
    ),
    "the descriptor water_dimer": lambda text: text.replace("soap ", "water_dimer ", 1),
    "the descriptor soap average=T": lambda text: text.replace("l_max=3", "average = T l_max=3"),
    "not a number": lambda text: text.replace('alpha="', 'alpha="x', 1),
    "<sparseX> where": lambda text: text.replace("<sparseX ", "<sparseY ", 1),
    "atomic number 17": lambda text: text.replace("17 }", "18 }").replace("Z=17", "Z=18"),
    "QUIP refuses": lambda text: text.replace("n_max=4", "n_maxx=4"),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_file_is_a_sentence(message: str, gap: Path) -> None:
    changed = WRONG[message](gap.read_text())
    path = gap.with_name("wrong.xml")
    path.unlink(missing_ok=True)
    if changed is not None:
        path.write_text(changed)
    folder = Path.cwd()
    with pytest.raises(Exception, match="pair_style quip") as error:
        evaluate_lammps(melts()[0], "quip", f"{path} 11 17")
    assert message in str(error.value)
    assert Path.cwd() == folder  # QUIP goes to the file's, and would stay there


@pytest.mark.parametrize(
    ("style", "coeff", "message"),
    [
        ("quip 3", "gap.xml 11 17", "takes no arguments or the word library, not 3"),
        ("quip", "gap.xml 11", "one atomic number or NULL for each of the 2 atom types"),
        ("quip", "gap.xml 11 Cl", "no atomic number"),
        (
            "quip",
            'gap.xml "Potential xml_label=other" 11 17',
            "has no potential with xml_label=other",
        ),
    ],
)
def test_wrong_arguments_are_a_sentence(style: str, coeff: str, message: str, gap: Path) -> None:
    with pytest.raises(Exception) as error:
        evaluate_lammps(melts()[0], style, coeff.replace("gap.xml", str(gap)))
    assert message in str(error.value)


def test_sparse_points_must_fit(gap: Path, tmp_path: Path) -> None:
    for file in gap.parent.glob("gap.xml*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    points = next(tmp_path.glob("gap.xml.sparseX*"))
    points.write_text("\n".join(points.read_text().splitlines()[:-3]))
    with pytest.raises(Exception, match="numbers, where"):
        evaluate_lammps(melts()[0], "quip", f"{tmp_path / 'gap.xml'} 11 17")


def test_sparse_points_must_be_those_of_the_fit(gap: Path, tmp_path: Path) -> None:
    for file in gap.parent.glob("gap.xml*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    points = next(tmp_path.glob("gap.xml.sparseX*"))
    text = points.read_text()
    points.write_text(("2" if text[0] == "1" else "1") + text[1:])
    with pytest.raises(Exception, match="is not the file of sparse points that"):
        evaluate_lammps(melts()[0], "quip", f"{tmp_path / 'gap.xml'} 11 17")


SW = """<SW_params n_types="1" label="PRB_31">
<per_type_data type="1" atomic_num="11"/>
<per_pair_data atnum_i="11" atnum_j="11" AA="7.05" BB="0.6" p="4" q="0" a="1.8" sigma="2.1"
 eps="0.5"/>
<per_triplet_data atnum_c="11" atnum_j="11" atnum_k="11" lambda="21.0" gamma="1.2" eps="0.5"/>
</SW_params>
"""
LJ = """<LJ_params n_types="1" label="mine"><per_type_data type="1" atomic_num="11"/>
<per_pair_data type1="1" type2="1" sigma="2.5" eps6="0.01" eps12="0.01" cutoff="6.0"
 energy_shift="T" linear_force_shift="F"/></LJ_params>
"""
MORSE = """<Morse_params n_types="1" label="m">
<pair atnum_i="11" atnum_j="11" r0="3" D="0.5" alpha="1"/></Morse_params>
"""
FB = """<FB_params n_types="1" cutoff="4.0" label="d"><per_type_data type="1" atomic_num="11"/>
<per_pair_data atomic_num_i="11" atomic_num_j="11" A="1000" B="0.3" C="50"/></FB_params>
"""
TS = """<TS_params label="t" n_types="1" betapol="0.75" cutoff="12 12 12 0" cutoff_coulomb="12.0"
 cutoff_ms="12.0" tolpol="1e-10" yuksmoothlength="5.0" iesr="-1 -1 -1" a_ew="1e-6" gcut="0.0"
 pred_order="2" maxipol="60" raggio="0.0" tewald="F" yukalpha="0.1">
<per_type_data atomic_num="11" pol="1.0" z="1.0" type="1"/>
<per_pair_data atnum_i="11" atnum_j="11" C_pol="0.0" B_pol="0.0" D_ms="0.001" gamma_ms="11.0"
 R_ms="5.0"/></TS_params>
"""


def meam() -> str:
    points = "".join(f'<point x="{x}" y="{4.0 - x}"/>' for x in (1.0, 2.0, 3.0, 4.0))
    splines = {
        name: f'<spline spline_function="{name}" n_spline="4" yp1="0" ypn="0">{points}</spline>'
        for name in ("U", "phi", "rho", "f", "g")
    }
    pair = 'atomic_num_i="11" atomic_num_j="11"'
    return (
        '<Si_MEAM_params n_types="1" label=""><per_type_data atomic_num="11" type="1">'
        f"{splines['U']}</per_type_data>"
        f'<per_pair_data {pair} r_cut_phi="4" r_cut_rho="4" r_cut_f="4">'
        f"{splines['phi']}{splines['rho']}{splines['f']}</per_pair_data>"
        f'<per_triplet_data {pair} atomic_num_k="11">{splines["g"]}</per_triplet_data>'
        "</Si_MEAM_params>"
    )


PARAMETERS = """
import sys
from quippy.potential import Potential
from tests.plugins.support import melts

atoms = melts()[0]
atoms.numbers[:] = 11
atoms.calc = Potential(sys.argv[2], param_filename=sys.argv[1])
print("energy", repr(float(atoms.get_potential_energy())))
"""


def test_parameters_without_a_potential(tmp_path: Path) -> None:
    """The case quip_ip_without_potential: QUIP's own files, as LAMMPS's manual uses them."""
    atoms = melts()[0]
    atoms.numbers[:] = 11
    wrapped = f'<w><Potential label="w" init_args="IP SW"/>{SW}</w>'
    for text, init in ((SW, '"IP SW"'), (wrapped, '"IP SW"'), (wrapped, "")):
        path = tmp_path / "sw.xml"
        path.write_text(text)
        told = subprocess.run(
            [sys.executable, "-c", PARAMETERS, str(path), "IP SW"], capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        energy = float(told.stdout.split("energy ")[1])
        found = evaluate_lammps(atoms, "quip", f"{path} {init} 11 11")
        assert found.energy == pytest.approx(energy, rel=Agreement.ENERGY_SAME_MODEL.value)


@pytest.mark.parametrize(
    ("text", "init", "message"),
    [
        (SW, "", 'give QUIP\'s name of it after the file, "IP SW"'),
        (SW, '"Potential xml_label=w"', 'has no potential with xml_label=w; it has: none, "IP SW"'),
        (SW, '"IP no_such"', "QUIP refuses"),
        (LJ, '"IP LJ"', "(IP LJ): IPModel_LJ_Calc: local_virial calculation requested but not"),
        (MORSE, '"IP Morse"', "IPModel_Morse_Calc: local_virial calculation requested but not"),
        (TS, '"IP TS"', "IPModel_TS_Calc: local_virial calculation requested but not"),
        (meam(), '"IP Si_MEAM"', "IPModel_Si_MEAM_Calc: local_virial calculation requested"),
        (FB, '"IP FB"', "(IP FB): a test cluster of 18 atoms has 1.98"),
        ("<a><b/></a>", '"IP SW"', "no parameters of one"),
    ],
)
def test_parameters_that_cannot_be_used(text: str, init: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "parameters.xml"
    path.write_text(text)
    with pytest.raises(Exception, match="pair_style quip") as error:
        evaluate_lammps(melts()[0], "quip", f"{path} {init} 11 NULL")
    assert message in str(error.value)


EWALD = """<Coulomb_params n_types="1" cutoff="6.0" method="ewald" ewald_error="1.0e-6" label="q">
<per_type_data type="1" atomic_num="11" charge="1.0"/></Coulomb_params>
"""


def test_what_is_no_sum_over_neighbours_is_found_out(tmp_path: Path) -> None:
    """A small cluster, in parts, shows what QUIP's interface for LAMMPS does not give."""
    path = tmp_path / "ewald.xml"
    path.write_text(EWALD)
    with pytest.raises(
        Exception, match=r"interface for LAMMPS cannot evaluate .* local energies is"
    ):
        evaluate_lammps(melts()[0], "quip", f'{path} "IP Coulomb" 11 NULL')


def test_a_part_that_is_left_out_is_in_the_log(gap: Path, plugins: Path, tmp_path: Path) -> None:
    text = gap.read_text()
    label = text.split('<Potential label="', 1)[1].split('"', 1)[0]
    described = f"Sum init_args_pot1={{IP GAP label={label}}} init_args_pot2={{IP SW}}"
    text = text.replace(f'init_args="IP GAP label={label}"', f'init_args="{described}"')
    end = text.rindex("</")
    for file in gap.parent.glob("gap.xml.sparseX*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "sum.xml").write_text(text[:end] + SW + text[end:])
    (tmp_path / "in.sum").write_text(
        "units metal\nregion cell block 0 9 0 9 0 9\ncreate_box 2 cell\nmass * 1.0\n"
        'pair_style quip\npair_coeff * * sum.xml "IP GAP" 11 17\n'
    )
    ended = subprocess.run(
        ["lmp", "-in", "in.sum", "-log", "none"],
        cwd=tmp_path, env=environment(plugins), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert '"IP GAP" is a part of what sum.xml describes' in ended.stdout
    assert f'"Potential xml_label={label}" is all of it' in ended.stdout


def test_numbers_that_are_not_finite_end_the_run(gap: Path, tmp_path: Path) -> None:
    for file in gap.parent.glob("gap.xml*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "gap.xml"
    path.write_text(re.sub('signal_variance="[^"]*"', 'signal_variance="1e200"', path.read_text()))
    with pytest.raises(Exception, match="energy or forces are not finite numbers at step 0"):
        evaluate_lammps(melts()[0], "quip", f"{path} 11 17")
    with pytest.raises(Exception, match=r"the sum of its local energies is (-?nan|-?inf)"):
        evaluate_lammps(melts()[0], "quip library", f"{path} 11 17")


def test_a_file_beyond_two_gigabytes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "large.xml"
    path.touch()
    os.truncate(path, 2**31)
    for style in ("quip", "schnet"):
        types = "11 17" if style == "quip" else "Na Cl"
        with pytest.raises(Exception, match="has 2147483648 bytes; up to 2147483647 can be read"):
            evaluate_lammps(melts()[0], style, f"{path} {types}")
    with pytest.raises(Exception, match="it is no file"):
        evaluate_lammps(melts()[0], "quip", f"{tmp_path} 11 17")


def test_found_in_lammps_potentials(
    gap: Path, plugins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = evaluate_lammps(melts()[0], "quip", f"{gap} 11 17")
    for style in STYLES:
        with pytest.raises(Exception, match="neither here nor in LAMMPS_POTENTIALS"):
            evaluate_lammps(melts()[0], style, "gap.xml 11 17")
    monkeypatch.setenv("LAMMPS_POTENTIALS", f"{tmp_path}:{gap.parent}")
    for style in STYLES:
        found = evaluate_lammps(melts()[0], style, "gap.xml 11 17")
        assert found.energy == pytest.approx(here.energy, rel=Agreement.ENERGY_SAME_MODEL.value)


def test_a_character_that_xml_does_not_have(gap: Path, tmp_path: Path) -> None:
    """QUIP's parser ends the process there, with status 0 and as if all had been done."""
    for file in gap.parent.glob("gap.xml*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "gap.xml"
    path.write_text(path.read_text().replace("<GAP_data", "\x01<GAP_data", 1))
    with pytest.raises(Exception, match="holds a character of code 1, which XML does not have"):
        evaluate_lammps(melts()[0], "quip library", f"{path} 11 17")
