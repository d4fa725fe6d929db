"""RDFs, displacements and errors against what is known exactly, or measured by others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from mlsel.md.session import LammpsSession
from mlsel.md.structures import lammps_data
from mlsel.validate.blocking import block_error
from mlsel.validate.diffusion import diffusion, mean_square_displacement
from mlsel.validate.distances import closest_distances
from mlsel.validate.stability import Bounds


def test_ideal_gas_has_g_of_one(tmp_path: Path) -> None:
    """LAMMPS's g(r) of points at random, with the finite-size factor: 1 in every shell."""
    from ase import Atoms

    rng = np.random.default_rng(7)
    side, n_frames, tables = 20.0, 20, []
    numbers = np.repeat([11, 17], 200)
    for _ in range(n_frames):
        atoms = Atoms(numbers, positions=rng.uniform(0, side, (400, 3)), cell=[side] * 3, pbc=True)
        (tmp_path / "gas.data").write_text(lammps_data(atoms, ("Na", "Cl")))
        with LammpsSession(MPI.COMM_SELF) as session:
            session.execute(
                [
                    "units metal",
                    "atom_style charge",
                    f"read_data {tmp_path}/gas.data",
                    "pair_style zero 9.0",
                    "pair_coeff * *",
                    "compute rdf all rdf 18 1 1 1 2 2 2 cutoff 9.0",
                    "comm_modify cutoff 11.0",
                ]
            )
            session.run(0)
            tables.append(session.global_array("rdf"))
    mean = np.mean(tables, axis=0)
    r, g = mean[:, 0], mean[:, 1::2]
    n_pairs = 200 * 200 * n_frames * (4 * np.pi * r**2 * 0.5) / side**3
    spread = 1 / np.sqrt(n_pairs / 2)
    assert (np.abs(g - 1) < 4.5 * spread[:, None]).all()
    outer = r > 3
    assert np.abs(g[outer].mean(axis=0) - 1).max() < 0.01
    expected = np.array([199, 200, 199]) * 4 / 3 * np.pi * 9.0**3 / side**3
    np.testing.assert_allclose(mean[-1, 2::2], expected, rtol=0.02)


def test_diffusion_of_a_random_walk() -> None:
    rng = np.random.default_rng(3)
    known, interval, n_frames = 0.9, 0.1, 3000
    steps = rng.normal(0, np.sqrt(2 * known * interval), (n_frames, 80, 3))
    drift = np.linspace(0, 500, n_frames)[:, None, None]  # of the whole: must not count
    kinds = np.repeat([0, 1], 40)
    steps[:, kinds == 1] *= np.sqrt(2)
    lag, msd = mean_square_displacement(steps.cumsum(axis=0) + drift, kinds, interval)
    assert lag[-1] == pytest.approx(5.0) and len(msd) == 8
    # Two of the 80 atoms' degrees of freedom go with the centre of mass: 1 % at most.
    for row, d in ((0, known), (1, 2 * known)):
        found = diffusion(lag, msd[:, row])
        assert abs(found.value - d) < 3 * found.error + 0.015 * d
        assert found.error < 0.1 * d
        np.testing.assert_allclose(msd[:, row].mean(axis=0)[:5], 6 * d * lag[:5], rtol=0.05)


def test_displacements_of_a_trajectory_too_short() -> None:
    lag, msd = mean_square_displacement(np.zeros((2, 4, 3)), np.zeros(4, int), 0.1)
    assert lag.size == 0 and msd.shape == (0, 1, 0)
    assert np.isnan(diffusion(lag, msd[:, 0]).value)


def test_block_errors_tell_the_scatter_of_long_runs() -> None:
    """Correlated numbers: the error estimated in one run is the scatter of the means of many."""
    rng = np.random.default_rng(11)
    memory, n_runs, length = 0.9, 300, 2000
    noise = rng.standard_normal((n_runs, length + 200))
    series = np.zeros_like(noise)
    for i in range(1, noise.shape[1]):
        series[:, i] = memory * series[:, i - 1] + noise[:, i]
    series = series[:, 200:]
    scatter = series.mean(axis=1).std(ddof=1)
    estimates = block_error(series.T)
    assert estimates.shape == (n_runs,)
    assert np.median(estimates) == pytest.approx(scatter, rel=0.25)
    naive = series.std(axis=1, ddof=1) / np.sqrt(length)
    assert np.median(naive) < 0.4 * scatter
    assert np.isnan(block_error([1.0]))


def test_closest_distances_against_ase() -> None:
    from ase import Atoms

    rng = np.random.default_rng(5)
    cell = np.diag([9.0, 10.0, 11.0])
    types = np.repeat([0, 1], [70, 90])
    positions = rng.uniform(-20, 20, (160, 3))
    atoms = Atoms(np.where(types, 17, 11), positions=positions, cell=cell, pbc=True)
    all_distances = atoms.get_all_distances(mic=True) + 1e3 * np.eye(160)
    expected = [
        all_distances[np.ix_(types == a, types == b)].min() for a, b in ((0, 0), (0, 1), (1, 1))
    ]
    np.testing.assert_allclose(closest_distances(positions, cell, types, 2), expected)


def test_bounds_name_what_is_broken() -> None:
    bounds = Bounds(np.array([2.0, 1.5]), 1000.0, -30.0, 10, ("Na-Na", "Na-Cl"))
    assert bounds.broken(900, -30.5, [2.5, 1.6]) == ""
    assert "Na-Cl at 0.50" in bounds.broken(900, -30.5, [1.9, 0.5])
    assert "temperature 400 K" in bounds.broken(400, -30.5, [2.5, 1.6])
    assert "eV/atom" in bounds.broken(900, -40.0, [2.5, 1.6])
    assert "eV/atom" in bounds.broken(900, np.nan, [2.5, 1.6])
    assert "temperature" in bounds.broken(np.nan, -30.0, [2.5, 1.6])
