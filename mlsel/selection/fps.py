"""Farthest-point sampling: each new frame is the one farthest from all chosen.

References
----------
Eldar et al., IEEE Trans. Image Process. 6, 1305 (1997).
Elkan, ICML 2003, for the use of the triangle inequality.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlsel.pool import Array, FloatArray, IntArray
from mlsel.selection.base import Selector, Task, refuse
from mlsel.selection.descriptors import Floats, frame_features

SLACK = 1e-6
"""Relative; far above the rounding of a distance, far below what pruning loses by it."""


@dataclass(frozen=True)
class FarthestPoint(Selector):
    """Farthest-point sampling of frames in a descriptor's space.

    Parameters
    ----------
    descriptor : str or array
        See `mlsel.selection.descriptors`.
    cutoff : float
        Å, of the descriptor.
    start : int
        The frame that is chosen first; −1 draws it at random.
    """

    descriptor: str | Array = "radial"
    cutoff: float = 6.0
    start: int = -1

    name = "fps"
    summary = "each frame the farthest from those chosen, in a descriptor's space"
    fields = ("positions",)

    def choose(self, task: Task) -> IntArray:
        first = int(task.first(task.keys(), 1)[0])
        if self.start >= 0:
            first = self.start
            if first >= task.pool.n_frames or not task.eligible[first]:
                raise refuse(f"start is {first}, which is no frame that may be chosen.")
        frames = task.frame_ids
        features = frame_features(task, self.descriptor, self.cutoff)
        return frames[farthest_points(features, task.n, int(np.searchsorted(frames, first)), task)]


def farthest_points(features: Floats, n: int, first: int, task: Task | None = None) -> IntArray:
    """Return n points, each the farthest from all before (of several, the first).

    A point whose nearest chosen one is c, at distance m, can't be nearer to a new one y if
    d(c, y) ≥ 2 m, by the triangle inequality. Where that spares most points, only the others are
    computed; the picks are those of the plain algorithm.

    Parameters
    ----------
    features : (n_points, D)
    n, first : int
    task : Task, optional
        Its ranks share the points.

    Examples
    --------
    >>> line = np.array([[0.0], [1.0], [4.0], [10.0]])
    >>> farthest_points(line, 3, 0).tolist()
    [0, 3, 2]
    """
    origin = features.mean(axis=0, dtype=np.float64)
    every = list if task is None else task.every
    own = range(len(features)) if task is None else task.share(np.arange(len(features)))
    begin, end = (int(own[0]), int(own[-1]) + 1) if len(own) else (0, 0)
    # Near the origin |x|² + |y|² − 2 x·y loses the least.
    points = features[begin:end].astype(np.float64) - origin
    norms = np.einsum("ij,ij->i", points, points)
    rounding = 1e-13 * max(every([float(norms.max(initial=0.0))]))
    place = first
    chosen = np.empty(n, dtype=np.int64)
    centres = np.empty((n, points.shape[1]))
    lengths = np.empty(n)
    nearest = np.full(len(points), np.inf)  # squared distance to the nearest chosen point
    owner = np.zeros(len(points), dtype=np.int32)  # and which of the chosen that is
    for k in range(n):
        chosen[k] = place
        centres[k] = features[place].astype(np.float64) - origin
        lengths[k] = np.einsum("j,j->", centres[k], centres[k])
        if begin <= place < end:
            nearest[place - begin] = -np.inf
        # d² / 4 between the new point and each chosen before, less what rounding may have added
        between = _squared(centres[:k], lengths[:k], centres[k], lengths[k])
        reach = np.append(between * ((1.0 - SLACK) / 4.0) - rounding, -np.inf)
        near = nearest > reach[owner]
        if np.count_nonzero(near) * 6 > len(points):
            distance = _squared(points, norms, centres[k], lengths[k])
            owner[distance < nearest] = k
            np.minimum(nearest, distance, out=nearest)
        else:
            some = np.flatnonzero(near)
            distance = _squared(points[some], norms[some], centres[k], lengths[k])
            closer = distance < nearest[some]
            nearest[some[closer]] = distance[closer]
            owner[some[closer]] = k
        best = (
            [(-float(nearest[at]), begin + int(at)) for at in [np.argmax(nearest)]] if end else []
        )
        place = min(every(best))[1]
    return chosen


def _squared(points: FloatArray, norms: FloatArray, centre: FloatArray, norm: float) -> FloatArray:
    """Return squared distances; einsum sums each row alone, so that no other row matters."""
    squared: FloatArray = np.einsum("ij,j->i", points, centre)
    squared *= -2.0
    squared += norms
    squared += norm
    np.maximum(squared, 0.0, out=squared)
    return squared
