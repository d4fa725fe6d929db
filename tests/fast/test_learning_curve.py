"""How many configurations a level takes: against power laws, whose answer is known."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsel.core.errors import MlselError
from mlsel.core.parallel import world
from mlsel.evaluate.learning_curve import (
    Need,
    crossing,
    curves,
    points_of,
    ratio,
    read_points,
    sentences,
    write_points,
)
from mlsel.evaluate.learning_figure import main as figure
from mlsel.evaluate.learning_figure import stable_times
from mlsel.evaluate.stage import evaluate
from mlsel.pool.pool import Pool
from mlsel.selection.stage import select_study
from mlsel.study.folder import StudyFolder
from mlsel.study.study import Study, load_study
from mlsel.training.stage import model_names, train_study
from tests.support.training_data import frames, write_pool

SIZES = (32, 64, 128, 256, 512)


def points(seeds: int, noise: float = 0.05, **factors: float) -> list[dict[str, Any]]:
    """Errors factor/√n; what a seed does to all sizes and methods alike is a factor."""
    rng = np.random.default_rng(8)
    common = np.exp(noise * rng.standard_normal(seeds))
    own = {m: np.exp(noise / 10 * rng.standard_normal((seeds, len(SIZES)))) for m in factors}
    made = []
    for method, factor in factors.items():
        for k in range(seeds):
            for place, n in enumerate(SIZES):
                value = factor * common[k] * own[method][k, place] / np.sqrt(n)
                name = f"net-s{k + 1}" if k else "net"
                made.append({"dataset": f"{method}-n{n}", "model": name, "kind": "net", "n": n,
                             "max": 9 * value, "rmse": value, "mae": value / 2})  # fmt: skip
    return made


def test_a_power_law_is_passed_where_it_is() -> None:
    n = np.array(SIZES, float)
    assert crossing(n, 1 / np.sqrt(n), 0.08) == pytest.approx(1 / 0.08**2)
    assert crossing(n, 1 / np.sqrt(n), 0.2) == 0
    assert crossing(n, 1 / np.sqrt(n), 0.04) == np.inf
    assert np.isnan(crossing(n, np.where(n > 100, np.nan, 1.0), 0.5))


def test_a_bump_is_passed_once() -> None:
    """Two sizes whose errors are the wrong way round count as their mean."""
    n = np.array([10.0, 100.0, 1000.0, 10000.0])
    bumpy = crossing(n, np.array([0.8, 0.2, 0.4, 0.1]), 0.3)
    flat = crossing(n, np.array([0.8, 0.08**0.5, 0.08**0.5, 0.1]), 0.3)
    assert bumpy == pytest.approx(flat)


def test_the_error_is_the_scatter_of_studies() -> None:
    """Of many studies with 5 seeds each, the jackknife's error is the scatter of their answers."""
    rng = np.random.default_rng(4)
    n = np.array(SIZES, float)
    found = []
    for _ in range(200):
        rows = [
            {"dataset": f"force-n{size:.0f}", "model": f"net-s{k + 2}", "kind": "net",
             "n": int(size), "max": 1.0, "rmse": value, "mae": 1.0}
            for k in range(5)
            for size, value in zip(n, np.exp(0.1 * rng.standard_normal(5)) / np.sqrt(n),
                                   strict=True)
        ]  # fmt: skip
        found.append(Need.of(curves(rows)[0], 0.08))
    logs = np.log([need.n for need in found])
    told = np.sqrt(np.mean([(need.error / need.n) ** 2 for need in found]))
    assert told == pytest.approx(logs.std(), rel=0.2)
    assert np.exp(logs.mean()) == pytest.approx(1 / 0.08**2, rel=0.05)


def test_what_a_seed_does_to_both_methods_cancels() -> None:
    """Twice the frames, each known to 10 %, their ratio to 1 %."""
    force, random = (Need.of(curve, 0.1) for curve in curves(points(5, force=1.0, random=2**0.5)))
    assert force.error / force.n > 0.03
    times, sigmas = ratio(force, random)
    assert times == pytest.approx(2, rel=0.05) and sigmas > 40
    (told,) = sentences(points(5, force=1.0, random=2**0.5), [0.1])
    assert "RMSE 0.1 eV/Å is reached by force with " in told and "force needs 2.0 times" in told


def test_nothing_is_said_beyond_the_errors() -> None:
    (told,) = sentences(points(5, noise=0.2, force=1.0, random=1.01), [0.08])
    assert "no difference between two is beyond 2 standard errors" in told
    (told,) = sentences(points(2, force=1.0, random=2.0), [0.1])
    assert "(2 seeds)" in told and "no two can be compared (2 seeds, 3 are needed)" in told
    (told,) = sentences(points(1, force=1.0, random=0.3, energy=9.0), [0.08])
    assert "random with 32 or fewer" in told and "energy not with 512" in told
    assert "force with about 130 (one seed)" in told  # 156, but for its noise


def test_without_a_level_all_reach_the_one_that_is_taken() -> None:
    (told,) = sentences(points(4, force=1.0, random=2.0), [])
    assert "not with" not in told and "one of the seeds" not in told


def test_the_studys_own_sets_are_points_too() -> None:
    rows = points(1, force=1.0)
    rows += [{**rows[0], "dataset": "force"}, {**rows[0], "dataset": "random"}]
    known = {f"{row['dataset']}/net": row["n"] for row in rows} | {"force/net": 1024}
    found = points_of(rows, known)
    assert [(p["dataset"], p["n"]) for p in found] == [
        ("force", 1024), *((f"force-n{n}", n) for n in SIZES)
    ]  # fmt: skip


OVERRIDES = (
    'selection.methods=["random","force"]',
    'selection.test_methods=["random"]',
    "selection.n_train=12",
    "selection.n_validation=3",
    "selection.n_test=8",
    'training.kinds=["pair"]',
    "training.pair.cutoff=4.0",
)
UNSEEN = ('selection.unseen_runs=["run-1"]', "selection.n_unseen=4")


def study(*more: str) -> Study:
    return load_study("quick", [*OVERRIDES, *UNSEEN, "learning.n=[]", "learning.seeds=0", *more])


def test_a_study_with_learning_curves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    write_pool(tmp_path / "pool.h5", [frames(60, seed=4), frames(10, seed=9)])
    comm = world()
    select_study(study(), tmp_path, comm)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "data").iterdir()}
    asked = study("learning.n=[4,12,20]", "learning.seeds=3")
    select_study(asked, tmp_path, comm)

    def held(name: str) -> list[int]:
        with Pool(tmp_path / "data" / f"{name}.h5") as data:
            return [int(frame) for frame in data.values("source_frame")]

    for name, time in before.items():  # the study's own sets stay
        assert (tmp_path / "data" / name).stat().st_mtime_ns == time
    assert held("test")[8:] == [60, 63, 66, 69] and max(held("test")[:8]) < 60
    assert all(max(held(path.stem)) < 60 for path in (tmp_path / "data").glob("[fr]*.h5"))
    elsewhere = {*held("test"), *held("random-validation"), *held("force-validation")}
    for method in ("random", "force"):
        for n in (4, 12):
            assert held(f"{method}-n{n}") == held(method)[:n]
        assert len({*held(f"{method}-n20")}) == 20
        assert not elsewhere & {*held(f"{method}-n20")}
        assert held(f"{method}-s2-n4") == held(f"{method}-s2-n12")[:4] != held(method)[:4]
        assert not elsewhere & {*held(f"{method}-s2-n12")}
    names = model_names(asked, tmp_path)
    assert "random-n4/pair" in names and "random-n12/pair" not in names
    train_study(asked, tmp_path, comm)
    evaluate(asked, tmp_path, comm)
    with (tmp_path / "evaluation" / "learning.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"].startswith("random")]
    own = [row for row in rows if "-s" not in row["dataset"]]
    assert [int(row["n"]) for row in own] == [12, 4, 20] and len(rows) == 9
    with (tmp_path / "evaluation" / "summary.csv").open() as file:
        summed = {row["dataset"]: row["n"] for row in csv.DictReader(file)}
    assert summed == {"random": "3", "force": "3"}  # seeds 2 and 3 are the curves', at n = 12
    with (tmp_path / "evaluation" / "errors.csv").open() as file:
        counts = {
            row["part"]: int(row["n"])
            for row in csv.DictReader(file)
            if (row["element"], row["quantity"]) == ("all", "force_component")
        }
    assert (counts["all"], counts["random"], counts["unseen runs"]) == (192, 192, 96)
    assert counts["run run-1"] == 96 and counts["run run-0"] == 192
    capsys.readouterr()
    assert figure([str(tmp_path), "--level", "1e-9", "-o", str(tmp_path / "curve")]) == 0
    assert "force not with 20" in capsys.readouterr().out
    assert (tmp_path / "curve.svg").stat().st_size > 5000
    with pytest.raises(MlselError, match=r"give \[learning\] n = "):
        figure([str(tmp_path / "data")])
    for settings, match in (
        (['selection.unseen_runs=["run-7"]'], r"names run-7 .*has the runs run-0, run-1"),
        (["selection.n_unseen=11"], "have 10 frames together: give 1 to 10"),
    ):
        with pytest.raises(MlselError, match=match):
            select_study(study(*settings), tmp_path, comm)
    with pytest.raises(MlselError, match=r"learning\.methods names energy: give some of"):
        study('learning.methods=["energy"]')


def test_stable_times_stand_beside_the_errors(tmp_path: Path) -> None:
    """Of models that were run in MD, by the names of their runs; one that fell apart at once and
    those that were not run have none."""
    place = StudyFolder(tmp_path)
    rows = points(2, force=1.0, random=2.0)
    write_points(rows, place.learning)
    verdicts = [
        {"name": f"force-n{n}/net{seed}", "stable_time": time}
        for seed, factor in (("", 1.0), ("-s2", 3.0))
        for n, time in ((32, factor), (128, 4 * factor), (512, 0.0))
    ]
    place.validation.mkdir()
    place.verdicts.write_text(json.dumps({"verdicts": verdicts}), encoding="utf-8")
    (curve,) = stable_times(read_points(place.learning), place.learning)
    assert (curve.method, curve.n.tolist()) == ("force", [32.0, 128.0])
    np.testing.assert_allclose(curve.mean, [2.0, 8.0])
