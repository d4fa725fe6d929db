"""Training frames that the runs of a refinement start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core.arrays import IntArray
from mlsel.core.errors import MlselError
from mlsel.core.provenance import derived_seed
from mlsel.pool.pool import Pool
from mlsel.refine.bounds import species_of

if TYPE_CHECKING:
    from ase import Atoms


def periodic_frames(pool: Pool) -> IntArray:
    """Return the frames that MD can start from.

    Raises
    ------
    MlselError
        If there are none.
    """
    index, _ = pool.locate(np.arange(len(pool)))
    usable = [i for i, run in enumerate(pool.runs) if all(pool.periodic(run))]
    frames = np.flatnonzero(np.isin(index, usable))
    if not len(frames):
        raise MlselError(
            f"no frame of {pool.path} is periodic in all directions, as MD of `mlsel refine` must "
            "be: give periodic frames."
        )
    return frames


def drawn_starts(
    data: Path, species: Sequence[str], n: int, seed: int, *labels: object
) -> list[Atoms]:
    """Return n frames of a data set, drawn at random by a seed and what it is for; each but once
    where there are enough."""
    from ase import Atoms

    with Pool(data) as pool:
        frames = periodic_frames(pool)
        rng = np.random.default_rng(derived_seed(seed, *labels))
        made = []
        for frame in rng.choice(frames, n, replace=n > len(frames)).tolist():
            (block,) = pool.blocks("positions", "cell", frame_ids=[frame])
            numbers = pool.numbers(block.run)
            species_of(numbers, species, data)
            atoms = Atoms(numbers, block["positions"][0], cell=block["cell"][0], pbc=True)
            atoms.wrap()
            made.append(atoms)
    return made
