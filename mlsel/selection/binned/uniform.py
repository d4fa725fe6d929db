"""Selection uniform in a property (sections 2.2 to 2.4 of the paper).

The algorithm
-------------
A frame f has the values x_f1 … x_fM: its energy per atom (M = 1), or ε_i, or |F_i|, of its M atoms
(those of one species, if one is asked for). Over all eligible frames they go from a to b, outliers
left out: with q < Q the quartiles of the frames' least values, a is at least q − 10 (Q − q), and
with those of the greatest values b at most Q + 10 (Q − q) (of every k-th frame, where there are
more than 65,536).

    bin(x)  = ⌊K (x − a) / (b − a)⌋, from 0 to K − 1  K equal bins, outliers in the first and last;
                                                      0 if a = b
    B_k     = { f : bin(x_fi) = k for some i }        the frames that hold a value in bin k
    u_f     ~ U(0, 1), independent                    a random order of the frames
    repeat until n frames are chosen:                 a round
        for k in a random order of the bins in which every prefix is spread over [a, b]:
            choose the first frame in B_k, in the order of u, that is not chosen yet, if any

Where a data set is given, each of its frames counts as chosen for one of the bins that it holds
(the one with the fewest so far, of several the lowest): a bin with c of them waits for c rounds.

So each bin that has frames left gives one frame a round, and that frame is a fair draw from those
of the bin: the property for which frames are chosen is uniform over the occupied part of its range,
to a bin's width. For the atomic properties a frame is chosen for one atom, and its other M − 1
values come with it. The order of the bins is a van der Corput sequence with a random digital
shift, anew each round: 2^m choices running fall in 2^m different parts of the range.

Limits
------
A bin with c frames gives at most c: where the pool's tail is thin all its frames are taken and the
rest of the set comes from the bins that have more, in equal parts. Within a bin frames are as dense
as in the pool. With one value for all (a = b) the choice is random.

How it is computed
------------------
Not by the definition, which would need every frame's set of bins. One pass over the pool keeps two
numbers a frame, its extremes, which also show a NaN; and the values of the frames with the smallest
u, in which the bins that are not in a tail find theirs. What they don't tell `mlsel.selection.
holders` finds out when it is needed. The result is the definition's.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from mlsel.core.arrays import IntArray
from mlsel.pool.layout import PAIR_ENERGIES
from mlsel.selection.base import Selector, Task, refuse
from mlsel.selection.binned.holders import Holders
from mlsel.selection.binned.properties import (
    AtomicEnergy,
    ForceMagnitude,
    GlobalEnergy,
    PairEnergy,
    Property,
)
from mlsel.selection.binned.scan import Grid, scan

SAMPLE = 8192
SAMPLE_BYTES = 64 * 2**20
"""How many frames' values are kept in the pass: at least, and at most."""


@dataclass(frozen=True)
class _Uniform(Selector):
    """Uniform in a property, see the module."""

    bins: int = 512

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= 2**16:
            raise refuse(f"bins is {self.bins}: it must be from 1 to {2**16}.")
        self.property()

    @abstractmethod
    def property(self) -> Property:
        """Return what the frames are chosen by."""

    def choose(self, task: Task) -> IntArray:
        prop = self.property()
        prop.prepare(task)
        keys = task.keys()
        width = max(run.n_atoms for run in task.pool.runs)
        n_sample = min(max(SAMPLE, 8 * self.bins, 4 * task.n), SAMPLE_BYTES // (8 * width) + 1)
        limit = min(1.0, n_sample / int(task.eligible.sum()))
        found = scan(task, prop, self.bins, keep=(keys < limit) & task.eligible)
        holders = Holders(task, prop, found, keys, limit)
        chosen: list[int] = []
        alive = np.ones(self.bins, dtype=bool)
        waits = _served(task.given, prop, found.grid)
        for number in itertools.count():
            if len(chosen) == task.n:
                break
            for k in spread_order(self.bins, task.rng).tolist():
                if not alive[k] or waits[k] > number:
                    continue
                frame = holders.take(k)
                if frame is None:
                    alive[k] = False
                    continue
                chosen.append(frame)
                if len(chosen) == task.n:
                    break
        return np.array(chosen, dtype=np.int64)


@dataclass(frozen=True)
class UniformGlobalEnergy(_Uniform):
    """Uniform in the energy per atom, less the elements' where compositions differ."""

    name = "global-energy"
    summary = "uniform in the total energy (per atom, less the elements' energies)"
    fields = ("energy",)

    def property(self) -> Property:
        return GlobalEnergy()


@dataclass(frozen=True)
class UniformAtomicEnergy(_Uniform):
    """Uniform in the atoms' energies."""

    species: str = ""

    name = "atomic-energy"
    summary = "uniform in the atomic energies"
    fields = ("atomic_energies",)

    def property(self) -> Property:
        return AtomicEnergy(self.species)


@dataclass(frozen=True)
class UniformPairEnergy(_Uniform):
    """Uniform in the atoms' short-range energies: Eq. 2 of the paper as it is printed.

    The equation sums the pair potential to its cutoff, which for ions leaves the charges out: they
    reach farther, and what a sum of q_i q_j / r to a cutoff gives depends on the cutoff. (It has no
    factor ½; the frames chosen are the same.) The method `atomic-energy` is uniform in what
    LAMMPS's `compute pe/atom` says, the charges' part by Ewald's sum in it.
    """

    species: str = ""

    name = "pair-energy"
    summary = "uniform in the atoms' short-range pair energies (Eq. 2 of the paper)"
    fields = (PAIR_ENERGIES,)
    remedy = "set pool.pair_energies = true and make the pool with `mlsel generate`"

    def property(self) -> Property:
        return PairEnergy(self.species)


@dataclass(frozen=True)
class UniformForce(_Uniform):
    """Uniform in the magnitude of the net force on an atom."""

    species: str = ""

    name = "force"
    summary = "uniform in the magnitude of the atoms' forces"
    fields = ("forces",)

    def property(self) -> Property:
        return ForceMagnitude(self.species)


def _served(given: Task | None, prop: Property, grid: Grid) -> IntArray:
    """Return for how many frames of a data set each bin counts as having given one, (K,)."""
    served = np.zeros(grid.n, dtype=np.int64)
    if given is None:
        return served
    of_given = prop.of(given.pool)
    held: dict[int, IntArray] = {}
    for block, columns in of_given.read(given, given.frame_ids):
        for frame, bins in zip(
            block.frame_ids.tolist(), grid.index(of_given.values(block, columns)), strict=True
        ):
            held[frame] = np.unique(bins)
    for frame in sorted(held):
        if len(held[frame]):
            served[held[frame][np.argmin(served[held[frame]])]] += 1
    return served


def spread_order(n: int, rng: np.random.Generator) -> IntArray:
    """Return 0 … n − 1 in a random order whose every stretch is spread over the range.

    The van der Corput sequence in base 2 with a random digital shift.

    Examples
    --------
    >>> order = spread_order(8, np.random.default_rng(1))
    >>> sorted(order.tolist()), sorted(k // 2 for k in order[:4].tolist())
    ([0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3])
    """
    n_bits = max(1, (n - 1).bit_length())
    counter = np.arange(2**n_bits)
    mirrored = np.zeros_like(counter)
    for bit in range(n_bits):
        mirrored |= ((counter >> bit) & 1) << (n_bits - 1 - bit)
    order: IntArray = mirrored ^ rng.integers(2**n_bits)
    return order[order < n]
