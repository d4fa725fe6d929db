"""When a run is no longer stable: bounds on distances, temperature and energy."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import FloatArray

BOLTZMANN = 8.617333262e-5  # eV/K
TEMPERATURE_FACTOR = 2.0
ENERGY_SPAN = 5.0
FORCE_FACTOR = 3.0
"""Times the largest force component in the training data: no run at their temperatures needs it."""


@dataclass(frozen=True)
class Bounds:
    """What a stable run stays within.

    - No pair of atoms is closer than `closest` of its species: a share (0.75 unless the study
      says otherwise) of the shortest distance that the reference's own NPT run saw, or, where no
      potential is the reference, the training data hold.
    - The temperature is within a factor of 2 of the thermostat's.
    - The potential energy per atom is within 5 k_B T of that of the run's first sample.
    - Where no potential is the reference, no force component is above three times the largest in
      the training data.

    Attributes
    ----------
    closest : (n_pairs,), Å
    temperature : K, of the thermostat
    first_energy : eV, of the first sample
    n_atoms : int
    pair_names : of the species pairs, for sentences
    largest_force : eV/Å, component
    """

    closest: FloatArray
    temperature: float
    first_energy: float
    n_atoms: int
    pair_names: tuple[str, ...]
    largest_force: float = inf

    def broken(
        self, temperature: float, energy: float, closest: npt.ArrayLike, force: float = 0.0
    ) -> str:
        """Return what is out of bounds in a sample, in a few words, or "".

        >>> bounds = Bounds(np.array([2.0]), 1400.0, -300.0, 100, ("Na-Cl",))
        >>> bounds.broken(1390.0, -301.0, [2.4])
        ''
        >>> bounds.broken(1390.0, -301.0, [1.2])
        'a pair Na-Cl at 1.20 Å (bound 2.00 Å)'
        >>> bounds.broken(3000.0, -301.0, [2.4])
        'temperature 3000 K (bounds 700 and 2800 K)'
        """
        distances = np.asarray(closest)
        near = np.flatnonzero(distances < self.closest)
        if near.size:
            pair = near[np.argmin(distances[near] / self.closest[near])]
            return (
                f"a pair {self.pair_names[pair]} at {distances[pair]:.2f} Å "
                f"(bound {self.closest[pair]:.2f} Å)"
            )
        low, high = self.temperature / TEMPERATURE_FACTOR, self.temperature * TEMPERATURE_FACTOR
        if not low <= temperature <= high:
            return f"temperature {temperature:.4g} K (bounds {low:.4g} and {high:.4g} K)"
        change = (energy - self.first_energy) / self.n_atoms
        span = ENERGY_SPAN * BOLTZMANN * self.temperature
        if not abs(change) <= span:
            return f"energy {change:+.3g} eV/atom from the start's (bound {span:.3g} eV/atom)"
        if not force <= self.largest_force:
            return f"a force of {force:.3g} eV/Å (bound {self.largest_force:.3g} eV/Å)"
        return ""


def pair_names(species: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the pairs of species, in the order in which RDFs are kept.

    >>> pair_names(("Na", "Cl"))
    ('Na-Na', 'Na-Cl', 'Cl-Cl')
    """
    n = len(species)
    return tuple(f"{species[i]}-{species[j]}" for i in range(n) for j in range(i, n))
