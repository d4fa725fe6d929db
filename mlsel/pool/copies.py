"""Copies: frames with the same atoms, positions and cell, bit for bit."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core.arrays import Array, IntArray

if TYPE_CHECKING:
    from mlsel.pool.pool import Pool

CONTENT_HASH = "content_hash"
"""Of every imported frame, so that copies are found without reading positions."""


def content_hash(
    numbers: Array, positions: Array, cell: Array, periodic: tuple[bool, bool, bool]
) -> int:
    """Return 64 bits that copies share; 0.0 and −0.0 are the same."""
    made = hashlib.blake2b(bytes(periodic), digest_size=8)
    for array, kind in ((numbers, np.int64), (positions, np.float64), (cell, np.float64)):
        made.update(np.ascontiguousarray(array, dtype=kind) + kind(0))
    return int.from_bytes(made.digest(), "little", signed=True)


def hashes(pool: Pool, *, of_any: bool = False) -> IntArray | None:
    """Return the content hash of every frame, (n_frames,); None for a pool that MD made.

    Where the pool does not hold them, positions are read: of what MD made only if `of_any`, for
    it has no copies.
    """
    if CONTENT_HASH in pool.fields:
        return pool.values(CONTENT_HASH).astype(np.int64)
    if not (of_any or "sources" in pool.attributes):
        return None
    found = np.empty(len(pool), dtype=np.int64)
    for block in pool.blocks("positions", "cell"):
        numbers, periodic = pool.numbers(block.run), pool.periodic(block.run)
        for frame, positions, cell in zip(
            block.frame_ids, block["positions"], block["cell"], strict=True
        ):
            found[frame] = content_hash(numbers, positions, cell, periodic)
    return found


def later_copies(found: IntArray) -> IntArray:
    """Return the places of those that are copies of one before, sorted."""
    _, first = np.unique(found, return_index=True)
    return np.setdiff1d(np.arange(len(found)), first)
