"""CUR: the frames that span a descriptor's space, by their leverage scores.

References
----------
Mahoney and Drineas, PNAS 106, 697 (2009).
Imbalzano, Anelli, Giofré, Klees, Behler, Ceriotti, J. Chem. Phys. 148, 241730 (2018), for choosing
one row at a time and orthogonalising the rest.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.selection.base import Task
from mlsel.selection.descriptors.features import Floats, OfFrames

ROWS = 8192
EXHAUSTED = 1e-10
"""Of the features' variance: when no more is left, the frames chosen span all there is."""


@dataclass(frozen=True)
class Cur(OfFrames):
    """Each new frame has the largest leverage on what those chosen leave of the features.

    The columns of the features X are brought to zero mean and unit variance. With v the leading
    right singular vector of X, the leverage of frame i is (x_i · v)²; the frame with the greatest
    one (of several the one with the smallest random number) is chosen, and all rows are made
    orthogonal to its. When the chosen rows span the space, which takes at most D of them, this
    begins again with the frames that are left.

    Its parameters are those of `OfFrames`.
    """

    name = "cur"
    summary = "each frame the one of most leverage in a descriptor's space (CUR)"

    def choose(self, task: Task) -> IntArray:
        keys = task.keys()
        frames = task.frame_ids
        features = self.features(task)
        given = features[:0] if task.given is None else self.features(task.given)
        return frames[by_leverage(features, task.n, keys[frames], given, task)]


def by_leverage(
    features: Floats,
    n: int,
    keys: FloatArray,
    given: Floats | None = None,
    task: Task | None = None,
) -> IntArray:
    """Return n rows, each of the largest leverage on what those before it leave.

    Parameters
    ----------
    features : (N, D)
    n : int
    keys : (N,)
        Of rows with the same leverage the one with the smallest key is taken.
    given : (M, D), optional
        Rows that were chosen before.
    task : Task, optional
        Its ranks share the rows.

    Examples
    --------
    >>> rows = np.array([[3.0, 0.0], [-3.0, 0.1], [0.0, 1.0], [0.0, -1.1]])
    >>> by_leverage(rows, 2, np.arange(4.0)).tolist()
    [1, 3]
    """
    scaled = _Scaled(features, task)
    whole = scaled.covariance()
    left = whole.copy()
    if given is not None:
        for row in given:
            left = _without(left, scaled.row(row))
    chosen: list[int] = []
    while len(chosen) < n:
        if not np.trace(left) > EXHAUSTED * np.trace(whole):
            left = whole.copy()
        axis = np.linalg.eigh(left)[1][:, -1] if len(left) else np.zeros(0)
        best = scaled.best(axis)
        chosen.append(int(best[np.argmin(keys[best])]))
        scaled.leave_out(chosen[-1])
        left = _without(left, scaled.row(features[chosen[-1]]))
    return np.array(chosen, dtype=np.int64)


class _Scaled:
    """A rank's rows of zero mean and unit variance, in blocks that don't depend on the ranks."""

    def __init__(self, features: Floats, task: Task | None) -> None:
        n = len(features)
        self._every = list if task is None else task.every
        self._axis_of_root = np.asarray if task is None else task.from_root
        every = [slice(start, min(start + ROWS, n)) for start in range(0, n, ROWS)]
        self._mine = every if task is None else task.stretches(n, ROWS)
        mean = self._total([features[of].sum(axis=0, dtype=np.float64) for of in self._mine]) / n
        squares = self._total([np.square(features[of] - mean).sum(axis=0) for of in self._mine])
        spread = np.sqrt(squares / n)
        self._varies = spread > 1e-9 * (np.abs(mean) + 1e-300)
        self._mean, self._spread = mean[self._varies], spread[self._varies]
        self._rows = [self.row(features[of]) for of in self._mine]
        self._left_out: list[list[int]] = [[] for _ in self._mine]

    def row(self, features: Floats) -> FloatArray:
        """Scale a row, or some."""
        scaled: FloatArray = (features[..., self._varies] - self._mean) / self._spread
        return scaled

    def covariance(self) -> FloatArray:
        """Return Σ x xᵀ over the rows of all ranks."""
        return self._total([rows.T @ rows for rows in self._rows])

    def leave_out(self, place: int) -> None:
        """Choose a row no more."""
        for of, places in zip(self._mine, self._left_out, strict=True):
            if of.start <= place < of.stop:
                places.append(place - of.start)

    def best(self, axis: FloatArray) -> IntArray:
        """Return the rows of all ranks that have the largest leverage (x · axis)²."""
        axis = self._axis_of_root(axis)
        leverages = []
        for rows, places in zip(self._rows, self._left_out, strict=True):
            leverage = rows @ axis
            leverage *= leverage
            leverage[places] = -np.inf
            leverages.append(leverage)
        tops = [float(leverage.max()) for leverage in leverages]
        least = max(self._every(tops)) * (1 - 1e-12)
        found = [
            np.flatnonzero(leverage >= least) + of.start
            for of, leverage, top in zip(self._mine, leverages, tops, strict=True)
            if top >= least
        ]
        return np.concatenate(self._every(found))

    def _total(self, parts: list[FloatArray]) -> FloatArray:
        return functools.reduce(np.add, self._every(parts))


def _without(covariance: FloatArray, row: FloatArray) -> FloatArray:
    """Return Σ x xᵀ of rows made orthogonal to what is left of one of them.

    Rows are known by their covariance alone; that of rows orthogonal to those chosen has these in
    its null space, so what is left of `row` is its part in the range.
    """
    values, axes = np.linalg.eigh(covariance)
    inside = axes[:, values > 1e-13 * max(values.max(initial=0.0), 1e-300)]
    rest = inside @ (inside.T @ row)
    norm = np.linalg.norm(rest)
    if norm == 0.0:
        return covariance
    unit = rest / norm
    projected = covariance - np.outer(unit, unit @ covariance)
    projected -= np.outer(projected @ unit, unit)
    return 0.5 * (projected + projected.T)
