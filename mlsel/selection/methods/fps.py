"""Farthest-point sampling: each new frame is the one farthest from all chosen.

References
----------
Eldar et al., IEEE Trans. Image Process. 6, 1305 (1997).
Elkan, ICML 2003, for the use of the triangle inequality.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core import native
from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.selection.base import Selector, Task, refuse
from mlsel.selection.descriptors.features import Floats, frame_features

SOURCE = Path(__file__).with_name("fps.cpp")
LANES = 8
"""Sums that a distance is added up in."""
SLACK = 1e-6
"""Relative; far above the rounding of a distance, far below what pruning loses by it."""


@dataclass(frozen=True)
class FarthestPoint(Selector):
    """Farthest-point sampling of frames in a descriptor's space.

    Parameters
    ----------
    descriptor : str or array
        See `mlsel.selection.descriptors.features`.
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
        given = features[:0]
        if task.given is not None:
            given = frame_features(task.given, self.descriptor, self.cutoff)
        place = int(np.searchsorted(frames, first))
        return frames[farthest_points(features, task.n, place, task, given)]


def farthest_points(
    features: Floats, n: int, first: int, task: Task | None = None, given: Floats | None = None
) -> IntArray:
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
    every = list if task is None else task.every
    own = range(len(features)) if task is None else task.share(np.arange(len(features)))
    begin, end = (int(own[0]), int(own[-1]) + 1) if len(own) else (0, 0)
    width = -(-features.shape[1] // LANES) * LANES
    origin = np.zeros(width)
    origin[: features.shape[1]] = features.mean(axis=0, dtype=np.float64)
    points = _padded(features[begin:end], width)
    radius2 = max(every([float(np.square(points - origin).sum(axis=1).max(initial=0.0))]))
    farthest = _Farthest(points, origin, radius2)
    n_given = 0 if given is None else len(given)
    chosen = np.empty(n, dtype=np.int64)
    centres = np.empty((n_given + n, width))
    if given is not None:
        centres[:n_given] = _padded(given, width)
    place = first
    for k in range(n_given + n):
        if k >= n_given:
            chosen[k - n_given] = place
            centres[k] = _padded(features[place : place + 1], width)[0]
            if begin <= place < end:
                farthest.nearest[place - begin] = -np.inf
        # d² / 4 between the new point and each chosen before
        between = _squared(centres[:k], centres[k]) * ((1.0 - SLACK) / 4.0)
        best = []
        if end > begin:
            at = farthest.take_in(centres[k], np.append(between, -np.inf))
            best = [(-float(farthest.nearest[at]), begin + at)]
        place = min(every(best))[1]
    return chosen


def _padded(features: Floats, width: int) -> FloatArray:
    """Return points in double, with as many zeros added to each as fill the lanes."""
    points = np.zeros((len(features), width))
    points[:, : features.shape[1]] = features
    return points


@functools.cache
def _library() -> Any | None:
    library = native.load("fps", [SOURCE], native.SAME_BITS, "it is ten times slower")
    if library is not None:
        native.check_layout(library, "layout_points", _Points)
        library.farthest.restype = ctypes.c_int64
    return library


class _Farthest:
    """Points, and how far each is from those chosen.

    Parameters
    ----------
    points : (N, D)
    origin : (D,)
    radius2 : float
        Square of the largest distance from the origin, of all ranks' points.

    Attributes
    ----------
    nearest : (N,)
        Squared distance to the nearest chosen point.
    owner : int32, (N,)
        Which of the chosen that is.
    """

    def __init__(self, points: FloatArray, origin: FloatArray, radius2: float):
        self.nearest = np.full(len(points), np.inf)
        self.owner = np.zeros(len(points), dtype=np.int32)
        self._points, self._origin = points, origin
        self._library = _library()
        if self._library is not None:
            blocks = np.zeros((-(-len(points) // LANES), LANES, points.shape[1]), np.float32)
            blocks.reshape(-1, points.shape[1])[: len(points)] = points - origin
            self._rounded = np.ascontiguousarray(blocks.transpose(0, 2, 1))
            # A coordinate is rounded by 6e-8 of itself, twice, so a distance d by 2e-7 R at most,
            # and with 2 a b ≤ a² + b² its square by 2e-4 d² and 4e-10 R².
            error = 4e-10 * (4 * radius2) if 1e-20 < radius2 < 1e30 else np.inf
            arrays = (points, self._rounded, self.nearest, self.owner)
            exact, rounded, nearest, owner = (ctypes.c_void_p(a.ctypes.data) for a in arrays)
            self._given = _Points(*points.shape, exact, rounded, error, nearest, owner)

    def take_in(self, centre: FloatArray, reach: FloatArray) -> int:
        """Take in one more chosen point; return the place of the one that is now the farthest."""
        k = len(reach) - 1
        if self._library is not None:
            rounded = (centre - self._origin).astype(np.float32)
            pointers = (ctypes.c_void_p(a.ctypes.data) for a in (centre, rounded, reach))
            return int(self._library.farthest(ctypes.byref(self._given), *pointers, k))
        some = np.flatnonzero(self.nearest > reach[self.owner])
        distance = _squared(self._points[some], centre)
        closer = distance < self.nearest[some]
        self.nearest[some[closer]] = distance[closer]
        self.owner[some[closer]] = k
        return int(np.argmax(self.nearest))


class _Points(ctypes.Structure):
    """`Points` of fps.cpp."""

    _fields_ = (
        ("n", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("exact", ctypes.c_void_p),
        ("rounded", ctypes.c_void_p),
        ("error", ctypes.c_double),
        ("nearest", ctypes.c_void_p),
        ("owner", ctypes.c_void_p),
    )


def _squared(points: FloatArray, centre: FloatArray) -> FloatArray:
    """Return squared distances (N,), each sum in the order of fps.cpp."""
    s = np.zeros((len(points), LANES))
    for d in range(0, points.shape[1], LANES):
        difference = points[:, d : d + LANES] - centre[d : d + LANES]
        s += difference * difference
    s = s[:, :4] + s[:, 4:]
    squared: FloatArray = (s[:, 0] + s[:, 2]) + (s[:, 1] + s[:, 3])
    return squared
