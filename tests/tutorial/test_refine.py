"""The tutorial from 200 frames to MD that they don't cover, run as it stands there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlsel.refine.table import Course, read
from tests.support.documents import ROOT, code_blocks, run_blocks

pytestmark = pytest.mark.tutorial


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the tutorial was run."""
    place = tmp_path_factory.mktemp("refine")
    shutil.copy(ROOT / "examples" / "make_frames.py", place)
    (place / "output").write_text(
        run_blocks(code_blocks(ROOT / "docs" / "tutorial-refine.md"), place), encoding="utf-8"
    )
    return place


def test_a_potential_runs_where_the_first_did_not(folder: Path) -> None:
    (course,) = read(folder / "mine")
    assert course.shortest[0] < 50
    assert course.shortest[-1] == 100.0
    assert 0 < course.labels[-1] <= 64


def test_its_course_is_told(folder: Path) -> None:
    (course,) = read(folder / "mine")
    assert isinstance(course, Course) and course.ended
    header = (folder / "mine/refine/refine.csv").read_text(encoding="utf-8").splitlines()[0]
    page = (ROOT / "docs" / "tutorial-refine.md").read_text(encoding="utf-8")
    assert f"```csv\n{header}\n```" in page
    assert f"{course.labels[-1]} labels; shortest run" in (folder / "output").read_text()
    assert (folder / "mine/figures/labels-spent.svg").is_file()
