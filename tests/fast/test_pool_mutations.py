"""Pools that are damaged, by chance: read, checked, selected from and exported, or refused."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mlsel.pool.check import check, report
from mlsel.pool.info import describe
from mlsel.pool.layout import Layout
from mlsel.pool.pool import Pool
from mlsel.pool.subset import write_subset
from mlsel.pool.writer import PoolWriter
from mlsel.selection import make_selector
from tests.support.mutations import damage_hdf5, damaged, run_cases
from tests.support.training_data import frames, labels

METHODS = ("random", "force", "atomic-energy", "global-energy", "random-uniform")


@dataclass(frozen=True)
class Originals:
    """A pool of two runs with all that one can hold, one that links to it, and a data set of it."""

    folder: Path

    def copy(self, to: Path) -> None:
        for path in self.folder.iterdir():
            shutil.copy(path, to / path.name)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    return make(tmp_path_factory.mktemp("originals"))


def make(folder: Path) -> Originals:
    with PoolWriter(
        folder / "run.h5", {"made_by": "test"}, element_references={11: -1.0}
    ) as writer:
        for k in range(2):
            part = frames(5 + k, seed=k)
            fields = ("positions", "forces", "atomic_energies")
            run = writer.add_run(
                f"run-{k}", part.numbers, len(part), fields, {"energy": "eV"}, orthogonal=False,
                attributes={"molten": bool(k), "molten_means": "by eye", "pressure_set": 1.0},
                extras={
                    "config_type": Layout(dtype="S8", attributes=(("key", "config_type"),)),
                    **({"magmoms": Layout(True)} if k else {}),
                },
            )  # fmt: skip
            atomic = [labels(part.numbers, x, c)[0]
                      for x, c in zip(part.positions, part.cell, strict=True)]  # fmt: skip
            more = {"magmoms": np.ones((len(part), 8))} if k else {}
            assert part.energy is not None and part.forces is not None
            run.append(
                np.arange(len(part)), np.arange(len(part)) * 0.1, positions=part.positions,
                forces=part.forces, atomic_energies=atomic, cell=part.cell, energy=part.energy,
                config_type=["bulk"] * len(part), **more,
            )  # fmt: skip
    with PoolWriter(folder / "pool.h5") as writer:
        writer.link_run(folder / "run.h5")
    with Pool(folder / "run.h5") as pool:
        write_subset(pool, [7, 0, 9, 3, 1, 8], folder / "set.h5")
    return Originals(folder)


def use(path: Path, chance: random.Random) -> None:
    """What commands do with a pool; which of them is left to chance."""
    with Pool(path) as pool:
        deeds: list[Callable[[], object]] = [
            lambda: describe(pool),
            lambda: report(pool, check(pool)),
            lambda: [block.fields for block in pool.blocks(everything=True)],
            lambda: [pool.values(f) for f in pool.fields if f in ("energy", "config_type")],
            lambda: write_subset(pool, list(range(len(pool)))[::2], path.with_name("out.h5")),
            lambda: pool.element_references,
            lambda: make_selector(chance.choice(METHODS)).asked(pool, 3, 1).write(
                pool, path.with_name("out.h5")),
        ]  # fmt: skip
        for deed in chance.sample(deeds, 3):
            deed()
    made = path.with_name("out.h5")
    if made.is_file():
        with Pool(made) as product:
            for block in product.blocks(everything=True):
                assert all(np.isfinite(v).all() for v in block.fields.values() if v.dtype == "f8")


def one(originals: Originals, folder: Path, chance: random.Random) -> None:
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    originals.copy(place)
    used, hurt = chance.choice(
        (("run.h5", "run.h5"), ("set.h5", "set.h5"), ("pool.h5", "pool.h5"), ("pool.h5", "run.h5"))
    )
    if chance.random() < 0.6:
        damage_hdf5(place / hurt, chance)
    else:
        (place / hurt).write_bytes(damaged((place / hurt).read_bytes(), chance))
    use(place / used, chance)


def test_some_damaged_pools(originals: Originals, tmp_path: Path) -> None:
    run_cases(lambda chance: one(originals, tmp_path, chance), 120, seed=1).require()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 7))
def test_many_damaged_pools(originals: Originals, tmp_path: Path, seed: int) -> None:
    run_cases(lambda chance: one(originals, tmp_path, chance), 600, seed).require()
