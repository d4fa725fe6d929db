"""Radial distribution functions: means of blocks, main peaks, coordination, smoothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import FloatArray
from mlsel.validate.blocking import FEWEST_BLOCKS, Mean, blocked

if TYPE_CHECKING:
    from mlsel.validate.results import Results


ONSET = 0.01
"""The reference's first onset is where its g(r) first reaches this."""
SMOOTHING = 0.4
"""Å, over which g(r) is averaged before two are compared: bins nearer to each other than the width
of a peak rise and fall together, and tell the same."""
PEAK_LEVEL = 0.8
"""The main peak's top is where g is above this share of its maximum: a parabola is laid there."""

RESAMPLES = 100
TOP_SMOOTHING = 0.1
"""Å, over which g is averaged to find these bins, so that noise does not cut them short."""


@dataclass(frozen=True)
class Curve:
    """An RDF with its running integral.

    Attributes
    ----------
    r : (n_bins,), Å, middles of the bins
    g, g_error : (n_bins,)
    coordination, coordination_error : (n_bins,)
        Atoms of the pair's second species within the far edge of the bin, around one of the first:
        n(r) = ρ ∫₀ʳ g(s) 4π s² ds.
    n_blocks : int
    """

    r: FloatArray
    g: FloatArray
    g_error: FloatArray
    coordination: FloatArray
    coordination_error: FloatArray
    n_blocks: int

    @property
    def width(self) -> float:
        """Å, of a bin."""
        return float(self.r[1] - self.r[0])

    def onset(self) -> int:
        """The first bin in which g reaches 0.01."""
        reached = self.g >= ONSET
        return int(reached.argmax()) if reached.any() else len(self.g)

    def within(self, n_bins: int) -> tuple[float, float]:
        """Atoms in the first n_bins bins around one, and the error."""
        if n_bins == 0:
            return 0.0, 0.0
        return float(self.coordination[n_bins - 1]), float(self.coordination_error[n_bins - 1])


def curve(results: Results, pair: int) -> Curve:
    """Return the RDF of a pair of species, averaged over the blocks of a run."""
    return curve_of(results.r, results.g[:, pair], results.coordination[:, pair])


def curve_of(r: FloatArray, g: FloatArray, coordination: FloatArray) -> Curve:
    """Return the RDF that blocks (n_blocks, n_bins) make."""
    if len(g) == 0:
        nothing = np.full(len(r), np.nan)
        return Curve(r, nothing, nothing, nothing, nothing, 0)
    height, number = blocked(g), blocked(coordination)
    return Curve(r, height.value, height.error, number.value, number.error, len(g))


def smoothed(g: FloatArray, width: float) -> FloatArray:
    """Return the averages of g over 0.4 Å, at distances half as far apart as that.

    Parameters
    ----------
    g : (..., n_bins)
    width : float
        Å, of a bin.

    Returns
    -------
    (..., n_windows)

    Examples
    --------
    >>> smoothed(np.arange(8.0), 0.1).tolist()
    [1.5, 3.5, 5.5]
    """
    n = min(max(1, round(SMOOTHING / width)), g.shape[-1])
    sums = np.cumsum(np.concatenate([np.zeros((*g.shape[:-1], 1)), g], axis=-1), axis=-1)
    starts = np.arange(0, g.shape[-1] - n + 1, max(1, n // 2))
    averages: FloatArray = (sums[..., starts + n] - sums[..., starts]) / n
    return averages


@dataclass(frozen=True)
class Peak:
    """The main peak of an RDF: position, Å, and height, with errors."""

    position: Mean
    height: Mean


def main_peak(r: FloatArray, g: FloatArray) -> Peak:
    """Return where the highest maximum of the mean of g is, and how high; in simple liquids it is
    the first peak.

    Both are those of a parabola through the bins about the maximum in which g is above 0.8 of it.
    Errors are the larger ones of two, both of 8 parts of the run: the jackknife's, with these bins,
    and the bootstrap's, in which each resample has bins of its own: of a narrow peak one bin more
    or less moves the top by more than the noise in the bins does, unseen by the jackknife.

    Parameters
    ----------
    r : (n_bins,), Å
    g : (n_blocks, n_bins)

    References
    ----------
    B. Efron, The Jackknife, the Bootstrap and Other Resampling Plans (SIAM, 1982), chapters 3, 5.

    Examples
    --------
    >>> r = np.arange(0.5, 100) / 20
    >>> g = 3 * np.exp(-((r - 2.71) ** 2) / 0.1)
    >>> peak = main_peak(r, np.tile(g, (8, 1)))
    >>> round(float(peak.position.value), 2), round(float(peak.height.value), 1)
    (2.71, 3.0)
    """
    nothing = Mean.unknown()
    n_parts = min(len(g), FEWEST_BLOCKS)
    if n_parts < FEWEST_BLOCKS or not np.isfinite(g).all() or not g.any():
        return Peak(nothing, nothing)
    mean = g.mean(axis=0)
    bins = _top(mean, float(r[1] - r[0]))
    edges = np.linspace(0, len(g), n_parts + 1).astype(int)
    parts = np.add.reduceat(g, edges[:-1], axis=0)
    sizes = np.diff(edges)[:, None]
    without = (g.sum(axis=0) - parts) / (len(g) - sizes)
    whole = _vertex(r[bins], mean[bins])
    left_out = np.array([_vertex(r[bins], row[bins]) for row in without])
    errors = np.sqrt((n_parts - 1) * left_out.var(axis=0))
    errors = np.maximum(errors, _resampled_errors(r, parts / sizes))
    position, height = (
        Mean.of(value, float(error), n_parts - 1.0)
        for value, error in zip(whole, errors, strict=True)
    )
    return Peak(position, height)


def _resampled_errors(r: FloatArray, parts: FloatArray) -> FloatArray:
    """Errors of position and height from resamples of the parts, with bins of their own.

    Half the width of the middle 68 %: a parabola that finds its top far away is no measure.
    """
    rng = np.random.default_rng(len(parts))  # the same resamples every time
    tops = []
    for _ in range(RESAMPLES):
        mean = parts[rng.integers(0, len(parts), len(parts))].mean(axis=0)
        bins = _top(mean, float(r[1] - r[0]))
        tops.append(_vertex(r[bins], mean[bins]))
    low, high = np.nanquantile(np.array(tops), (0.16, 0.84), axis=0)
    errors: FloatArray = 0.5 * (high - low) * np.sqrt(len(parts) / (len(parts) - 1))
    return errors


def _top(g: FloatArray, width: float) -> npt.NDArray[np.int64]:
    """The bins about the maximum in which g is above 0.8 of it; three or more."""
    n = max(1, round(TOP_SMOOTHING / width))
    g = np.convolve(g, np.ones(n) / n, mode="same")
    place = int(g.argmax())
    below = np.flatnonzero(g < PEAK_LEVEL * g[place])
    before, after = below[below < place], below[below > place]
    first = int(before[-1]) + 1 if before.size else 0
    last = int(after[0]) - 1 if after.size else len(g) - 1
    return np.arange(max(0, min(first, place - 1)), min(len(g) - 1, max(last, place + 1)) + 1)


def _vertex(r: FloatArray, g: FloatArray) -> tuple[float, float]:
    """Position and height of the top of a parabola laid through points."""
    middle = r.mean()
    a, b, c = np.polyfit(r - middle, g, 2)
    if not a < 0:
        return float("nan"), float("nan")
    return float(middle - b / (2 * a)), float(c - b * b / (4 * a))


def first_minimum(r: FloatArray, g: FloatArray) -> int:
    """Return the bin of the first minimum of g behind its main peak, −1 if there is none.

    Parameters
    ----------
    r, g : (n_bins,)
    """
    n = max(1, round(SMOOTHING / (r[1] - r[0])))
    peak = int(np.nan_to_num(g).argmax())
    behind = np.convolve(g[peak:], np.ones(n) / n, mode="valid")
    rises = np.flatnonzero(np.diff(behind) > 0)
    if not rises.size or rises[0] == 0:
        return -1
    place: int = peak + int(rises[0]) + n // 2
    return place
