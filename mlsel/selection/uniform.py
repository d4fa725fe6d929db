"""Selection uniform in a property (sections 2.2 to 2.4 of the paper).

The algorithm
-------------
A frame f has the values x_f1 … x_fM: its energy per atom (M = 1), or ε_i, or |F_i|, of its M atoms
(those of one species, if one is asked for). Over all eligible frames they go from a to b.

    bin(x)  = min(K − 1, ⌊K (x − a) / (b − a)⌋)       K equal bins; 0 if a = b
    B_k     = { f : bin(x_fi) = k for some i }        the frames that hold a value in bin k
    u_f     ~ U(0, 1), independent                    a random order of the frames
    repeat until n frames are chosen:                 a round
        for k in a random order of the bins in which every prefix is spread over [a, b]:
            choose the first frame in B_k, in the order of u, that is not chosen yet, if any

So each bin that has frames left gives one frame a round, and that frame is a fair draw from those
of the bin: the property for which frames are chosen is uniform over the occupied part of its range,
to a bin's width. For the atomic properties a frame is chosen for one atom, and its other M − 1
values come with it. The order of the bins is a van der Corput sequence with a random digital
shift, anew each round: 2^m choices running fall in 2^m different parts of the range.

Limits
------
A bin with c frames gives at most c: where the pool's tail is thin all its frames are taken and the
rest of the set comes from the bins that have more, in equal parts. One outlier stretches the range:
with K bins the rest may share few of them (raise `bins`). Within a bin frames are as dense as in
the pool. With one value for all (a = b) the choice is random.

How it is computed
------------------
Not by the definition, which would need every frame's set of bins. One pass over the pool keeps two
numbers a frame, its extremes, which also show a NaN; and the values of the frames with the smallest
u, in which nearly all bins that are not in a tail find theirs. Only for a bin that finds none there
are further frames read, and of those only the ones whose extremes enclose the bin. The result is
the definition's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlsel.pool import FloatArray, IntArray
from mlsel.selection.base import Selector, Task, check_n, refuse
from mlsel.selection.properties import AtomicEnergy, ForceMagnitude, GlobalEnergy, Property

Values = tuple[IntArray, FloatArray]
"""Frame ids (F,) and their values (F, M)."""

SAMPLE_BYTES = 64 * 2**20
LOW_WATER = 4
"""A bin with fewer known frames left is filled when another one has to be."""


@dataclass(frozen=True)
class _Uniform(Selector):
    """Uniform in a property, see the module."""

    bins: int = 512

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= 2**20:
            raise refuse(f"bins is {self.bins}: it must be from 1 to {2**20}.")
        self.property()

    def property(self) -> Property:
        raise NotImplementedError

    def choose(self, task: Task) -> IntArray:
        prop = self.property()
        keys = task.keys()
        width = max(run.n_atoms for run in task.pool.runs)
        n_sample = min(max(8192, 8 * self.bins, 4 * task.n), SAMPLE_BYTES // (8 * width) + 1)
        limit = min(1.0, n_sample / int(task.eligible.sum()))
        low, high, sample = _scan(task, prop, keys, limit)
        usable = prop.check(task, low, high)
        n_usable = int(usable.sum())
        check_n(
            task.n,
            n_usable,
            task.pool,
            task.pool.n_frames - int(task.eligible.sum()),
            f" with {prop.species}" if prop.species else "",
        )
        grid = Grid(float(low[usable].min()), float(high[usable].max()), self.bins)
        holders = _Holders(task, prop, grid, keys, usable, (low, high), limit, sample)
        chosen: list[int] = []
        alive = np.ones(self.bins, dtype=bool)
        while len(chosen) < task.n:
            for k in spread_order(self.bins, task.rng):
                if alive[k]:
                    frame = holders.take(int(k))
                    if frame is None:
                        alive[k] = False
                        continue
                    chosen.append(frame)
                    if len(chosen) == task.n:
                        break
        return np.array(chosen, dtype=np.int64)


@dataclass(frozen=True)
class UniformGlobalEnergy(_Uniform):
    """Uniform in the energy per atom."""

    name = "global-energy"
    summary = "uniform in the total energy (per atom)"
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
class UniformForce(_Uniform):
    """Uniform in the magnitude of the net force on an atom."""

    species: str = ""

    name = "force"
    summary = "uniform in the magnitude of the atoms' forces"
    fields = ("forces",)

    def property(self) -> Property:
        return ForceMagnitude(self.species)


@dataclass(frozen=True)
class Grid:
    """K equal bins from low to high.

    Examples
    --------
    >>> Grid(0.0, 1.0, 4).index(np.array([0.0, 0.24, 0.25, 1.0])).tolist()
    [0, 0, 1, 3]
    """

    low: float
    high: float
    n: int

    def index(self, values: FloatArray) -> IntArray:
        """Return the bin of each value within the range (monotone in the value)."""
        width = self.high - self.low
        if width == 0.0 or not np.isfinite(width):
            return np.zeros(values.shape, dtype=np.int64)
        scaled = values - self.low
        scaled /= width
        scaled *= self.n
        return np.minimum(scaled.astype(np.int64), self.n - 1)


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


def _scan(
    task: Task, prop: Property, keys: FloatArray, limit: float
) -> tuple[FloatArray, FloatArray, list[Values]]:
    """Read the property once: each frame's extremes, and this rank's frames with a small key."""
    ids: list[IntArray] = []
    lows: list[FloatArray] = []
    highs: list[FloatArray] = []
    sample: list[Values] = []
    small = (keys < limit) & task.eligible
    with np.errstate(over="ignore", invalid="ignore"):  # told by the frame's number, later
        for block, columns in prop.read(task):
            low, high = prop.extremes(block, columns)
            ids.append(block.frame_ids)
            lows.append(low)
            highs.append(high)
            rows = np.flatnonzero(small[block.frame_ids])
            if len(rows):
                sample.append((block.frame_ids[rows], prop.values(block.at(rows), columns)))
    here = np.concatenate([np.empty(0, dtype=np.int64), *ids])
    low = task.per_frame(here, np.concatenate([np.empty(0), *lows]))
    high = task.per_frame(here, np.concatenate([np.empty(0), *highs]))
    return low, high, sample


class _Holders:
    """Which frames hold a value in a bin, in the order of the keys, found out when asked."""

    def __init__(
        self,
        task: Task,
        prop: Property,
        grid: Grid,
        keys: FloatArray,
        usable: npt.NDArray[np.bool_],
        extremes: tuple[FloatArray, FloatArray],
        limit: float,
        sample: list[Values],
    ) -> None:
        self._task, self._prop, self._grid, self._keys = task, prop, grid, keys
        self._usable = usable
        self._used = np.zeros(task.pool.n_frames, dtype=bool)
        low, high = (np.where(usable, x, grid.low) for x in extremes)
        self._first_bin, self._last_bin = grid.index(low), grid.index(high)
        self._known_below = np.full(grid.n, limit)
        self._next = np.zeros(grid.n, dtype=np.int64)
        self._lists = self._from_sample(sample, np.flatnonzero((keys < limit) & usable))
        occupied = max(1, sum(len(frames) > 0 for frames in self._lists))
        self._extend(limit, 2 * -(-task.n // occupied) + LOW_WATER)

    def take(self, k: int) -> int | None:
        """Return the first frame of bin k that is not taken, and take it; None if there is none."""
        while True:
            frames = self._lists[k]
            place = self._next[k]
            free = np.flatnonzero(~self._used[frames[place : place + 16]])
            if len(free):
                place += free[0]
                self._next[k] = place + 1
                self._used[frames[place]] = True
                return int(frames[place])
            if place + 16 < len(frames):
                self._next[k] = place + 16
                continue
            self._next[k] = len(frames)
            if self._known_below[k] >= 1.0:
                return None
            self._extend(self._known_below[k], LOW_WATER)

    def _from_sample(self, sample: list[Values], frames: IntArray) -> list[IntArray]:
        """Return for each bin the frames of the sample that hold it."""
        frames = self._task.in_order(frames, self._keys)
        place = np.empty(self._task.pool.n_frames, dtype=np.int64)
        place[frames] = np.arange(len(frames))
        holds = np.zeros((self._grid.n, len(frames)), dtype=bool)
        for ids, values in sample:
            here = self._usable[ids]
            holds[self._grid.index(values[here]), place[ids[here], None]] = True
        if self._task.comm is not None and self._task.comm.size > 1:
            packed = np.packbits(holds)
            every = self._task.join(packed[None])
            packed = np.bitwise_or.reduce(every, axis=0)
            holds = np.unpackbits(packed, count=holds.size).view(bool).reshape(holds.shape)
        return [frames[row] for row in holds]

    def _extend(self, limit: float, low_water: int) -> None:
        """Find more frames for the bins that are known up to `limit` and nearly used up."""
        left = np.array([len(frames) for frames in self._lists]) - self._next
        wanted = (self._known_below == limit) & (left < low_water)
        if limit >= 1.0 or not wanted.any():
            return
        before = np.concatenate([[0], np.cumsum(wanted)])
        encloses = before[self._last_bin + 1] > before[self._first_bin]
        found = np.flatnonzero(encloses & self._usable & (self._keys >= limit))
        new_limit = 1.0
        n_known = limit * len(self._keys)
        if len(found) > 8 * n_known:
            new_limit = min(1.0, 4.0 * limit)
            found = found[self._keys[found] < new_limit]
        bins, frames = self._pairs(found, wanted)
        order = np.lexsort((frames, self._keys[frames], bins))
        bins, frames = bins[order], frames[order]
        ends = np.searchsorted(bins, np.flatnonzero(wanted), side="right")
        start = 0
        for k, end in zip(np.flatnonzero(wanted), ends, strict=True):
            if end > start:
                self._lists[k] = np.concatenate([self._lists[k], frames[start:end]])
            start = end
        self._known_below[wanted] = new_limit

    def _pairs(
        self, frame_ids: IntArray, wanted: npt.NDArray[np.bool_]
    ) -> tuple[IntArray, IntArray]:
        """Return every pair of a wanted bin and a frame, of those given, that holds it."""
        bins: list[IntArray] = [np.empty(0, dtype=np.int64)]
        frames: list[IntArray] = [np.empty(0, dtype=np.int64)]
        for ids, values in self._read(frame_ids):
            index = self._grid.index(values)
            row, column = np.nonzero(wanted[index])
            pair = np.unique(row * self._grid.n + index[row, column])
            bins.append(pair % self._grid.n)
            frames.append(ids[pair // self._grid.n])
        return self._task.join(np.concatenate(bins)), self._task.join(np.concatenate(frames))

    def _read(self, frame_ids: IntArray) -> Iterable[Values]:
        return _read(self._task, self._prop, frame_ids)


def _read(task: Task, prop: Property, frame_ids: IntArray) -> Iterator[Values]:
    for block, columns in prop.read(task, frame_ids):
        yield block.frame_ids, prop.values(block, columns)
