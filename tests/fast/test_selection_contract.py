"""One contract for every method in the registry; Hypothesis makes the pools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlsel.core.errors import MlselError
from mlsel.pool.layout import PAIR_ENERGIES, PAIR_ENERGY
from mlsel.pool.pool import Pool
from mlsel.pool.writer import PoolWriter
from mlsel.selection import METHODS, Selector, make_selector

N_ATOMS = 4
READ_NOTHING = ("random", "single-md-random", "committee")
"""Of the pool, to choose. All others refuse what is not finite in any frame they may choose."""

MakePool = Callable[..., Pool]


def selector_for(method: str, pool: Pool) -> Selector:
    parameters: dict[str, Any] = {}
    if method == "single-md-random":
        parameters = {"runs": len(pool.runs)}
    if method == "committee":
        forces = [block["forces"] for block in pool.blocks("forces")]
        truth = np.concatenate(forces).reshape(-1, 3)
        parameters = {"predictions": np.stack([truth, 1.1 * truth, truth**2])}
    return make_selector(method, parameters)


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[MakePool]:
    opened: list[Pool] = []

    def make(lengths: list[int], seed: int, kind: str = "spread") -> Pool:
        path = tmp_path / f"pool-{len(opened)}.h5"
        write_pool(path, lengths, seed, kind)
        opened.append(Pool(path))
        return opened[-1]

    yield make
    for pool in opened:
        pool.close()


def write_pool(path: Path, lengths: list[int], seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    with PoolWriter(path) as writer:
        for index, n in enumerate(lengths):
            run = writer.add_run(
                f"run-{index}",
                [11, 17] * (N_ATOMS // 2),
                n,
                ["positions", "forces", "atomic_energies"],
                {"energy": "eV"},
                attributes={"temperature_set": 1000.0 + 100 * index, "pressure_set": 1.0},
                extras={PAIR_ENERGIES: PAIR_ENERGY},
            )
            positions = rng.uniform(0, 8, (n, N_ATOMS, 3))
            forces = rng.standard_normal((n, N_ATOMS, 3))
            energies = rng.standard_normal((n, N_ATOMS)) ** 3
            if kind == "constant":
                positions[:], forces[:], energies[:] = positions[0], 0.5, -3.0
            elif kind == "ties":
                positions = positions.round(0)
                forces, energies = forces.round(0), energies.round(0)
            run.append(
                np.arange(n),
                np.arange(n),
                positions=positions,
                forces=forces,
                atomic_energies=energies,
                energy=energies.sum(axis=1),
                pair_energies=-energies,
                cell=np.tile(8.0 * np.eye(3), (n, 1, 1)),
            )


pools = {
    "lengths": st.lists(st.integers(1, 12), min_size=1, max_size=3),
    "seed": st.integers(0, 2**32),
    "kind": st.sampled_from(["spread", "ties", "constant"]),
}
relaxed = settings(
    max_examples=15,
    deadline=None,  # the first example of a method imports what it needs
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("method", METHODS)
@relaxed
@given(data=st.data(), **pools)
def test_contract(
    method: str,
    make_pool: MakePool,
    lengths: list[int],
    seed: int,
    kind: str,
    data: st.DataObject,
) -> None:
    pool = make_pool(lengths, seed, kind)
    selector = selector_for(method, pool)
    exclude = data.draw(st.lists(st.sampled_from(range(len(pool))), unique=True), "exclude")
    allowed = np.setdiff1d(np.arange(len(pool)), exclude)
    state = np.random.get_state()  # noqa: NPY002  that it stays is what is tested
    if len(allowed) == 0:
        with pytest.raises(MlselError, match="has 0 after excluding"):
            selector.select(pool, 1, seed, exclude)
        return
    n = data.draw(st.integers(1, len(allowed)), "n")

    chosen = selector.select(pool, n, seed, exclude)

    assert len(chosen) == n
    assert len(set(chosen.frame_ids.tolist())) == n
    assert set(chosen.frame_ids.tolist()) <= set(allowed.tolist())
    assert chosen.pool_digest == pool.digest
    block_bytes = data.draw(st.sampled_from([1, 200, 10**6]), "block_bytes")
    again = selector.select(pool, n, seed, exclude, block_bytes=block_bytes)
    assert again.frame_ids.tolist() == chosen.frame_ids.tolist()
    by_generator = selector.select(pool, n, np.random.default_rng(seed), exclude)
    assert by_generator.frame_ids.tolist() == chosen.frame_ids.tolist()
    if selector.nested:
        k = data.draw(st.integers(1, n), "k")
        fewer = selector.select(pool, k, seed, exclude)
        assert fewer.frame_ids.tolist() == chosen.frame_ids[:k].tolist()
    everything = selector.select(pool, len(allowed), seed, exclude)
    assert sorted(everything.frame_ids.tolist()) == allowed.tolist()
    after = np.random.get_state()  # noqa: NPY002
    assert np.array_equal(state[1], after[1]) and state[2] == after[2]
    for wrong in (0, len(allowed) + 1):
        with pytest.raises(MlselError, match=rf"Asked for {wrong} frames, .* has {len(allowed)}"):
            selector.select(pool, wrong, seed, exclude)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("other", [False, True], ids=["same pool", "another pool"])
@settings(relaxed, max_examples=5)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_given_frames_are_not_chosen_again(
    method: str, other: bool, make_pool: MakePool, seed: int, data: st.DataObject
) -> None:
    pool = make_pool([7, 9], seed, "spread")
    selector = selector_for(method, pool)
    source = make_pool([8], seed + 1, "spread") if other else pool
    made = make_selector("random").select(source, data.draw(st.integers(1, 6), "given"), seed)
    path = pool.path.with_name(f"given-{other}.h5")
    made.write(source, path)
    own = set() if other else set(made.frame_ids.tolist())
    n = data.draw(st.integers(1, len(pool) - len(own)), "n")
    with Pool(path) as there:
        chosen = selector.select(pool, n, seed, given=there)
        again = selector.select(pool, n, seed, given=there, block_bytes=200)
        with pytest.raises(MlselError, match="Asked for 17 frames"):
            selector.select(pool, 17, seed, given=there)
    assert len(set(chosen.frame_ids.tolist())) == n and not own & set(chosen.frame_ids.tolist())
    assert again.frame_ids.tolist() == chosen.frame_ids.tolist()
    assert chosen.record()["given"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_is_refused(method: str, tmp_path: Path, value: float) -> None:
    path = tmp_path / "pool.h5"
    write_pool(path, [3, 4], 1, "spread")
    import h5py

    with h5py.File(path, "r+") as file:
        file["particles/run-1/force/value"][2, 3, 1] = value
        file["particles/run-1/potential_energy/value"][2, 3] = value
        file["particles/run-1/pair_energies/value"][2, 3] = value
        file["particles/run-1/position/value"][2, 3, 0] = value
        file["observables/run-1/energy/value"][2] = value
    where = r"frame 5 \(run run-1, its frame 2(, atom 3)?\) is NaN or infinite"
    with Pool(path) as pool:
        selector = selector_for(method, pool)
        with pytest.raises(MlselError, match=where):
            selector.select(pool, 7, 1).write(pool, tmp_path / "data.h5")
        if method not in READ_NOTHING:
            for seed in range(4):
                with pytest.raises(MlselError, match=where):
                    selector.select(pool, 1, seed)
        assert not (tmp_path / "data.h5").exists()
        without = selector.select(pool, 6, 1, exclude=[5])
        without.write(pool, tmp_path / "data.h5")
        assert 5 not in without.frame_ids
    with Pool(tmp_path / "data.h5") as data:
        assert data.values("source_frame").tolist() == without.frame_ids.tolist()
        assert data.attributes["method"] == method
        assert data.attributes["pool"] == "pool.h5"


@pytest.mark.parametrize("method", METHODS)
def test_order_is_kept_in_the_data_set(method: str, make_pool: MakePool, tmp_path: Path) -> None:
    pool = make_pool([5, 6], 3)
    chosen = selector_for(method, pool).select(pool, 8, 2)
    chosen.write(pool, tmp_path / "data.h5")
    with Pool(tmp_path / "data.h5") as data:
        energies = data.values("energy")
    assert energies.tolist() == pool.values("energy")[chosen.frame_ids].tolist()


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(MlselError, match=r"no method atomic-energi .did you mean atomic-energy"):
        make_selector("atomic-energi")


def test_unknown_parameter_names_the_nearest() -> None:
    with pytest.raises(MlselError, match=r"no parameter bin .did you mean bins\?.: it has bins"):
        make_selector("force", {"bin": 3})


def test_wrong_type_is_told() -> None:
    with pytest.raises(MlselError, match="bins is 'many': it must be a whole number"):
        make_selector("force", {"bins": "many"})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"n": 5.5}, "Asked for 5.5 frames: n must be a whole number"),
        ({"n": "5"}, "n must be a whole number"),
        ({"rng": None}, "rng is None: give a seed"),
        ({"rng": -1}, "rng is -1: give a seed"),
        ({"exclude": [True, False] * 4}, "not a mask of booleans: give np.flatnonzero"),
        ({"exclude": [1.5]}, r"must be whole numbers, not \[1.5\]"),
    ],
)
def test_arguments_that_are_no_numbers_are_refused(
    wrong: dict[str, Any], said: str, make_pool: MakePool
) -> None:
    arguments: dict[str, Any] = {"n": 3, "rng": 1} | wrong
    with pytest.raises(MlselError, match=said):
        make_selector("force").select(make_pool([8], 1), **arguments)


def test_seeds_of_numpy_are_seeds(make_pool: MakePool) -> None:
    pool = make_pool([8], 1)
    plain, seed = (make_selector("random").select(pool, 3, rng) for rng in (4, np.int64(4)))
    assert seed.frame_ids.tolist() == plain.frame_ids.tolist() and seed.seed == 4


def test_a_mask_is_no_frame_ids(make_pool: MakePool) -> None:
    pool = make_pool([8], 1)
    with pytest.raises(MlselError, match="frame ids are numbers, not a mask of booleans"):
        list(pool.blocks("positions", frame_ids=np.arange(8) < 3))


def test_missing_field_names_the_methods_that_work(tmp_path: Path) -> None:
    with PoolWriter(tmp_path / "pool.h5") as writer:
        run = writer.add_run("ab-initio", [11], 2, ["positions", "forces"], {"energy": "eV"})
        one = np.ones((2, 1, 3))
        run.append([0, 1], [0, 1], positions=one, forces=one, energy=[1, 2], cell=[np.eye(3)] * 2)
    with (
        Pool(tmp_path / "pool.h5") as pool,
        pytest.raises(
            MlselError, match=r"needs atomic_energies.*work on it are committee,.*force,.*random"
        ),
    ):
        make_selector("atomic-energy").select(pool, 1, 1)
