"""RDFs, displacements and errors against what is known exactly, or measured by others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from mlsel.md.row_file import RowFile
from mlsel.md.session import LammpsSession
from mlsel.md.structures import lammps_data
from mlsel.validate.blocking import blocked
from mlsel.validate.density import Density
from mlsel.validate.diffusion import diffusion, mean_square_displacement
from mlsel.validate.distances import closest_distances
from mlsel.validate.rdf import first_minimum, main_peak
from mlsel.validate.stability import Bounds
from mlsel.validate.stored_frames import StoredFrames
from tests.support import Tolerance


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


def test_frames_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Displacements need a few frames and a few atoms in memory at a time, whatever is stored."""
    rng = np.random.default_rng(3)
    positions = rng.normal(size=(301, 7, 3)).cumsum(axis=0)
    stored, kinds = StoredFrames(tmp_path / "rows", 7), np.arange(7) % 2
    assert len(stored) == len(stored.steps()) == 0
    with RowFile(stored.path, 0) as rows:
        for step, frame in enumerate(positions):
            rows.add([10 * step], frame)
        rows.flush()
    assert len(stored) == 301 and stored.steps().tolist() == list(range(0, 3010, 10))
    np.testing.assert_array_equal(stored[17:20], positions[17:20])
    masses = np.array([1.0, 2.0])[kinds]
    whole = mean_square_displacement(positions, kinds, 0.1, masses)
    monkeypatch.setattr("mlsel.validate.diffusion.BLOCK_BYTES", 24 * 150)  # two atoms, 21 frames
    lag, msd = mean_square_displacement(stored, kinds, 0.1, masses)
    np.testing.assert_array_equal(lag, whole[0])
    np.testing.assert_allclose(msd, whole[1], rtol=Tolerance.SAME_NUMBERS)


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
    estimates = blocked(series.T).error
    assert estimates.shape == (n_runs,)
    assert np.median(estimates) == pytest.approx(scatter, rel=0.25)
    naive = series.std(axis=1, ddof=1) / np.sqrt(length)
    assert np.median(naive) < 0.4 * scatter
    assert np.isnan(blocked([1.0]).error)


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


def density_of(volumes: Any, mass: float = 1.0) -> Density:
    parts: Any = [SimpleNamespace(temperature=1000.0)]
    return Density(parts, np.asarray(volumes, np.float64), mass, 1.0, 1.0)


def test_density_and_compressibility_against_si_units() -> None:
    """Rock salt has 4 formula units of 58.44 g/mol in a cube of 5.640 Å, and 2.163 g/cm³; κ is
    var V/(V k_B T), here in m³, J and Pa."""
    assert density_of(np.full(16, 5.640**3), 4 * 58.443).density == pytest.approx(
        2.163, abs=Tolerance.THREE_DIGITS
    )
    volumes = 10000 + 10 * np.random.default_rng(1).standard_normal(4096)
    found = density_of(volumes)
    per_pascal = volumes.var() * 1e-60 / (volumes.mean() * 1e-30 * 1.380649e-23 * 1000)
    assert float(found.compressibility.value) == pytest.approx(
        per_pascal * 1e5, rel=Tolerance.FIVE_DIGITS
    )
    # Independent values: σ/√n of the mean, √(2/n) of the variance; blocking tells up to half more.
    assert 1 < found.relative_error / (100 * 0.001 / 64) < 2
    share = float(found.compressibility.error / found.compressibility.value)
    assert 1 < share / np.sqrt(2 / 4096) < 2


def test_a_density_that_drifts_is_not_known() -> None:
    study: Any = SimpleNamespace(validation=SimpleNamespace(density_error=50.0))
    volumes = 10000 + 10 * np.random.default_rng(1).standard_normal(1024)
    assert density_of(volumes).is_known(study)
    jump = np.where(np.arange(1024) < 512, 0.0, 100.0)
    assert not density_of(volumes + jump).is_known(study)


def test_short_lags_do_not_count_in_diffusion() -> None:
    """Below two fifths of the longest lag atoms may move as they will."""
    lag = 0.1 * np.arange(1.0, 51.0)
    msd: Any = np.where(lag < 1.99, 0.0, 6 * 0.7 * lag + 2)
    assert float(diffusion(lag, np.tile(msd, (4, 1))).value) == pytest.approx(0.7)


def test_the_first_minimum_is_where_it_is() -> None:
    r = np.arange(0.025, 9.0, 0.05)
    g = 1 + 2 * np.exp(-(((r - 2.7) / 0.3) ** 2)) - 0.6 * np.exp(-(((r - 3.9) / 0.4) ** 2))
    assert r[first_minimum(r, g)] == pytest.approx(3.9, abs=0.06)


@pytest.mark.parametrize(
    ("width", "is_resampled"), [(0.02, True), (0.1, True), (0.12, True), (0.3, False), (1, False)]
)
def test_the_error_of_a_peak_is_the_scatter_of_many_runs(
    width: float, is_resampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Narrow peaks have few bins, of which a run's noise takes one more or less; for wide ones the
    jackknife alone is enough."""
    if not is_resampled:
        monkeypatch.setattr("mlsel.validate.rdf._resampled_errors", lambda r, parts: np.zeros(2))
    rng, r = np.random.default_rng(2), np.arange(0.025, 6.0, 0.05)
    g = 3 * np.exp(-((r - (2.725 if width == 0.02 else 2.7)) ** 2) / width)
    peaks = [main_peak(r, g + 0.05 * rng.standard_normal((64, len(r)))) for _ in range(60)]
    for name in ("position", "height"):
        means = [getattr(peak, name) for peak in peaks]
        scatter = np.std([float(mean.value) for mean in means], ddof=1)
        told = np.sqrt(np.mean([float(mean.error) ** 2 for mean in means]))
        assert 0.7 < told / scatter < 1.5
