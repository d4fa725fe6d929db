"""Small data for tests of training: a pair potential of two elements, labelled by a plain sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.pool.writer import PoolWriter
from mlsel.training.frames import Frames

CUTOFF = 4.0
CHARGES = {11: 1.0, 17: -1.0, 13: -1.0, 22: 1.0}


def pair_energy(r: Any, product: Any) -> tuple[Any, Any]:
    """A soft ionic pair energy that ends smoothly at CUTOFF, and its derivative, eV and eV/Å."""
    smooth = (1 - (r / CUTOFF) ** 2) ** 3 * (r < CUTOFF)
    d_smooth = -6 * r / CUTOFF**2 * (1 - (r / CUTOFF) ** 2) ** 2 * (r < CUTOFF)
    bare = 0.6 * product / r + np.exp(2.0 * (2.2 - r))
    d_bare = -0.6 * product / r**2 - 2.0 * np.exp(2.0 * (2.2 - r))
    return bare * smooth, d_bare * smooth + bare * d_smooth


def labels(numbers: Any, positions: Any, cell: Any) -> tuple[Any, Any]:
    """Atomic energies and forces, by a sum over all pairs and the images around."""
    charge = np.array([CHARGES[int(z)] for z in numbers])
    shifts = np.array([[i, j, k] for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)])
    vectors = positions[None, :, None] - positions[:, None, None] + (shifts @ cell)[None, None]
    r = np.linalg.norm(vectors, axis=-1)
    r[r == 0] = 2 * CUTOFF  # an atom and itself
    u, du = pair_energy(r, (charge[:, None] * charge)[:, :, None])
    forces = (du[..., None] * vectors / r[..., None]).sum((1, 2))
    return 0.5 * u.sum((1, 2)), forces


def virial(numbers: Any, positions: Any, cell: Any, step: float = 1e-5) -> Any:
    """−∂E/∂ε, eV, by finite differences."""
    found = np.empty((3, 3))
    for a in range(3):
        for b in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[a, b] += sign * step
                energies.append(labels(numbers, positions @ strain, cell @ strain)[0].sum())
            found[a, b] = -(energies[0] - energies[1]) / (2 * step)
    return found


def fully_labelled(part: Frames) -> Frames:
    """The same frames with the energies of their atoms and their virials."""
    each = list(zip(part.positions, part.cell, strict=True))
    return replace(
        part,
        atomic_energies=np.array([labels(part.numbers, x, c)[0] for x, c in each]),
        virial=np.array([virial(part.numbers, x, c) for x, c in each]),
    )


def frames(n: int, seed: int = 1, side: int = 2, spacing: float = 2.8) -> Frames:
    """Rocksalt cells of side³ sites, shaken, in boxes a little triclinic."""
    rng = np.random.default_rng(seed)
    sites = np.array([[i, j, k] for i in range(side) for j in range(side) for k in range(side)])
    numbers = np.where(sites.sum(1) % 2, 17, 11)
    cells = side * spacing * (np.eye(3) + 0.04 * rng.uniform(-1, 1, (n, 3, 3)))
    positions = sites[None] / side @ cells + 0.18 * rng.standard_normal((n, len(sites), 3))
    made = [labels(numbers, x, c) for x, c in zip(positions, cells, strict=True)]
    energies = np.array([e.sum() for e, _ in made])
    return Frames(numbers, positions, cells, energy=energies, forces=np.array([f for _, f in made]))


def write_pool(path: Path, runs: Sequence[Frames], **parameters: Any) -> Path:
    """Write frames as a pool."""
    fields = ("positions", "forces", "atomic_energies")
    with PoolWriter(path, parameters) as writer:
        for k, part in enumerate(runs):
            run = writer.add_run(
                f"run-{k}", part.numbers, len(part), fields, {"energy": "eV"}, orthogonal=False
            )
            atomic = [
                labels(part.numbers, x, c)[0]
                for x, c in zip(part.positions, part.cell, strict=True)
            ]
            assert part.energy is not None and part.forces is not None
            steps = np.arange(len(part))
            run.append(
                steps,
                steps * 0.1,
                positions=part.positions,
                forces=part.forces,
                atomic_energies=np.array(atomic).reshape(len(part), part.n_atoms),
                cell=part.cell,
                energy=part.energy,
            )
    return path
