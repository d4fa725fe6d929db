"""The committee that watches a run: what it calls disagreement, and who belongs to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from mlsel.training.base import Prediction
from mlsel.training.frames import Frames
from mlsel.validate.uncertainty import Committee, committee_of, disagreement, not_watched


@dataclass(frozen=True)
class Pull:
    """A "model" whose forces are its strength times the positions."""

    strength: float

    def predict(self, frames: Frames) -> Prediction:
        n, n_atoms = len(frames), frames.n_atoms
        forces = self.strength * frames.positions
        return Prediction(np.zeros(n), forces, np.zeros((n, n_atoms)))


def frames_of(positions: np.ndarray) -> Frames:
    n = len(positions)
    return Frames(np.full(positions.shape[1], 11), positions, np.repeat(np.eye(3)[None], n, axis=0))


def test_disagreement_is_the_spread_about_the_mean() -> None:
    models = cast("Any", [Pull(1.0), Pull(3.0)])
    frames = frames_of(np.arange(18.0).reshape(2, 3, 3))
    expected = np.linalg.norm(frames.positions, axis=2)  # |F − F̄| is the position's length
    np.testing.assert_allclose(disagreement(models, frames), expected)
    committee = Committee(models, limit=float(expected[0].max()))
    found = committee.summary(frames)
    np.testing.assert_allclose(found[:, 1], expected.max(axis=1))
    assert found[:, 2].tolist() == [0.0, 1.0]
    lost = frames_of(np.full((1, 3, 3), np.nan))
    assert committee.summary(lost)[0, 2] == 1.0


def test_a_committee_is_of_one_kind_and_data_set(tmp_path: Path) -> None:
    for name, kind in (("s1", "schnet"), ("s2", "schnet"), ("g1", "gap")):
        (tmp_path / "random" / name).mkdir(parents=True)
        (tmp_path / "random" / name / "model.json").write_text(json.dumps({"kind": kind}))
    found = committee_of(tmp_path / "random" / "s2")
    assert [path.name for path in found] == ["s1", "s2"]
    assert committee_of(tmp_path / "random" / "g1") == ()
    told = not_watched(tmp_path / "random" / "g1", "gap")
    assert "random/g1 is the only gap trained on random, and a committee needs two" in told
