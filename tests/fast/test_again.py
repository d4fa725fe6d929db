"""--again, killed at every change of a folder: nothing then stands for something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mlsel.validate.stage as stage
from mlsel.core.errors import MlselError, StageIncomplete
from mlsel.core.files import take_away
from mlsel.core.lock import FolderLock
from mlsel.core.parallel import world
from mlsel.core.record import Record
from mlsel.evaluate.doubts import doubts
from mlsel.evaluate.models import find_models
from mlsel.evaluate.stage import evaluate
from mlsel.pool.pool import Pool
from mlsel.selection.stage import select_study
from mlsel.study.folder import StudyFolder
from mlsel.study.study import Study, load_study
from mlsel.training.baseline import read_baseline
from mlsel.training.description import model_digest
from mlsel.training.registry import load_model
from mlsel.training.stage import settle_added, tasks_of, train_study
from mlsel.training.state import items as model_items
from mlsel.validate import trial
from mlsel.validate.snapshot import prepare_start
from mlsel.validate.start import density_run
from mlsel.validate.verdict import changed_models
from tests.support.cuts import at_every_point, names
from tests.support.training_data import frames, write_pool

KIND = 'training.kinds=["tests.support.counting_kind"]'
METHODS = (
    "learning.n=[]",
    'selection.methods=["random","force"]',
    'selection.test_methods=["random"]',
)
SIZES = ("selection.n_train=8", "selection.n_validation=3", "selection.n_test=6", "learning.n=[]")


@pytest.fixture(autouse=True)
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut job of this process would hold its lock for as long as the tests run."""
    monkeypatch.setattr(FolderLock, "acquire", lambda _: None)
    monkeypatch.setattr(FolderLock, "release", lambda _: None)


def study(*overrides: str) -> Study:
    return load_study("quick", (KIND, *METHODS, *SIZES, *overrides))


def again_or_not(act: Callable[[bool], None], is_old: Callable[[], bool]) -> None:
    """Start as a user would: without --again, and with it only where that is refused."""
    try:
        act(False)
    except MlselError as error:
        assert "Give --again" in str(error)
        assert is_old(), "what is refused must be whole"
        act(True)


def test_training(tmp_path: Path) -> None:
    place = StudyFolder(tmp_path / "made")
    model = place.model("random/counting")

    def train(seed: int, again: bool) -> None:
        asked = study('selection.methods=["random"]', f"training.schnet.seed={seed}")
        train_study(asked, place.root, world(), again=again)

    def found() -> tuple[int, str]:
        recorded = json.loads((model / "model.json").read_text())["parameters"]["seed"]
        return recorded, (model / "weights.pt").read_text()

    def check() -> None:
        again_or_not(lambda again: train(2, again), lambda: found() == (1, "1"))
        assert found() == (2, "2")
        assert names(place.models) == whole

    write_pool(place.data_set("random"), [frames(8)])
    train(1, False)
    whole = names(place.models)
    assert at_every_point(place.root, lambda: train(2, True), check) > 6


def test_a_training_that_was_only_begun(tmp_path: Path) -> None:
    place, model = StudyFolder(tmp_path), tmp_path / "models" / "random" / "counting"
    write_pool(place.data_set("random"), [frames(8)])
    model.mkdir(parents=True)
    (model / "checkpoint.pt").write_text("1")  # as a version before begun.json left it
    asked = study('selection.methods=["random"]', "training.schnet.seed=2")
    with pytest.raises(StageIncomplete, match="belongs to another training"):
        train_study(asked, tmp_path, world())
    train_study(asked, tmp_path, world(), again=True)
    assert (model / "weights.pt").read_text() == "2"


def test_selection(tmp_path: Path) -> None:
    place = StudyFolder(tmp_path / "made")
    write_pool(place.pool, [frames(60, seed=4)])

    def select(seed: int, again: bool) -> None:
        select_study(study(f"selection.seed={seed}"), place.root, world(), again=again)

    def chosen() -> dict[str, list[int]]:
        found = {}
        for path in sorted(place.data.glob("*.h5")):
            with Pool(path) as data:
                found[path.stem] = data.values("source_frame").tolist()
        return found

    def check() -> None:
        again_or_not(lambda again: select(2, again), lambda: True)
        assert chosen() == expected and names(place.data) == files

    select(2, False)
    expected, files = chosen(), names(place.data)
    select(1, True)
    assert at_every_point(place.root, lambda: select(2, True), check) > 10


def test_evaluation_of_a_model_that_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for figure in ("figure", "parity"):
        monkeypatch.setattr(f"mlsel.evaluate.{figure}.draw", lambda *_: [])
    place = StudyFolder(tmp_path / "made")
    write_pool(place.data_set("random"), [frames(8)])
    write_pool(place.test_set, [frames(4, seed=2)])

    def make(seed: int) -> None:
        asked = study('selection.methods=["random"]', f"training.schnet.seed={seed}")
        train_study(asked, place.root, world(), again=True)
        evaluate(asked, place.root, world())

    def check() -> None:
        make(2)
        assert place.errors.read_text() == expected and names(place.evaluation) == files

    make(2)
    expected, files = place.errors.read_text(), names(place.evaluation)
    make(1)
    assert place.errors.read_text() != expected
    assert at_every_point(place.root, lambda: make(2), check) > 12


def validated(asked: Study, folder: Path, again: bool) -> None:
    """The stage without LAMMPS: what its runs leave says what they were made from."""
    place = StudyFolder(folder)
    place.validation.mkdir(parents=True, exist_ok=True)
    prepare_start(asked, folder, again)
    temperature = asked.validation.temperature
    if not place.start.is_file():
        density_run(asked, folder).product.touch()
        place.start.write_text(json.dumps({"temperature": temperature}))
    runs, missing, _ = stage._prepare_runs(asked, folder, again)
    started = json.loads(place.start.read_text())["temperature"]
    for index in missing:
        runs[index].product.write_text(json.dumps([started, runs[index].duration]))
    place.verdicts.write_text(json.dumps([json.loads(run.product.read_text()) for run in runs]))


@pytest.mark.parametrize("key", ["temperature", "duration"])
def test_validation(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1400 K once stood as 1500 K, and half a duration as the whole."""
    monkeypatch.setattr(trial, "try_point", lambda *_: 0.0)
    place = StudyFolder(tmp_path / "made")
    values = {"temperature": (1400.0, 1500.0), "duration": (3.0, 5.0)}[key]

    def validate(value: float, again: bool) -> None:
        asked = study("validation.models=[]", f"validation.{key}={value}")
        validated(asked, place.root, again)

    def found() -> list[list[float]]:
        runs = ("reference", "reference-2")
        made = [json.loads((place.validation / run / "results.h5").read_text()) for run in runs]
        assert json.loads(place.verdicts.read_text()) == made
        return [list(numbers) for numbers in np.unique(made, axis=0)]

    def numbers(value: float) -> list[list[float]]:
        return [[value, 3.0]] if key == "temperature" else [[1400.0, value]]

    def check() -> None:
        again_or_not(lambda again: validate(values[1], again), lambda: True)
        assert found() == numbers(values[1]) and names(place.validation) == files

    validate(values[1], False)
    files = names(place.validation)
    validate(values[0], True)
    n_points = at_every_point(place.root, lambda: validate(values[1], True), check)
    assert n_points > 10 and found() == numbers(values[1])


def test_what_lies_aside_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".model.aside").mkdir()
    (tmp_path / ".model.aside" / "weights.pt").touch()
    take_away(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_record_settles(tmp_path: Path) -> None:
    record = Record(tmp_path / "made.json", defaults={"section": {"added": 7}})
    assert not record.settle({"seed": 1})
    record.path.write_text('{"seed": 1, "section": {"kept": 2}}')  # of before format_version
    assert record.settle({"seed": 1, "section": {"kept": 2, "added": 7}})
    with pytest.raises(MlselError, match=r"section.added \(7 there, 8 now\)"):
        record.settle({"section": {"kept": 2, "added": 8}})
    with pytest.raises(MlselError, match="Give --again") as told:
        record.settle({"seed": list(range(10_000))}, again=False)
    assert len(str(told.value)) <= 400
    assert not record.settle({"seed": 2}, again=True)
    record.path.write_text('{"format_version": 9}')
    with pytest.raises(MlselError, match="format_version 9, and this mlsel reads 1"):
        record.settle({})
    record.path.write_text("[")
    with pytest.raises(MlselError, match="damaged"):
        record.settle({})
    assert not record.settle({}, again=True)


def test_errors_belong_to_a_model_and_a_test_set(tmp_path: Path) -> None:
    model = tmp_path / "models" / "random" / "pair"
    model.mkdir(parents=True)
    (model / "model.json").write_text("{}")
    (one,), (other,) = find_models(tmp_path, "a"), find_models(tmp_path, "b")
    (model / "model.json").write_text('{"a": 1}')
    (changed,) = find_models(tmp_path, "a")
    assert len({entry.identity for entry in (one, other, changed)}) == 3


def test_errors_on_frames_that_were_trained_on_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for figure in ("figure", "parity"):
        monkeypatch.setattr(f"mlsel.evaluate.{figure}.draw", lambda *_: [])
    place = StudyFolder(tmp_path)
    asked, data, other = study('selection.methods=["random"]'), frames(8), frames(4, seed=2)
    write_pool(place.data_set("random"), [data])
    write_pool(place.test_set, [other])
    train_study(asked, tmp_path, world())
    evaluate(asked, tmp_path, world())
    assert doubts(None, tmp_path) == [] and "test frames" not in capsys.readouterr().out
    write_pool(place.test_set, [other, data.take([2, 3, 4])])
    stale, told = doubts(None, tmp_path)
    assert "random/counting" in stale and "measured on another test set than test.h5" in stale
    evaluate(asked, tmp_path, world())
    assert "trained on 3 of the test frames" in capsys.readouterr().out
    assert doubts(None, tmp_path) == [told]
    assert "trained on up to 3 of the frames of test.h5" in told and "--again" in told
    place.data_set("random").unlink()
    assert doubts(None, tmp_path) == [
        "Whether 1 model (random/counting) had frames of test.h5 to train on is not known: what it "
        f"was trained on is no longer in {place.data}."
    ]
    place.test_set.unlink()
    (told,) = doubts(None, tmp_path)
    assert "test.h5 is not there" in told and "can't be told" in told


def test_verdicts_on_models_that_changed_since_are_told(tmp_path: Path) -> None:
    place, name = StudyFolder(tmp_path), "random/counting"
    write_pool(place.data_set("random"), [frames(8)])
    train_study(study('selection.methods=["random"]'), tmp_path, world())
    record = Record(place.validation / name / "run.json")
    record.write({"potential": model_digest(place.model(name))})
    assert changed_models(place) == []
    again = study('selection.methods=["random"]', "training.schnet.seed=2")
    train_study(again, tmp_path, world(), again=True)
    assert changed_models(place) == [name]


def test_a_model_whose_file_is_another_is_stale(tmp_path: Path) -> None:
    """Else MD of the old weights would stand for the new ones."""
    write_pool(StudyFolder(tmp_path).data_set("random"), [frames(8)])
    asked = study('selection.methods=["random"]')
    train_study(asked, tmp_path, world())
    model = StudyFolder(tmp_path).model("random/counting")
    written = (model / "weights.pt").read_text()
    load_model(model)
    (model / "weights.pt").write_text("7")
    with pytest.raises(MlselError, match=r"weights\.pt is not the file that the training left"):
        load_model(model)
    with pytest.raises(MlselError, match=r"files\.weights\.pt \(.*--again"):
        train_study(asked, tmp_path, world())
    (item,) = model_items(asked, tmp_path)
    assert item.state == "stale" and item.text.startswith("files.weights.pt (")
    train_study(asked, tmp_path, world(), again=True)
    assert (model / "weights.pt").read_text() == written
    description = json.loads((model / "model.json").read_text())
    del description["files"]  # as a version that did not say wrote it
    (model / "model.json").write_text(json.dumps(description))
    (model / "weights.pt").write_text("7")
    train_study(asked, tmp_path, world())
    assert load_model(model).facts == {"weights": "7"}


def test_a_changed_baseline_makes_a_model_stale(tmp_path: Path) -> None:
    write_pool(StudyFolder(tmp_path).data_set("random"), [frames(8)])
    train_study(study('selection.methods=["random"]'), tmp_path, world())
    other = study('selection.methods=["random"]', "training.baseline.zbl=[2.0,4.0]")
    with pytest.raises(MlselError, match=r"baseline.*--again"):
        train_study(other, tmp_path, world())


def test_a_baseline_is_written_beside_a_model_of_its_own_alone(tmp_path: Path) -> None:
    """Beside a model of another one it would be added to what that model predicts."""
    write_pool(StudyFolder(tmp_path).data_set("random"), [frames(8)])
    train_study(study('selection.methods=["random"]'), tmp_path, world())
    model = StudyFolder(tmp_path).model("random/counting")
    zbl = study('selection.methods=["random"]', "training.baseline.zbl=[2.0,4.0]")
    (task,) = tasks_of(zbl, tmp_path)
    assert task.baseline is not None
    settle_added([task])
    assert read_baseline(model) is None
    description = json.loads((model / "model.json").read_text())
    description["baseline"] = task.baseline.identity  # as if it were trained on the rest
    (model / "model.json").write_text(json.dumps(description))
    settle_added([task])
    assert read_baseline(model) == task.baseline


def test_a_model_of_other_data_is_stale(tmp_path: Path) -> None:
    asked, data = study('selection.methods=["random"]'), StudyFolder(tmp_path).data_set("random")
    write_pool(data, [frames(8)])
    train_study(asked, tmp_path, world())
    write_pool(data, [frames(8, seed=2)])
    with pytest.raises(MlselError, match=r"data\.digest.*--again"):
        train_study(asked, tmp_path, world())
