"""The tutorial's code blocks, run as they stand there, one after the other in one folder.

A block whose fence names a file ("```toml lif.toml") becomes that file; a block of sh is given to
bash.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlsel.pool.importing import import_trajectories
from mlsel.pool.pool import Pool
from tests.support import environment

pytestmark = pytest.mark.tutorial

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w+)(?: +(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the whole tutorial was run."""
    place = tmp_path_factory.mktemp("tutorial")
    programs = place / "bin"
    programs.mkdir()
    for name, words in (("python", ""), ("mlsel", "-m mlsel")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        program.chmod(0o755)
    known = environment()
    known["PATH"] = f"{programs}:{Path(sys.executable).parent}:{known['PATH']}"
    known["PYTHONPATH"] = f"{TUTORIAL.parents[1]}:{known.get('PYTHONPATH', '')}"
    for language, name, text in BLOCK.findall(TUTORIAL.read_text(encoding="utf-8")):
        if name:
            (place / name).write_text(text, encoding="utf-8")
        elif language == "sh":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=place, env=known, capture_output=True, text=True, timeout=900,
            )  # fmt: skip
            assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
            with (place / "output").open("a") as file:
                file.write(done.stdout)
    return place


def test_the_salt_goes_through_all_stages(folder: Path) -> None:
    output = (folder / "output").read_text(encoding="utf-8")
    for stage in ("generate", "selection", "training", "evaluate", "validate", "report"):
        assert re.search(rf"^{stage} +done", output, re.MULTILINE), output
    assert (folder / "lif" / "report.html").is_file()
    with Pool(folder / "lif" / "pool.h5") as pool:
        assert len(pool) == 4 * 60
        assert all(pool.run_attributes(run)["molten"] for run in pool.runs)


def test_data_from_elsewhere_are_selected_by_force(folder: Path) -> None:
    with (folder / "copper/evaluation/errors.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["quantity"] == "force_component"]
    assert {row["element"] for row in rows} == {"all", "Cu"}
    # A GAP of 40 configurations is far below the forces themselves, which are about 1 eV/Å.
    assert all(float(row["rmse"]) < 0.2 for row in rows)
    error = re.search(r"last frame: (\d+) meV", (folder / "output").read_text(encoding="utf-8"))
    assert error is not None and int(error[1]) < 200
    import_trajectories([folder / "chosen.extxyz"], folder / "again.h5")
    with Pool(folder / "again.h5") as again:
        assert len(again) == 40
