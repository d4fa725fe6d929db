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
        features = frame_features(task, self.descriptor, self.cutoff)
        return farthest_points(features, task.n, first, task.eligible)


def farthest_points(features: Floats, n: int, first: int, eligible: Array) -> IntArray:
    """Return n points, each the farthest from all before (of several, the first).

    A point p whose nearest chosen one is c, at distance m, can't be nearer to a new one y if
    d(c, y) ≥ 2 m, by the triangle inequality. So for most points nothing has to be computed; the
    picks are those of the plain algorithm.

    Examples
    --------
    >>> line = np.array([[0.0], [1.0], [4.0], [10.0]])
    >>> farthest_points(line, 3, 0, np.ones(4, dtype=bool)).tolist()
    [0, 3, 2]
    """
    allowed = np.flatnonzero(eligible)
    points = features if len(allowed) == len(features) else features[allowed]
    place = int(np.searchsorted(allowed, first))
    chosen = np.empty(n, dtype=np.int64)
    centres = np.empty((n, points.shape[1]))
    nearest = np.full(len(points), np.inf)  # squared distance to the nearest chosen point
    owner = np.zeros(len(points), dtype=np.int32)  # and which of the chosen that is
    for k in range(n):
        chosen[k] = place
        centres[k] = points[place]
        if k == 0:
            for start in range(0, len(points), 8192):
                some = slice(start, start + 8192)
                nearest[some] = _squared(points[some], centres[0])
        else:
            between = _squared(centres[:k], centres[k])
            near = np.flatnonzero(nearest > (between * ((1.0 - SLACK) / 4.0))[owner])
            for start in range(0, len(near), 8192):
                some_near = near[start : start + 8192]
                distance = _squared(points[some_near], centres[k])
                closer = distance < nearest[some_near]
                nearest[some_near[closer]] = distance[closer]
                owner[some_near[closer]] = k
        nearest[place] = -1.0
        place = int(np.argmax(nearest))
    return allowed[chosen]


def _squared(points: Floats, centre: FloatArray) -> FloatArray:
    """Return squared distances; the sum over each row alone, so that no other row matters."""
    difference = points - centre
    difference *= difference
    squared: FloatArray = np.add.reduce(difference, axis=1)
    return squared
