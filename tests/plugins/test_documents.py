"""README's door for a potential, and the examples, with a model that was just trained."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ase.build import bulk
from ase.io import write

from tests.support import Tolerance, environment, run_mlsel
from tests.support.documents import ROOT, code_blocks, run_blocks
from tests.support.labelled import write_trajectory
from tests.support.training_data import frames, write_pool

LMP = Path(sys.executable).parent / "lmp"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of two epochs, and rocksalt to start from."""
    place = tmp_path_factory.mktemp("potential")
    write_pool(place / "train.h5", [frames(12)])
    done = run_mlsel(
        "training", "--data", place / "train.h5", "--model", "schnet-small", "-n", "12",
        "-o", place / "model", "--set", "training.schnet.max_epochs=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shutil.copy(place / "model" / "model.pt", place)
    atoms = bulk("NaCl", "rocksalt", a=5.7, cubic=True).repeat(2)
    write(place / "start.extxyz", atoms)
    write(place / "start.data", atoms, format="lammps-data", specorder=["Na", "Cl"], masses=True)
    return place


def run(*command: str | Path, cwd: Path) -> str:
    known = environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command], cwd=cwd, env=known, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


SINGLE_PRECISION = 1e-4
"""eV: the total of 64 ions may be next to nothing, what it is the sum of is not."""


def first_energy(log: str) -> float:
    """Return the potential energy of step 0 in LAMMPS's output, eV."""
    found = re.search(r"^ +Step +Temp +(?:E_pair|PotEng) .*\n +0 +\S+ +(\S+)", log, re.MULTILINE)
    assert found is not None, log
    return float(found[1])


def test_the_door_for_a_potential(folder: Path) -> None:
    blocks = code_blocks(ROOT / "README.md", "## I have a potential")
    (deck,) = [block.text for block in blocks if block.language == "lammps"]
    (folder / "in.melt").write_text(deck)
    energy, largest = map(float, run_blocks(blocks, folder).split())
    assert first_energy(run(LMP, "-in", "in.melt", cwd=folder)) == pytest.approx(
        energy, rel=Tolerance.SIX_DIGITS, abs=SINGLE_PRECISION
    )
    assert largest >= 0


def test_examples_from_a_trajectory(tmp_path: Path) -> None:
    write_trajectory(tmp_path / "copper.extxyz")
    select, compare = (ROOT / "examples" / f"{n}.py" for n in ("select_frames", "compare_methods"))
    assert "20 of 60 frames" in run(sys.executable, select, "copper.extxyz", "20", cwd=tmp_path)
    assert (tmp_path / "train.extxyz").read_text().count("REF_energy=") == 20
    told = run(sys.executable, compare, "pool.h5", "20", cwd=tmp_path)
    assert [line.partition(":")[0] for line in told.splitlines()] == [
        "random",
        "global-energy",
        "force",
    ]


def test_examples_from_a_model(folder: Path) -> None:
    """The deck goes on from where ASE ended: the same model gives the same energy."""
    script, deck = ROOT / "examples" / "md_with_ase.py", ROOT / "examples" / "in.nvt"
    told = run(sys.executable, script, "model", "start.extxyz", cwd=folder)
    drift = re.search(r"([+-][\d.]+) meV an atom", told)
    assert drift is not None and abs(float(drift[1])) < 1
    assert "start.data: atom types Na Cl" in told
    words = ("-var", "model", "model/model.pt", "-var", "elements", "Na Cl", "-var", "steps", "10")
    here = re.search(r"potential energy (\S+) eV", told)
    log = run(LMP, "-in", deck, *words, cwd=folder)
    assert here is not None and first_energy(log) == pytest.approx(
        float(here[1]), rel=Tolerance.SIX_DIGITS, abs=SINGLE_PRECISION
    )
