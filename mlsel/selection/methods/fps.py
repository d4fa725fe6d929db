"""Farthest-point sampling: each new frame is the one farthest from all chosen.

The distance of a point from the nearest one chosen can only fall as more are chosen: what it was
when the point was last looked at is an upper bound. So most points are looked at a few times in
all: those whose bound is among the largest are brought up to date, and as long as the farthest of
these is not nearer than the bounds of all others, it is the farthest of all (lazy evaluation).

References
----------
Eldar et al., IEEE Trans. Image Process. 6, 1305 (1997).
Minoux, in Optimization Techniques, Springer (1978), for lazy evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlsel.core.arrays import IntArray
from mlsel.selection.base import Task, refuse
from mlsel.selection.descriptors.features import Floats, OfFrames
from mlsel.selection.methods.distances import Distances

AT_ONCE = 4096
"""Points that are brought up to date together, roughly."""
FEW = 16
"""Picks of those, up to which more are taken together the next time."""
SAMPLE = 4096
"""Points by which it is told how many lie beyond a bound."""


@dataclass(frozen=True)
class FarthestPoint(OfFrames):
    """Farthest-point sampling of frames in a descriptor's space.

    Its other parameters are those of `OfFrames`.

    Parameters
    ----------
    start : int
        The frame that is chosen first; −1 draws it at random.
    """

    start: int = -1

    name = "fps"
    summary = "each frame the farthest from those chosen, in a descriptor's space"

    def choose(self, task: Task) -> IntArray:
        first = int(task.first(task.keys(), 1)[0])
        if self.start >= 0:
            first = self.start
            if first >= task.pool.n_frames or not task.eligible[first]:
                raise refuse(f"start is {first}, which is no frame that may be chosen.")
        frames = task.frame_ids
        features = self.features(task)
        given = features[:0] if task.given is None else self.features(task.given)
        place = int(np.searchsorted(frames, first))
        return frames[farthest_points(features, task.n, place, task, given)]


def farthest_points(
    features: Floats, n: int, first: int, task: Task | None = None, given: Floats | None = None
) -> IntArray:
    """Return n points, each the farthest from all before (of several, the first).

    A point whose nearest chosen one is c, at distance m, can't be nearer to a new one y if
    d(c, y) ≥ 2 m, by the triangle inequality, and is then not compared with it; nor is it where a
    product in single precision puts y farther away than m, nor before its bound is among the
    largest. The picks are those of the plain algorithm in double precision.

    Parameters
    ----------
    features : (n_points, D)
    n, first : int
    task : Task, optional
        Its ranks share the points.
    given : (m, D), optional
        Points that were chosen before the first; `first` is then not looked at.

    Examples
    --------
    >>> line = np.array([[0.0], [1.0], [4.0], [10.0]])
    >>> farthest_points(line, 3, 0).tolist()
    [0, 3, 2]
    >>> farthest_points(line, 2, 0, given=np.array([[9.0], [2.0]])).tolist()
    [0, 2]
    """
    before = features[:0] if given is None else given
    distances = Distances(features, task, len(before) + n)
    for row in before:
        distances.add(row)
    chosen: list[int] = []
    if not len(before):
        distances.add(features[first], first)
        chosen.append(first)
    every = list if task is None else task.every
    step = max(1, len(features) // SAMPLE)
    at_once = AT_ONCE
    while len(chosen) < n:
        sample = np.concatenate(every([distances.nearest[-distances.begin % step :: step]]))
        few = min(len(sample), 1 + at_once // step)
        limit = max(0.0, float(np.partition(sample, -few)[-few]))
        places = distances.refresh(limit)
        found = distances.choose(places, limit, n - len(chosen), task)
        chosen += found
        # Bounds that are far above what they bound: deeper among them is what is sought.
        at_once = AT_ONCE if len(found) > FEW else 2 * at_once
    return np.array(chosen, dtype=np.int64)
