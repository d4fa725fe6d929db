"""Radial distribution functions: means and errors of blocks, and how far two curves are apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from mlsel.validate.results import Results

FloatArray = npt.NDArray[np.float64]

FEWEST_BLOCKS = 8
ONSET = 0.01
"""The reference's first onset is where its g(r) first reaches this."""


def block_error(values: npt.ArrayLike) -> FloatArray:
    """Return the standard error of the mean of correlated values along the first axis.

    Neighbouring values are averaged in pairs again and again; the naive error of each level with
    at least 8 values left is an estimate, too low as long as the values of the level are
    correlated, and the largest is taken. NaN for a single value.

    Parameters
    ----------
    values : (n, ...)

    Returns
    -------
    (...)

    References
    ----------
    H. Flyvbjerg and H. G. Petersen, J. Chem. Phys. 91, 461 (1989).

    Examples
    --------
    >>> float(block_error([1.0, 2.0, 3.0, 4.0])).__round__(3)
    0.645
    """
    level = np.asarray(values, dtype=np.float64)
    if len(level) < 2:
        return np.full(level.shape[1:], np.nan)
    error = _naive_error(level)
    while len(level) // 2 >= FEWEST_BLOCKS:
        level = 0.5 * (level[0 : len(level) // 2 * 2 : 2] + level[1 : len(level) // 2 * 2 : 2])
        error = np.maximum(error, _naive_error(level))
    return error


def _naive_error(values: FloatArray) -> FloatArray:
    error: FloatArray = np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))
    return error


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
    g, coordination = results.g[:, pair], results.coordination[:, pair]
    n_blocks = len(g)
    if n_blocks == 0:
        nothing = np.full(len(results.r), np.nan)
        return Curve(results.r, nothing, nothing, nothing, nothing, 0)
    return Curve(
        results.r,
        g.mean(axis=0),
        block_error(g),
        coordination.mean(axis=0),
        block_error(coordination),
        n_blocks,
    )


@dataclass(frozen=True)
class RdfDifference:
    """How far two RDFs are apart.

    Attributes
    ----------
    area : Å
        ∫ |g − g_ref| dr over the whole range.
    noise : Å
        What chance alone makes of `area`: ∫ √(2/π) σ(r) dr with σ² = σ_g² + σ_ref², the mean of
        |x| for a normal x. It holds however the bins are correlated.
    """

    area: float
    noise: float
    length: float

    @property
    def score(self) -> float:
        """area over noise: about 1 where the two differ by chance."""
        return self.area / self.noise if self.noise else float("nan")

    @property
    def mean(self) -> float:
        """The mean of |g − g_ref| over the range."""
        return self.area / self.length


def difference(one: Curve, reference: Curve) -> RdfDifference:
    """Return how far an RDF is from the reference's (bins must be the same)."""
    width = one.width
    area = float(np.abs(one.g - reference.g).sum() * width)
    sigma = np.hypot(one.g_error, reference.g_error)
    noise = float(np.sqrt(2 / np.pi) * sigma.sum() * width)
    return RdfDifference(area, noise, width * len(one.g))
