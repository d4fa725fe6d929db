"""What a training set holds, and when MD leaves it: shortest distances, largest force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.errors import MlselError
from mlsel.pool.pool import Pool
from mlsel.validate.distances import closest_distances
from mlsel.validate.stability import Bounds, pair_names

TOLD_UNITS = {"sigma": "eV", "below": "Å"}


@dataclass(frozen=True)
class Held:
    """What the frames of a training set reach.

    Attributes
    ----------
    closest : (n_pairs,), Å
        The shortest distance of each pair of species; infinite where no frame has such a pair.
    force : eV/Å
        The largest component of a force.
    volumes : two floats, Å³
        The smallest and the largest volume an atom, of frames periodic in all directions. A gas has
        neither short distances nor large forces: nothing else sees that a melt boils away.
    """

    closest: FloatArray
    force: float
    volumes: tuple[float, float] = (0.0, np.inf)

    @classmethod
    def of(cls, path: Path, species: Sequence[str]) -> Held:
        """Read a data set, a block of frames at a time.

        Raises
        ------
        MlselError
            If it holds an element that the study's species do not name.
        """
        closest: FloatArray = np.full(len(pair_names(tuple(species))), np.inf)
        force, low, high = 0.0, np.inf, 0.0
        with Pool(path) as pool:
            for block in pool.blocks("positions", "cell", "forces"):
                types = species_of(pool.numbers(block.run), species, path)
                force = max(force, float(np.abs(block["forces"]).max()))
                periodic = pool.periodic(block.run)
                if all(periodic):
                    volumes = np.abs(np.linalg.det(block["cell"])) / len(types)
                    low, high = min(low, float(volumes.min())), max(high, float(volumes.max()))
                for positions, cell in zip(block["positions"], block["cell"], strict=True):
                    found = closest_distances(positions, cell, types, len(species), periodic)
                    closest = np.minimum(closest, found)
        return cls(closest, force, (low, high))


def species_of(numbers: IntArray, species: Sequence[str], path: Path) -> IntArray:
    """Return each atom's index in `species`."""
    from ase.data import chemical_symbols

    symbols = [chemical_symbols[z] for z in numbers]
    unknown = sorted(set(symbols) - set(species))
    if unknown:
        raise MlselError(
            f"{path} holds {', '.join(unknown)}, which system.species does not name: it names "
            f"{', '.join(species)}."
        )
    return np.array([species.index(symbol) for symbol in symbols])


@dataclass(frozen=True)
class Watch:
    """When a frame is worth a label, and when a run is past all use.

    A frame is *new* if a pair of atoms is closer than `near` times the training set's shortest
    distance of its species, a force is larger than `force` times its largest, the volume an atom
    is `volume` times beyond those that it holds, or what the pair style tells of an atom is
    beyond its bound in `told`. A run is *lost* if a pair is closer than `lost` times that distance,
    the volume `lost_volume` times beyond, or temperature or energy leave the bounds that MD
    validation has, too (`mlsel.validate.stability.Bounds`).
    """

    held: Held
    species: tuple[str, ...]
    near: float
    force: float
    lost: float
    volume: float
    lost_volume: float
    told: Mapping[str, float] = field(default_factory=dict)

    def commands(self, pair_style: str, interval: int) -> list[str]:
        """Return LAMMPS commands after which compute watch_<name> is the largest of all atoms.

        >>> watch = Watch(
        ...     Held(np.array([2.0]), 5.0), ("Ar",), 0.95, 1.5, 0.75, 1.1, 1.5, {"sigma": 0.1})
        >>> watch.commands("schnet", 10)
        ['fix watch all pair 10 schnet sigma 1', 'compute watch_sigma all reduce max f_watch']
        """
        if not self.told:
            return []
        asked = " ".join(f"{name} 1" for name in self.told)
        columns = ["f_watch"] if len(self.told) == 1 else [
            f"f_watch[{k}]" for k in range(1, len(self.told) + 1)
        ]  # fmt: skip
        return [
            f"fix watch all pair {interval} {pair_style} {asked}",
            *(
                f"compute watch_{name} all reduce max {column}"
                for name, column in zip(self.told, columns, strict=True)
            ),
        ]

    def new(
        self,
        closest: FloatArray,
        largest_force: float,
        told: Sequence[float] = (),
        volume: float = np.nan,
    ) -> str:
        """Return what is new in a frame, in a few words, or "".

        Parameters
        ----------
        closest : (n_pairs,), Å
        largest_force : eV/Å
        volume : Å³ an atom, NaN where that is no matter

        >>> watch = Watch(Held(np.array([2.0]), 5.0), ("Ar",), 0.95, 1.5, 0.75, 1.1, 1.5)
        >>> watch.new(np.array([1.95]), 7.0)
        ''
        >>> watch.new(np.array([1.8]), 7.0)
        'a pair Ar-Ar at 1.80 Å (2.00 Å in the training set)'
        >>> watch.new(np.array([2.1]), 8.0)
        'a force of 8 eV/Å (5 eV/Å in the training set)'
        """
        near = np.flatnonzero(closest < self.near * self.held.closest)
        # a pair that no frame of the training set has is always new
        near = near[np.isfinite(closest[near])]
        if near.size:
            pair = near[np.argmin(closest[near] / self.held.closest[near])]
            return (
                f"a pair {pair_names(self.species)[pair]} at {closest[pair]:.2f} Å "
                f"({self.held.closest[pair]:.2f} Å in the training set)"
            )
        if largest_force > self.force * self.held.force:
            return (
                f"a force of {largest_force:.3g} eV/Å ({self.held.force:.3g} eV/Å in the training "
                "set)"
            )
        for (name, bound), value in zip(self.told.items(), told, strict=bool(len(told))):
            if not value <= bound:
                unit = TOLD_UNITS[name]
                return f"{name} of an atom is {value:.3g} {unit} (refine.watch.{name}: {bound:g})"
        return self._beyond(volume, self.volume)

    def outgrown(self, volume: float) -> str:
        """Return, in a few words, how a volume (Å³ an atom) is past all use, or "".

        >>> held = Held(np.array([2.0]), 5.0, (11.0, 12.0))
        >>> watch = Watch(held, ("Ar",), 0.95, 1.5, 0.75, 1.1, 1.5)
        >>> watch.outgrown(13.5), watch.new(np.array([2.1]), 1.0, volume=13.5)
        ('', 'a volume of 13.5 Å³/atom (11 to 12 Å³/atom in the training set)')
        >>> watch.outgrown(30.0)
        'a volume of 30 Å³/atom (11 to 12 Å³/atom in the training set)'
        """
        return self._beyond(volume, self.lost_volume)

    def _beyond(self, volume: float, factor: float) -> str:
        low, high = self.held.volumes
        if volume > factor * high or volume < low / factor:
            return (
                f"a volume of {volume:.3g} Å³/atom ({low:.3g} to {high:.3g} Å³/atom in the "
                "training set)"
            )
        return ""

    def bounds(self, temperature: float, first_energy: float, n_atoms: int) -> Bounds:
        """Return the bounds behind which a run is lost."""
        closest = np.where(np.isfinite(self.held.closest), self.lost * self.held.closest, 0.0)
        return Bounds(closest, temperature, first_energy, n_atoms, pair_names(self.species))
