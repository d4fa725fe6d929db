"""CUR: the frames that span a descriptor's space, by their leverage scores.

References
----------
Mahoney and Drineas, PNAS 106, 697 (2009).
Imbalzano, Anelli, Giofré, Klees, Behler, Ceriotti, J. Chem. Phys. 148, 241730 (2018), for choosing
one row at a time and orthogonalising the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.selection.base import Task
from mlsel.selection.descriptors.features import Floats, OfFrames

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
        return frames[task.from_root(by_leverage(features, task.n, keys[frames], given))]


def by_leverage(
    features: Floats, n: int, keys: FloatArray, given: Floats | None = None
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

    Examples
    --------
    >>> rows = np.array([[3.0, 0.0], [-3.0, 0.1], [0.0, 1.0], [0.0, -1.1]])
    >>> by_leverage(rows, 2, np.arange(4.0)).tolist()
    [1, 3]
    """
    mean = features.mean(axis=0, dtype=np.float64)
    spread = np.sqrt(np.square(features - mean).mean(axis=0))
    varies = spread > 1e-9 * (np.abs(mean) + 1e-300)
    rows = (features[:, varies] - mean[varies]) / spread[varies]
    whole = rows.T @ rows
    left = whole.copy()
    if given is not None:
        for row in (given[:, varies] - mean[varies]) / spread[varies]:
            left = _without(left, row)
    chosen: list[int] = []
    free = np.ones(len(rows), dtype=bool)
    while len(chosen) < n:
        if not np.trace(left) > EXHAUSTED * np.trace(whole):
            left = whole.copy()
        axis = np.linalg.eigh(left)[1][:, -1] if len(left) else np.zeros(0)
        leverage = np.where(free, np.square(rows @ axis), -np.inf)
        best = np.flatnonzero(leverage >= leverage.max() * (1 - 1e-12))
        best = best[free[best]]
        pick = int(best[np.argmin(keys[best])])
        chosen.append(pick)
        free[pick] = False
        left = _without(left, rows[pick])
    return np.array(chosen, dtype=np.int64)


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
