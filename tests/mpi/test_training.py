"""Training and evaluation as a user runs them: on ranks, killed and given again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.support import run_mlsel
from tests.support.training_data import frames, write_pool

STUDY = """
[system]
species = ["Na", "Cl"]
potential = "nacl-tosi-fumi"
[pool]
temperatures = [1400]
pressures = [1]
[selection]
methods = ["random", "force"]
[training]
kinds = ["schnet"]
[training.schnet]
sizes = ["small"]
energy_weights = [0.01, 0.1]
cutoff = 4.0
n_train = 8
max_epochs = 30
"""
MODELS = [f"{d}/schnet-small-e{w}" for d in ("random", "force") for w in ("0.01", "0.1")]


def prepared(folder: Path) -> Path:
    """Write a study and its data sets; return the study's folder."""
    (folder / "tiny.toml").write_text(STUDY, encoding="utf-8")
    data = folder / "tiny" / "data"
    for k, name in enumerate(("random", "force")):
        write_pool(data / f"{name}.h5", [frames(8, seed=k + 1)])
        write_pool(data / f"{name}-validation.h5", [frames(4, seed=k + 3)])
    parts = json.dumps([{"method": m, "n": 5} for m in ("random", "force")])
    write_pool(data / "test.h5", [frames(10, seed=9)], parts=parts)
    return folder / "tiny"


def assert_same_models(one: Path, two: Path) -> None:
    for name in MODELS:
        a, b = (
            torch.load(folder / "models" / name / "weights.pt", weights_only=True)
            for folder in (one, two)
        )
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a), name


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study trained and evaluated by one process."""
    folder = tmp_path_factory.mktemp("alone")
    made = prepared(folder)
    for stage in ("training", "evaluate"):
        done = run_mlsel(stage, "tiny.toml", cwd=folder, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
    return made


def test_on_ranks_the_models_and_errors_are_the_same(alone: Path, tmp_path: Path) -> None:
    made = prepared(tmp_path)
    for stage in ("training", "evaluate"):
        done = run_mlsel(stage, "tiny.toml", cwd=tmp_path, ranks=2, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
    assert_same_models(alone, made)
    errors = [(f / "evaluation" / "errors.csv").read_text() for f in (alone, made)]
    assert errors[0] == errors[1]


GAP = """
kinds = ["gap"]
[training.gap]
fit = "own"
n_sparse = [10]
n_max = 3
l_max = 2
cutoff = 4.0
atom_sigma = 0.6
n_train = 8
"""


def test_ranks_share_a_fit_of_a_gap(tmp_path: Path) -> None:
    """The same file, whoever made it, of a study or alone."""
    text = STUDY.replace('["random", "force"]', '["random"]')
    text = text[: text.index("[training]")] + "[training]" + GAP
    (tmp_path / "tiny.toml").write_text(text, encoding="utf-8")
    files = []
    for ranks, is_study in ((0, True), (2, True), (2, False)):
        out = tmp_path / f"on-{ranks}-{is_study}"
        data = write_pool(out / "data" / "random.h5", [frames(8)])
        words: list[str | Path] = [] if is_study else ["--data", data, "--model", "gap"]
        place = out if is_study else out / "gap"
        done = run_mlsel(
            "training", "tiny.toml", "-o", place, *words, ranks=ranks, cwd=tmp_path,
            OMP_NUM_THREADS="1",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        folder = out / "models" / "random" / "gap-10-f0.1" if is_study else place
        assert json.loads((folder / "model.json").read_text())["parameters"]["fitted_by"] == "own"
        files.append((folder / "gap.xml").read_bytes())
    assert files[0] == files[1] == files[2]
