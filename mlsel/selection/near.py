"""Near duplicates: frames whose descriptors are as close as a small displacement puts them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.selection.base import Task
from mlsel.selection.descriptors.features import (
    Floats,
    described_frames,
    frame_features,
    make_descriptor,
)

SAMPLE = 8
"""Frames of each composition of which it is found what a displacement does."""
LEADING = 6
"""Principal components by which pairs are sought."""
MOST_PAIRS = 20_000_000


def near_duplicates(
    task: Task, composition: IntArray, displacement: float, cutoff: float
) -> IntArray:
    """Return the eligible frames that are nearly a frame before them, sorted.

    Two frames of a composition count as near if their descriptors are no farther apart than random
    displacements of all atoms, of this root mean square, put a frame from itself: the median over
    a sample of frames. What the descriptor can't tell apart counts as near.

    Parameters
    ----------
    task : Task
        Its eligible frames are compared; collective over its ranks.
    composition : int, (n_frames,)
    displacement : float, Å
    cutoff : float, Å
        Of the descriptor.
    """
    frames = task.frame_ids
    if not len(frames):
        return frames
    features = frame_features(task, "radial", cutoff).astype(np.float64)
    near: list[IntArray] = []
    for kind in np.unique(composition[frames]):
        own = np.flatnonzero((composition[frames] == kind) & features.any(axis=1))
        if len(own) > 1:
            some = frames[own[:: max(1, len(own) // SAMPLE)]][:SAMPLE]
            limit = _moved_by(task, some, displacement, cutoff)
            near.append(frames[own[_later_of_pairs(features[own], limit)]])
    found: IntArray = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *near]))
    return found


def _moved_by(task: Task, frames: IntArray, displacement: float, cutoff: float) -> float:
    """Return how far descriptors move when atoms do."""
    rng = np.random.default_rng(1)
    descriptor = make_descriptor(task.elements, "radial", cutoff)
    moves: list[float] = []
    for block in task.pool.blocks("positions", "cell", frame_ids=frames):
        positions = block["positions"]
        step = rng.standard_normal(positions.shape) * displacement / np.sqrt(3.0)
        moved = dataclasses.replace(block, fields={**block.fields, "positions": positions + step})
        here, there = (
            described_frames(task, block, descriptor.atoms(task.pool, each))
            for each in (block, moved)
        )
        moves += np.linalg.norm(there.astype(np.float64) - here, axis=1).tolist()
    return float(np.median(moves))


def _later_of_pairs(features: FloatArray, limit: float) -> IntArray:
    """Return the places of rows that have one before them within the limit."""
    from scipy.spatial import cKDTree

    centred = features - features.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :LEADING]
    tree = cKDTree(centred @ axes)
    # A projection brings points nearer to each other, never farther apart.
    reach = limit * (1.0 + 1e-9)
    if int(tree.count_neighbors(tree, reach)) > MOST_PAIRS:
        return _one_by_one(tree, features, reach, limit)
    pairs = tree.query_pairs(reach, output_type="ndarray")
    apart = np.linalg.norm(features[pairs[:, 0]] - features[pairs[:, 1]], axis=1)
    return np.unique(pairs[apart <= limit].max(axis=1, initial=-1))


def _one_by_one(tree: Any, features: FloatArray, reach: float, limit: float) -> IntArray:
    """Do the same with little memory."""
    later = []
    for place, row in enumerate(features):
        others: Array = np.array(tree.query_ball_point(tree.data[place], reach))
        before: Floats = features[others[others < place]]
        if len(before) and (np.linalg.norm(before - row, axis=1) <= limit).any():
            later.append(place)
    return np.array(later, dtype=np.int64)
