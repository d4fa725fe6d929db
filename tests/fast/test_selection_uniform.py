"""The uniform methods against their definition, computed the slow way, and known answers."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsel.core.errors import MlselError
from mlsel.pool.contiguous import Piece
from mlsel.pool.pool import Pool
from mlsel.pool.writer import PoolWriter
from mlsel.selection import make_selector
from mlsel.selection.binned import extremes, uniform
from mlsel.selection.binned.scan import _range


def by_definition(
    values: list[np.ndarray], n: int, seed: int, n_bins: int, exclude: list[int]
) -> list[int]:
    """Choose by the pseudo-code of `mlsel.selection.binned.uniform`, from every frame's values."""
    rng = np.random.default_rng(seed)
    keys = rng.random(len(values))
    frames = [f for f in range(len(values)) if f not in exclude and len(values[f])]
    lows, highs = ([end(values[f]) for f in frames] for end in (np.min, np.max))
    low, high = min(lows), max(highs)
    q, middle = np.quantile(lows, [0.25, 0.75])
    low = max(low, q - 10 * (middle - q)) if middle > q else low
    middle, q = np.quantile(highs, [0.25, 0.75])
    high = min(high, q + 10 * (q - middle)) if q > middle else high
    holders: list[list[int]] = [[] for _ in range(n_bins)]
    for f in sorted(frames, key=lambda f: (keys[f], f)):
        for k in {
            0 if low == high else int(min(max((x - low) / (high - low) * n_bins, 0), n_bins - 1))
            for x in values[f]
        }:
            holders[k].append(f)
    chosen: list[int] = []
    while len(chosen) < n:
        for k in uniform.spread_order(n_bins, rng):
            free = [f for f in holders[k] if f not in chosen]
            # A bin that is empty in one round is empty in all.
            if free and len(chosen) < n:
                chosen.append(free[0])
    return chosen


def write(path: Path, atomic: list[np.ndarray], forces: list[np.ndarray] | None = None) -> None:
    """Write runs of frames with given atomic energies (F, N); odd atoms are Cl, others Na."""
    with PoolWriter(path) as writer:
        for index, energies in enumerate(atomic):
            n, n_atoms = energies.shape
            run = writer.add_run(
                f"run-{index}",
                [11 + 6 * (i % 2) for i in range(n_atoms)],
                n,
                ["positions", "forces", "atomic_energies"],
                {"energy": "eV"},
            )
            zeros = np.zeros((n, n_atoms, 3))
            run.append(
                np.arange(n),
                np.arange(n),
                positions=zeros,
                forces=zeros if forces is None else forces[index],
                atomic_energies=energies,
                energy=energies.sum(axis=1),
                cell=np.tile(np.eye(3), (n, 1, 1)),
            )


@pytest.mark.parametrize("sample", [1, 10**6])
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n_runs=st.integers(1, 3),
    n_bins=st.sampled_from([1, 2, 7, 16, 64]),
    species=st.sampled_from(["", "Na", "Cl"]),
    data=st.data(),
)
def test_atomic_energy_is_its_definition(
    sample: int,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    n_runs: int,
    n_bins: int,
    species: str,
    data: st.DataObject,
) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, n_runs)
    atomic = [rng.standard_normal((40, n)) ** 3 for n in sizes]
    path = tmp_path_factory.mktemp("uniform") / "pool.h5"
    write(path, atomic)
    columns = {"": slice(None), "Na": slice(0, None, 2), "Cl": slice(1, None, 2)}[species]
    values = [row[columns] for run in atomic for row in run]
    exclude = rng.choice(40 * n_runs, 10, replace=False).tolist()
    n_allowed = sum(len(v) > 0 for f, v in enumerate(values) if f not in exclude)
    if n_allowed == 0:
        return
    n = data.draw(st.integers(1, n_allowed), "n")
    with Pool(path) as pool, pytest.MonkeyPatch.context() as patch:
        # However few frames the first pass keeps, the answer is the same.
        patch.setattr(uniform, "SAMPLE_BYTES", sample)
        patch.setattr(uniform, "SAMPLE", sample)
        selector = make_selector("atomic-energy", {"bins": n_bins, "species": species})
        chosen = selector.select(pool, n, seed, exclude)
    assert chosen.frame_ids.tolist() == by_definition(values, n, seed, n_bins, exclude)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 60))
def test_force_and_global_energy_are_their_definition(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    atomic = [rng.standard_normal((30, 2)), rng.standard_normal((30, 5))]
    forces = [rng.standard_normal((30, 2, 3)) ** 3, rng.standard_normal((30, 5, 3))]
    path = tmp_path_factory.mktemp("uniform") / "pool.h5"
    write(path, atomic, forces)
    sizes = {"bins": 16}
    with Pool(path) as pool:
        by_force = make_selector("force", sizes).select(pool, n, seed).frame_ids.tolist()
        by_energy = make_selector("global-energy", sizes).select(pool, n, seed).frame_ids.tolist()
    norms = [np.sqrt(f[:, 0] ** 2 + f[:, 1] ** 2 + f[:, 2] ** 2) for run in forces for f in run]
    assert by_force == by_definition(norms, n, seed, 16, [])
    # Na and Cl have different shares of 2 and of 5 atoms: less the elements' energies, which two
    # compositions settle, each has the mean 0.
    energies = [x[None] for run in atomic for x in run.mean(axis=1) - run.mean()]
    assert by_energy == by_definition(energies, n, seed, 16, [])


def test_known_by_hand(tmp_path: Path) -> None:
    # Energies 0 … 1; the bins (0, 1/4, …) hold frames {0, 1, 2, 3, 4}, {5}, {}, {6, 7}.
    energies = np.array([0, 0.01, 0.02, 0.03, 0.04, 0.3, 0.9, 1.0])[:, None]
    write(tmp_path / "pool.h5", [energies])
    with Pool(tmp_path / "pool.h5") as pool:
        for seed in range(20):
            chosen = make_selector("global-energy", {"bins": 4}).select(pool, 8, seed).frame_ids
            first, second, rest = (set(part.tolist()) for part in np.split(chosen, [3, 5]))
            assert 5 in first and len(first & {6, 7}) == 1 and len(first & {0, 1, 2, 3, 4}) == 1
            assert len(second & {6, 7}) == 1 and len(second & {0, 1, 2, 3, 4}) == 1
            assert rest < {0, 1, 2, 3, 4}


def test_a_frame_is_a_fair_draw_of_its_bin(tmp_path: Path) -> None:
    energies = np.array([0.0, 0.1, 0.2, 0.3, 1.0])[:, None]
    write(tmp_path / "pool.h5", [energies])
    counts = np.zeros(5)
    with Pool(tmp_path / "pool.h5") as pool:
        selector = make_selector("global-energy", {"bins": 2})
        for seed in range(2000):
            counts[selector.select(pool, 2, seed).frame_ids] += 1
    assert counts[4] == 2000
    # 500 each; five standard deviations of a binomial
    assert np.all(np.abs(counts[:4] - 500) < 5 * np.sqrt(2000 * 0.25 * 0.75))


def test_tails_are_fatter_than_the_pools(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    energies = rng.standard_normal((4000, 8))
    write(tmp_path / "pool.h5", [energies])
    limit = np.quantile(np.abs(energies), 0.999)
    shares = {}
    with Pool(tmp_path / "pool.h5") as pool:
        for method in ("random", "global-energy", "atomic-energy"):
            frames = make_selector(method).select(pool, 400, 1).frame_ids
            shares[method] = (np.abs(energies[frames]) > limit).mean()
    # In the pool, and so in a random set, one in a thousand.
    assert shares["atomic-energy"] > 5e-3
    assert max(shares["random"], shares["global-energy"]) < 2.5e-3


def test_global_energy_of_mixed_compositions(tmp_path: Path) -> None:
    """The case global_energy_of_mixed_compositions: three kinds, references far apart."""
    rng = np.random.default_rng(1)
    spread = rng.normal(0, 0.35, (3, 300))
    with PoolWriter(tmp_path / "pool.h5") as writer:
        for k, numbers in enumerate(([13] * 4, [22] * 4, [13, 22, 13, 22])):
            reference = (-108.9 * numbers.count(13) - 1593.1 * numbers.count(22)) / 4
            run = writer.add_run(f"run-{k}", numbers, 300, ["positions"], {"energy": "eV"})
            run.append(
                np.arange(300),
                np.arange(300),
                positions=np.zeros((300, 4, 3)),
                cell=np.tile(np.eye(3), (300, 1, 1)),
                energy=4 * (reference + spread[k]),
            )
    values = spread.ravel()

    def entropy(x: np.ndarray) -> float:
        share = np.histogram(x, 20, (values.min(), values.max()))[0] / len(x)
        share = share[share > 0]
        return float(-(share * np.log(share)).sum())

    with Pool(tmp_path / "pool.h5") as pool:
        chosen = make_selector("global-energy", {"bins": 20}).select(pool, 60, 1).frame_ids
        random = make_selector("random").select(pool, 60, 1).frame_ids
    assert entropy(values[chosen]) > np.log(20) - 0.15  # flat; the outermost bins have few frames
    assert entropy(values[random]) < np.log(20) - 0.3


def test_given_frames_count_in_their_bins(tmp_path: Path) -> None:
    """Ten bins of ten frames; given: four of the first bin. It gives none for four rounds."""
    energies = (np.arange(100) / 10.0)[:, None]
    write(tmp_path / "pool.h5", [energies])
    with Pool(tmp_path / "pool.h5") as pool:
        selector = make_selector("global-energy", {"bins": 10})
        make_selector("random").select(pool, 4, 1, exclude=range(10, 100)).write(
            pool, tmp_path / "given.h5"
        )
        with Pool(tmp_path / "given.h5") as given:
            chosen = selector.select(pool, 46, 1, given=given).frame_ids
    counts = np.bincount(chosen // 10, minlength=10)
    assert counts[0] == 1 and (counts[1:] == 5).all()


def test_an_outlier_does_not_stretch_the_bins(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    energies = rng.uniform(0, 1, (1000, 1))
    energies[17] = 1e6
    write(tmp_path / "pool.h5", [energies])
    with Pool(tmp_path / "pool.h5") as pool:
        chosen = make_selector("global-energy", {"bins": 64}).select(pool, 64, 1).frame_ids
    assert 17 in chosen, "the outlier is in the last bin, alone"
    others = energies[chosen[chosen != 17], 0]
    # The range ends ten interquartile ranges beyond: 1 of 6 or so of the bins are the bulk's.
    assert len(np.unique((others * 10).astype(int))) == 10


@pytest.mark.parametrize("n", [1, 2, 3, 8, 13, 512])
def test_spread_order_spreads_every_prefix(n: int) -> None:
    order = uniform.spread_order(n, np.random.default_rng(n))
    assert sorted(order.tolist()) == list(range(n))
    if n & (n - 1) == 0:
        for m in (2**i for i in range(n.bit_length())):
            assert sorted((order[:m] * m // n).tolist()) == list(range(m))


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"bins": 0}, "bins is 0: it must be from 1"),
        ({"species": "Nq"}, "species is 'Nq', which is no element"),
    ],
)
def test_wrong_parameters_are_told(parameters: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MlselError, match=sentence):
        make_selector("atomic-energy", parameters)


def test_a_species_that_no_frame_holds(tmp_path: Path) -> None:
    write(tmp_path / "pool.h5", [np.ones((3, 2))])
    with (
        Pool(tmp_path / "pool.h5") as pool,
        pytest.raises(MlselError, match=r"Asked for 1 frames, .* has 0 with K: none can be"),
    ):
        make_selector("force", {"species": "K"}).select(pool, 1, 1)


@pytest.mark.parametrize("sign", [1, -1])
def test_outliers_at_either_end_do_not_stretch_the_bins(sign: int) -> None:
    """Ten interquartile ranges beyond the quartiles the bins end: at −4.75 or 5.75."""
    task: Any = SimpleNamespace(
        every=lambda values: values, join=lambda part: part, pool=SimpleNamespace(n_frames=1001)
    )
    values = np.append(np.linspace(0, 1, 1000), sign * 1e6)
    low, high = _range(task, np.arange(1001), values, values)
    assert -5 < low < high < 6


@pytest.mark.parametrize("n_atoms", [1, 5, 8, 13, 100])
@pytest.mark.parametrize("columns", [slice(None), slice(1, None, 2), np.array([0, 3, 4]), slice(0)])
def test_extremes_have_the_bits_of_array_operations(
    n_atoms: int, columns: slice | np.ndarray
) -> None:
    """Of numbers and of vectors' squares, of all atoms, some, or none; NaN wherever it stands."""
    if isinstance(columns, np.ndarray):
        columns = columns[columns < n_atoms]
    rng = np.random.default_rng(n_atoms)
    assert extremes._library() is not None, "g++ is part of what tests need"
    for values in (rng.standard_normal((40, n_atoms)), rng.standard_normal((40, n_atoms, 3))):
        for frame in range(30):
            place = rng.integers(n_atoms)
            values[frame, place] = [np.nan, np.inf, -np.inf][frame % 3]
        with np.errstate(over="ignore", invalid="ignore"):
            found, plain = (f(values, columns) for f in (extremes.extremes, extremes._extremes))
        good = np.isfinite(plain[0]) & np.isfinite(plain[1])
        none = (plain[0] == np.inf) & (plain[1] == -np.inf)  # no atom of these counts
        for ours, theirs in zip(found, plain, strict=True):
            assert np.array_equal(ours[good | none], theirs[good | none])
        told = np.isfinite(found[0]) & np.isfinite(found[1])
        assert np.array_equal(told, good)
        assert np.array_equal((found[0] == np.inf) & (found[1] == -np.inf), none)


@pytest.mark.parametrize("tail", [(), (3,)])
@pytest.mark.parametrize("columns", [slice(None), slice(1, None, 2)])
def test_extremes_in_a_file_are_those_of_blocks(
    tmp_path: Path, tail: tuple[int, ...], columns: slice
) -> None:
    """Whatever is read at a time; the frames to keep come whole, and a file that ends early is
    left to who tells it."""
    rng = np.random.default_rng(1)
    values = rng.standard_normal((50, 11, *tail))
    values[7, 3] = np.nan
    keep = rng.random(50) < 0.3
    path = tmp_path / "values"
    path.write_bytes(b"eight by" + values.tobytes())
    expected = extremes.extremes(values, columns)
    with path.open("rb") as file:
        piece = Piece(file.fileno(), 8, values.dtype, values.shape)
        for size in (1, 100, 10_000):
            found = extremes.extremes_in_file(piece, columns, keep, np.empty(size))
            assert found is not None
            for ours, theirs in zip(found, (*expected, values[keep]), strict=True):
                assert np.array_equal(ours, theirs, equal_nan=True)
        longer = Piece(file.fileno(), 8, values.dtype, (51, *values.shape[1:]))
        more = np.append(keep, True)
        assert extremes.extremes_in_file(longer, columns, more, np.empty(100)) is None


def test_a_pool_cut_short_while_it_is_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "pool.h5"
    write(path, [np.random.default_rng(1).standard_normal((40, 500))])
    with Pool(path) as pool:
        pool.values("energy")
        os.truncate(path, path.stat().st_size // 4)
        with pytest.raises(MlselError, match="ends early: it was cut short"):
            make_selector("atomic-energy").select(pool, 3, 1)


def test_compressed_and_other_numbers_are_chosen_from_alike(tmp_path: Path) -> None:
    """What the kernel can't read by itself is read by HDF5."""
    path = tmp_path / "pool.h5"
    write(path, [np.random.default_rng(k).standard_normal((40, 6)) for k in range(3)])
    with Pool(path) as pool:
        expected = make_selector("atomic-energy").select(pool, 20, 1).frame_ids
    with h5py.File(path, "r+") as file:
        for run, options in {
            "run-0": {"compression": "gzip"},
            "run-1": {"dtype": ">f8"},
        }.items():
            group = file[f"particles/{run}/potential_energy"]
            values, told = group["value"][()], dict(group["value"].attrs)
            del group["value"]
            group.create_dataset("value", data=values, **options).attrs.update(told)
    with Pool(path) as pool:
        found = make_selector("atomic-energy").select(pool, 20, 1).frame_ids
    assert found.tolist() == expected.tolist()
