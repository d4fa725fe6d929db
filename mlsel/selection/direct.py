"""DIRECT: clusters in a descriptor's space, one frame from each.

References
----------
Qi, Ko, Wood, Pham, Ong, npj Comput. Mater. 10, 43 (2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlsel.pool import Array, FloatArray, IntArray
from mlsel.selection.base import Selector, Task, refuse
from mlsel.selection.descriptors import Floats, frame_features

LLOYD_STEPS = 25
ROWS = 8192


@dataclass(frozen=True)
class Direct(Selector):
    """n clusters of frames in the principal components of a descriptor, one frame from each.

    The columns of the descriptor are brought to unit variance; of the principal components those
    of a variance above one (the mean of all) are kept, each weighted by the variance it explains.
    k-means (seeded by k-means++, Lloyd's algorithm on a random part of the pool if it is large)
    gives n centres; all frames go to their nearest. From each cluster comes the frame nearest to
    its centre, the clusters in the order of their size; in place of each empty cluster comes the
    frame that is farthest from its own centre and not chosen, so that there are exactly n.

    Parameters
    ----------
    descriptor : str or array
        See `mlsel.selection.descriptors`.
    cutoff : float
        Å, of the descriptor.
    fit : int
        Centres are found from at most max(fit, 8 n) frames.
    """

    descriptor: str | Array = "radial"
    cutoff: float = 6.0
    fit: int = 16384

    name = "direct"
    summary = "one frame from each of n clusters in a descriptor's space"
    fields = ("positions",)
    nested = False

    def __post_init__(self) -> None:
        if self.fit < 1:
            raise refuse(f"fit is {self.fit}: it must be at least 1.")

    def choose(self, task: Task) -> IntArray:
        keys = task.keys()
        features = frame_features(task, self.descriptor, self.cutoff)
        chosen = np.empty(0, dtype=np.int64)
        if task.comm is None or task.comm.rank == 0:
            allowed = task.frame_ids
            points = principal_components(features[allowed])
            few = np.searchsorted(allowed, task.first(keys, max(self.fit, 8 * task.n)))
            centres = k_means(points[few], task.n, task.rng)
            chosen = allowed[one_from_each(points, centres)]
        return task.from_root(chosen)


def principal_components(features: Floats) -> FloatArray:
    """Return the weighted principal components of features, (F, d)."""
    mean = features.mean(axis=0, dtype=np.float64)
    spread = features.std(axis=0, dtype=np.float64)
    varies = spread > 1e-9 * (np.abs(mean) + 1e-300)
    if not varies.any():
        return np.zeros((len(features), 1))
    mean, spread = mean[varies], spread[varies]
    covariance = np.zeros((len(mean), len(mean)))
    for start in range(0, len(features), ROWS):
        part = (features[start : start + ROWS][:, varies] - mean) / spread
        covariance += part.T @ part
    variances, axes = np.linalg.eigh(covariance / len(features))
    kept = variances >= min(1.0, variances[-1])
    weights = np.sqrt(variances[kept] / variances[kept].sum())
    axes = axes[:, kept] * weights
    out = np.empty((len(features), int(kept.sum())))
    for start in range(0, len(features), ROWS):
        some = slice(start, start + ROWS)
        out[some] = ((features[some][:, varies] - mean) / spread) @ axes
    return out


def _nearest(points: FloatArray, centres: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return each point's nearest centre and the squared distance to it."""
    owner = np.empty(len(points), dtype=np.int64)
    distance = np.empty(len(points))
    half = 0.5 * (centres * centres).sum(axis=1)
    rows = max(1, 2**22 // len(centres))
    for start in range(0, len(points), rows):
        some = points[start : start + rows]
        score = some @ centres.T
        score -= half
        owner[start : start + rows] = score.argmax(axis=1)
        difference = some - centres[owner[start : start + rows]]
        distance[start : start + rows] = (difference * difference).sum(axis=1)
    return owner, distance


def k_means(points: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
    """Return n centres of clusters of points (at least n)."""
    centres = np.empty((n, points.shape[1]))
    distance = np.full(len(points), np.inf)
    place = int(rng.integers(len(points)))
    for k in range(n):  # k-means++
        centres[k] = points[place]
        difference = points - centres[k]
        np.minimum(distance, (difference * difference).sum(axis=1), out=distance)
        total = np.cumsum(distance)
        if total[-1] > 0:
            place = int(np.searchsorted(total, rng.random() * total[-1], side="right"))
            place = min(place, len(points) - 1)
        else:
            place = int(rng.integers(len(points)))
    for _ in range(LLOYD_STEPS):
        owner, _ = _nearest(points, centres)
        counts = np.bincount(owner, minlength=n)
        sums = np.stack([np.bincount(owner, column, minlength=n) for column in points.T], axis=1)
        filled = counts > 0
        moved = centres.copy()
        moved[filled] = sums[filled] / counts[filled, None]
        if np.allclose(moved, centres, rtol=0, atol=1e-6 * np.sqrt(np.square(points).mean())):
            break
        centres = moved
    return centres


def one_from_each(points: FloatArray, centres: FloatArray) -> IntArray:
    """Return as many points as there are centres: of each cluster the one nearest to its centre."""
    n = len(centres)
    owner, distance = _nearest(points, centres)
    order = np.lexsort((distance, owner))
    first = order[np.flatnonzero(np.diff(owner[order], prepend=-1))]
    sizes = np.bincount(owner, minlength=n)[owner[first]]
    chosen = first[np.argsort(-sizes, kind="stable")]
    left = np.ones(len(points), dtype=bool)
    left[chosen] = False
    others = np.flatnonzero(left)
    farthest = others[np.argsort(-distance[others], kind="stable")]
    return np.concatenate([chosen, farthest[: n - len(chosen)]])
