"""The energy of a pair of atoms as a function of their distance, down to no distance at all.

Down to the shortest distances of the training frames it is the fitted spline. Below, where nothing
is known, it goes on as a Born-Mayer wall: the force grows exponentially, without a step in energy,
force or the force's slope, so that two atoms that come too near are driven apart and never find a
hole. The wall is a guess and says nothing of the material.

References
----------
Born and Mayer, Z. Phys. 75, 1 (1932).
Abrahamson, Phys. Rev. 178, 76 (1969): the exponential's length, 0.2 to 0.35 Å for all elements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlsel.training.pair.basis import DEGREE, Basis, Floats, Ints, b_splines

WALL_LENGTH = 0.3
"""Å, over which the wall's force grows e times."""
SOFTEST_WALL = 1.0
"""eV/Å: the factor of the exponential is at least this, also where the spline is straight."""


@dataclass(frozen=True)
class Curves:
    """The fitted splines of all pairs of elements, with their walls.

    Attributes
    ----------
    basis : Basis
    coefficients : (n_curves, n_functions)
        eV.
    starts : (n_curves)
        Å; the splines hold from there on, the walls below.
    """

    basis: Basis
    coefficients: Floats
    starts: Floats

    def _spline(self, curve: Ints, distance: Floats) -> tuple[Floats, Floats, Floats]:
        """Energy and its first two derivatives, of the spline alone."""
        h, n = self.basis.spacing, self.basis.n_functions
        c = np.pad(self.coefficients, ((0, 0), (0, DEGREE)))
        scaled = distance / h
        first = np.clip(scaled.astype(np.int64), 0, n - 1)
        place = scaled - first
        found = []
        for order in range(3):
            used = np.arange(DEGREE + 1 - order)
            part = c[curve[:, None], first[:, None] + used]
            found.append((part * b_splines(place, DEGREE - order)).sum(axis=1) / h**order)
            c = np.diff(c, axis=1)
        inside = distance < self.basis.cutoff
        energy, slope, curvature = (x * inside for x in found)
        return energy, slope, curvature

    @property
    def walls(self) -> tuple[Floats, Floats, Floats]:
        """Energy (eV) and force (eV/Å) where the walls begin, and their exponentials' factors."""
        energy, slope, curvature = self._spline(np.arange(len(self.starts)), self.starts)
        return energy, -slope, np.maximum(WALL_LENGTH * curvature, SOFTEST_WALL)

    def __call__(self, curve: Ints, distance: Floats) -> tuple[Floats, Floats]:
        """Return energies and their slopes, eV and eV/Å, both (n).

        Parameters
        ----------
        curve : int64, (n)
            Indices into `basis.curves`.
        distance : (n)
            Å.
        """
        energy, slope, _ = self._spline(curve, distance)
        near = distance < self.starts[curve]
        if near.any():
            e0, f0, factor = (x[curve[near]] for x in self.walls)
            depth = self.starts[curve[near]] - distance[near]
            grown = np.expm1(depth / WALL_LENGTH)
            energy[near] = e0 + (f0 - factor) * depth + factor * WALL_LENGTH * grown
            slope[near] = -(f0 + factor * grown)
        return energy, slope
