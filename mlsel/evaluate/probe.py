"""The two-ion probe: what a model says when two atoms are pushed together, without MD.

In frames of the test set one pair of each two species is moved along its line, both atoms by as
much, from about the first peak of their distances to half the shortest distance that the test set
holds. A potential that can be run gives an energy that only rises inwards; one that has a hole
there lets atoms fall into it sooner or later, however small its force errors are.

What is probed of a study, and kept, stands in `mlsel.evaluate.probes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.errors import MlselError
from mlsel.core.neighbours import NeighborList

if TYPE_CHECKING:
    from mlsel.pool.pool import Pool

N_FRAMES = 8
N_DISTANCES = 48
NEAR = 6.0
"""Å: pairs farther apart than this are no neighbours."""
Energies = Callable[[IntArray, FloatArray, FloatArray, tuple[bool, bool, bool]], FloatArray]
"""Numbers (N,), positions (F, N, 3) Å, cells (F, 3, 3) Å, periodic to energies (F,) eV."""


@dataclass(frozen=True)
class Approach:
    """Two atoms of a frame, moved together along their line.

    Attributes
    ----------
    pair : two symbols, joined
    shortest : Å, the shortest distance of such a pair in the test set
    distances : (D,), Å, falling
    positions : (D, N, 3), Å
    """

    pair: str
    shortest: float
    numbers: IntArray
    periodic: tuple[bool, bool, bool]
    cell: FloatArray
    distances: FloatArray
    positions: FloatArray

    def energy(self, energies: Energies) -> FloatArray:
        """Return the energy at each distance above that at the first, (D,), eV."""
        cells = np.repeat(self.cell[None], len(self.distances), axis=0)
        found: FloatArray = energies(self.numbers, self.positions, cells, self.periodic)
        found -= found[0]
        return found


@dataclass(frozen=True)
class Probe:
    """What the approaches of one pair of species came to, for one model.

    Attributes
    ----------
    barrier : eV, the least over the frames: how high the energy rises before it falls where it is
        nearer than the shortest distance
    hole : eV, the most over the frames: how deep it falls there; 0 if it never does
    error : eV, root mean square of energies against the reference's down to the shortest distance,
        NaN without a reference
    """

    pair: str
    shortest: float
    barrier: float
    hole: float
    error: float


def approaches(pool: Pool) -> list[Approach]:
    """Return the approaches of all pairs of species in some frames of a test set.

    Raises
    ------
    MlselError
        If no two atoms of the pool are neighbours.
    """
    from ase.data import chemical_symbols

    frames = np.unique(np.linspace(0, pool.n_frames - 1, N_FRAMES).astype(np.int64))
    shortest = _shortest(pool)
    made = []
    for block in pool.blocks("positions", "cell", frame_ids=frames):
        numbers, periodic = pool.numbers(block.run), pool.periodic(block.run)
        for positions, cell in zip(block["positions"], block["cell"], strict=True):
            first, second, distance, vector = _neighbours(positions, cell, periodic)
            for a, b in combinations_with_replacement(sorted(set(numbers.tolist())), 2):
                if (a, b) not in shortest:
                    continue
                kinds = np.sort(np.stack([numbers[first], numbers[second]]), axis=0)
                own = np.flatnonzero((kinds[0] == a) & (kinds[1] == b) & (first != second))
                if not len(own):
                    continue
                # Each atom's nearest of the other kind make the first peak; its median is at it.
                peak = np.median(distance[own[np.argsort(distance[own])[: max(1, len(own) // 8)]]])
                pick = own[np.argmin(np.abs(distance[own] - peak))]
                distances = np.geomspace(distance[pick], 0.5 * shortest[a, b], N_DISTANCES)
                shift = 0.5 * (distance[pick] - distances)[:, None] * vector[pick]
                shift /= distance[pick]
                moved = np.repeat(positions[None], len(distances), axis=0)
                moved[:, first[pick]] += shift
                moved[:, second[pick]] -= shift
                pair = f"{chemical_symbols[a]}-{chemical_symbols[b]}"
                made.append(
                    Approach(pair, shortest[a, b], numbers, periodic, cell, distances, moved)
                )
    if not made:
        raise MlselError(f"no two atoms of {pool.path} are within {NEAR:g} Å: nothing to probe.")
    return made


def judge(approach: Sequence[Approach], energies: Energies, reference: Energies | None) -> Probe:
    """Return what a model says of the approaches of one pair of species."""
    barriers, holes, squares = [], [], [np.empty(0)]
    for one in approach:
        energy = one.energy(energies)
        barrier, hole = barrier_and_hole(energy, one.distances < one.shortest)
        barriers.append(barrier)
        holes.append(hole)
        if reference is not None:
            known = one.distances >= one.shortest
            squares.append(np.square(energy - one.energy(reference))[known])
    each = np.concatenate(squares)
    error = float(np.sqrt(each.mean())) if len(each) else float("nan")
    first = approach[0]
    return Probe(first.pair, first.shortest, min(barriers), max(holes), error)


def barrier_and_hole(energy: FloatArray, inside: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return how high an energy rises before it falls, and the deepest fall, within `inside`.

    Outside, where the data are, an energy may go up and down. A NaN is the deepest hole there is.

    Examples
    --------
    >>> inside = np.array([False, False, False, True, True, True])
    >>> barrier_and_hole(np.array([0.0, 0.2, 0.7, 0.1, -2.0, 9.0]), inside)
    (0.7, 2.7)
    >>> barrier_and_hole(np.array([0.0, -0.1, 0.1, 0.4, 2.0, 5.0]), inside)
    (5.0, 0.0)
    """
    if not np.isfinite(energy).all():
        return 0.0, float("inf")
    top = np.maximum.accumulate(energy)
    fall = np.where(inside, top - energy, 0.0)
    first = int(np.argmax(fall > 0)) if (fall > 0).any() else len(energy) - 1
    return float(top[first]), float(fall.max())


def _neighbours(
    positions: FloatArray, cell: FloatArray, periodic: tuple[bool, bool, bool]
) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    found = NeighborList(cutoff=NEAR, full_list=False, sorted=True)
    first, second, distance, vector = found.compute(positions, cell, periodic, "ijdD")
    return first.astype(np.int64), second.astype(np.int64), distance, vector


def _shortest(pool: Pool) -> dict[tuple[int, int], float]:
    """Return the shortest distance of each pair of elements, Å, over some hundred frames."""
    frames = np.unique(np.linspace(0, pool.n_frames - 1, 256).astype(np.int64))
    found: dict[tuple[int, int], float] = {}
    for block in pool.blocks("positions", "cell", frame_ids=frames):
        numbers, periodic = pool.numbers(block.run), pool.periodic(block.run)
        for positions, cell in zip(block["positions"], block["cell"], strict=True):
            first, second, distance, _ = _neighbours(positions, cell, periodic)
            kinds = np.sort(np.stack([numbers[first], numbers[second]]), axis=0)
            for a, b in {(int(a), int(b)) for a, b in kinds.T}:
                own = distance[(kinds[0] == a) & (kinds[1] == b)].min()
                found[a, b] = min(found.get((a, b), np.inf), float(own))
    return found
