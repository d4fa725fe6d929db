"""The stage: all data sets of a study, and one from any pool."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from benchmarks.synthetic import write_synthetic_pool
from mlsel.core.errors import MlselError
from mlsel.pool.pool import Pool
from mlsel.selection import PAPER_METHODS
from mlsel.selection.command import main

SMALL = ["selection.n_train=20", "selection.n_validation=5", "selection.n_test=100"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_synthetic_pool(tmp_path / "pool.h5", 400, n_atoms=10, frames_per_run=100)
    return tmp_path


def run_stage(folder: Path, *settings: str) -> int:
    words = [word for setting in (*SMALL, *settings) for word in ("--set", setting)]
    return main(["paper", "-o", str(folder), *words])


def frames(path: Path) -> set[int]:
    with Pool(path) as data:
        return set(data.values("source_frame").tolist())


def test_all_data_sets_of_a_study(folder: Path) -> None:
    assert run_stage(folder) == 0
    training = {m: frames(folder / f"data/{m}.h5") for m in PAPER_METHODS}
    validation = {m: frames(folder / f"data/{m}-validation.h5") for m in PAPER_METHODS}
    taken: set[int] = set().union(*training.values(), *validation.values())
    assert all(len(found) == 20 for found in training.values())
    assert all(len(found) == 5 for found in validation.values())
    assert not set().union(*training.values()) & set().union(*validation.values())
    assert len(training["single-md-random"] | frames(folder / "data/random.h5")) > 20
    with Pool(folder / "data/test.h5") as test:
        chosen = test.values("source_frame")
        parts = json.loads(test.attributes["parts"])
    assert len(set(chosen.tolist())) == len(chosen) == 100
    assert not taken & set(chosen.tolist())
    assert [part["method"] for part in parts] == list(PAPER_METHODS)
    assert [part["n"] for part in parts] == [20] * 5


def test_only_molten_runs(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two of four runs are solid: left out, or told."""
    caplog.set_level("INFO")
    with h5py.File(folder / "pool.h5", "r+") as file:
        for index in range(4):
            file[f"particles/run-{index:04d}"].attrs["molten"] = index >= 2
    solid = set(range(200))
    assert run_stage(folder, "selection.molten_only=false") == 0
    assert frames(folder / "data" / "random.h5") & solid
    assert "% of runs that did not stay molten" in caplog.text
    shutil.rmtree(folder / "data")
    assert run_stage(folder, "selection.n_test=20", "selection.run=run-0003") == 0
    assert "200 of 400 frames are left out" in caplog.text
    for path in (folder / "data").glob("*.h5"):
        assert not frames(path) & solid


def test_each_seed_has_its_data_sets_and_those_that_are_there_stay(folder: Path) -> None:
    three = 'selection.methods=["random","force"]', 'selection.test_methods=["random"]'
    run_stage(folder, *three, "selection.n_test=0")
    first = {path.name: path.read_bytes() for path in (folder / "data").iterdir()}
    assert run_stage(folder, *three, "selection.seeds=3") == 0
    names = [f"{m}{s}{v}" for m in ("random", "force") for s in ("", "-s2", "-s3")
             for v in ("", "-validation")]  # fmt: skip
    assert {path.stem for path in (folder / "data").iterdir()} == {*names, "test"}
    assert all((folder / "data" / name).read_bytes() == was for name, was in first.items())
    held = {name: frames(folder / f"data/{name}.h5") for name in [*names, "test"]}
    assert not held["test"] & set().union(*(held[name] for name in names))
    assert not held["force-s2"] & held["force-s2-validation"]
    assert len(held["random"] & held["random-s2"] & held["random-s3"]) < 5
    with pytest.raises(MlselError, match=r"test.h5 was made otherwise .*excluded"):
        run_stage(folder, *three, "selection.seeds=2")


def test_one_stream_for_all_methods_or_one_each(folder: Path) -> None:
    """From one random order with one bin, uniform is random; from two orders it is another draw."""
    small = ['selection.methods=["random","force"]', "selection.bins=1", "selection.n_test=0"]
    for streams, shared in (("common", 20), ("own", 5)):
        out = folder / streams
        out.mkdir()
        shutil.copy(folder / "pool.h5", out)
        run_stage(out, *small, f"selection.streams={streams}", "selection.seeds=2")
        drawn = [frames(out / f"data/{n}.h5") for n in ("random", "force", "random-s2", "force-s2")]
        both = [len(drawn[0] & drawn[1]), len(drawn[2] & drawn[3])]
        assert both == [20, 20] if shared == 20 else max(both) <= shared
        assert len(drawn[0] & drawn[2]) <= 5


def test_starting_again_does_nothing(folder: Path) -> None:
    run_stage(folder)
    times = {path: path.stat().st_mtime_ns for path in (folder / "data").iterdir()}
    (folder / "data/force.h5").unlink()
    run_stage(folder)
    after = {path: path.stat().st_mtime_ns for path in (folder / "data").iterdir()}
    changed = [path.name for path in times if times[path] != after[path]]
    assert changed == ["force.h5"]


def test_a_stale_data_set_is_named(folder: Path) -> None:
    run_stage(folder)
    with pytest.raises(MlselError, match=r"random.h5 was made otherwise .*n \(20 there, 21 now\)"):
        run_stage(folder, "selection.n_train=21")


def test_too_few_frames_for_the_single_run(folder: Path) -> None:
    with pytest.raises(MlselError, match=r"Asked for 120 frames, .* has 100 in run run-"):
        run_stage(folder, "selection.n_train=120")


def test_one_data_set(folder: Path) -> None:
    pool, first, second = (str(folder / name) for name in ("pool.h5", "a.h5", "b.h5"))
    common = ["--pool", pool, "--method", "force", "-n", "30", "--parameter", "bins=64"]
    assert main([*common, "-o", first]) == 0
    assert main([*common, "--exclude", first, "-o", second]) == 0
    assert not frames(folder / "a.h5") & frames(folder / "b.h5")
    before = (folder / "a.h5").stat().st_mtime_ns
    assert main([*common, "-o", first]) == 0  # it is there
    for more in (["--given", second], ["--seed", "2"]):
        with pytest.raises(MlselError, match=r"a\.h5 was made otherwise .*Give --again"):
            main([*common, *more, "-o", first])
    for path in (folder / "notes.txt", folder / "pool.h5"):
        path.touch()
        with pytest.raises(MlselError, match=r"is there already, and was not made by a selection"):
            main([*common, "--again", "-o", str(path)])
    assert (folder / "a.h5").stat().st_mtime_ns == before
    assert main([*common, "--seed", "2", "--again", "-o", second]) == 0
    with Pool(second) as data:
        assert data.attributes["seed"] == 2
    with Pool(first) as data:
        assert json.loads(data.attributes["method_parameters"]) == {"bins": 64, "species": ""}
        assert data.attributes["seed"] == 1
        energies = data.values("energy")
        chosen = data.values("source_frame")
    with Pool(pool) as whole:
        assert np.array_equal(energies, whole.values("energy")[chosen])
        assert whole.digest == data.attributes["pool_digest"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--method", "force"], "--method is for one data set"),
        (["--pool", "pool.h5", "--method", "force", "-o", "x.h5"], "-n is missing"),
        (["--pool", "no.h5", "--method", "force", "-n", "1", "-o", "x"], "There is no pool no.h5"),
        (["--pool", "a", "--method", "farce", "-n", "1", "-o", "x"], r"did you mean force\?"),
        (["--pool", "a", "--method", "force", "-n", "1", "-o", "x", "--parameter", "k"], "write K"),
        (["quick", "--pool", "a", "--method", "force", "-n", "1", "-o", "x"], "leave them out"),
    ],
)
def test_mistakes_are_told(words: list[str], sentence: str) -> None:
    with pytest.raises(MlselError, match=sentence):
        main(words)


def test_excluding_frames_of_another_pool_is_refused(folder: Path) -> None:
    write_synthetic_pool(folder / "other.h5", 20, n_atoms=10, seed=2)
    words = ["--method", "random", "-n", "5"]
    pool, other = str(folder / "pool.h5"), str(folder / "a.h5")
    main(["--pool", str(folder / "other.h5"), *words, "-o", other])
    with pytest.raises(MlselError, match=r"a.h5 was not selected from .*pool.h5"):
        main(["--pool", pool, *words, "-o", str(folder / "b.h5"), "--exclude", other])


def test_list_names_all_methods(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert set(PAPER_METHODS) <= set(listed)


def test_methods_draw_numbers_of_their_own(folder: Path) -> None:
    run_stage(folder)
    seeds = []
    for path in (folder / "data").glob("*.h5"):
        with Pool(path) as data:
            seeds.append(int(data.attributes["seed"]))
    assert len(set(seeds)) == len(seeds) == 2 * len(PAPER_METHODS) + 1
