"""Frames for the benchmarks of training: a small pool of the paper's system, and some of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlsel.training.frames import Frames, read_frames


def make_data(folder: Path) -> Path:
    """Generate a small pool of the paper's system."""
    from mlsel.core.parallel import world
    from mlsel.generate import generate
    from mlsel.study.study import load_study

    generate(load_study("quick", ["pool.frames_per_run=40"]), folder / "pool", world())
    return folder / "pool" / "pool.h5"


def choose(path: Path, n: int) -> list[Frames]:
    """Return n frames, spread over a pool."""
    from mlsel.pool.pool import Pool

    with Pool(path) as pool:
        return list(read_frames(pool, np.linspace(0, pool.n_frames - 1, n).astype(int)))


def merged(parts: Sequence[Frames]) -> Frames:
    """Return frames of the same atoms as one."""
    return Frames(
        parts[0].numbers,
        np.concatenate([p.positions for p in parts]),
        np.concatenate([p.cell for p in parts]),
        parts[0].periodic,
        np.concatenate([p.energy for p in parts if p.energy is not None]),
        np.concatenate([p.forces for p in parts if p.forces is not None]),
    )
