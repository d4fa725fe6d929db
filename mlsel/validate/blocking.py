"""Means of correlated values: their errors, the degrees of freedom of these, and how sure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import FloatArray

FEWEST_BLOCKS = 8
MOST_SIGMAS = 30.0
"""A significance beyond this is given as this: a double knows no smaller chance."""


@dataclass(frozen=True)
class Mean:
    """A mean (any shape), its standard error, and the degrees of freedom of the error."""

    value: FloatArray
    error: FloatArray
    freedom: FloatArray

    def __sub__(self, other: Mean) -> Mean:
        """The difference of two independent means; freedom by Welch and Satterthwaite."""
        with np.errstate(invalid="ignore", divide="ignore"):
            squares = self.error**2 + other.error**2
            freedom = squares**2 / (self.error**4 / self.freedom + other.error**4 / other.freedom)
        freedom = np.where(squares == 0, np.minimum(self.freedom, other.freedom), freedom)
        return Mean(self.value - other.value, np.sqrt(squares), freedom)

    @classmethod
    def of(cls, value: float, error: float, freedom: float) -> Mean:
        """A mean of plain numbers."""
        return cls(np.asarray(value), np.asarray(error), np.asarray(freedom))

    @classmethod
    def unknown(cls) -> Mean:
        """What is not known: NaN."""
        return cls.of(np.nan, np.nan, np.nan)

    def at(self, place: int) -> Mean:
        """One of the means, by its place along the first axis."""
        return Mean.of(self.value[place], self.error[place], self.freedom[place])

    def scaled(self, factor: float) -> Mean:
        """The mean of the values times a number known exactly."""
        return Mean(self.value * factor, self.error * abs(factor), self.freedom)

    def sigmas(self, n_tests: int = 1) -> FloatArray:
        """Return how sure it is that the mean is not 0, in standard deviations of a normal.

        Student's t with the error's degrees of freedom gives the chance of a value as far from 0,
        times `n_tests` where it is the largest of so many; the result is the number of standard
        deviations at which a normal distribution has that chance on its two sides.

        Examples
        --------
        >>> mean = Mean(np.array(4.0), np.array(1.0), np.array(7.0))
        >>> round(float(mean.sigmas()), 2), round(float(mean.sigmas(60)), 2)
        (2.8, 1.01)
        """
        from scipy.special import ndtri, stdtr

        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.where(self.value == 0, 0.0, np.abs(self.value) / self.error)
            t = np.where(np.isnan(self.error), np.nan, t)
            chance = np.minimum(1.0, 2 * stdtr(self.freedom, -t) * n_tests)
        sigmas: FloatArray = np.minimum(MOST_SIGMAS, 0.0 - ndtri(chance / 2))
        return sigmas

    def resolution(self, sigmas: float, n_tests: int = 1) -> FloatArray:
        """Return the least distance from 0 that would be as sure as `sigmas`."""
        from scipy.special import ndtr, stdtrit

        least: FloatArray = -self.error * stdtrit(self.freedom, ndtr(-sigmas) / n_tests)
        return least


def blocked(values: npt.ArrayLike) -> Mean:
    """Return the mean of correlated values along the first axis.

    Neighbouring values are averaged in pairs again and again; the naive error of each level with
    at least 8 values left is an estimate, too low as long as the values of the level are
    correlated, and the largest is taken; the last level is that of 8 blocks. NaN
    for a single value, or where one is no number.

    Parameters
    ----------
    values : (n, ...)

    References
    ----------
    H. Flyvbjerg and H. G. Petersen, J. Chem. Phys. 91, 461 (1989).

    Examples
    --------
    >>> float(blocked([1.0, 2.0, 3.0, 4.0]).error).__round__(3)
    0.645
    """
    level = np.asarray(values, dtype=np.float64)
    nothing = np.full(level.shape[1:], np.nan)
    if len(level) < 2:
        return Mean(level[0] if len(level) else nothing, nothing, nothing)
    mean = level.mean(axis=0)
    levels = [level]
    while len(level) // 2 >= FEWEST_BLOCKS:
        level = 0.5 * (level[0 : len(level) // 2 * 2 : 2] + level[1 : len(level) // 2 * 2 : 2])
        levels.append(level)
    if len(level) > FEWEST_BLOCKS:
        edges = np.linspace(0, len(levels[0]), FEWEST_BLOCKS + 1).astype(int)
        sizes = np.diff(edges).reshape(-1, *[1] * (level.ndim - 1))
        levels.append(np.add.reduceat(levels[0], edges[:-1], axis=0) / sizes)
    error, freedom = np.zeros(level.shape[1:]), np.zeros(level.shape[1:])
    for level in levels:
        here = _naive_error(level)
        freedom = np.where(here >= error, len(level) - 1.0, freedom)
        error = np.where(here >= error, here, error)
    error = np.where(np.isnan(mean), np.nan, error)
    return Mean(np.asarray(mean), error, freedom)


def block_error(values: npt.ArrayLike) -> FloatArray:
    """Return the standard error of the mean of correlated values along the first axis."""
    return blocked(values).error


def _naive_error(values: FloatArray) -> FloatArray:
    error: FloatArray = np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))
    return error
