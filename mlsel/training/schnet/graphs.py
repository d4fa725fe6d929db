"""Configurations in memory with their edges, and batches of them, by array operations alone.

Edges are found once, by vesin: schnetpack brings it, it gives half lists of triclinic and
smaller-than-cutoff cells, and it is an order of magnitude faster than ASE's list.
A pair (i, j) with its image is held once; the mirrored edge (j, i) is implied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mlsel.core.arrays import IntArray
from mlsel.core.neighbours import NeighborList
from mlsel.training.frames import Frames
from mlsel.training.schnet.kernels import PairTables


@dataclass(frozen=True)
class Knots:
    """The grid on which filters are tabulated: n_knots points from `start`, `spacing` apart."""

    start: float
    spacing: float
    n_knots: int


@dataclass(frozen=True)
class Batch:
    """Some frames as one graph; pairs are sorted by frame.

    Attributes
    ----------
    species : int64, (n_atoms)
        Index into the model's elements.
    frame : int64, (n_atoms)
    atom_start, pair_start : int64 array, (n_frames + 1)
    first, second : int64, (n_pairs)
    distance : (n_pairs)
        Å.
    unit : (n_pairs, 3)
        From the first to the second atom.
    energy : float64, (n_frames) or None
        eV, less the elements' reference energies.
    forces : (n_atoms, 3) or None
        eV/Å.
    atomic_energies : float64, (n_atoms) or None
        eV, less the elements' reference energies.
    virial : float64, (n_frames, 3, 3) or None
        eV.
    tables : PairTables or None
        Only on a CPU.
    """

    species: torch.Tensor
    frame: torch.Tensor
    atom_start: IntArray
    pair_start: IntArray
    first: torch.Tensor
    second: torch.Tensor
    distance: torch.Tensor
    unit: torch.Tensor
    energy: torch.Tensor | None
    forces: torch.Tensor | None
    atomic_energies: torch.Tensor | None
    virial: torch.Tensor | None
    tables: PairTables | None

    @property
    def n_frames(self) -> int:
        return len(self.atom_start) - 1


def ragged(starts: IntArray, lengths: IntArray) -> IntArray:
    """Return the concatenation of start … start + length − 1.

    >>> ragged(np.array([5, 0]), np.array([2, 3]))
    array([5, 6, 0, 1, 2])
    """
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


class Graphs:
    """Frames with their pairs, all in memory.

    Parameters
    ----------
    frames : sequence of Frames
    numbers : sequence of int
        The model's elements.
    cutoff : float
        Å.
    dtype : torch.dtype
        Of distances, unit vectors and forces.
    references : mapping of atomic number to eV, optional
        Taken off the energies.
    """

    def __init__(
        self,
        frames: Sequence[Frames],
        numbers: Sequence[int],
        cutoff: float,
        dtype: torch.dtype = torch.float32,
        references: dict[int, float] | None = None,
    ) -> None:
        place = np.full(max(numbers) + 1, -1)
        place[list(numbers)] = np.arange(len(numbers))
        shift = np.array([(references or {}).get(z, 0.0) for z in numbers])
        species, n_atoms, n_pairs, pairs, vectors, distances = [], [], [], [], [], []
        energy, forces, atomic, virial = [], [], [], []
        find = NeighborList(cutoff=cutoff, full_list=False)
        for part in frames:
            kind = place[part.numbers]
            species.append(np.tile(kind, len(part)))
            n_atoms += [part.n_atoms] * len(part)
            for positions, cell in zip(part.positions, part.cell, strict=True):
                ij, d, v = find.compute(positions, cell, part.periodic, "PdD")
                order = np.lexsort((ij[:, 1], ij[:, 0]))  # of the C++'s walk, and of the sums
                pairs.append(ij[order].astype(np.int32))
                distances.append(d[order])
                vectors.append((v / d[:, None])[order].astype(np.float64))
                n_pairs.append(len(d))
            if part.energy is not None and part.forces is not None:
                energy.append(part.energy - shift[kind].sum())
                forces.append(part.forces.reshape(-1, 3))
            if part.atomic_energies is not None:
                atomic.append((part.atomic_energies - shift[kind]).ravel())
            if part.virial is not None:
                virial.append(part.virial)
        self.dtype, self._cutoff = dtype, float(cutoff)
        real = np.float32 if dtype == torch.float32 else np.float64
        self.n_atoms, self.n_pairs = np.array(n_atoms, np.int64), np.array(n_pairs, np.int64)
        self._atom_start = np.cumsum(self.n_atoms) - self.n_atoms
        self._pair_start = np.cumsum(self.n_pairs) - self.n_pairs
        self._species = np.concatenate(species)
        self._pairs = np.concatenate(pairs)
        exact = np.concatenate(distances)
        self._exact = exact
        self._distance = exact.astype(real)
        self._unit = np.concatenate(vectors).astype(real)
        self._energy = np.concatenate(energy) if energy else None
        self._forces = np.concatenate(forces).astype(real) if forces else None
        # labels that only some frames have are nobody's
        self._atomic_energies = np.concatenate(atomic) if len(atomic) == len(frames) else None
        self._virial = np.concatenate(virial) if len(virial) == len(frames) else None
        self.shortest = float(exact.min()) if len(exact) else cutoff
        self._knot: npt.NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.n_atoms)

    def shortest_by_species(self, n: int) -> npt.NDArray[np.float64]:
        """Return the shortest distance of each pair of species, (n, n), Å; the cutoff without."""
        ends = self._pairs + np.repeat(self._atom_start, self.n_pairs)[:, None]
        kinds = self._species[ends]
        shortest = np.full((n, n), self._cutoff)
        np.minimum.at(shortest, (kinds[:, 0], kinds[:, 1]), self._exact)
        both: npt.NDArray[np.float64] = np.minimum(shortest, shortest.T)
        return both

    def place_on(self, knots: Knots | None) -> None:
        """Find each pair's place between the knots of a table; None: there is no table."""
        if knots is None:
            self._knot = None
            return
        scaled = (self._exact - knots.start) / knots.spacing
        self._knot = np.clip(scaled.astype(np.int32), 0, knots.n_knots - 2)
        self._place = (scaled - self._knot).astype(self._distance.dtype)
        self._spacing = knots.spacing

    def batch(self, frames: npt.ArrayLike, device: str = "cpu") -> Batch:
        """Return the graph of these frames."""
        rows = np.asarray(frames, np.int64)
        n_atoms, n_pairs = self.n_atoms[rows], self.n_pairs[rows]
        atom_start = np.concatenate(([0], np.cumsum(n_atoms)))
        pair_start = np.concatenate(([0], np.cumsum(n_pairs)))
        atoms = ragged(self._atom_start[rows], n_atoms)
        pairs = ragged(self._pair_start[rows], n_pairs)
        ends = self._pairs[pairs] + np.repeat(atom_start[:-1], n_pairs).astype(np.int32)[:, None]
        first, second = np.ascontiguousarray(ends[:, 0]), np.ascontiguousarray(ends[:, 1])
        tensor = torch.from_numpy

        def taken(labels: npt.NDArray[Any] | None, places: IntArray) -> torch.Tensor | None:
            return None if labels is None else tensor(labels[places]).to(device)

        unit = tensor(self._unit[pairs])
        tables = None
        if self._knot is not None:
            tables = PairTables(
                tensor(atom_start.astype(np.int32)),
                tensor(pair_start.astype(np.int32)),
                tensor(first),
                tensor(second),
                tensor(self._knot[pairs]),
                tensor(self._place[pairs]),
                self._spacing,
                unit,
            )
        return Batch(
            tensor(self._species[atoms]).to(device),
            tensor(np.repeat(np.arange(len(rows)), n_atoms)).to(device),
            atom_start,
            pair_start,
            tensor(first).to(device),
            tensor(second).to(device),
            tensor(self._distance[pairs]).to(device),
            unit.to(device),
            taken(self._energy, rows),
            taken(self._forces, atoms),
            taken(self._atomic_energies, atoms),
            taken(self._virial, rows),
            tables,
        )

    def batches(self, size: int, device: str = "cpu") -> Iterator[Batch]:
        """Yield all frames in order, in batches."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))), device)
