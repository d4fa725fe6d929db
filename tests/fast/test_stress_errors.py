"""Errors of the stress: where test set and model have one, against ASE's own sign and units."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase import units as ase_units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

from mlsel.__main__ import main
from mlsel.training import load_model
from tests.support import Tolerance


def copper(n: int, seed: int, *, with_stress: bool = True) -> list[Atoms]:
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.03 * rng.uniform(-1, 1, (3, 3))), True)
        atoms.rattle(0.1, rng=rng)
        atoms.calc = EMT()
        frame = atoms.copy()
        frame.info["REF_energy"] = atoms.get_potential_energy()
        frame.arrays["REF_forces"] = atoms.get_forces()
        if with_stress:
            frame.info["REF_stress"] = atoms.get_stress(voigt=False)
        frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair potential of 20 frames, measured on 12 of which 8 have a stress."""
    place = tmp_path_factory.mktemp("copper")
    for name, frames in (
        ("data/train", copper(20, 1)),
        ("data/test", copper(8, 2) + copper(4, 3, with_stress=False)),
    ):
        (place / name).parent.mkdir(exist_ok=True)
        write(place / f"{name}.extxyz", frames)
        assert main(["import", str(place / f"{name}.extxyz"), str(place / f"{name}.h5")]) == 0
    model = ["--data", str(place / "data/train.h5"), "--model", "pair"]
    assert main(["training", *model, "-o", str(place / "models/train/pair")]) == 0
    assert main(["evaluate", "-o", str(place)]) == 0
    return place


def test_it_is_that_of_ase_in_gpa(folder: Path) -> None:
    model = load_model(folder / "models/train/pair").calculator()
    apart = []
    for atoms in copper(8, 2):
        reference = atoms.info["REF_stress"][[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        atoms.calc = model
        apart.append((atoms.get_stress() - reference) / ase_units.GPa)
    with (folder / "evaluation/errors.csv").open(encoding="utf-8") as file:
        (row,) = [r for r in csv.DictReader(file) if r["quantity"] == "stress_component"]
    assert (row["n"], row["unit"]) == ("48", "GPa")
    assert float(row["rmse"]) == pytest.approx(
        np.sqrt(np.mean(np.square(apart))), rel=Tolerance.SIX_DIGITS
    )
    assert float(row["max"]) == pytest.approx(np.abs(apart).max(), rel=Tolerance.SIX_DIGITS)
    with (folder / "evaluation/summary.csv").open(encoding="utf-8") as file:
        (summary,) = csv.DictReader(file)
    assert float(summary["stress_rmse"]) == pytest.approx(
        float(row["rmse"]), rel=Tolerance.FIVE_DIGITS
    )


def test_the_report_shows_it(folder: Path) -> None:
    assert main(["report", str(folder)]) == 0
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "stress / GPa" in text
    assert "NaCl" not in text and "sodium" not in text.lower()
