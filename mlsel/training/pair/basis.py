"""Cubic splines of the distance, one set for each pair of elements, that end at the cutoff.

The knots are even, and only those B-splines are kept whose support ends within the cutoff, so that
energy, force and the force's slope go to zero there.

References
----------
de Boor, A Practical Guide to Splines (Springer, 1978).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.neighbours import NeighborList

DEGREE = 3


def b_splines(place: FloatArray, degree: int) -> FloatArray:
    """Return the B-splines of even knots that are not zero at a place between two of them.

    Parameters
    ----------
    place : (n)
        From 0 (a knot) to 1 (the next).

    Returns
    -------
    (n, degree + 1), from the one that ends first to the one that has just begun.

    >>> b_splines(np.array([0.0]), 3).round(4).tolist()
    [[0.1667, 0.6667, 0.1667, 0.0]]
    """
    values = np.ones((len(place), 1))
    for k in range(1, degree + 1):
        higher = np.zeros((len(place), k + 1))
        for j in range(k):
            higher[:, j] += values[:, j] * (j + 1 - place) / k
            higher[:, j + 1] += values[:, j] * (place + k - 1 - j) / k
        values = higher
    return values


@dataclass(frozen=True)
class Pairs:
    """The pairs of atoms of one frame, each once.

    Attributes
    ----------
    first, second : int64, (n)
    distance : (n)
        Å.
    unit : (n, 3)
        From the first to the second atom.
    curve : int64, (n)
        Which pair of elements it is.
    """

    first: IntArray
    second: IntArray
    distance: FloatArray
    unit: FloatArray
    curve: IntArray


@dataclass(frozen=True)
class Basis:
    """The functions that a pair potential is a sum of.

    Attributes
    ----------
    numbers : atomic numbers
    cutoff : Å
    n_functions : int
        For each pair of elements; their knots are cutoff/n_functions apart.
    """

    numbers: tuple[int, ...]
    cutoff: float
    n_functions: int

    @classmethod
    def of(cls, numbers: Sequence[int], cutoff: float, spacing: float) -> Basis:
        """Return the basis whose knots are at most `spacing` apart."""
        return cls(tuple(numbers), cutoff, max(DEGREE + 1, math.ceil(cutoff / spacing - 1e-9)))

    @property
    def spacing(self) -> float:
        """Å between knots."""
        return self.cutoff / self.n_functions

    @property
    def curves(self) -> list[tuple[int, int]]:
        """Atomic numbers of each pair of elements, the smaller one first."""
        return [(a, b) for k, a in enumerate(self.numbers) for b in self.numbers[k:]]

    @property
    def n_coefficients(self) -> int:
        return len(self.curves) * self.n_functions

    def find(self, numbers: IntArray, positions: Any, cell: Any, periodic: Any) -> Pairs:
        """Return the pairs within the cutoff, images included."""
        neighbours = NeighborList(cutoff=self.cutoff, full_list=False, sorted=True)
        first, second, distance, vector = neighbours.compute(positions, cell, periodic, "ijdD")
        first, second = first.astype(np.int64), second.astype(np.int64)
        # the same sums in the same order whatever the list's own
        order = np.lexsort((vector[:, 2], vector[:, 1], vector[:, 0], second, first))
        first, second, distance = first[order], second[order], distance[order]
        table = np.empty((max(self.numbers) + 1,) * 2, np.int64)
        for k, (a, b) in enumerate(self.curves):
            table[a, b] = table[b, a] = k
        return Pairs(
            first,
            second,
            distance,
            vector[order] / distance[:, None],
            table[numbers[first], numbers[second]],
        )

    def values(self, distance: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
        """Return the functions that are not zero at these distances.

        Returns
        -------
        first : int64, (n)
            The first of them; those from `n_functions` on are left out of the basis.
        values, slopes : (n, 4)
            Of the four from there on; 1 and 1/Å.
        """
        scaled = distance / self.spacing
        first = np.clip(scaled.astype(np.int64), 0, self.n_functions - 1)
        place = scaled - first
        lower = b_splines(place, DEGREE - 1)
        slopes = np.zeros((len(distance), DEGREE + 1))
        slopes[:, 1:] += lower / self.spacing
        slopes[:, :-1] -= lower / self.spacing
        return first, b_splines(place, DEGREE), slopes

    def design(self, pairs: Pairs, n_atoms: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return what each coefficient gives in a frame.

        Returns
        -------
        energy : (n_coefficients)
        forces : (3 n_atoms, n_coefficients)
            1/Å.
        virial : (6, n_coefficients)
            xx, yy, zz, yz, xz, xy.
        """
        first, values, slopes = self.values(pairs.distance)
        columns = first[:, None] + np.arange(DEGREE + 1)
        kept = columns < self.n_functions
        columns = (columns + self.n_functions * pairs.curve[:, None])[kept]
        n = self.n_coefficients
        energy = np.bincount(columns, values[kept], n)
        forces, virial = np.zeros(3 * n_atoms * n), np.zeros((6, n))
        row = np.broadcast_to(np.arange(len(pairs.distance))[:, None], kept.shape)[kept]
        slope, unit = slopes[kept], pairs.unit[row]
        for axis in range(3):
            part = slope * unit[:, axis]
            for atoms, sign in ((pairs.first, 1.0), (pairs.second, -1.0)):
                places = (3 * atoms[row] + axis) * n + columns
                forces += np.bincount(places, sign * part, len(forces))
        pull = -slope * pairs.distance[row]
        for k, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
            virial[k] = np.bincount(columns, pull * unit[:, a] * unit[:, b], n)
        return energy, forces.reshape(3 * n_atoms, n), virial
