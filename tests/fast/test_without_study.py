"""A folder that was made product by product, of other people's data: no study is made up for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlsel.evaluate.command
import mlsel.generate
import mlsel.report.command
import mlsel.run
import mlsel.selection.command
import mlsel.training.command
import mlsel.validate.command
from mlsel.core.errors import MlselError
from mlsel.study.folder import StudyFolder
from mlsel.study.study import recorded_study
from mlsel.training.frames import Frames
from mlsel.workflow import slurm, status
from tests.support.training_data import frames, write_pool

KIND = ["--set", 'training.kinds=["tests.support.counting_kind"]']


def of_titanium_aluminide(part: Frames) -> Frames:
    return replace(part, numbers=np.where(part.numbers == 11, 22, 13))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool, a data set from it, a test set and a model, each by its own command."""
    place = StudyFolder(tmp_path_factory.mktemp("made") / "tial")
    write_pool(place.pool, [of_titanium_aluminide(frames(30))])
    words = ["--pool", str(place.pool), "--method", "random"]
    mlsel.selection.command.main([*words, "-n", "8", "-o", str(place.data_set("mine"))])
    exclude = ["--exclude", str(place.data_set("mine"))]
    mlsel.selection.command.main([*words, "-n", "6", "-o", str(place.test_set), *exclude])
    model = ["--model", "counting", "-o", str(place.model("mine/counting"))]
    mlsel.training.command.main(["--data", str(place.data_set("mine")), *model, *KIND])
    return place.root


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "tial")
    return tmp_path / "tial"


def test_status_evaluate_and_report_find_what_is_there(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.counting_kind.CountingModel.numbers", (13, 22))
    assert status.main([str(folder), "--all"]) == 1
    told = capsys.readouterr().out
    for item in ("pool.h5", "mine: 8 frames", "test: 6 frames", "mine/counting"):
        assert item in told, told
    mlsel.evaluate.command.main(["-o", str(folder)])
    mlsel.report.command.main([str(folder)])
    capsys.readouterr()
    assert status.main([str(folder)]) == 0, capsys.readouterr().out
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "mine" in page and "counting" in page and "the study tial" in page
    for words in ("The paper", "NaCl", "1400 K", "unphysical peaks"):
        assert words not in page


@pytest.mark.parametrize(
    "command",
    [
        mlsel.generate.main,
        mlsel.selection.command.main,
        mlsel.training.command.main,
        mlsel.validate.command.main,
        mlsel.run.main,
        slurm.main,
    ],
    ids=["generate", "selection", "training", "validate", "run", "slurm"],
)
def test_no_stage_makes_up_a_study(
    command: Callable[[Any], int], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(folder.rglob("*"))
    with pytest.raises(MlselError, match=r"no study\.json that says of which study") as told:
        command(["-o", str(folder)])
    assert len(str(told.value)) <= 400
    monkeypatch.chdir(folder)
    with pytest.raises(MlselError, match=r"say -o \. to work in it, or name a STUDY"):
        command([])
    assert sorted(folder.rglob("*")) == before


def test_a_study_of_other_elements_is_refused(folder: Path) -> None:
    before = (folder / "pool.h5").read_bytes()
    with pytest.raises(MlselError, match="holds Al, Ti, and the study is of Na, Cl"):
        mlsel.validate.command.main(["quick", "-o", str(folder)])
    with pytest.raises(MlselError, match="was not made by this stage: it would be overwritten"):
        mlsel.generate.main(["quick", "-o", str(folder)])
    assert (folder / "pool.h5").read_bytes() == before
    assert recorded_study(folder) is None
