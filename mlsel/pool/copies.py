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
    return int(content_hashes(numbers, positions[None], cell[None], periodic)[0])


def content_hashes(
    numbers: Array, positions: Array, cells: Array, periodic: tuple[bool, bool, bool]
) -> IntArray:
    """Return 64 bits for each frame that copies share; 0.0 and −0.0 are the same.

    Parameters
    ----------
    numbers : (N,), of all frames
    positions : (F, N, 3)
    cells : (F, 3, 3)
    """
    begun = hashlib.blake2b(bytes(periodic), digest_size=8)
    begun.update(np.ascontiguousarray(numbers, dtype=np.int64))
    found = np.empty(len(positions), dtype=np.int64)
    zero = np.float64(0)  # −0.0 + 0.0 is 0.0
    both = (np.ascontiguousarray(of, dtype=np.float64) + zero for of in (positions, cells))
    for k, (where, cell) in enumerate(zip(*both, strict=True)):
        made = begun.copy()
        made.update(where)
        made.update(cell)
        found[k] = int.from_bytes(made.digest(), "little", signed=True)
    return found


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
