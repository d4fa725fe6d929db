"""The tutorial and the README's whole study, run as they stand there."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from mlsel.pool.importing import import_trajectories
from mlsel.pool.pool import Pool
from tests.support.documents import ROOT, code_blocks, run_blocks

pytestmark = pytest.mark.tutorial

TUTORIAL = ROOT / "docs" / "tutorial.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the whole tutorial was run."""
    place = tmp_path_factory.mktemp("tutorial")
    (place / "output").write_text(run_blocks(code_blocks(TUTORIAL), place), encoding="utf-8")
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
