"""Mean-square displacements and diffusion coefficients, with errors from parts of the run."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import FloatArray
from mlsel.validate.blocking import Mean

MAX_PARTS = 8
LONGEST_LAG = 5.0
FIT_FROM = 0.4
BLOCK_BYTES = 4 * 2**20
"""Of the positions that are in memory at once: of some frames, and of some atoms in all frames."""


class Positions(Protocol):
    """Frames that are read in slices: an array, or what lies in a file."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> Any: ...


def mean_square_displacement(
    positions: Positions,
    kinds: npt.NDArray[np.int64],
    interval: float,
    masses: FloatArray | None = None,
    longest: float = LONGEST_LAG,
) -> tuple[FloatArray, FloatArray]:
    """Return the mean-square displacement of each kind of atom, in parts of a trajectory.

    MSD(t) = ⟨|r_i(s + t) − r_i(s)|²⟩ over the atoms i of a kind and all origins s of a part, with
    the displacement of the centre of mass taken off.

    Parameters
    ----------
    positions : (n_frames, N, 3), Å
        Going on through the boundaries of the box.
    kinds : int, (N,)
        The rows of the result are the kinds in rising order.
    interval : float
        ps between frames.
    masses : (N,), optional
        Default: all equal.
    longest : float
        ps, of the longest lag; at most a twelfth of the trajectory.

    Returns
    -------
    lag : (n_lags,), ps
    msd : (n_parts, n_kinds, n_lags), Å²
        Parts are at least three times the longest lag, and at most 8.

    Examples
    --------
    >>> steps = np.random.default_rng(1).normal(size=(600, 50, 3))
    >>> lag, msd = mean_square_displacement(steps.cumsum(0), np.zeros(50, int), 1.0, longest=5)
    >>> [round(float(x)) for x in msd.mean(axis=(0, 1))]
    [3, 6, 9, 12, 15]
    """
    n_frames = len(positions)
    names = np.unique(kinds)
    n_lags = int(
        min(max(1, longest / interval + 1e-9), (n_frames - 1) // 12 or (n_frames - 1) // 3)
    )
    if n_lags < 1:
        return np.empty(0), np.empty((0, len(names), 0))
    n_parts = int(np.clip(n_frames // (3 * n_lags + 1), 1, MAX_PARTS))
    weights = np.ones(len(kinds)) if masses is None else masses
    weights = weights / weights.sum()
    msd = np.empty((n_parts, len(names), n_lags))
    length = n_frames // n_parts
    n_frames_read = max(1, BLOCK_BYTES // (24 * len(kinds)))
    n_atoms = max(1, BLOCK_BYTES // (24 * length))
    for part in range(n_parts):
        squares = np.empty((n_lags, len(kinds)))
        for atom in range(0, len(kinds), n_atoms):
            chosen = slice(atom, min(atom + n_atoms, len(kinds)))
            frames = np.empty((length, chosen.stop - chosen.start, 3))
            for start in range(0, length, n_frames_read):
                stop = min(start + n_frames_read, length)
                read = positions[part * length + start : part * length + stop]
                centre = np.einsum("fnd,n->fd", read, weights)[:, None]
                frames[start:stop] = read[:, chosen] - centre
            for lag in range(1, n_lags + 1):
                moved = frames[lag:] - frames[:-lag]
                squares[lag - 1, chosen] = np.einsum("fnd,fnd->n", moved, moved) / len(moved)
        for row, name in enumerate(names):
            msd[part, row] = squares[:, kinds == name].mean(axis=1)
    lags: FloatArray = interval * np.arange(1.0, n_lags + 1)
    return lags, msd


def diffusion(lag: FloatArray, msd: FloatArray) -> Mean:
    """Return D of one kind of atom, Å²/ps: a sixth of the slope of MSD(t).

    The slope is that of a straight line through the lags from 40 % of the longest on, fitted in
    each part; the error is that of the parts' mean (NaN with one part).

    Parameters
    ----------
    lag : (n_lags,), ps
    msd : (n_parts, n_lags), Å²

    References
    ----------
    A. Einstein, Ann. Phys. 322, 549 (1905).
    """
    chosen = lag >= FIT_FROM * lag[-1] if lag.size else np.zeros(0, bool)
    if chosen.sum() < 2 or not len(msd):
        return Mean.unknown()
    slopes = np.polyfit(lag[chosen], msd[:, chosen].T, 1)[0] / 6
    n = len(slopes)
    error = slopes.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return Mean.of(float(slopes.mean()), float(error), n - 1.0)
