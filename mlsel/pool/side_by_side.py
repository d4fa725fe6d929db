"""Files that are imported together, beside each other: are all of one unit, and of one method?

What is looked at in all frames together (`plausible`) is that of most of them: a file in kcal/mol
among larger ones in eV would pass. Warnings, never refusals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mlsel.core.arrays import Array
from mlsel.core.errors import shortened
from mlsel.pool.elements import formula
from mlsel.pool.incoming import Incoming
from mlsel.pool.plausible import LARGE_FORCE

N_LOOKED_AT = 32
"""Frames of a composition in a file, the first ones."""
ENERGY_APART = 1.0
"""eV/atom between two files' medians of one composition. A melt is some 0.3 above its crystal;
other units, pseudopotentials or an all-electron code's zero give more."""
SURE = 5.0
"""Times what the files' own frames scatter by, as half their ranges."""


class SideBySide:
    """Collects energies and forces of each file's first frames of each composition.

    Parameters
    ----------
    sources : the files, as `Incoming.source` numbers them
    """

    def __init__(self, sources: Sequence[Path]) -> None:
        self._sources = sources
        self._energies: dict[bytes, dict[int, list[float]]] = {}
        self._numbers: dict[bytes, Array] = {}
        self._forces: dict[int, list[float]] = {}

    def see(self, frames: Incoming, labels: Mapping[str, Array]) -> None:
        """Take note of frames and of their labels, (F, …), by name."""
        if "energy" in labels:
            atoms = np.sort(frames.numbers)
            key = atoms.tobytes()
            self._numbers.setdefault(key, atoms)
            known = self._energies.setdefault(key, {}).setdefault(frames.source, [])
            room = N_LOOKED_AT - len(known)
            known += (labels["energy"][: max(0, room)].reshape(-1) / frames.n_atoms).tolist()
        if "forces" in labels and frames.n_atoms > 1:
            sizes = self._forces.setdefault(frames.source, [])
            for force in labels["forces"][: max(0, N_LOOKED_AT - len(sizes))]:
                with np.errstate(over="ignore"):
                    sizes.append(float(np.sqrt((force**2).mean())))

    def warnings(self) -> list[str]:
        """Return what differs, a sentence each."""
        return [sentence for sentence in (self._of_forces(), self._of_energies()) if sentence]

    def _of_forces(self) -> str:
        middle = {s: float(np.median(sizes)) for s, sizes in self._forces.items()}
        large = [source for source, size in middle.items() if size > LARGE_FORCE]
        if not large or len(large) == len(middle):
            return ""  # of all it is told in `plausible`
        first = large[0]
        more = f" and {len(large) - 1} more files" if len(large) > 1 else ""
        return (
            f"forces of {self._name(first)}{more} are {middle[first]:.3g} eV/Å (rms of a "
            "component, median of the frames), other than the other files': are they in "
            "kcal/mol/Å or kJ/mol/nm? Files of each unit are imported by themselves (--force-unit, "
            "--energy-unit), then the pools together."
        )

    def _of_energies(self) -> str:
        for key, by_source in self._energies.items():
            middles = {s: float(np.median(energies)) for s, energies in by_source.items()}
            low, high = min(middles, key=middles.__getitem__), max(middles, key=middles.__getitem__)
            scatter = max(float(np.ptp(by_source[s])) / 2 for s in (low, high))
            if middles[high] - middles[low] > max(ENERGY_APART, SURE * scatter):
                return (
                    f"frames of {shortened(formula(self._numbers[key]), 40)} have "
                    f"{middles[low]:.6g} eV an atom in {self._name(low)} and {middles[high]:.6g} "
                    f"in {self._name(high)} (medians): are both in the same units (--energy-unit), "
                    "and of one method with one zero? No potential learns both."
                )
        return ""

    def _name(self, source: int) -> str:
        return shortened(str(self._sources[source]), 60)
