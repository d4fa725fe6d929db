"""Decks as a user has them: the wheel's lmp under mpirun, no plugin load, nothing set."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mlsel.core.native import CACHE_VARIABLE
from tests.plugins.support import melts
from tests.support import environment, mpirun

ROOT = Path(__file__).parents[2]
DECK = ROOT / "lammps_inputs" / "in.ml-pair-styles"
DOCUMENT = ROOT / "docs" / "pair-styles.md"
VARIABLES = {
    "schnet": ["-var", "model", "model.pt"],
    "quip": ["-var", "style", "quip", "-var", "model", "gap.xml", "-var", "types", "11 17"],
}


@pytest.fixture
def installed(plugins: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has installed mlsel: where it is not (a source tree on
    PYTHONPATH), what pip would have written of it lies in a folder."""
    record = tmp_path / "site" / "mlsel-0.1.0.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: mlsel\nVersion: 0.1.0\n")
    (record / "entry_points.txt").write_text("[lammps.plugins]\nmlsel = mlsel.plugins:directory\n")
    user = {
        name: value
        for name, value in environment().items()
        if name not in ("LAMMPS_PLUGIN_PATH", "MLSEL_PLUGINS")
    }
    user["PYTHONPATH"] = os.pathsep.join([str(record.parent), str(ROOT)])
    user["OMP_NUM_THREADS"] = "1"
    if cache := os.environ.get(CACHE_VARIABLE):
        user[CACHE_VARIABLE] = cache
    return user


def place_models(folder: Path, files: dict[str, Path], gap: Path) -> None:
    shutil.copy(files["schnet32"], folder / "model.pt")
    for file in gap.parent.glob("gap.xml*"):
        shutil.copy(file, folder)


def run_deck(folder: Path, user: dict[str, str], deck: Path, *more: str) -> str:
    lmp = Path(mpirun(2)[0]).with_name("lmp")
    ended = subprocess.run(
        [*mpirun(2), str(lmp), "-in", str(deck), *more], cwd=folder, env=user,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert "WARNING" not in ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.parametrize("style", VARIABLES)
def test_the_deck(
    style: str, installed: dict[str, str], files: dict[str, Path], gap: Path, tmp_path: Path
) -> None:
    place_models(tmp_path, files, gap)
    small = ["-var", "cells", "3", "-var", "steps", "5"]
    out = run_deck(tmp_path, installed, DECK, *VARIABLES[style], *small)
    assert "with 216 atoms" in out
    assert "by 1 by 2 MPI processor grid" in out


def test_the_deck_of_uncertainty(
    installed: dict[str, str], files: dict[str, Path], gap: Path, tmp_path: Path
) -> None:
    """It keeps the frames above one bound, and ends above another."""
    place_models(tmp_path, files, gap)
    deck = DECK.with_name("in.uncertainty")
    given = [*VARIABLES["quip"], "-var", "cells", "2", "-var", "steps", "30"]
    run_deck(tmp_path, installed, deck, *given, "-var", "keep", "0", "-var", "stop", "100")
    kept = (tmp_path / "uncertain.lammpstrj").read_text()
    assert kept.split("ITEM: TIMESTEP\n")[1:] and kept.count("ITEM: TIMESTEP") == 4
    run_deck(tmp_path, installed, deck, *given, "-var", "keep", "100", "-var", "stop", "100")
    assert not (tmp_path / "uncertain.lammpstrj").read_text()
    out = run_deck(tmp_path, installed, deck, *given, "-var", "keep", "100", "-var", "stop", "1e-3")
    assert "Loop time" in out and "for 10 steps" in out


@pytest.mark.parametrize("style", VARIABLES)
def test_the_ten_lines_of_the_documentation(
    style: str, installed: dict[str, str], files: dict[str, Path], gap: Path, tmp_path: Path
) -> None:
    from ase.io import write

    text = DOCUMENT.read_text(encoding="utf-8")
    lines = text.split("```lammps\n", 1)[1].split("```", 1)[0].splitlines()
    assert len(lines) == 10
    if style == "quip":
        changes = {
            "pair_style     schnet": "pair_style     quip",
            "model.pt Na Cl": "gap.xml 11 17",
        }
        for old, new in changes.items():
            assert sum(old in line for line in lines) == 1
            lines = [line.replace(old, new) for line in lines]
    (tmp_path / "in.melt").write_text(
        "\n".join(lines).replace("run            1000", "run 5") + "\n"
    )
    write(tmp_path / "melt.data", melts()[1], format="lammps-data", specorder=["Na", "Cl"],
          atom_style="atomic", masses=True)  # fmt: skip
    place_models(tmp_path, files, gap)
    assert "for 5 steps with 64 atoms" in run_deck(tmp_path, installed, Path("in.melt"))
