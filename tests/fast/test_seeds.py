"""Means over seeds, paired differences, and what may be said of them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from mlsel.evaluate.seeds import comparisons, sentences, summary, write_tables
from mlsel.study.study import load_study
from mlsel.training.registry import trainers
from mlsel.training.stage import tasks_of
from tests.support import Tolerance


def rows(values: dict[str, list[float]], model: str = "net") -> list[dict[str, object]]:
    return [
        {
            "dataset": dataset,
            "model": model if k == 0 else f"{model}-s{k + 1}",
            "max": 10 * value,
            "rmse": value,
            "mae": value / 2,
        }
        for dataset, each in values.items()
        for k, value in enumerate(each)
    ]


# A seed moves both sets by up to 0.05, the second lies 0.01 lower but for ± 0.001.
COMMON = np.array([0.10, 0.15, 0.12, 0.11, 0.14])
PAIRED = {
    "random": COMMON.tolist(),
    "force": (COMMON - 0.01 + 0.001 * np.array([1, -1, 0, 1, -1])).tolist(),
}


def test_mean_and_standard_error_by_hand() -> None:
    (first, second) = summary(rows({"random": [1.0, 2.0, 3.0], "force": [4.0]}))
    assert first["n"] == 3 and first["rmse"] == pytest.approx(2.0)
    assert first["rmse_error"] == pytest.approx(1 / np.sqrt(3))  # deviation 1, three seeds
    assert second["n"] == 1 and np.isnan(second["rmse_error"])


def test_what_a_seed_does_to_both_cancels() -> None:
    """Unpaired, 0.01 is lost in 0.02; paired, it is ten standard errors and more."""
    found = {row["measure"]: row for row in comparisons(rows(PAIRED))}
    assert found["rmse"]["difference"] == pytest.approx(0.01)
    assert found["rmse"]["error"] == pytest.approx(0.001 / np.sqrt(5), rel=Tolerance.SIX_DIGITS)
    assert found["rmse"]["smaller"] == "force"
    spread = [row["rmse_error"] for row in summary(rows(PAIRED))]
    assert all(error > 0.008 for error in spread)


def test_nothing_is_said_beyond_the_errors() -> None:
    equal = {"random": [0.1, 0.2, 0.3], "force": [0.2, 0.1, 0.3]}
    assert all(not row["smaller"] for row in comparisons(rows(equal)))
    assert "in 0 of 1 pairs" in sentences(comparisons(rows(equal)))[0]
    two = {"random": [0.1, 0.1], "force": [0.2, 0.2]}
    assert all(not row["smaller"] for row in comparisons(rows(two)))
    assert "2 seeds of each data set: no order" in sentences(comparisons(rows(two)))[0]
    told = sentences(comparisons(rows(PAIRED)))[0]
    assert "in 1 of 1 pairs of data sets: force below random by 0.01" in told


def test_only_common_seeds_are_compared() -> None:
    uneven = {"random": [0.1, 0.2, 0.3, 9.0], "force": [0.0, 0.1, 0.2]}
    (row,) = [r for r in comparisons(rows(uneven)) if r["measure"] == "rmse"]
    assert row["n"] == 3 and row["difference"] == pytest.approx(0.1)


def test_models_of_one_data_set_are_one_selection() -> None:
    """Two selections, two models each: n is 2, each the mean of its models, paired by selection."""
    made: list[dict[str, object]] = []
    for dataset, each in {
        "random": [0.1, 0.3], "random-s2": [0.4, 0.6], "force": [0.1, 0.1], "force-s2": [0.3, 0.5],
    }.items():  # fmt: skip
        made += [row | {"dataset": dataset} for row in rows({"": each})]
    (random, force) = summary(made)
    assert (random["dataset"], random["n"], force["n"]) == ("random", 2, 2)
    assert random["rmse"] == pytest.approx(0.35)  # of 0.2 and 0.5
    assert random["rmse_error"] == pytest.approx(0.15)
    (row,) = [r for r in comparisons(made) if r["measure"] == "rmse"]
    assert (row["n"], row["difference"], row["error"]) == pytest.approx((2, 0.1, 0.0))


def test_tables(tmp_path: Path) -> None:
    made = write_tables(rows(PAIRED), tmp_path)
    with made[0].open() as file:
        assert [row["n"] for row in csv.DictReader(file)] == ["5", "5"]


def test_each_data_set_of_a_method_has_models_of_its_own_seeds(tmp_path: Path) -> None:
    settings = ["selection.seeds=3", "training.seeds=2", 'selection.methods=["random","force"]']
    settings.append("learning.n=[]")
    study = load_study("quick", settings)
    seeds = {task.name: task.trainer.parameters.get("seed")
             for task in tasks_of(study, tmp_path, must_exist=False)}  # fmt: skip
    net = "schnet-medium-e0.01"
    of_random = [seeds[f"random{s}/{net}{i}"] for s in ("", "-s2", "-s3") for i in ("", "-s2")]
    assert len(set(of_random)) == 6 and of_random[:2] == [1, 2]
    assert of_random == [
        seeds[f"force{s}/{net}{i}"] for s in ("", "-s2", "-s3") for i in ("", "-s2")
    ]
    assert [name for name in seeds if name.startswith("random-s3")] == [
        f"random-s3/{model}" for model in (net, f"{net}-s2", "gap-100-f0.1", "gap-100-f0.1-s2",
                                           "pair")
    ]  # fmt: skip
    fewer = load_study("quick", [*settings, "training.seeds=1", "selection.seeds=2"])
    for task in tasks_of(fewer, tmp_path, must_exist=False):
        assert task.trainer.parameters.get("seed") == seeds[task.name]


def test_a_study_trains_as_many_seeds_as_it_asks_for() -> None:
    settings = ['training.kinds=["schnet","gap","pair"]', "training.seeds=3"]
    made = trainers(load_study("quick", settings).training)
    names = [trainer.name for trainer in made]
    assert names.count("pair") == 1 and len(names) == 3 + 3 + 1
    nets = [t for t in made if t.name.startswith("schnet")]
    assert [t.parameters["seed"] for t in nets] == [1, 2, 3]
    assert [t.name.rpartition("-")[2] for t in nets[1:]] == ["s2", "s3"]
    assert names[0] == trainers(load_study("quick").training)[0].name
