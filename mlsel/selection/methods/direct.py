"""DIRECT: clusters in a descriptor's space, one frame from each.

References
----------
Qi, Ko, Wood, Pham, Ong, npj Comput. Mater. 10, 43 (2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.selection.base import Task, refuse
from mlsel.selection.descriptors.features import Floats, OfFrames

LLOYD_STEPS = 25
ROWS = 8192


@dataclass(frozen=True)
class Direct(OfFrames):
    """Clusters of frames in the principal components of a descriptor, one frame from each.

    The columns of the descriptor are brought to unit variance; of the principal components those
    of a variance above one (the mean of all) are kept, each weighted by the variance it explains.
    k-means (seeded by k-means++, Lloyd's algorithm on a random part of the pool if it is large)
    gives the centres; all frames go to their nearest. From each cluster comes the frame nearest to
    its centre, the clusters in the order of their size; in place of each empty cluster comes the
    frame that is farthest from its own centre and not chosen, so that there are exactly n. There
    are n clusters and one more for each given frame; those that hold given frames come last.

    Its other parameters are those of `OfFrames`.

    Parameters
    ----------
    fit : int
        Centres are found from at most max(fit, 8 n) frames.
    """

    fit: int = 16384

    name = "direct"
    summary = "one frame from each of n clusters in a descriptor's space"
    nested = False

    def __post_init__(self) -> None:
        if self.fit < 1:
            raise refuse(f"fit is {self.fit}: it must be at least 1.")

    def choose(self, task: Task) -> IntArray:
        keys = task.keys()
        frames = task.frame_ids
        features = self.features(task)
        if task.given is not None:
            given = self.features(task.given)
            features = np.concatenate([features, given])
        points = principal_components(task, features)
        n_clusters = min(task.n + task.n_given, len(frames))
        few = np.searchsorted(frames, task.first(keys, max(self.fit, 8 * n_clusters)))
        centres = k_means(task, points.at(few), n_clusters)
        covered, _ = _nearest(points.at(np.arange(len(frames), len(features))), centres)
        order = one_from_each(task, points, len(frames), centres, np.unique(covered))
        return frames[order[: task.n]]


@dataclass(frozen=True)
class Points:
    """Points of all ranks, each rank with its own in blocks that don't depend on the ranks."""

    task: Task
    blocks: list[slice]
    parts: list[FloatArray]

    def at(self, places: IntArray) -> FloatArray:
        """Return some points, in their order, on all ranks."""
        order = np.argsort(places, kind="stable")
        ordered = places[order]
        bounds = [np.searchsorted(ordered, (of.start, of.stop)) for of in self.blocks]
        found = [
            part[ordered[first:last] - of.start]
            for of, part, (first, last) in zip(self.blocks, self.parts, bounds, strict=True)
        ]
        width = max(self.task.every([part.shape[1] for part in self.parts[:1]]))
        together = self.task.join(np.concatenate([np.empty((0, width)), *found]))
        points = np.empty_like(together)
        points[order] = together
        return points


def principal_components(task: Task, features: Floats) -> Points:
    """Return the weighted principal components of features."""
    n = len(features)
    mine = task.stretches(n, ROWS)
    mean = task.total([features[some].sum(axis=0, dtype=np.float64) for some in mine]) / n
    squares = task.total([np.square(features[some] - mean).sum(axis=0) for some in mine])
    spread = np.sqrt(squares / n)
    varies = spread > 1e-9 * (np.abs(mean) + 1e-300)
    if not varies.any():
        return Points(task, mine, [np.zeros((some.stop - some.start, 1)) for some in mine])
    mean, spread = mean[varies], spread[varies]

    def scaled(some: slice) -> FloatArray:
        part: FloatArray = (features[some][:, varies] - mean) / spread
        return part

    covariance = task.total([scaled(some).T @ scaled(some) for some in mine]) / n
    variances, axes = task.from_root(np.linalg.eigh(covariance))
    kept = variances >= min(1.0, variances[-1])
    axes = axes[:, kept] * np.sqrt(variances[kept] / variances[kept].sum())
    return Points(task, mine, [scaled(some) @ axes for some in mine])


def _nearest(points: FloatArray, centres: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return each point's nearest centre and the squared distance to it."""
    score = points @ centres.T
    score -= 0.5 * (centres * centres).sum(axis=1)
    owner = score.argmax(axis=1)
    return owner, _squared(points - centres[owner])


def _squared(difference: FloatArray) -> FloatArray:
    squared: FloatArray = (difference * difference).sum(axis=1)
    return squared


def _rows(n_centres: int) -> int:
    """How many points are compared with all centres at a time: so few that ranks share them."""
    return max(1, min(1024, 2**22 // n_centres))


def k_means(task: Task, points: FloatArray, n: int) -> FloatArray:
    """Return n centres of clusters of points (at least n), the same on all ranks."""
    rng = task.rng
    mine = task.stretches(len(points), _rows(n))
    own = points[mine[0].start : mine[-1].stop] if mine else points[:0]
    centres = np.empty((n, points.shape[1]))
    distance = np.full(len(own), np.inf)
    place = int(rng.integers(len(points)))
    for k in range(n):  # k-means++
        centres[k] = points[place]
        np.minimum(distance, _squared(own - centres[k]), out=distance)
        total = np.cumsum(task.join(distance))
        if total[-1] > 0:
            place = int(np.searchsorted(total, rng.random() * total[-1], side="right"))
            place = min(place, len(points) - 1)
        else:
            place = int(rng.integers(len(points)))
    for _ in range(LLOYD_STEPS):
        sums = task.total([_sums(points[some], centres) for some in mine])
        counts = sums[:, -1]
        filled = counts > 0
        moved = centres.copy()
        moved[filled] = sums[filled, :-1] / counts[filled, None]
        if np.allclose(moved, centres, rtol=0, atol=1e-6 * np.sqrt(np.square(points).mean())):
            break
        centres = moved
    return centres


def _sums(points: FloatArray, centres: FloatArray) -> FloatArray:
    """Return for each centre the sum of the points that are nearest to it, and their number."""
    owner, _ = _nearest(points, centres)
    columns = [*points.T, np.ones(len(points))]
    return np.stack([np.bincount(owner, x, minlength=len(centres)) for x in columns], axis=1)


def one_from_each(
    task: Task, points: Points, n_points: int, centres: FloatArray, covered: IntArray
) -> IntArray:
    """Return as many points as there are centres: of each cluster the one nearest to its centre.

    Of the first n_points alone. Those of the clusters `covered`, which hold a given frame, come
    last.
    """
    n = len(centres)
    owner, distance, place = _owned(points, n_points, centres)
    sizes = task.total([np.bincount(owner, minlength=n)])
    order = _least(owner, distance, n)
    of, at, where = (task.join(array[order]) for array in (owner, distance, place))
    order = np.lexsort((where, at, of))
    order = order[np.flatnonzero(np.diff(of[order], prepend=-1))]
    first, sizes = where[order], sizes[of[order]]
    is_covered = np.isin(of[order], covered)
    first, last = first[~is_covered], first[is_covered]
    chosen = first[np.argsort(-sizes[~is_covered], kind="stable")]
    lacking = n - len(chosen)
    if not lacking:
        return chosen
    left = ~np.isin(place, np.concatenate([chosen, last]))
    distance, place = distance[left], place[left]
    if len(place) > lacking:
        limit = np.partition(distance, -lacking)[-lacking]
        distance, place = distance[distance >= limit], place[distance >= limit]
    distance, place = task.join(distance), task.join(place)
    farthest = place[np.lexsort((place, -distance))[:lacking]]
    return np.concatenate([chosen, farthest, last])[:n]


def _owned(points: Points, n: int, centres: FloatArray) -> tuple[IntArray, FloatArray, IntArray]:
    """Return of this rank's points among the first n: nearest centre, squared distance, place."""
    none = np.empty(0, dtype=np.int64)
    found = [(none, np.empty(0), none)]
    rows = _rows(len(centres))
    for of, part in zip(points.blocks, points.parts, strict=True):
        for start in range(0, min(of.stop, n) - of.start, rows):
            some = part[start : min(start + rows, n - of.start)]
            places = np.arange(of.start + start, of.start + start + len(some))
            found.append((*_nearest(some, centres), places))
    owner, distance, place = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return owner, distance, place


def _least(owner: IntArray, distance: FloatArray, n: int) -> IntArray:
    """Return the nearest point of each cluster that has any: of several the first."""
    least = np.full(n, np.inf)
    np.minimum.at(least, owner, distance)
    nearest = np.flatnonzero(distance == least[owner])
    order = nearest[np.argsort(owner[nearest], kind="stable")]
    return order[np.flatnonzero(np.diff(owner[order], prepend=-1))]
