"""`training.baselines`: every model of a study once more beside each of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mlsel.core.errors import MlselError
from mlsel.core.parallel import world
from mlsel.evaluate.stage import evaluate
from mlsel.study.folder import StudyFolder
from mlsel.study.study import Study, load_study, record_study, recorded_study
from mlsel.training.baseline import Baseline, SumModel
from mlsel.training.registry import load_model, trainers
from mlsel.training.stage import baseline_of, train_study
from mlsel.training.state import items
from tests.support.training_data import frames, write_pool

WALL, SALT = "{zbl=[1.5,3.0]}", "{zbl=[1.5,3.0],charges={Na=1,Cl=-1}}"
BOTH = (f"training.baselines.wall={WALL}", f"training.baselines.salt={SALT}")


def study(*more: str) -> Study:
    words = ['selection.methods=["random"]', 'training.kinds=["pair"]', "learning.n=[]", *more]
    return load_study("quick", words)


def with_data(folder: Path) -> Path:
    write_pool(folder / "data" / "random.h5", [frames(12, side=4)])
    parts = json.dumps([{"method": "random", "n": 4}])
    write_pool(folder / "data" / "test.h5", [frames(4, seed=4, side=4)], parts=parts)
    return folder


def test_each_is_what_a_study_of_that_baseline_alone_makes(tmp_path: Path) -> None:
    together = with_data(tmp_path / "together")
    train_study(study(*BOTH), together, world())
    models = ["random/pair", "random/pair-salt", "random/pair-wall"]
    assert StudyFolder(together).finished_models() == models
    bare = frames(2, seed=5, side=4).unlabelled()
    for name, words in (("", ()), ("-wall", WALL), ("-salt", SALT)):
        alone = with_data(tmp_path / f"alone{name}")
        train_study(study(*([f"training.baseline={words}"] if words else [])), alone, world())
        one = load_model(alone / "models/random/pair").predict(bare)
        model = load_model(together / f"models/random/pair{name}")
        assert isinstance(model, SumModel) == bool(name)
        np.testing.assert_array_equal(model.predict(bare).forces, one.forces)
        np.testing.assert_array_equal(model.predict(bare).energy, one.energy)
    evaluate(study(*BOTH), together, world())
    table = (together / "evaluation" / "summary.csv").read_text()
    assert all(f"random,{name.partition('/')[2]}," in table for name in models)


def test_a_change_of_one_makes_the_models_beside_it_stale(tmp_path: Path) -> None:
    folder = with_data(tmp_path)
    train_study(study(*BOTH), folder, world())
    changed = study(BOTH[0], "training.baselines.salt={charges={Na=1,Cl=-1}}")
    states = {item.name: item.state for item in items(changed, folder)}
    done = {"random/pair": "done", "random/pair-wall": "done"}
    assert states == {**done, "random/pair-salt": "stale"}
    with pytest.raises(MlselError, match="baseline"):
        train_study(changed, folder, world())


def test_a_file_that_an_include_names_is_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, wall = with_data(tmp_path), Path("wall.lmp")
    wall.write_text("pair_coeff * * 0.2 1.0\n", encoding="utf-8")
    Path("own.lmp").write_text("pair_style lj/cut 3.0\ninclude wall.lmp\n", encoding="utf-8")
    asked = study("training.baseline.include=own.lmp")
    train_study(asked, folder, world())
    model, before = folder / "models/random/pair", wall.read_text(encoding="utf-8")
    description = (model / "model.json").read_text(encoding="utf-8")
    assert load_model(model).numbers == (11, 17)
    wall.write_text("pair_coeff * * 0.3 1.0\n", encoding="utf-8")
    with pytest.raises(MlselError, match=r"wall\.lmp was edited since .* set it back"):
        load_model(model)
    with pytest.raises(MlselError, match=r"baseline\.files\.wall\.lmp \("):
        train_study(asked, folder, world())
    wall.write_text(before, encoding="utf-8")
    train_study(asked, folder, world())
    old = json.loads(description)
    del old["baseline"]["files"]  # as a version that did not look wrote it
    (model / "model.json").write_text(json.dumps(old), encoding="utf-8")
    known = json.loads((model / "baseline.json").read_text(encoding="utf-8"))
    del known["files"]
    (model / "baseline.json").write_text(json.dumps(known), encoding="utf-8")
    train_study(asked, folder, world())
    assert load_model(model).numbers == (11, 17)


def test_seeds_are_the_same_beside_each() -> None:
    words = (
        'training.kinds=["schnet"]',
        "training.seeds=2",
        "training.schnet.energy_weights=[0.01]",
    )
    made = trainers(study(*BOTH, *words, 'training.schnet.sizes=["small"]').training)
    first = "schnet-small-e0.01"
    names = [f"{first}{label}{seed}" for label in ("", "-wall", "-salt") for seed in ("", "-s2")]
    assert [t.name for t in made] == names
    seeds = {t.name: t.parameters["seed"] for t in made}
    assert seeds[f"{first}-wall-s2"] == seeds[f"{first}-s2"] != seeds[first]
    beside = {t.beside: baseline_of(study(*BOTH), t) for t in made}
    assert beside[""] is None
    assert beside["wall"] == Baseline(zbl=(1.5, 3.0))


def test_a_folder_keeps_them(tmp_path: Path) -> None:
    record_study(study(*BOTH), tmp_path)
    kept = recorded_study(tmp_path)
    assert kept is not None
    assert kept.training == study(*BOTH).training


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("wall={zbl=[4.0,2.0]}", r"training\.baselines\.wall\.zbl is \[4, 2\]: it must be two"),
        ("s2={zbl=[2.0,4.0]}", 'names one "s2": give a word'),
        ("a-b={zbl=[2.0,4.0]}", 'names one "a-b": give a word'),
        ("wall=3", r"training\.baselines\.wall is 3: it must be a section"),
        ("wall={zbk=[2.0,4.0]}", r"unknown key training\.baselines\.wall\.zbk \(did you mean zbl"),
    ],
)
def test_wrong_ones_are_told(setting: str, sentence: str) -> None:
    with pytest.raises(MlselError, match=sentence):
        study(f"training.baselines.{setting}")


def test_a_guard_rail_beside_a_repulsion_is_refused() -> None:
    with pytest.raises(MlselError, match=r'is "zbl" beside training\.baselines\.wall\.zbl'):
        study(BOTH[0], "training.core=zbl")
