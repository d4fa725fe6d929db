"""A study's folder as version 0.1 wrote it (tests/support/folder_0_1): it is read, and goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mlsel.core.errors import MlselError
from mlsel.core.record import Record
from mlsel.pool.pool import Pool
from mlsel.study.folder import StudyFolder
from mlsel.study.study import record_study, recorded_study
from mlsel.training.registry import load_model, trainer_named
from mlsel.training.task import Task
from mlsel.validate.runs import runs_of
from mlsel.validate.snapshot import record_of, settings_of_runs
from mlsel.workflow.stages import stages_of
from mlsel.workflow.status import states
from tests.support.gap_files import write_gap
from tests.support.training_data import frames, write_pool

OLD = Path(__file__).parents[1] / "support" / "folder_0_1"
MODEL = "random/gap-10-f0.1"


@pytest.fixture
def place(tmp_path: Path) -> StudyFolder:
    shutil.copytree(OLD, tmp_path / "tiny")
    return StudyFolder(tmp_path / "tiny")


def test_no_file_said_its_version() -> None:
    paths = list(OLD.rglob("*.json"))
    assert len(paths) == 7
    assert not any("format_version" in json.loads(path.read_text()) for path in paths)
    assert json.loads((OLD / "models" / MODEL / "model.json").read_text())["module"]


def test_the_study_is_read(place: StudyFolder) -> None:
    study = recorded_study(place.root)
    assert study is not None
    assert (study.name, study.system.n_atoms, study.pool.pressures) == ("tiny", 64, (1.0, 10000.0))
    record_study(study, place.root)
    assert json.loads(place.study.read_text())["format_version"] == 1
    assert recorded_study(place.root) == study


def test_nothing_that_is_there_is_stale(place: StudyFolder) -> None:
    """Keys that did not exist have their defaults: adding one makes nothing stale."""
    study = recorded_study(place.root)
    assert study is not None
    found = {stage.name: stage for stage in states(study, place.root)}
    assert list(found) == [stage.name for stage in stages_of(study)]
    stale = [item for stage in found.values() for item in stage.items if item.state == "stale"]
    assert not stale
    made_from = {"validation": settings_of_runs(study), "system": study.as_dict("system")["system"]}
    assert record_of(place).settle(made_from)
    (reference, _) = runs_of(study, place.root)
    old = Record(reference.folder / "run.json", defaults={"watched_by": []})
    assert old.settle(reference.identity())
    warmer = recorded_study(place.root, ["validation.temperature=1500"])
    assert warmer is not None
    with pytest.raises(MlselError, match=r"validation.temperature \(1400.0 there, 1500.0 now\)"):
        record_of(place).settle({"validation": settings_of_runs(warmer)})


def test_a_model_is_opened_by_the_module_that_it_names(place: StudyFolder) -> None:
    model = place.model(MODEL)
    part = frames(4)
    write_gap(model / "gap.xml", [part.atoms(row) for row in range(4)])
    assert load_model(model).kind == "gap"
    assert load_model(model).predict(part).forces.shape == part.positions.shape


def test_a_model_is_not_trained_again(place: StudyFolder) -> None:
    study = recorded_study(place.root)
    assert study is not None
    path = place.model(MODEL) / "model.json"
    data = write_pool(place.data_set("random"), [frames(4)])
    known = json.loads(path.read_text())
    with Pool(data) as pool:
        known["data"]["digest"] = pool.digest
    path.write_text(json.dumps(known))
    trainer = trainer_named(study.training, "gap")
    task = Task("random", data, None, trainer, trainer.n_train, place.model(MODEL))
    assert task.is_done()
