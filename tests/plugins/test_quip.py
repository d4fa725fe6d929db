"""pair_style quip against quippy's calculator."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.plugins.support import Agreement, evaluate_lammps, melts, voigt

pytestmark = pytest.mark.usefixtures("plugins")


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


@pytest.fixture(scope="session")
def reference(gap: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What quippy's calculator says, from a process of its own: QUIP has one state a process, and
    quippy's end of it complains of what LAMMPS left there."""
    out = tmp_path_factory.mktemp("quippy") / "reference.npz"
    subprocess.run([sys.executable, "-c", REFERENCE, str(gap), str(out)], check=True)
    return np.load(out)


def test_same_as_quippy(gap: Path, reference: Any) -> None:
    for k, atoms in enumerate(melts()):
        found = evaluate_lammps(atoms, "quip", f'{gap} "" 11 17')
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


def test_in_a_hybrid_with_other_types(gap: Path, reference: Any) -> None:
    atoms = melts()[0]
    found = evaluate_lammps(
        atoms,
        "hybrid/overlay quip zero 6.0",
        f"quip {gap} 11 NULL",
        "pair_coeff * * zero",
    )
    mine = found.forces[atoms.numbers == 11]
    assert np.abs(mine - reference["forces3"]).max() < Agreement.FORCE_SAME_MODEL.value
    assert np.abs(found.forces[atoms.numbers == 17]).max() == 0


WRONG: dict[str, Callable[[str], str | None]] = {
    "there is no such file": lambda text: None,
    "cut off": lambda text: text[: len(text) // 2],
    "no XML": lambda text: "\x00\x01binary" + text,
    "closes": lambda text: text.replace("</gpSparse>", "</other>", 1),
    "no <Potential": lambda text: text.replace("<Potential", "<Potentiel", 1),
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
    with pytest.raises(Exception, match="pair_style quip") as error:
        evaluate_lammps(melts()[0], "quip", f"{path} 11 17")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("style", "coeff", "message"),
    [
        ("quip 3", "gap.xml 11 17", "takes no arguments"),
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
