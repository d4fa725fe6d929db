"""The methods beyond the paper against plain, slow implementations."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.synthetic import write_synthetic_pool
from mlsel.core.errors import MlselError
from mlsel.pool.pool import Pool
from mlsel.pool.writer import PoolWriter
from mlsel.selection import make_selector
from mlsel.selection.descriptors import radial
from mlsel.selection.descriptors.radial import Radial
from mlsel.selection.methods import distances, entropy, entropy_bounds, fps
from mlsel.selection.methods.cur import by_leverage
from mlsel.selection.methods.entropy import greedy_entropy, log_kernel_sums
from mlsel.selection.methods.entropy_bounds import Bounds
from mlsel.selection.methods.fps import farthest_points
from mlsel.selection.methods.network_distillation import OUTPUTS, Network
from tests.support import Tolerance

ROUNDING = 1e-9
"""Relative; of sums in double precision done in another order."""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    path = tmp_path_factory.mktemp("greedy") / "pool.h5"
    write_synthetic_pool(path, 120, n_atoms=12, frames_per_run=50)
    return Pool(path)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(2, 60))
def test_fps_is_the_plain_algorithm(seed: int, dimension: int, n_points: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n_points, dimension)) + 3 * rng.integers(0, 3, (n_points, 1))
    chosen = farthest_points(points, n_points, 0)
    plain = [0]
    while len(plain) < n_points:
        rest = [i for i in range(n_points) if i not in plain]
        nearest = [min(((points[i] - points[j]) ** 2).sum() for j in plain) for i in rest]
        plain.append(int(rest[int(np.argmax(nearest))]))
    assert chosen.tolist() == plain


@pytest.mark.parametrize("given", [0, 3])
@pytest.mark.parametrize("kind", ["clusters", "line", "ties", "far"])
def test_lazy_fps_picks_what_double_precision_picks(
    kind: str, given: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many rounds of bounds, tiles of centres, points far from the origin and all the same."""
    monkeypatch.setattr(fps, "AT_ONCE", 16)
    monkeypatch.setattr(fps, "SAMPLE", 100)
    rng = np.random.default_rng(6)
    points = {
        "clusters": 5.0 * rng.standard_normal((40, 9))[rng.integers(40, size=700)]
        + rng.standard_normal((700, 9)),
        "line": np.cumsum(rng.exponential(size=(700, 1)), axis=0),
        "ties": rng.integers(0, 3, (700, 3)).astype(float),
        "far": 1e4 + 1e-3 * rng.standard_normal((700, 8)),
    }[kind]
    before = 50.0 * rng.standard_normal((given, points.shape[1]))
    chosen = farthest_points(points, 150, 5, given=before if given else None).tolist()

    def squared(to: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        width = -(-points.shape[1] // distances.LANES) * distances.LANES
        whole = distances._padded(np.vstack([points, to]), width)
        return distances._squared(whole[:-1], whole[-1])

    nearest = np.full(len(points), np.inf)
    for row in before:
        nearest = np.minimum(nearest, squared(row))
    plain: list[int] = []
    for k in range(150):
        pick = 5 if k == 0 and not given else int(np.argmax(nearest))
        plain.append(pick)
        nearest = np.minimum(nearest, squared(points[pick]))
        nearest[plain] = -np.inf
    assert chosen == plain


def test_force_fps_by_its_definition(pool: Pool) -> None:
    rng = np.random.default_rng(7)
    points = rng.standard_normal((120, 3))
    forces = np.concatenate([b["forces"] for b in pool.blocks("forces")])
    norms = np.sqrt((forces**2).sum(axis=(1, 2))) + 1e-8
    selector = make_selector("force-fps", {"descriptor": points, "beta": 2.0})
    first, *others = selector.select(pool, 30, 1).frame_ids.tolist()
    plain = [first]
    for beta in np.linspace(-2, 2, 30)[1:]:
        distance = np.sqrt(((points[:, None] - points[plain]) ** 2).sum(axis=2)).min(axis=1)
        score = norms**beta * distance
        score[plain] = -1.0
        plain.append(int(np.argmax(score)))
    assert others == plain[1:]
    # The first is drawn with p ~ g^beta: from many seeds it has the mean norm that p gives.
    weights = norms**-2.0 / (norms**-2.0).sum()
    firsts = [selector.select(pool, 2, seed).frame_ids[0] for seed in range(200)]
    spread = np.sqrt((weights * norms**2).sum() - (weights @ norms) ** 2)
    assert abs(norms[firsts].mean() - weights @ norms) < 4 * spread / np.sqrt(200)


def test_beta_zero_is_farthest_points(pool: Pool) -> None:
    points = np.random.default_rng(8).standard_normal((120, 3))
    guided = make_selector("force-fps", {"descriptor": points, "beta": 0.0}).select(pool, 40, 1)
    start = int(guided.frame_ids[0])
    plain = make_selector("fps", {"descriptor": points, "start": start}).select(pool, 40, 1)
    assert guided.frame_ids.tolist() == plain.frame_ids.tolist()


@pytest.mark.parametrize("n_given", [0, 2])
def test_set_cover_by_its_definition(n_given: int) -> None:
    rng = np.random.default_rng(9)
    clouds = [rng.standard_normal((4, 2)) * rng.uniform(0.1, 2) for _ in range(30 + n_given)]
    own, given = clouds[:30], clouds[30:]
    chosen = greedy_entropy(own, 12, 0.3, rng.random(30), given=given, cover=True).tolist()

    def logs(y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        squared = ((y[:, None] - x) ** 2).sum(axis=2)
        found: npt.NDArray[np.float64] = np.log(np.exp(-squared / (2 * 0.3**2)).sum(axis=1))
        return found

    entropies = [float(np.log(4) - logs(cloud, cloud).mean()) for cloud in own]
    if not n_given:
        assert chosen[0] == int(np.argmax(entropies))
    for k in range(0 if n_given else 1, 12):
        known = np.concatenate([*given, *(own[j] for j in chosen[:k])])
        gains = {f: entropies[f] - logs(own[f], known).min() for f in range(30)
                 if f not in chosen[:k]}  # fmt: skip
        assert gains[chosen[k]] >= max(gains.values()) - ROUNDING


def test_a_network_is_trained_down_its_slopes() -> None:
    """Gradients against finite differences."""
    rng = np.random.default_rng(10)
    x, y = rng.standard_normal((5, 3)), rng.standard_normal((5, OUTPUTS))
    network = Network.drawn(3, rng)
    for weight, slope in zip(network.weights, network.gradients(x, y), strict=True):
        at = np.unravel_index(int(np.argmax(np.abs(slope))), slope.shape)
        sides = []
        for step in (1e-5, -2e-5):
            weight[at] += step
            sides.append(float(np.square(network(x) - y).mean()))
        weight[at] += 1e-5
        assert (sides[0] - sides[1]) / 2e-5 == pytest.approx(slope[at], rel=Tolerance.SIX_DIGITS)


def test_network_distillation_by_a_plain_loop(pool: Pool) -> None:
    points = np.random.default_rng(11).standard_normal((120, 3)) * [1.0, 2.0, 0.0] + 4.0
    chosen = make_selector("network-distillation", {"descriptor": points, "epochs": 7})
    found = chosen.select(pool, 10, np.random.default_rng(3)).frame_ids.tolist()
    draw = np.random.default_rng(3)
    draw.random(120)
    weights = np.random.default_rng(draw.integers(2**63))
    x = (points - points.mean(axis=0)) / np.where(points.std(axis=0) > 0, points.std(axis=0), 1)
    target, predictor = Network.drawn(3, weights), Network.drawn(3, weights)
    plain: list[int] = []
    for _ in range(10):
        novelty = [-1.0 if f in plain else float(np.square(target(x[f : f + 1])
                   - predictor(x[f : f + 1])).mean()) for f in range(120)]  # fmt: skip
        plain.append(int(np.argmax(novelty)))
        predictor.train(x[plain], target(x[plain]), 7)
    assert found == plain


def test_flat_takes_the_greatest_entropy(pool: Pool) -> None:
    values = np.concatenate([b["atomic_energies"] for b in pool.blocks("atomic_energies")])
    low, high = values.min(), values.max()
    index = np.minimum(15, ((values - low) / (high - low) * 16).astype(int))
    counts = np.stack([np.bincount(row, minlength=16) for row in index])
    chosen = make_selector("flat-atomic-energy", {"bins": 16}).select(pool, 20, 1).frame_ids
    total = np.zeros(16)
    left = set(range(len(pool)))
    for frame in chosen.tolist():
        entropy = {}
        for other in left:
            share = (total + counts[other]) / (total + counts[other]).sum()
            share = share[share > 0]
            entropy[other] = -(share * np.log(share)).sum()
        # Of frames with the same entropy any may be taken.
        assert entropy[frame] >= max(entropy.values()) - ROUNDING
        total += counts[frame]
        left.remove(frame)


def test_flat_is_flatter_than_uniform(pool: Pool) -> None:
    values = np.concatenate([b["atomic_energies"] for b in pool.blocks("atomic_energies")])
    entropy = {}
    for method in ("atomic-energy", "flat-atomic-energy"):
        frames = make_selector(method).select(pool, 20, 1).frame_ids
        counts = np.histogram(values[frames], 64, (values.min(), values.max()))[0]
        share = counts[counts > 0] / counts.sum()
        entropy[method] = -(share * np.log(share)).sum()
    assert entropy["flat-atomic-energy"] > entropy["atomic-energy"]


@pytest.mark.parametrize("bandwidth", [1e-6, 1e-2, 1.0, 1e3])
def test_log_kernel_sums_in_high_precision(bandwidth: float) -> None:
    from decimal import Decimal, localcontext

    rng = np.random.default_rng(1)
    points, others = rng.standard_normal((4, 3)), rng.standard_normal((5, 3))
    found = log_kernel_sums(points, others, bandwidth)
    with localcontext() as context:
        context.prec = 60
        context.Emin = -(10**15)
        for value, point in zip(found, points, strict=True):
            total = Decimal(0)
            for other in others:
                squared = sum(
                    (Fraction(float(a)) - Fraction(float(b))) ** 2
                    for a, b in zip(point, other, strict=True)
                )
                exponent = squared / (2 * Fraction(bandwidth) ** 2)
                total += (-Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp()
            assert math.isclose(value, float(total.ln()), rel_tol=ROUNDING, abs_tol=ROUNDING)


def test_entropy_takes_the_greatest_gain() -> None:
    rng = np.random.default_rng(2)
    environments = [rng.standard_normal((3, 2)) * rng.uniform(0.1, 2) for _ in range(30)]
    chosen = greedy_entropy(environments, 10, 0.3, rng.random(30)).tolist()

    def gain(frame: int, known: list[int]) -> float:
        x = np.concatenate([environments[j] for j in known])
        y = environments[frame]
        squared = ((y[:, None] - x) ** 2).sum(axis=2)
        return float(-np.log(np.exp(-squared / (2 * 0.3**2)).sum(axis=1)).mean())

    for k in range(1, 10):
        gains = {f: gain(f, chosen[:k]) for f in range(30) if f not in chosen[:k]}
        assert gains[chosen[k]] >= max(gains.values()) - ROUNDING


@pytest.mark.parametrize("bandwidth", [0.15, 1.5])
@pytest.mark.parametrize("cover", [False, True])
def test_bounds_leave_the_picks_of_the_direct_sum(
    cover: bool, bandwidth: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every gain summed directly for every choice, against bounds, and against lazy exact sums."""
    rng = np.random.default_rng(6)
    frames = [rng.normal(rng.standard_normal(5), rng.uniform(0.1, 1), (rng.integers(1, 40), 5))
              for _ in range(150)]  # fmt: skip
    given = [rng.standard_normal((18, 5))]
    keys = rng.random(150)
    every, starts = np.concatenate(frames), np.cumsum([0, *map(len, frames[:-1])])
    sizes = np.array([len(frame) for frame in frames])
    logs = np.full(len(every), -np.inf)
    own = [np.log(len(f)) - log_kernel_sums(f, f, bandwidth).mean() for f in frames]
    direct: list[int] = []
    newest = given[0]
    for _ in range(60):
        logs = np.logaddexp(logs, log_kernel_sums(every, newest, bandwidth))
        gains = -np.add.reduceat(logs, starts) / sizes
        if cover:
            gains = own - np.minimum.reduceat(logs, starts)
        gains[direct] = -np.inf
        direct.append(int(np.argmax(gains)))
        newest = frames[direct[-1]]
    assert Bounds(frames, bandwidth, 60).is_of_use
    for widest in (entropy_bounds.WIDEST, 0.0):
        monkeypatch.setattr(entropy_bounds, "WIDEST", widest)
        found = greedy_entropy(frames, 60, bandwidth, keys, given=given, cover=cover)
        assert found.tolist() == direct


@pytest.mark.parametrize(("width", "bandwidth"), [(1, 0.1), (7, 0.3), (16, 0.5), (33, 2.0)])
def test_bounds_enclose_the_sums(width: int, bandwidth: float) -> None:
    """Frames of any size, looked at now and then; those chosen fill parts of tiles."""
    rng = np.random.default_rng(width)
    frames = [rng.standard_normal((n, width)) + 5.0 for n in (1, 3, 16, 17, 40, 100, 7)]
    bounds = Bounds(frames, bandwidth, 6)
    known: list[npt.NDArray[np.float64]] = []
    for frame, asked in (
        (4, [0, 1, 3]),
        (2, [5]),
        (0, [6, 0]),
        (5, [1, 2, 5]),
        (6, list(range(7))),
    ):
        bounds.add(frame)
        known.append(frames[frame])
        for k, *found in zip(asked, *bounds.of(np.array(asked)), strict=True):
            logs = log_kernel_sums(frames[k], np.concatenate(known), bandwidth)
            for exact, low, high in ((logs.mean(), *found[:2]), (logs.min(), *found[2:])):
                assert low <= exact <= high <= low + 0.01


def test_too_small_a_bandwidth_is_summed_exactly() -> None:
    """Where single precision can't tell distances apart, bounds would exclude nothing."""
    assert not Bounds([np.array([[0.0], [1.0]])], 1e-4, 1).is_of_use


def test_entropy_doesnt_underflow() -> None:
    environments = [np.full((2, 1), x) for x in (0.0, 1.0, 5.0, 5.1)]
    chosen = greedy_entropy(environments, 3, 1e-4, np.array([0.1, 0.2, 0.3, 0.4]))
    assert chosen.tolist() == [0, 3, 1]


def test_direct_takes_one_of_each_cluster(pool: Pool) -> None:
    rng = np.random.default_rng(3)
    of = rng.permutation(np.arange(120) % 6)
    points = 100.0 * rng.standard_normal((6, 4))[of] + rng.standard_normal((120, 4))
    chosen = make_selector("direct", {"descriptor": points}).select(pool, 6, 1).frame_ids
    assert sorted(of[chosen].tolist()) == list(range(6))


def test_committee_takes_the_highest_disagreement(pool: Pool, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    models = rng.standard_normal((3, 120, 12, 3)) * rng.uniform(0.1, 2, (1, 120, 1, 1))
    np.save(tmp_path / "models.npy", models)
    spread = np.sqrt(((models - models.mean(axis=0)) ** 2).sum(axis=3).mean(axis=0)).max(axis=1)
    selector = make_selector("committee", {"predictions": str(tmp_path / "models.npy")})
    chosen = selector.select(pool, 15, 1).frame_ids
    assert chosen.tolist() == np.argsort(-spread)[:15].tolist()


def test_radial_counts_images(tmp_path: Path) -> None:
    """One atom in a small cubic box, and the same box eight times: the same environment."""
    small, side = np.array([[0.3, 0.2, 0.1]]), 3.0
    shifts = np.array(list(np.ndindex(2, 2, 2))) * side
    with PoolWriter(tmp_path / "pool.h5") as writer:
        one = writer.add_run("one", [11], 1, ["positions"])
        one.append([0], [0], positions=small[None], cell=side * np.eye(3)[None])
        eight = writer.add_run("eight", [11] * 8, 1, ["positions"], orthogonal=False)
        cell = np.array([[2 * side, 0, 0], [2 * side, 2 * side, 0], [0, 0, 2 * side]])
        eight.append([0], [0], positions=(small + shifts)[None], cell=cell[None])
    with Pool(tmp_path / "pool.h5") as pool:
        radial = Radial((11,), cutoff=7.0, n_shells=8)
        first, second = (radial.atoms(pool, b)[0] for b in pool.blocks("positions", "cell"))
    # Single precision is what descriptors are kept in.
    assert np.allclose(second, first[0], rtol=Tolerance.FIVE_DIGITS, atol=Tolerance.FIVE_DIGITS)
    lattice = np.array(list(np.ndindex(7, 7, 7))) - 3
    distance = side * np.sqrt((lattice**2).sum(axis=1))
    distance = distance[(distance > 0) & (distance < 7.0)]
    hat = np.maximum(0, 1 - np.abs(distance[:, None] / (7 / 8) - np.arange(8) - 0.5))
    expected = (hat * (0.5 + 0.5 * np.cos(np.pi * distance / 7))[:, None]).sum(axis=0)
    assert np.allclose(first[0], expected, rtol=Tolerance.FIVE_DIGITS, atol=Tolerance.FIVE_DIGITS)


@pytest.mark.parametrize(
    ("method", "parameters", "sentence"),
    [
        ("fps", {"descriptor": "sop"}, "there is no descriptor sop: it must be one of radial"),
        ("fps", {"descriptor": "no.npy"}, "there is no descriptor file no.npy"),
        ("fps", {"descriptor": np.zeros((3, 2))}, r"shape \(3, 2\): for .* \(120, D\)"),
        ("fps", {"start": 500}, "start is 500"),
        ("entropy", {"candidates": 3}, "candidates must be at least 5"),
        ("set-cover", {"bandwidth": -1.0}, "bandwidth is -1: it must be above 0"),
        ("force-fps", {"beta": 11.0}, "beta is 11: it must be from 0 to 10"),
        ("network-distillation", {"epochs": 0}, "epochs is 0: it must be at least 1"),
        ("committee", {}, "committee needs predictions"),
        ("committee", {"predictions": np.zeros((2, 7, 3))}, r"must be \(M, 120, n_atoms, 3\)"),
    ],
)
def test_mistakes_are_told(
    pool: Pool, method: str, parameters: dict[str, object], sentence: str
) -> None:
    with pytest.raises(MlselError, match=sentence):
        make_selector(method, parameters).select(pool, 5, 1)


def test_array_operations_give_what_the_kernels_give(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no compiler: the same bits of distances, and sums to rounding."""
    rng = np.random.default_rng(4)
    block = next(iter(pool.blocks("positions", "cell")))
    points = rng.standard_normal((400, 11)) + 5 * rng.integers(0, 3, (400, 1)) + 1e3
    clouds = rng.standard_normal((20, 3)), rng.standard_normal((30, 3))

    def results() -> tuple[npt.NDArray[np.float32], list[int], npt.NDArray[np.float64]]:
        described = Radial((11, 17), 7.0).atoms(pool, block)
        chosen = farthest_points(points, 300, 7).tolist()
        return described, chosen, log_kernel_sums(*clouds, 0.5)

    for module in (radial, distances, entropy):
        assert module._library() is not None, "g++ is part of what tests need"
    assert np.array([5e-324])[0] * 1.0 > 0.0  # no library turns denormals off for all
    compiled = results()
    for module in (radial, distances, entropy):
        monkeypatch.setattr(module, "_library", lambda: None)
    plain = results()
    assert np.array_equal(compiled[0], plain[0])
    assert compiled[1] == plain[1]
    assert np.allclose(
        compiled[2], plain[2], rtol=Tolerance.SAME_NUMBERS, atol=Tolerance.SAME_NUMBERS
    )


def test_leverage_by_explicit_orthogonalisation() -> None:
    """CUR against its definition: singular vectors of rows that are really made orthogonal."""
    rng = np.random.default_rng(5)
    features = rng.standard_normal((40, 6)) * [5, 4, 3, 2, 1, 0.5] @ rng.standard_normal((6, 6))
    keys = rng.random(40)
    rows = (features - features.mean(axis=0)) / features.std(axis=0)
    expected: list[int] = []
    left = rows.copy()
    for _ in range(6):
        axis = np.linalg.svd(left)[2][0]
        leverage = np.square(left @ axis)
        leverage[expected] = -np.inf
        expected.append(int(np.argmax(leverage)))
        unit = left[expected[-1]] / np.linalg.norm(left[expected[-1]])
        left = left - np.outer(left @ unit, unit)
    assert by_leverage(features, 6, keys).tolist() == expected
    assert by_leverage(features, 4, keys, features[expected[:2]]).tolist() == expected[2:]
    assert sorted(by_leverage(features, 40, keys).tolist()) == list(range(40))
