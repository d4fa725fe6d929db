"""`mlsel predict`: forces of several models on a pool, as the method `committee` reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlsel.__main__ import main
from mlsel.core.errors import MlselError
from mlsel.pool.pool import Pool
from mlsel.selection.registry import make_selector
from mlsel.training import predictions
from mlsel.training.pair.trainer import PairTrainer
from mlsel.training.registry import load_model
from mlsel.training.task import Task
from tests.support.training_data import CUTOFF, frames, write_pool

SINGLE = 1e-6  # eV/Å: what float32 leaves of forces of some eV/Å


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two pair potentials of different frames."""
    folder = tmp_path_factory.mktemp("models")
    made = []
    for seed in (1, 2):
        data = write_pool(folder / f"{seed}.h5", [frames(4, seed=seed)])
        out = folder / f"pair-{seed}"
        Task("data", data, None, PairTrainer(cutoff=CUTOFF), None, out).perform(lambda _: None)
        made.append(str(out))
    return made


def test_forces_stand_where_the_committee_looks_for_them(
    models: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "ATOMS", 20)  # two frames, or none whole, a task
    runs = [frames(5, seed=3), frames(2, seed=4, side=4), frames(3, seed=5)]
    pool, out = write_pool(tmp_path / "pool.h5", runs), tmp_path / "forces.npy"
    assert main(["predict", str(pool), *models, "-o", str(out)]) == 0
    told = np.load(out)
    opened = [load_model(folder) for folder in models]
    plain = [
        np.concatenate([model.predict(part).forces.reshape(-1, 3) for part in runs])
        for model in opened
    ]
    assert told.dtype == np.float32
    assert np.abs(told - plain).max() < SINGLE
    apart = np.linalg.norm((plain[0] - plain[1]) / 2, axis=1)  # of two from their mean
    ends = np.cumsum([part.n_atoms for part in runs for _ in range(len(part))])
    worst = [part.max() for part in np.split(apart, ends[:-1])]
    with Pool(pool) as opened_pool:
        chosen = make_selector("committee", {"predictions": str(out)}).select(opened_pool, 3, 1)
    assert chosen.frame_ids.tolist() == np.argsort(worst)[::-1][:3].tolist()


def test_of_one_size_the_array_has_a_row_a_frame(models: list[str], tmp_path: Path) -> None:
    part = frames(3, seed=6)
    pool, out = write_pool(tmp_path / "pool.h5", [part]), tmp_path / "forces.npy"
    main(["predict", str(pool), models[1], "-o", str(out)])
    told = np.load(out)
    assert told.shape == (1, 3, part.n_atoms, 3)
    assert np.abs(told[0] - load_model(models[1]).predict(part).forces).max() < SINGLE


def test_what_cannot_be_is_told(models: list[str], tmp_path: Path) -> None:
    pool, out = write_pool(tmp_path / "pool.h5", [frames(2)]), tmp_path / "forces.npy"
    with pytest.raises(MlselError, match=r"end FILE in \.npy"):
        main(["predict", str(pool), *models, "-o", str(tmp_path / "forces.txt")])
    with pytest.raises(MlselError, match="is named twice"):
        main(["predict", str(pool), models[0], models[0], "-o", str(out)])
    with pytest.raises(MlselError, match=r"model\.json"):
        main(["predict", str(pool), str(tmp_path), "-o", str(out)])
    out.write_bytes(b"mine")
    with pytest.raises(MlselError, match="--force"):
        main(["predict", str(pool), *models, "-o", str(out)])
    assert out.read_bytes() == b"mine"


def test_a_force_that_is_no_number_leaves_no_file(
    models: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(models[0])
    real = type(model).predict

    def spoilt(self: object, part: object) -> object:
        found = real(self, part)  # type: ignore[arg-type]
        found.forces[1, 0, 0] = np.nan
        return found

    monkeypatch.setattr(type(model), "predict", spoilt)
    pool, out = write_pool(tmp_path / "pool.h5", [frames(3)]), tmp_path / "forces.npy"
    with pytest.raises(MlselError, match="not finite in frame 1"):
        main(["predict", str(pool), *models, "-o", str(out)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pool.h5"]
