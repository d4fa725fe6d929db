"""Atoms' energies without charges, as generate stores them, against a plain sum over images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlsel.core.errors import MlselError
from mlsel.pool.layout import PAIR_ENERGIES
from mlsel.pool.pool import Pool
from mlsel.selection import make_selector
from tests.lammps.ewald import energies_and_forces, read_table
from tests.support import Tolerance, make_pool


def test_stored_energies_are_the_sum_to_the_cutoff(tmp_path: Path) -> None:
    overrides = ["pool.pair_energies=true", "pool.temperatures=[1500]", "pool.pressures=[1]",
                 "pool.frames_per_run=3", "system.cutoff=6.5"]  # fmt: skip
    folder = make_pool(tmp_path, *overrides)
    with Pool(folder / "pool.h5") as pool:
        assert PAIR_ENERGIES in pool.fields and pool.unit(PAIR_ENERGIES) == "eV"
        block = next(pool.blocks("positions", "cell", "atomic_energies", PAIR_ENERGIES))
        numbers = pool.numbers(block.run)
        chosen = make_selector("pair-energy", {"bins": 4}).select(pool, 3, 1)
        assert sorted(chosen.frame_ids.tolist()) == [0, 1, 2]
    types = np.where(numbers == 11, 1, 2)
    table = read_table("nacl-tosi-fumi")
    for frame in (0, 2):
        side, none = block["cell"][frame, 0, 0], np.zeros(len(numbers))
        expected, _ = energies_and_forces(block["positions"][frame], side, types, none, table, 6.5)
        np.testing.assert_allclose(
            block[PAIR_ENERGIES][frame], expected, rtol=Tolerance.ROUNDING, atol=Tolerance.ROUNDING
        )
        assert np.abs(block["atomic_energies"][frame] - expected).min() > 1.0  # the charges


def test_a_pool_without_them_is_told_how_to_get_them(tiny_pool: Path) -> None:
    with (
        Pool(tiny_pool) as pool,
        pytest.raises(MlselError, match=r"does not hold: set pool.pair_energies = true"),
    ):
        make_selector("pair-energy").select(pool, 1, 1)
