"""One pass over a pool's values: which frames have one, and from where to where it goes.

What the methods that bin a property have in common. Each rank keeps what it learns of its own
stretch of the frames; only sums and extremes go round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.selection.base import Task, check_n, not_finite
from mlsel.selection.binned.properties import Property

Values = tuple[IntArray, FloatArray]
"""Frame ids (F,) and their values (F, M)."""


REACH = 10.0
"""Interquartile ranges from the quartiles of the frames' extremes to where the range ends at most.

Of a normal distribution 13.5 standard deviations: what lies beyond is no tail but another thing.
"""
N_QUARTILES = 2**16
"""Frames that the quartiles are taken of, evenly spread over the pool, at most."""


@dataclass(frozen=True)
class Grid:
    """K equal bins from low to high; the first and the last take what lies outside too.

    Examples
    --------
    >>> Grid(0.0, 1.0, 4).index(np.array([-9.0, 0.0, 0.24, 0.25, 1.0, 7.0])).tolist()
    [0, 0, 0, 1, 3, 3]
    """

    low: float
    high: float
    n: int

    def index(self, values: FloatArray) -> IntArray:
        """Return the bin of each value (monotone in the value)."""
        width = self.high - self.low
        if width == 0.0 or not np.isfinite(width):
            return np.zeros(values.shape, dtype=np.int64)
        scaled = values - self.low
        scaled /= width
        scaled *= self.n
        return np.clip(scaled, 0, self.n - 1, out=scaled).astype(np.int64)


@dataclass(frozen=True)
class Scan:
    """What a pass over the values tells.

    Attributes
    ----------
    frame_ids : int64, (F,)
        This rank's eligible frames that have a value, sorted; each frame is some rank's.
    low, high : (F,)
        The extremes of each.
    grid : Grid
        Over the range of all frames, outliers left out.
    values : list of Values
        Of those of this rank's frames that were to be kept.
    """

    frame_ids: IntArray
    low: FloatArray
    high: FloatArray
    grid: Grid
    values: list[Values]


def scan(
    task: Task, prop: Property, n_bins: int, keep: npt.NDArray[np.bool_] | None = None
) -> Scan:
    """Read a property once.

    Parameters
    ----------
    task, prop
    n_bins : int
        Of the grid.
    keep : bool, (n_frames,), optional
        The frames whose values are kept.

    Raises
    ------
    MlselError
        If an eligible frame holds a NaN or an infinity, or fewer than task.n have a value.
    """
    share = task.share()
    assert isinstance(share, range)
    low, high = np.empty(len(share)), np.empty(len(share))
    values: list[Values] = []
    if keep is None:
        keep = np.zeros(task.pool.n_frames, dtype=bool)
    with np.errstate(over="ignore", invalid="ignore"):  # told by the frame's number, below
        for ids, extremes, kept in prop.scan(task, share, keep):
            low[ids - share.start], high[ids - share.start] = extremes
            if len(kept[0]):
                values.append(kept)
    frame_ids = np.arange(share.start, share.stop)
    # A frame without an atom of the species has the extremes +inf and −inf.
    counts = task.eligible[frame_ids] & ~((low == np.inf) & (high == -np.inf))
    bad = counts & ~(np.isfinite(low) & np.isfinite(high))
    wrong = task.every(frame_ids[bad][:1].tolist())
    if wrong:
        raise not_finite(task.pool, prop.field, min(wrong))
    if not counts.all():
        frame_ids, low, high = frame_ids[counts], low[counts], high[counts]
    n_left = sum(task.every([len(frame_ids)]))
    n_excluded = task.pool.n_frames - int(task.eligible.sum())
    check_n(task.n, n_left, task.pool, n_excluded, f" with {prop.species}" if prop.species else "")
    return Scan(frame_ids, low, high, Grid(*_range(task, frame_ids, low, high), n_bins), values)


def _range(
    task: Task, frame_ids: IntArray, low: FloatArray, high: FloatArray
) -> tuple[float, float]:
    """Return from where to where the bins go: the values' range, but outliers don't stretch it.

    With q and Q the quartiles of the frames' least values, the range begins no further below q
    than REACH (Q − q), unless that is zero; so it ends, by the greatest values.
    """
    ends = task.every([(low.min(), high.max())] if len(low) else [])
    begin, end = float(min(a for a, _ in ends)), float(max(b for _, b in ends))
    some = frame_ids % (1 + (task.pool.n_frames - 1) // N_QUARTILES) == 0
    lows, highs = task.join(low[some]), task.join(high[some])
    if len(lows):
        q, middle = np.quantile(lows, [0.25, 0.75])
        if middle > q:
            begin = max(begin, float(q - REACH * (middle - q)))
        middle, q = np.quantile(highs, [0.25, 0.75])
        if q > middle:
            end = min(end, float(q + REACH * (q - middle)))
    return begin, end
