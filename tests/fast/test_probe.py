"""The two-ion probe, on potentials whose barrier and hole are known."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsel.core.errors import MlselError
from mlsel.evaluate.command import main
from mlsel.evaluate.probe import Approach, approaches, barrier_and_hole, judge
from mlsel.pool.pool import Pool
from mlsel.training.command import main as train
from tests.support import Tolerance
from tests.support.training_data import frames, write_pool


def wall(r: Any) -> Any:
    return 5.0 * np.exp(2.0 * (2.0 - r))


def with_a_hole(r: Any) -> Any:
    """The wall until 2 Å, then down by 3 eV over half an ångström, and up again."""
    turned = np.where(r < 2.0, 5.0 - 3.0 * np.clip((2.0 - r) / 0.5, 0, 1), wall(r))
    return np.where(r < 1.5, 2.0 + 10.0 * (1.5 - r), turned)


def approach() -> Approach:
    distances = np.linspace(3.0, 1.0, 401)
    positions = np.zeros((401, 2, 3))
    positions[:, 1, 0] = distances
    numbers = np.array([11, 17])
    return Approach("Na-Cl", 2.2, numbers, (False,) * 3, np.zeros((3, 3)), distances, positions)


Curve = Callable[[Any], Any]


@pytest.mark.parametrize(
    ("curve", "barrier", "hole"),
    [(wall, float(wall(1.0) - wall(3.0)), 0.0), (with_a_hole, float(5.0 - wall(3.0)), 3.0)],
)
def test_barrier_and_hole_of_known_curves(curve: Curve, barrier: float, hole: float) -> None:
    def energies(_: Any, positions: Any, *more: Any) -> Any:
        return curve(np.linalg.norm(positions[:, 1] - positions[:, 0], axis=1))

    found = judge([approach()], energies, lambda *frames: 1.5 * energies(*frames))
    assert found.barrier == pytest.approx(barrier, abs=0.05)
    assert found.hole == pytest.approx(hole, abs=0.05)
    known = np.linspace(3.0, 2.2, 161)
    half = 0.5 * (wall(known) - wall(3.0))
    assert found.error == pytest.approx(np.sqrt(np.mean(half**2)), rel=0.02)


def test_what_is_no_number_is_the_deepest_hole() -> None:
    assert barrier_and_hole(np.array([0.0, 1.0, np.nan]), np.ones(3, bool)) == (0.0, np.inf)


def test_atoms_are_moved_towards_each_other(tmp_path: Path) -> None:
    path = write_pool(tmp_path / "test.h5", [frames(6, side=4)])
    with Pool(path) as pool:
        made = approaches(pool)
    assert {one.pair for one in made} == {"Na-Na", "Na-Cl", "Cl-Cl"}
    for one in made:
        moved = np.abs(one.positions[-1] - one.positions[0]).sum(axis=1) > 0
        first, second = np.flatnonzero(moved)
        vectors = one.positions[:, second] - one.positions[:, first]
        shares = vectors @ np.linalg.inv(one.cell)
        vectors = (shares - np.round(shares[0])) @ one.cell
        np.testing.assert_allclose(
            np.linalg.norm(vectors, axis=1), one.distances, rtol=Tolerance.SUMS
        )
        assert one.distances[-1] == pytest.approx(0.5 * one.shortest)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pair potential with its wall has no hole of its own; a folder without models is told."""
    with pytest.raises(MlselError, match="There is no test set"):
        main(["quick", "-o", str(tmp_path), "--probe"])
    write_pool(tmp_path / "data" / "test.h5", [frames(6, side=4)])
    with pytest.raises(MlselError, match="no finished model"):
        main(["quick", "-o", str(tmp_path), "--probe"])
    data = write_pool(tmp_path / "data" / "random.h5", [frames(40, seed=2, side=4)])
    out = tmp_path / "models" / "random" / "pair"
    words = ["quick", "--data", str(data), "--model", "pair", "-o", str(out)]
    assert train([*words, "--set", 'training.kinds=["pair"]']) == 0
    assert main(["quick", "-o", str(tmp_path), "--probe"]) == 0
    with (tmp_path / "evaluation" / "probe.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["pair"] for row in rows] == ["Na-Na", "Na-Cl", "Cl-Cl"]
    # In one frame the labels' own potential falls by 0.07 eV: the two leave other neighbours.
    assert all(float(row["hole"]) < 0.1 for row in rows)
    assert (tmp_path / "evaluation" / "probe.svg").is_file()
    assert "probe.csv" in capsys.readouterr().out
