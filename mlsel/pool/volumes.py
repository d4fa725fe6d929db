"""The sign and the unit of virials, by finite differences of energies of frames that differ in
volume alone."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from mlsel.core.arrays import Array, FloatArray, IntArray

DIGITS = 4
"""Of fractional coordinates, to which frames have the same shape."""
SMALLEST, LARGEST = 1e-4, 0.05
"""Differences of ln V: below the one energies' rounding counts, above the other the curvature."""
TOLERANCE = 0.25
"""Of the ratio of the two energy differences: further from 1 than this is told."""


def shape_hash(positions: Array, cell: Array) -> int:
    """Return 64 bits that frames share which are the same but for a scaling of everything.

    Examples
    --------
    >>> cell, x = np.diag([3.0, 4.0, 5.0]), np.array([[0.1, 0.2, 0.3], [1.0, 2.0, 2.5]])
    >>> shape_hash(x, cell) == shape_hash(1.02 * x + 7.0, 1.02 * cell)
    True
    """
    volume = abs(np.linalg.det(cell))
    if not volume > 0 or not np.isfinite(positions).all():
        return 0
    fractional = np.linalg.solve(cell.T, (positions - positions[0]).T)
    # Off the rounding's edges, where symmetric structures lie.
    fractional = np.floor((fractional - np.floor(fractional)) * 10**DIGITS + 0.37)
    fractional %= 10**DIGITS
    shape = np.floor(cell / np.cbrt(volume) * 10**DIGITS + 0.37)
    made = hashlib.blake2b(fractional.astype(np.int64).tobytes(), digest_size=8)
    made.update(shape.astype(np.int64).tobytes())
    return int.from_bytes(made.digest(), "little", signed=True)


@dataclass(frozen=True)
class Slopes:
    """What neighbours in volume say of virials.

    Attributes
    ----------
    frames : (P, 2)
        Pairs of frames of one shape, next to each other in volume.
    ratio : (P,)
        The energy difference that the mean of the two virials gives, over that of the energies: 1
        where all is right, −1 where the sign is wrong.
    """

    frames: IntArray
    ratio: FloatArray

    @property
    def is_wrong(self) -> bool:
        return bool(len(self.ratio) and abs(float(np.median(self.ratio)) - 1.0) > TOLERANCE)

    def told(self) -> str:
        """Return a sentence."""
        middle = float(np.median(self.ratio))
        found = (
            f"virials give {middle:.3g} times the energy differences of {len(self.ratio)} pairs of "
            "frames that differ in volume alone"
        )
        if not self.is_wrong:
            return f"{found}: sign and unit are right"
        if abs(middle + 1.0) <= TOLERANCE:
            return f"{found}: their sign is wrong"
        return f"{found}: their unit or sign is wrong"


def slopes(
    shape: IntArray,
    composition: IntArray,
    volume: FloatArray,
    energy: FloatArray,
    trace: FloatArray,
) -> Slopes:
    """Compare virials with energies.

    For a scaling of all lengths dE = −tr W d ln V / 3 with the virial W = −∂E/∂ε.

    Parameters
    ----------
    shape, composition : (n_frames,)
    volume : (n_frames,), Å³
    energy : (n_frames,), eV
    trace : (n_frames,), eV
        Of the virials; NaN where there is none.
    """
    known = np.flatnonzero((shape != 0) & np.isfinite(energy) & np.isfinite(trace) & (volume > 0))
    order = known[np.lexsort((volume[known], shape[known], composition[known]))]
    first, second = order[:-1], order[1:]
    change = np.log(volume[second] / volume[first])
    same = (shape[first] == shape[second]) & (composition[first] == composition[second])
    same &= (change > SMALLEST) & (change < LARGEST)
    first, second, change = first[same], second[same], change[same]
    by_energy = energy[second] - energy[first]
    by_virial = -0.5 * (trace[first] + trace[second]) * change / 3.0
    # Near the minimum both are small and their ratio says nothing.
    counts = np.abs(by_energy) > 0.1 * np.abs(by_energy).max(initial=0.0)
    pairs = np.stack([first, second], axis=1)[counts]
    return Slopes(pairs, by_virial[counts] / by_energy[counts])
