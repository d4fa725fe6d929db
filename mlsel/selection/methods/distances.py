"""Distances of points from those that are chosen among them, the centres, brought up to date as few
times as can be: by the triangle inequality and products in single precision.

References
----------
Elkan, ICML 2003, for the use of the triangle inequality.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlsel.core import native
from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.selection.base import Task
from mlsel.selection.descriptors.features import Floats

SOURCE = Path(__file__).with_name("distances.cpp")
LANES = 8
"""Sums that a distance is added up in."""
SLACK = 1e-6
"""Relative; far above the rounding of a distance, far below what pruning loses by it."""
SHARE = (1.0 - SLACK) / 4.0
TILE = 32
"""Centres whose products with a point are computed together."""
SAMPLE = 4096
"""Points whose mean is the origin of those products."""


def _padded(features: Floats, width: int) -> FloatArray:
    """Return points in double, with as many zeros added to each as fill the lanes."""
    if features.shape[1] == width:
        return np.ascontiguousarray(features, dtype=np.float64)
    points = np.zeros((len(features), width))
    points[:, : features.shape[1]] = features
    return points


@functools.cache
def _library() -> Any | None:
    library = native.load("distances", [SOURCE], native.SAME_BITS, "it is ten times slower")
    if library is not None:
        native.check_layout(library, "layout_points", _Points)
        native.check_layout(library, "layout_centres", _Centres)
        for function in (library.refresh, library.choose, library.compare):
            function.restype = ctypes.c_int64
    return library


class Distances:
    """How far this rank's points are from those chosen, the centres.

    Parameters
    ----------
    features : (n_points, D)
        Of all ranks.
    task : Task, optional
        Its ranks share the points.
    most : int
        Centres that there will be.

    Attributes
    ----------
    begin, end : int
        This rank's stretch of the points.
    nearest : (end − begin,)
        Squared distance to the nearest centre of those a point was compared with, an upper bound
        of that to the nearest of all; −∞ for those chosen.
    """

    def __init__(self, features: Floats, task: Task | None, most: int) -> None:
        own = range(len(features)) if task is None else task.share(np.arange(len(features)))
        self._features = features
        self.begin, self.end = (int(own[0]), int(own[-1]) + 1) if len(own) else (0, 0)
        width = -(-features.shape[1] // LANES) * LANES
        origin = np.zeros(width)
        some = features[:: max(1, len(features) // SAMPLE)]  # the picks don't depend on it
        origin[: features.shape[1]] = some.mean(axis=0, dtype=np.float64)
        self._points = _Compared.of(_padded(features[self.begin : self.end], width), origin)
        self._centres = _Known.of(origin, most)
        radius2 = 2.0 * float(self._points.half.max(initial=0.0))
        every = list if task is None else task.every
        self._centres.widen(max(every([radius2])))

    @property
    def nearest(self) -> FloatArray:
        return self._points.nearest

    def add(self, row: Floats, place: int = -1) -> None:
        """Make a centre of a point, which has this place among all points if it is one of them."""
        self._centres.add(_padded(row[None], self._centres.exact.shape[1])[0])
        if self.begin <= place < self.end:
            self.nearest[place - self.begin] = -np.inf

    def refresh(self, limit: float = 0.0) -> IntArray:
        """Bring up to date the points that are not nearer than the limit (squared), and return
        those of them, from 0 on, that are not nearer then."""
        return self._points.refresh(self._centres, limit)

    def choose(self, own: IntArray, limit: float, n: int, task: Task | None) -> list[int]:
        """Choose up to n points of all ranks' that are up to date, none nearer than the limit."""
        some = self._points.at(own)
        if task is None or task.comm is None or task.comm.size == 1:
            chosen = [int(own[at]) for at in some.choose(self._centres, limit, n)]
        else:
            chosen = self._choose_together(some, own + self.begin, limit, n, task)
        some.seen[:] = self._centres.n
        for name in ("nearest", "owner", "seen"):
            getattr(self._points, name)[own] = getattr(some, name)
        return chosen

    def _choose_together(
        self, some: _Compared, places: IntArray, limit: float, n: int, task: Task
    ) -> list[int]:
        """Choose of each rank's points `some`, which have these places among all points."""
        chosen: list[int] = []
        at = int(some.nearest.argmax()) if len(places) else -1
        while len(chosen) < n:
            best = (-float(some.nearest[at]), int(places[at])) if at >= 0 else (np.inf, -1)
            farthest, place = min(task.every([best]))
            if not -farthest >= limit:
                break
            chosen.append(place)
            if place == best[1]:
                some.nearest[at] = -np.inf
            self.add(self._features[place])
            at = some.compare(self._centres)
        return chosen


@dataclass
class _Known:
    """The centres: `Centres` of distances.cpp."""

    origin: FloatArray
    exact: FloatArray
    rounded: npt.NDArray[np.float32]
    half: npt.NDArray[np.float32]
    reach: FloatArray
    n: int = 0
    radius2: float = 0.0

    @classmethod
    def of(cls, origin: FloatArray, most: int) -> _Known:
        width, n_tiles = len(origin), -(-most // TILE)
        rounded = np.zeros((n_tiles, width, TILE), np.float32)
        half = np.zeros(n_tiles * TILE, np.float32)
        return cls(origin, np.empty((most, width)), rounded, half, np.zeros((most, most)))

    def widen(self, radius2: float) -> None:
        """Hear of a point with this squared distance from the origin."""
        self.radius2 = max(self.radius2, radius2)

    @property
    def error(self) -> float:
        """What |x|² − 2 x·y + |y|² in single precision may be too large by.

        With u = 2⁻²⁴ and all |x| ≤ R, for D terms: twice the sum of products is wrong by 3 D u R²
        at most, |x|² by D u R²; coordinates by 2 u R together, so the square by 8 u R²; other
        roundings are fewer than ten.
        """
        if not 1e-20 < self.radius2 < 1e30:
            return np.inf
        return (4 * len(self.origin) + 20) * 2.0**-24 * 1.1 * self.radius2

    def add(self, centre: FloatArray) -> None:
        between = _squared(self.exact[: self.n], centre)
        self.exact[self.n] = centre
        self.reach[self.n, : self.n] = between * SHARE
        self.n += 1
        self.round(self.n - 1)

    def round(self, first: int) -> None:
        """Make the rounded ones of the centres from the first on."""
        near = (self.exact[first : self.n] - self.origin).astype(np.float32)
        square = np.square(near).sum(axis=1, dtype=np.float64)
        self.widen(float(square.max(initial=0.0)))
        self.half[first : self.n] = 0.5 * square
        for k, row in enumerate(near, first):
            self.rounded[k // TILE, :, k % TILE] = row

    def in_c(self) -> _Centres:
        arrays = self.exact, self.rounded, self.half, self.reach
        exact, rounded, half, reach = (ctypes.c_void_p(a.ctypes.data) for a in arrays)
        return _Centres(self.n, len(self.exact), exact, rounded, half, self.error, reach)


@dataclass
class _Compared:
    """Points, and with which centres they were compared: `Points` of distances.cpp."""

    exact: FloatArray
    rounded: npt.NDArray[np.float32]
    half: npt.NDArray[np.float32]
    nearest: FloatArray
    owner: npt.NDArray[np.int32]
    seen: npt.NDArray[np.int32]

    @classmethod
    def of(cls, exact: FloatArray, origin: FloatArray) -> _Compared:
        n = len(exact)
        rounded = np.empty(exact.shape, np.float32)
        np.subtract(exact, origin, out=rounded, casting="same_kind")
        half = np.float32(0.5) * np.einsum("ij,ij->i", rounded, rounded)
        far, none = np.full(n, np.inf), np.zeros(n, np.int32)
        return cls(exact, rounded, half, far, none, none.copy())

    @property
    def arrays(self) -> tuple[Array, ...]:
        return self.exact, self.rounded, self.half, self.nearest, self.owner, self.seen

    def at(self, places: IntArray) -> _Compared:
        return _Compared(*(array[places] for array in self.arrays))

    def in_c(self) -> _Points:
        return _Points(*self.exact.shape, *(ctypes.c_void_p(a.ctypes.data) for a in self.arrays))

    def refresh(self, centres: _Known, limit: float) -> IntArray:
        library = _library()
        if library is not None:
            left = np.empty(len(self.exact), dtype=np.int64)
            given = ctypes.byref(self.in_c()), ctypes.byref(centres.in_c())
            out = ctypes.c_void_p(left.ctypes.data)
            return left[: library.refresh(*given, ctypes.c_double(limit), out)]
        for k in range(centres.n):
            some = np.flatnonzero((self.nearest >= limit) & (self.seen == k))
            self._compare(some, centres, k)
            self.seen[some] = k + 1
        return np.flatnonzero(self.nearest >= limit)

    def choose(self, centres: _Known, limit: float, n: int) -> list[int]:
        library = _library()
        if library is not None:
            places, known = np.empty(n, dtype=np.int64), centres.in_c()
            numbers = ctypes.c_double(SHARE), ctypes.c_double(limit), ctypes.c_int64(n)
            out = ctypes.c_void_p(places.ctypes.data)
            given = ctypes.byref(self.in_c()), ctypes.byref(known)
            found: list[int] = places[: library.choose(*given, *numbers, out)].tolist()
            first, centres.n = centres.n, known.n
            centres.round(first)
            return found
        chosen: list[int] = []
        while len(chosen) < n and len(self.exact) and self.nearest.max() >= limit:
            chosen.append(int(np.argmax(self.nearest)))
            centres.add(self.exact[chosen[-1]])
            self.nearest[chosen[-1]] = -np.inf
            self._compare(np.arange(len(self.exact)), centres, centres.n - 1)
        return chosen

    def compare(self, centres: _Known) -> int:
        """Compare all points with the last centre; return the farthest, −1 if there is none."""
        library = _library()
        if library is not None:
            given = ctypes.byref(self.in_c()), ctypes.byref(centres.in_c())
            return int(library.compare(*given))
        self._compare(np.arange(len(self.exact)), centres, centres.n - 1)
        return int(self.nearest.argmax()) if self.nearest.max(initial=-np.inf) > -np.inf else -1

    def _compare(self, places: IntArray, centres: _Known, k: int) -> None:
        """Compare some points with one centre."""
        places = places[centres.reach[k][self.owner[places]] < self.nearest[places]]
        distance = _squared(self.exact[places], centres.exact[k])
        closer = distance < self.nearest[places]
        self.nearest[places[closer]] = distance[closer]
        self.owner[places[closer]] = k


class _Points(ctypes.Structure):
    """`Points` of distances.cpp."""

    _fields_ = (
        ("n", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("exact", ctypes.c_void_p),
        ("rounded", ctypes.c_void_p),
        ("half", ctypes.c_void_p),
        ("nearest", ctypes.c_void_p),
        ("owner", ctypes.c_void_p),
        ("seen", ctypes.c_void_p),
    )


class _Centres(ctypes.Structure):
    """`Centres` of distances.cpp."""

    _fields_ = (
        ("n", ctypes.c_int32),
        ("most", ctypes.c_int32),
        ("exact", ctypes.c_void_p),
        ("rounded", ctypes.c_void_p),
        ("half", ctypes.c_void_p),
        ("error", ctypes.c_double),
        ("reach", ctypes.c_void_p),
    )


def _squared(points: FloatArray, centre: FloatArray) -> FloatArray:
    """Return squared distances (N,), each sum in the order of distances.cpp."""
    s = np.zeros((len(points), LANES))
    for d in range(0, points.shape[1], LANES):
        difference = points[:, d : d + LANES] - centre[d : d + LANES]
        s += difference * difference
    s = s[:, :4] + s[:, 4:]
    squared: FloatArray = (s[:, 0] + s[:, 2]) + (s[:, 1] + s[:, 3])
    return squared
