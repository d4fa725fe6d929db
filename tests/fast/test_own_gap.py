"""Our own fit of GAPs: against gap_fit, against differences, and what goes wrong."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsel.core import stopping
from mlsel.core.errors import MlselError, Stopped
from mlsel.core.native import KERNELS_OFF
from mlsel.study.study import load_study
from mlsel.training.frames import Frames
from mlsel.training.gap import evaluator, own_fit
from mlsel.training.gap.covariances import Covariances
from mlsel.training.gap.model import GapModel
from mlsel.training.gap.own_fit import STRAINS
from mlsel.training.gap.sparse_points import choose, pairs_within
from mlsel.training.gap.terms import TWO_BODY_POINTS, SparsePoints, terms_of
from mlsel.training.gap.trainer import GapTrainer
from mlsel.training.least_squares import BlockedLeastSquares, own_nodes, parts_of
from mlsel.training.registry import trainer_named
from tests.support import Tolerance
from tests.support.gap_files import sparse_points_of
from tests.support.training_data import frames, fully_labelled

CHEAP = {"n_max": 3, "l_max": 2, "n_sparse": 10, "cutoff": 4.0, "atom_sigma": 0.6}
AGREEMENT = Tolerance.EIGHT_DIGITS
"""eV and eV/Å, of predictions; a hundredth of what is promised."""
PAIRS = {(11, 11), (11, 17), (17, 17)}
H = 1e-4
"""Å or strain, of finite differences."""


def trainer(**changes: Any) -> GapTrainer:
    return GapTrainer(name="gap-10", **{"fitted_by": "own", **CHEAP, **changes})


@pytest.fixture(scope="module")
def train() -> Frames:
    return fully_labelled(frames(6))


CASES: dict[str, dict[str, Any]] = {
    "SOAP alone": {},
    "a pair term and virials": {"two_body": True, "virial_sigma": 0.02},
    "another kernel": {"zeta": 2.5, "delta": 0.7},
}


@pytest.mark.parametrize("case", CASES)
def test_same_predictions_as_gap_fit(
    case: str, train: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With gap_fit's sparse points, whose order and choice are its own."""
    theirs = trainer(fitted_by="gap_fit", **CASES[case]).fit([train], [], tmp_path / "gap_fit")
    points = sparse_points_of(theirs.folder / "gap.xml")
    monkeypatch.setattr(own_fit, "choose", lambda *_: points)
    ours = trainer(**CASES[case]).fit([train], [], tmp_path / "own")
    part = frames(3, seed=5)
    predictions = [theirs.predict(part)]
    if "two_body" in CASES[case]:
        predictions.append(ours.predict_with_quippy(part))
    for other in predictions:
        for name in ("energy", "forces", "atomic_energies", "virial"):
            np.testing.assert_allclose(
                getattr(ours.predict(part), name), getattr(other, name), rtol=0, atol=AGREEMENT
            )
    assert theirs.facts["reference_energies"] == ours.facts["reference_energies"]


def test_it_learns_as_well_with_its_own_points(train: Frames, tmp_path: Path) -> None:
    part = frames(4, seed=8)
    assert part.forces is not None
    for method in ("random", "cur_points"):
        model = trainer(sparse_method=method, two_body=True).fit([train], [], tmp_path / method)
        assert np.std(model.predict(part).forces - part.forces) < 0.2 * np.std(part.forces)
        assert model.facts["n_points"] == [TWO_BODY_POINTS] * 3 + [10] * 2
        again = trainer(sparse_method=method, two_body=True).fit([train], [], tmp_path / "again")
        other = trainer(sparse_method=method, seed=2).fit([train], [], tmp_path / "other")
        files = [(m.folder / "gap.xml").read_bytes() for m in (model, again, other)]
        assert files[0] == files[1] != files[2]


def test_what_lies_in_the_folder(train: Frames, tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    maker = trainer(on_report=lambda share, text: told.append((share, text)))
    model = maker.fit([train], [], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"gap.xml", "gap.json"}
    assert [share for share, _ in told] == sorted({share for share, _ in told})
    assert told[-1][1] == "gap-10: writes the potential"
    assert model.facts["n_labels"] == 6 * 25 and 0 < model.facts["residual"] < 3
    assert isinstance(GapModel.load(tmp_path), GapModel)


def covariances(part: Frames, **changes: Any) -> Covariances:
    maker = trainer(two_body=True, **changes)
    made = Covariances(terms_of(maker, (11, 17), PAIRS))
    made.set_points(choose(made, [part], "random", 1))
    return made


def test_rows_are_derivatives_of_the_energy_row(train: Frames) -> None:
    """By positions, and by the strain: what forces and virials are."""
    made = covariances(train)
    part = train.take([0])
    _, positions, strain = made.rows(part, 0, True)
    largest = np.abs(positions).max()

    def energy(moved: Any, cell: Any) -> Any:
        return made.rows(replace(part, positions=moved[None], cell=cell[None]), 0, False)[0][0]

    x, cell = part.positions[0], part.cell[0]
    for atom, axis in ((0, 0), (3, 1), (7, 2)):
        step = np.zeros_like(x)
        step[atom, axis] = H
        slope = (energy(x + step, cell) - energy(x - step, cell)) / (2 * H)
        np.testing.assert_allclose(
            positions[3 * atom + axis], slope, rtol=0, atol=Tolerance.SIX_DIGITS * largest
        )
    for k, (a, b) in enumerate(STRAINS):
        deform = np.zeros((3, 3))
        deform[a, b] = H
        there, back = (
            energy(x @ (np.eye(3) + sign * deform), cell @ (np.eye(3) + sign * deform))
            for sign in (1, -1)
        )
        slope = (there - back) / (2 * H)
        np.testing.assert_allclose(
            strain[k], slope, rtol=0, atol=Tolerance.SIX_DIGITS * np.abs(strain).max()
        )
    np.testing.assert_allclose(
        positions.reshape(-1, 3, made.n_points).sum(0), 0, atol=Tolerance.ROUNDING * largest
    )


def test_triangles_are_put_together_alike_on_any_number_of_ranks() -> None:
    rng = np.random.default_rng(1)
    rows, right = rng.standard_normal((60, 4)), rng.standard_normal(60)

    def part(k: int) -> BlockedLeastSquares:
        system = BlockedLeastSquares(4)
        system.add(rows[10 * k : 10 * k + 10], right[10 * k : 10 * k + 10])
        return system

    whole = own_nodes(range(6), 6, part)[0, 6]
    expected = np.linalg.lstsq(rows, right)[0]
    np.testing.assert_allclose(whole.solve(), expected, rtol=Tolerance.ROUNDING)
    np.testing.assert_allclose(whole.solve_regular(), expected, rtol=Tolerance.ROUNDING)
    residual = np.linalg.norm(rows @ expected - right)
    assert whole.residual == pytest.approx(residual, rel=Tolerance.ROUNDING)
    for size in (1, 2, 3, 6, 9):
        ranks = [parts_of(rank, 6, size) for rank in range(size)]
        assert [k for parts in ranks for k in parts] == list(range(6))
        nodes = {key: s for parts in ranks for key, s in own_nodes(parts, 6, part).items()}
        if size == 2:
            left, right_half = nodes[0, 3], nodes[3, 6]
            left.merge(right_half)
            assert (left.triangle == whole.triangle).all()


def test_every_frame_is_in_one_part(train: Frames) -> None:
    """Frames of several sizes, with and without a virial."""
    several = [train, frames(5), frames(3, side=4), frames(1)]
    made = covariances(train)
    for n_parts in (1, 2, 3, 4, 8, 13):
        system = own_fit.System(
            made, [SparsePoints(np.ones((1, d)), np.ones(1)) for d in made.n_dimensions],
            several, {11: 0.0, 17: 0.0}, own_fit.Sigmas(0.003, 0.1, 0.02),
        )  # fmt: skip
        assert system.n_rows == 6 * 31 + 5 * 25 + 3 * 193 + 25
        system.n_parts = n_parts
        found = np.concatenate([system.frames_of(k) for k in range(n_parts)])
        assert found.tolist() == list(range(15))


def test_copies_are_one_environment(caplog: pytest.LogCaptureFixture) -> None:
    part = frames(2)
    many = part.take([0, 1, 0, 0, 1])
    for method in ("random", "cur_points"):
        made = Covariances(terms_of(trainer(n_sparse=9), (11, 17), ()))
        with caplog.at_level(logging.WARNING):
            for one in choose(made, [many], method, 1):
                assert len(one) == 8  # four ions of each element in each of two frames
                assert len(np.unique(one.points.round(9), axis=0)) == 8
        assert "8 sparse points of Na instead of 9" in caplog.text
        caplog.clear()


def test_distances_cover_their_range(train: Frames) -> None:
    """As in gap_fit: no bin that has a distance is without a point."""
    made = Covariances(terms_of(trainer(two_body=True), (11, 17), PAIRS))
    for (a, b), one in zip(sorted(PAIRS), choose(made, [train], "random", 1)[:3], strict=True):
        near = []
        for k in range(len(train)):
            i, j, r = made.neighbours.compute(train.positions[k], train.cell[k], True, "ijd")
            near.append(r[(train.numbers[i] == a) & (train.numbers[j] == b)])
        all_distances, points = np.concatenate(near), one.points[:, 0]
        low, high = all_distances.min(), all_distances.max()
        bins = [np.rint((r - low) / (high - low) * 19) for r in (points, all_distances)]
        assert set(bins[0]) == set(bins[1]) and len(np.unique(points)) == TWO_BODY_POINTS
        assert np.abs(points[:, None] - all_distances).min(1).max() < Tolerance.SUMS
        inside = points < 3.5
        assert (one.cutoffs[inside] == 1).all() and (one.cutoffs[~inside] < 1).all()


def test_a_pair_that_never_meets_has_no_term(tmp_path: Path) -> None:
    part = frames(4, spacing=2.9)
    few = trainer(two_body=True, cutoff=3.0, cutoff_transition_width=0.4)
    assert (11, 11) in pairs_within([part], 4.5)
    alone = Frames(
        np.array([11, 17]), np.array([[[0.0, 0, 0], [x, 0, 0]] for x in (2.0, 2.2, 2.4, 2.6)]),
        np.tile(20 * np.eye(3), (4, 1, 1)), energy=np.zeros(4), forces=np.zeros((4, 2, 3)),
    )  # fmt: skip
    assert pairs_within([alone], 3.0) == {(11, 17)}
    model = replace(few, n_sparse=1).fit([alone], [], tmp_path)
    assert model.facts["n_points"] == [4, 1, 1]
    assert np.isfinite(model.predict(alone).forces).all()


def test_bad_data_are_told(train: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    double = train.positions.copy()
    double[4, 1] = double[4, 0]
    with pytest.raises(
        MlselError, match=r"frame 5, of 8 atoms, .* two atoms are at the same place"
    ):
        trainer().fit([replace(train, positions=double)], [], tmp_path / "double")
    with pytest.raises(MlselError, match=r"has n_max=40 .*or set training\.gap\.fit = \"gap_fit\""):
        trainer(n_max=40).fit([train], [], tmp_path / "large")
    points = covariances(train)
    same = [SparsePoints(np.ones((2, d)), np.ones(2)) for d in points.n_dimensions]
    monkeypatch.setattr(own_fit, "choose", lambda *_: same)
    with pytest.raises(MlselError, match=r"not positive with training\.gap\.jitter = 1e-300"):
        trainer(two_body=True, jitter=1e-300).fit([train], [], tmp_path / "same")
    with pytest.raises(MlselError, match="none of the 4 training frames has a virial"):
        trainer(virial_sigma=0.02).fit([frames(4)], [], tmp_path / "virial")
    with pytest.raises(
        MlselError, match=r'"kmeans", which training\.gap\.fit = "own" does not have'
    ):
        load_study("paper", ["training.gap.fit=own", "training.gap.sparse_method=kmeans"])


def test_without_a_compiler_it_says_so(
    train: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KERNELS_OFF, "1")
    evaluator.compiled.cache_clear()
    try:
        with pytest.raises(MlselError, match=r'set training\.gap\.fit = "gap_fit"'):
            trainer().fit([train], [], tmp_path)
    finally:
        evaluator.compiled.cache_clear()


def test_a_stop_ends_it(train: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "asked", lambda: True)
    with pytest.raises(Stopped, match="gap-10: the fit was ended after") as stop:
        trainer().fit([train], [], tmp_path)
    assert not stop.value.has_progress and not any(tmp_path.iterdir())


def test_the_record_knows_which_fit() -> None:
    section = load_study("paper", ["training.gap.fit=own"]).training
    assert trainer_named(section, "gap").parameters["fitted_by"] == "own"
    old = GapTrainer(name="gap").parameters
    assert old["fitted_by"] == "gap_fit"
