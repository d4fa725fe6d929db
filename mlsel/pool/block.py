"""Runs and blocks: the pieces in which a pool is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlsel.core.arrays import Array, IntArray

BLOCK_BYTES = 32 * 2**20
SMALL_BLOCK = 4 * 2**20
"""For passes that make several arrays of a block's size: figures, the report."""


@dataclass(frozen=True)
class Run:
    """A series of frames of the same atoms: frame ids first_frame … first_frame + n_frames − 1,
    unless the pool keeps another order (`Pool.is_ordered`)."""

    index: int
    name: str
    n_frames: int
    n_atoms: int
    first_frame: int


@dataclass(frozen=True)
class Block:
    """Arrays of some frames of one run; the first axis of each is the frame.

    Attributes
    ----------
    frame_ids : int64, (F,)
    run : Run
    rows : int64, (F,)
        The frames' places in the run.
    fields : dict
        positions (F, N, 3) Å, forces (F, N, 3) eV/Å, atomic_energies (F, N) eV, cell (F, 3, 3) Å,
        step (F,), virial (F, 3, 3) eV, and one value a frame for every observable.
    """

    frame_ids: IntArray
    run: Run
    rows: IntArray
    fields: Mapping[str, Array]

    def __getitem__(self, field: str) -> Array:
        return self.fields[field]

    def __len__(self) -> int:
        return len(self.frame_ids)

    def at(self, places: IntArray) -> Block:
        """Return the frames at some places of the block, as a block."""
        some = {field: array[places] for field, array in self.fields.items()}
        return Block(self.frame_ids[places], self.run, self.rows[places], some)
