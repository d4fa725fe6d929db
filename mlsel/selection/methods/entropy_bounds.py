"""Between which values gains of entropy lie, several times faster than they are computed.

Of most frames it is enough to know that another one gains more. So ln Σ_j exp(−|y_i − x_j|² / 2 h²)
is summed in single precision, y_i · x_j − |x_j|² / 2 − |y_i|² / 2 by blocks that stay in registers,
and what that may lose is bounded. The frame that gains the most is certain where the bounds say so;
where they overlap, `mlsel.selection.methods.entropy` computes these few exactly.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core import native
from mlsel.core.arrays import FloatArray, IntArray
from mlsel.selection.descriptors.features import Floats

if TYPE_CHECKING:
    from mlsel.selection.base import Task

SOURCE = Path(__file__).with_name("entropy_bounds.cpp")
TILE = 16
AT_ONCE = 2**16
"""Environments that are made ready together."""
LEFT_OUT = 3e-9
"""Share of the sum, of each term at most, that is left out: e^-20 and its rounding."""
UNIT = 2.0**-24
"""Half the distance of single precision's numbers at 1."""
WIDEST = 0.05
"""Bounds that are further apart than this exclude too little to be worth while."""


class _Environments(ctypes.Structure):
    _fields_ = (
        ("width", ctypes.c_int64),
        ("points", ctypes.c_void_p),
        ("halves", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("tops", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
        ("tiles", ctypes.c_void_p),
        ("tile_halves", ctypes.c_void_p),
    )


@functools.cache
def _library() -> Any | None:
    library = native.load(
        "entropy-bounds", [SOURCE], ("-ffast-math",), "entropy takes several times as long"
    )
    if library is not None:
        native.check_layout(library, "layout_environments", _Environments)
    return library


class Bounds:
    """Sums over the environments of the frames chosen so far, for frames that are asked about.

    Parameters
    ----------
    environments : sequence of (n_atoms, D)
        Of all frames.
    bandwidth : float
    most : int
        How many frames will be chosen.
    task : Task, optional
        Its ranks share the frames: a rank asks about every one so many.
    n_given : int
        How many of the last are never asked about, but may be among those chosen.
    """

    def __init__(
        self,
        environments: Sequence[Floats],
        bandwidth: float,
        most: int,
        task: Task | None = None,
        n_given: int = 0,
    ) -> None:
        self._environments, self._bandwidth = environments, bandwidth
        comm, every = (None, list) if task is None else (task.comm, task.every)
        rank, self._n_ranks = (0, 1) if comm is None else (comm.rank, comm.size)
        n_asked = len(environments) - n_given
        own = environments[rank : n_asked : self._n_ranks]
        sizes = np.array([len(frame) for frame in own], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        n, width = int(self._starts[-1]), environments[0].shape[1]
        largest = max(len(frame) for frame in environments)
        step = max(1, AT_ONCE // largest)  # small frames by many: a call each is slow
        parts = [(self._starts[at], own[at : at + step]) for at in range(0, len(own), step)]
        total = np.zeros(width)
        for _, part in parts:
            total += np.concatenate(part).sum(axis=0, dtype=np.float64)
        totals, counts = zip(*every([(total, n)]), strict=True)
        self._origin = sum(totals) / sum(counts)  # near it less is lost to rounding
        self._points = np.empty((n, width), dtype=np.float32)
        self._halves = np.empty(n, dtype=np.float32)
        norm = max([0.0, *(2.0 * self._near(f)[1].max() for f in environments[n_asked:])])
        for start, part in parts:
            points, halves = self._near(np.concatenate(part))
            norm = max(norm, 2.0 * float(halves.max()))
            some = slice(start, start + len(points))
            with np.errstate(over="ignore"):
                self._points[some], self._halves[some] = points, halves
        norm = max(every([norm]))
        self._n_chosen = np.zeros(1, dtype=np.int64)  # environments, after each frame chosen
        n_tiles = -(-most * largest // TILE)
        self._tiles = np.zeros((n_tiles, width, TILE), dtype=np.float32)
        self._tile_halves = np.full((n_tiles, TILE), 1e30, dtype=np.float32)
        self._tops = np.full(n, -1e30, dtype=np.float32)
        self._sums = np.zeros(n, dtype=np.float32)
        self._seen = np.zeros(len(own), dtype=np.int64)
        # Of a product of D terms, the halves, their differences and the points themselves; of 3e-6
        # in the exponentials; and of a sum of so many terms in each of its parts, put together once
        # a frame.
        self._rounding = UNIT * ((width + 8) * norm + n_tiles + TILE * most + 100)
        self._struct = _Environments(
            width,
            *(
                array.ctypes.data
                for array in (
                    self._points,
                    self._halves,
                    self._starts,
                    self._tops,
                    self._sums,
                    self._tiles,
                    self._tile_halves,
                )
            ),
        )

    @property
    def is_of_use(self) -> bool:
        return _library() is not None and self._rounding < WIDEST

    def add(self, frame: int) -> None:
        """Take a frame's environments among those chosen."""
        points, halves = self._near(self._environments[frame])
        n = int(self._n_chosen[-1])
        tiles, places = np.divmod(np.arange(n, n + len(points)), TILE)
        with np.errstate(over="ignore"):
            self._tiles[tiles, :, places] = points
            self._tile_halves[tiles, places] = halves
        self._n_chosen = np.append(self._n_chosen, n + len(tiles))

    def _near(self, environments: Floats) -> tuple[FloatArray, FloatArray]:
        """Return environments from the origin on, in bandwidths, and half their squares."""
        points = (environments - self._origin) / self._bandwidth
        return points, 0.5 * np.einsum("ij,ij->i", points, points)

    def of(self, frames: IntArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return bounds of the mean of each frame's logarithms, and of the least of them.

        Parameters
        ----------
        frames : int, (F,)
            This rank's.

        Returns
        -------
        tuple of float64, (F,)
            At least and at most the mean, at least and at most the least.
        """
        library = _library()
        assert library is not None
        frames = np.ascontiguousarray(frames // self._n_ranks, dtype=np.int64)
        first = self._n_chosen[self._seen[frames]]
        last = int(self._n_chosen[-1])
        means, leasts = np.empty(len(frames)), np.empty(len(frames))
        library.add_chosen(
            ctypes.byref(self._struct),
            ctypes.c_int64(len(frames)),
            *(ctypes.c_void_p(array.ctypes.data) for array in (frames, first)),
            ctypes.c_int64(last),
            *(ctypes.c_void_p(array.ctypes.data) for array in (means, leasts)),
        )
        self._seen[frames] = len(self._n_chosen) - 1
        below = self._rounding
        above = self._rounding + np.log1p(LEFT_OUT * last)
        return means - below, means + above, leasts - below, leasts + above
