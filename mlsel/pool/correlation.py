"""How many independent frames a trajectory is worth.

References
----------
Sokal, in Functional Integration, NATO ASI Series 361, 131 (1997), for where the sum is ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlsel.core.arrays import FloatArray

if TYPE_CHECKING:
    from mlsel.pool.pool import Pool

FEWEST = 32
"""Frames of a run, below which its correlation is not told."""
WINDOW = 5.0
"""Correlation times after which the sum of correlations is ended."""


def inefficiency(values: FloatArray) -> float:
    """Return how many frames running are worth an independent one, g = 1 + 2 Σ ρ(t), at least 1.

    The sum goes to the first t that is at least WINDOW times ½ g of the sum so far.

    Parameters
    ----------
    values : (F,)
        Of frames that follow each other at equal times.

    Examples
    --------
    >>> steps = np.random.default_rng(1).standard_normal(20000)
    >>> walk = np.zeros(20000)
    >>> for k in range(1, 20000):
    ...     walk[k] = 0.8 * walk[k - 1] + steps[k]
    >>> round(inefficiency(steps)), round(inefficiency(walk))  # the second is (1 + 0.8)/(1 - 0.8)
    (1, 9)
    """
    n = len(values)
    centred = values - values.mean()
    if n < 2 or not np.isfinite(centred).all() or not centred.any():
        return 1.0
    spectrum = np.fft.rfft(centred, 2 * n)
    covariance = np.fft.irfft(spectrum * spectrum.conj(), 2 * n)[:n]
    sums = 1.0 + 2.0 * np.cumsum(covariance[1:] / covariance[0])
    ended = np.flatnonzero(np.arange(1, n) >= WINDOW * 0.5 * sums)
    g = float(sums[ended[0]]) if len(ended) else float(n)
    return min(max(g, 1.0), float(n))


def spacings(pool: Pool) -> list[str]:
    """Tell of the runs whose frames are as far apart as they are correlated: when, and a line each.

    Nothing of a pool that has none.
    """
    lines, bounded = [], 0
    for run in pool.runs:
        told = pool.run_attributes(run)
        if "energy_correlation_time" not in told:
            continue
        at = {"least": ", the least allowed", "greatest": ", the greatest allowed"}
        bounded += told["sampling_bounded"] == "greatest"
        lines.append(
            f"{run.name:26} every {told['sampling_interval']} steps"
            f"{at.get(told['sampling_bounded'], '')}: energy {told['energy_correlation_time']:.3g} "
            f"ps, volume {told['volume_correlation_time']:.3g} ps "
            f"(± {told['correlation_time_error']:.0%})"
        )
    if not lines:
        return []
    head = [f"frames as far apart as correlated, in {len(lines)} runs:", *lines]
    if bounded:
        head.append(
            f"{bounded} of them want a longer interval than pool.correlation.greatest_interval "
            "allows: their frames are correlated"
        )
    return head


def relative_error(g: float, n: int) -> float:
    """Return the relative standard error of an inefficiency g that n values gave.

    √(2 (2 W + 1)/n) with the window W = WINDOW ½ g (N. Madras and A. D. Sokal, J. Stat. Phys. 50,
    109 (1988), eq. 3.19).

    >>> round(relative_error(40.0, 5000), 2)
    0.28
    """
    error: float = np.sqrt(2.0 * (WINDOW * g + 1.0) / n)
    return float(error)
