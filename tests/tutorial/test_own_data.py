"""The tutorial on one's own data, run as it stands there: to a verdict without a potential."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from mlsel.pool.pool import Pool
from tests.support.documents import ROOT, code_blocks, run_blocks

pytestmark = pytest.mark.tutorial

OUTPUT = "output"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the whole tutorial was run; what stood before the last part in `pool`."""
    place = tmp_path_factory.mktemp("own")
    shutil.copy(ROOT / "examples" / "make_own_data.py", place)
    blocks = code_blocks(ROOT / "docs" / "tutorial-own-data.md")
    printed = run_blocks(blocks[:-1], place)
    shutil.copytree(place / "mine", place / "beside-the-pool")
    printed += run_blocks(blocks[-1:], place)
    (place / OUTPUT).write_text(printed, encoding="utf-8")
    return place


def test_odd_frames_are_found_and_nothing_else(folder: Path) -> None:
    output = (folder / OUTPUT).read_text(encoding="utf-8")
    assert "checked.h5: 510 frames, 6 dropped" in output
    named = set(re.findall(r"\((\w+)\.extxyz, \d+\)", output))
    assert named == {"odd"}
    with Pool(folder / "mine" / "pool.h5") as pool:
        assert len(pool) == 510 and "virial" in pool.fields
        assert sorted(pool.element_references) == [29, 47]


def test_every_stage_is_done(folder: Path) -> None:
    output = (folder / OUTPUT).read_text(encoding="utf-8")
    for stage in ("import", "selection", "training", "evaluate", "validate", "report"):
        assert re.search(rf"^{stage} +done", output, re.MULTILINE), output


def test_errors_of_the_stress(folder: Path) -> None:
    with (folder / "mine/evaluation/errors.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["quantity"] == "stress_component"]
    kinds = {row["kind"] for row in rows if row["part"] == "all"}
    assert kinds == {"schnet", "gap", "pair"}
    # Labels scatter by some 5 GPa.
    assert all(float(row["rmse"]) < 5 for row in rows if row["part"] == "all")


def test_verdicts_say_what_they_were_held_against(folder: Path) -> None:
    found = json.loads((folder / "beside-the-pool/validation/verdicts.json").read_text())
    assert found["held_against"]["kind"] == "pool"
    assert "300 frames of 32 atoms in 1 trajectory" in found["held_against"]["text"]
    assert len(found["verdicts"]) == 6
    words = {verdict["word"] for verdict in found["verdicts"]}
    assert words <= {"agrees within what was run", "differs", "unphysical", "blown up"}
    pairs = [v for v in found["verdicts"] if v["kind"] == "pair"]
    # A pair potential of EMT's data holds for 3 ps, whatever the machine's rounding.
    assert all(v["word"] in ("agrees within what was run", "differs") for v in pairs)
    alone = json.loads((folder / "mine/validation/verdicts.json").read_text())
    assert alone["held_against"]["kind"] == "none"
    assert all(v["word"] == "stable within what was run" for v in alone["verdicts"]
               if v["kind"] == "pair")  # fmt: skip


def test_the_page_is_of_these_data(folder: Path) -> None:
    for name in ("mine", "beside-the-pool"):
        text = (folder / name / "report.html").read_text(encoding="utf-8")
        shown = re.sub(r"<(script|style|svg).*?</\1>", "", text, flags=re.DOTALL)
        for foreign in ("NaCl", "sodium", "molten salt", "paper", "Na-"):
            assert foreign not in shown
        assert "stress / GPa" in shown and "could not be made" not in shown
