"""A pool of any size whose values are distributed like those of a molten salt.

It stands in for MD in benchmarks of selection: two species, runs at rising temperature, per-atom
energies with a tail towards high energy, force components with tails fatter than a Gaussian's.
The positions are a jittered grid: structures look right, and no energy belongs to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlsel.pool.layout import PAIR_ENERGIES, PAIR_ENERGY
from mlsel.pool.writer import PoolWriter

SIDE = 5
"""Atoms stand on the first n_atoms points of SIDE x SIDE x m layers."""


def write_synthetic_pool(
    path: Path,
    n_frames: int,
    n_atoms: int = 100,
    seed: int = 1,
    frames_per_run: int = 2000,
    fields: tuple[str, ...] = ("positions", "forces", "atomic_energies"),
) -> None:
    """Write a pool of n_frames frames in runs of frames_per_run.

    Examples
    --------
    >>> import tempfile
    >>> from mlsel.pool.pool import Pool
    >>> folder = tempfile.TemporaryDirectory()
    >>> write_synthetic_pool(Path(folder.name, "pool.h5"), 30, n_atoms=8, frames_per_run=20)
    >>> with Pool(Path(folder.name, "pool.h5")) as pool:
    ...     len(pool), [run.n_frames for run in pool.runs]
    (30, [20, 10])
    >>> folder.cleanup()
    """
    numbers = np.where(np.arange(n_atoms) % 2 == 0, 11, 17)
    n_runs = -(-n_frames // frames_per_run)
    with PoolWriter(path, {"made_by": "benchmarks/synthetic.py", "seed": seed}) as writer:
        for index in range(n_runs):
            n = min(frames_per_run, n_frames - index * frames_per_run)
            heat = 0.65 + 0.9 * (index + 0.5) / n_runs  # temperature / 1400 K
            run = writer.add_run(
                f"run-{index:04d}",
                numbers,
                n,
                [field for field in fields if field != PAIR_ENERGIES],
                {"energy": "eV", "temperature": "K"},
                attributes={"temperature_set": 1400.0 * heat, "pressure_set": 1.0},
                extras={PAIR_ENERGIES: PAIR_ENERGY} if PAIR_ENERGIES in fields else {},
            )
            arrays = _frames(np.random.default_rng([seed, index]), n, n_atoms, heat)
            kept: Mapping[str, np.ndarray] = {
                key: array
                for key, array in arrays.items()
                if key in (*fields, "energy", "temperature", "cell")
            }
            run.append(100 * np.arange(n), 0.1 * np.arange(n), **kept)


def _frames(rng: np.random.Generator, n: int, n_atoms: int, heat: float) -> dict[str, np.ndarray]:
    layers = -(-n_atoms // SIDE**2)
    grid = np.indices((layers, SIDE, SIDE)).reshape(3, -1).T[:n_atoms] + 0.5
    spacing = 3.1 + 0.2 * heat
    breath = 1.0 + 0.01 * rng.standard_normal((n, 1, 1))
    jitter = rng.normal(0.0, 0.25 * np.sqrt(heat), (n, n_atoms, 3))
    positions = (grid * spacing + jitter) * breath
    cell = np.diag([layers * spacing, SIDE * spacing, SIDE * spacing]) * breath
    species = np.where(np.arange(n_atoms) % 2 == 0, -3.4, -3.9)
    atomic_energies = rng.standard_normal((n, n_atoms))
    atomic_energies *= 0.2 * np.sqrt(heat)
    atomic_energies += rng.exponential(0.12 * heat, (n, n_atoms)) + species + 0.3 * heat
    forces = rng.standard_normal((n, n_atoms, 3))
    forces *= 0.5 * heat * np.sqrt(0.4 + rng.exponential(0.6, (n, n_atoms, 1)))
    forces -= forces.mean(axis=1, keepdims=True)
    return {
        "positions": positions,
        "forces": forces,
        "atomic_energies": atomic_energies,
        PAIR_ENERGIES: -atomic_energies,
        "energy": atomic_energies.sum(axis=1),
        "temperature": 1400.0 * heat * (1.0 + 0.08 * rng.standard_normal(n)),
        "cell": cell,
    }
