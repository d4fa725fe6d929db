"""A high quantile of all errors, and its standard error by a bootstrap over frames.

The largest of millions of errors is one atom's; the 99.99 % quantile is what one in ten thousand
exceeds, and has an error of its own. Errors are counted in bins of 2 % on a logarithmic axis, once
as they are and once for each resample, in which a frame counts as often as a Poisson number of mean
1 says (drawn from the frame's id, so that neither ranks nor blocks matter). So the memory doesn't
grow with the frames.

References
----------
Chamandy, Muralidharan, Najmi, Naidu, "Estimating uncertainty for massive data streams" (Google,
2012): the Poisson bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import FloatArray, IntArray

LEVEL = 0.9999
RESAMPLES = 64
"""Of which the spread is known to 9 %."""
LEAST, MOST = 1e-6, 1e4
"""eV/Å: what is below or above counts in the outermost bins."""
STEP = 0.02
N_BINS = int(np.ceil(np.log(MOST / LEAST) / STEP))


def histograms(values: npt.ArrayLike) -> IntArray:
    """Count the errors of each frame.

    Parameters
    ----------
    values : (n_frames, n)
        Absolute errors, eV/Å; NaN counts as infinite.

    Returns
    -------
    int64, (n_frames, N_BINS)
    """
    errors = np.nan_to_num(np.asarray(values, np.float64), nan=np.inf)
    with np.errstate(divide="ignore"):
        places = np.clip(np.log(errors / LEAST) / STEP, 0, N_BINS - 1).astype(np.int64)
    n_frames = len(errors)
    flat = (np.arange(n_frames)[:, None] * N_BINS + places.reshape(n_frames, -1)).ravel()
    return np.bincount(flat, minlength=n_frames * N_BINS).reshape(n_frames, N_BINS)


def weights(frame_ids: npt.ArrayLike) -> IntArray:
    """Return how often each frame counts, first as it is, then in each resample.

    Returns
    -------
    int64, (n_frames, 1 + RESAMPLES)
    """
    drawn = [
        np.random.Generator(np.random.Philox(key=int(frame))).poisson(1.0, RESAMPLES)
        for frame in np.asarray(frame_ids)
    ]
    own = np.array(drawn, np.int64).reshape(-1, RESAMPLES)
    return np.hstack([np.ones((len(own), 1), np.int64), own])


@dataclass
class Tail:
    """The counts of errors of some frames.

    Attributes
    ----------
    counts : int64, (1 + RESAMPLES, N_BINS)
    """

    counts: IntArray = field(default_factory=lambda: np.zeros((1 + RESAMPLES, N_BINS), np.int64))

    def add(self, frames: IntArray, counted: IntArray) -> None:
        """Add frames: their `weights` and their `histograms`."""
        self.counts += frames.T @ counted

    @property
    def quantile(self) -> tuple[float, float]:
        """The 99.99 % quantile, eV/Å, and its standard error; NaN of fewer than 10,000 errors.

        Examples
        --------
        >>> tail = Tail(); errors = np.linspace(0, 1, 30000).reshape(100, 300)
        >>> tail.add(weights(range(100)), histograms(errors))
        >>> value, error = tail.quantile
        >>> round(value, 2), error < 0.02
        (1.0, True)
        """
        found = [_quantile(row) for row in self.counts]
        return found[0], float(np.std(found[1:], ddof=1))


def _quantile(counts: IntArray) -> float:
    total = int(counts.sum())
    if total * (1 - LEVEL) < 1 - 1e-9:
        return float("nan")
    until: FloatArray = np.cumsum(counts).astype(np.float64)
    place = int(np.searchsorted(until, LEVEL * total))
    within = (LEVEL * total - (until[place] - counts[place])) / counts[place]
    return float(LEAST * np.exp(STEP * (place + within)))
