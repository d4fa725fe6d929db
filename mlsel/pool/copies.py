"""Frames that are the same configuration: by a digest of atoms, cell and positions."""

from __future__ import annotations

import hashlib

import numpy as np

from mlsel.core.arrays import Array, IntArray
from mlsel.pool.pool import Pool

DECIMALS = 6
"""Positions and cells are compared to 1e-6 Å: a text file of 8 decimals gives the same digest."""


def configuration_digests(
    numbers: IntArray, periodic: tuple[bool, bool, bool], cells: Array, positions: Array
) -> Array:
    """Return a digest of each of some frames of the same atoms, uint64 (F,).

    Parameters
    ----------
    numbers : (N,)
    periodic : three bools
    cells : Å, (F, 3, 3)
    positions : Å, (F, N, 3)
    """
    fixed = hashlib.blake2b(numbers.astype("<i8").tobytes() + bytes(periodic), digest_size=8)
    # + 0.0 makes -0.0 a 0.0, whose bytes differ.
    frames = np.round(np.concatenate([cells, positions], axis=1), DECIMALS) + 0.0
    out = np.empty(len(frames), dtype=np.uint64)
    for i, frame in enumerate(np.ascontiguousarray(frames, dtype="<f8")):
        made = fixed.copy()
        made.update(frame)
        out[i] = int.from_bytes(made.digest(), "little")
    return out


def pool_digests(pool: Pool, frame_ids: range | IntArray | None = None) -> Array:
    """Return the digest of each frame of a pool, or of those named in their order, uint64 (F,)."""
    ids = np.arange(len(pool)) if frame_ids is None else np.asarray(frame_ids, dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    out = np.empty(len(ids), dtype=np.uint64)
    for block in pool.blocks("positions", "cell", frame_ids=ids if len(ids) else range(0)):
        made = configuration_digests(
            pool.numbers(block.run), pool.periodic(block.run), block["cell"], block["positions"]
        )
        out[order[np.searchsorted(ids[order], block.frame_ids)]] = made
    return out


def first_of_each(digests: Array) -> IntArray:
    """Return for each frame the place of the first with the same digest, int64 (F,).

    >>> first_of_each(np.array([7, 5, 7, 5, 9])).tolist()
    [0, 1, 0, 1, 4]
    """
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    places: IntArray = first[inverse].astype(np.int64)
    return places
