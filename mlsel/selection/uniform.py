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
u, in which the bins that are not in a tail find theirs. For the others the extremes tell most: a
frame whose least or greatest value is in a bin holds it, and only a frame whose extremes enclose
the bin, and whose u is smaller than that of the frames known to hold it, has to be read for it.
The result is the definition's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlsel.pool import FloatArray, IntArray
from mlsel.selection.base import Selector, Task, check_n, refuse
from mlsel.selection.properties import AtomicEnergy, ForceMagnitude, GlobalEnergy, Property

Values = tuple[IntArray, FloatArray]
"""Frame ids (F,) and their values (F, M)."""

SAMPLE = 8192
SAMPLE_BYTES = 64 * 2**20
"""How many frames' values are kept in the pass: at least, and at most."""
LOW_WATER = 4
"""A bin with fewer known frames left is filled when another one has to be."""


@dataclass(frozen=True)
class _Uniform(Selector):
    """Uniform in a property, see the module."""

    bins: int = 512

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= 2**16:
            raise refuse(f"bins is {self.bins}: it must be from 1 to {2**16}.")
        self.property()

    def property(self) -> Property:
        raise NotImplementedError

    def choose(self, task: Task) -> IntArray:
        prop = self.property()
        keys = task.keys()
        width = max(run.n_atoms for run in task.pool.runs)
        n_sample = min(max(SAMPLE, 8 * self.bins, 4 * task.n), SAMPLE_BYTES // (8 * width) + 1)
        limit = min(1.0, n_sample / int(task.eligible.sum()))
        low, high, sample = _scan(task, prop, keys, limit)
        usable = prop.check(task, low, high)
        check_n(
            task.n,
            int(usable.sum()),
            task.pool,
            task.pool.n_frames - int(task.eligible.sum()),
            f" with {prop.species}" if prop.species else "",
        )
        if not usable.all():
            low, high = np.where(usable, low, np.inf), np.where(usable, high, -np.inf)
        grid = Grid(float(low.min()), float(high.max()), self.bins)
        low[~usable] = high[~usable] = grid.low
        holders = _Holders(
            task, prop, grid, keys, usable, grid.index(low), grid.index(high), limit, sample
        )
        chosen: list[int] = []
        alive = np.ones(self.bins, dtype=bool)
        while len(chosen) < task.n:
            for k in spread_order(self.bins, task.rng).tolist():
                if not alive[k]:
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
    """Which frames hold a value in a bin, in the order of the keys, found out when asked.

    Attributes
    ----------
    lists : list of int arrays
        For each bin, the frames known to hold it, in the order of the keys.
    known_below : (K,)
        All holders with a smaller key than this are in the bin's list.
    """

    def __init__(
        self,
        task: Task,
        prop: Property,
        grid: Grid,
        keys: FloatArray,
        usable: npt.NDArray[np.bool_],
        first_bin: IntArray,
        last_bin: IntArray,
        limit: float,
        sample: list[Values],
    ) -> None:
        self._task, self._prop, self._grid, self._keys = task, prop, grid, keys
        self._usable, self._first_bin, self._last_bin = usable, first_bin, last_bin
        self._used = np.zeros(task.pool.n_frames, dtype=bool)
        self._next = np.zeros(grid.n, dtype=np.int64)
        self.known_below = np.full(grid.n, limit)
        self.lists = self._from_sample(sample, np.flatnonzero((keys < limit) & usable))
        occupied = max(1, sum(len(frames) > 0 for frames in self.lists))
        self._extend(2 * -(-task.n // occupied) + LOW_WATER)

    def take(self, k: int) -> int | None:
        """Return the first frame of bin k that is not taken, and take it; None if there is none."""
        while True:
            frames, place = self.lists[k], int(self._next[k])
            while place < len(frames):
                free = np.flatnonzero(~self._used[frames[place : place + 16]])
                if len(free):
                    frame = int(frames[place + free[0]])
                    self._next[k] = place + free[0] + 1
                    self._used[frame] = True
                    return frame
                place += 16
            self._next[k] = len(frames)
            if self.known_below[k] >= 1.0:
                return None
            self._extend(LOW_WATER)

    def _from_sample(self, sample: list[Values], frames: IntArray) -> list[IntArray]:
        """Return for each bin the frames of the sample that hold it."""
        frames = self._task.in_order(frames, self._keys)
        place = np.empty(self._task.pool.n_frames, dtype=np.int32)
        place[frames] = np.arange(len(frames))
        holds = np.zeros((self._grid.n, len(frames)), dtype=bool)
        for ids, values in _merged(sample):
            here = self._usable[ids]
            cells = self._grid.index(values[here])
            cells *= len(frames)
            cells += place[ids[here], None]
            holds.reshape(-1)[cells] = True
        if self._task.comm is not None and self._task.comm.size > 1:
            packed = np.bitwise_or.reduce(self._task.join(np.packbits(holds)[None]), axis=0)
            holds = np.unpackbits(packed, count=holds.size).view(bool).reshape(holds.shape)
        return [frames[row] for row in holds]

    def _extend(self, low_water: int) -> None:
        """Find more holders for the bins whose known ones are nearly used up."""
        left = np.array([len(frames) for frames in self.lists]) - self._next
        wanted = (self.known_below < 1.0) & (left < low_water)
        if not wanted.any():
            return
        known = np.where(wanted, self.known_below, np.inf)
        n_before = np.concatenate([[0], np.cumsum(wanted)]).astype(np.int32)
        encloses = n_before[1:][self._last_bin] > n_before[:-1][self._first_bin]
        encloses &= self._usable
        frames = np.flatnonzero(encloses)
        frames = frames[self._keys[frames] >= known.min()]
        first, last, keys = self._first_bin[frames], self._last_bin[frames], self._keys[frames]

        # Those whose extremes are in a bin hold it. A bin that has enough of them needs to be
        # known only up to the key of the last one needed.
        again = last > first
        bins = np.concatenate([first, last[again]])
        holders = np.concatenate([frames, frames[again]])
        bins, holders = self._accepted(bins, holders, known)
        starts = np.searchsorted(bins, np.arange(self._grid.n))
        enough = starts + low_water
        ends = np.searchsorted(bins, np.arange(self._grid.n), side="right")
        bound = np.where(wanted, 1.0, 0.0)
        has_enough = wanted & (enough < ends)
        bound[has_enough] = self._keys[holders[enough[has_enough]]]

        unsure = keys < _range_max(bound, first + 1, last)
        if unsure.sum() > max(8 * self._n_known(known), 4 * SAMPLE):
            # A gap in the middle of the range: nearly all frames enclose it.
            np.minimum(bound, 4.0 * known.min(), out=bound)
            unsure = keys < _range_max(bound, first + 1, last)
        more_bins, more_holders = self._pairs(frames[unsure], wanted)
        bins, holders = self._accepted(
            np.concatenate([bins, more_bins]), np.concatenate([holders, more_holders]), known, bound
        )
        starts = np.searchsorted(bins, np.arange(self._grid.n + 1))
        for k in np.flatnonzero(wanted & (starts[1:] > starts[:-1])):
            found = holders[starts[k] : starts[k + 1]]
            self.lists[k] = np.concatenate([self.lists[k], found])
        self.known_below[wanted] = np.maximum(bound, self.known_below)[wanted]

    def _n_known(self, known: FloatArray) -> int:
        return int(known.min() * len(self._keys))

    def _accepted(
        self,
        bins: IntArray,
        frames: IntArray,
        known: FloatArray,
        bound: FloatArray | float = np.inf,
    ) -> tuple[IntArray, IntArray]:
        """Return the pairs that a bin doesn't know yet and may know, once each, in order."""
        keys = self._keys[frames]
        limit = bound if isinstance(bound, float) else np.where(bound >= 1.0, np.inf, bound)[bins]
        good = (keys >= known[bins]) & (keys < limit)
        bins, frames, keys = bins[good], frames[good], keys[good]
        order = np.lexsort((frames, keys, bins))
        bins, frames = bins[order], frames[order]
        new = np.ones(len(bins), dtype=bool)
        new[1:] = (bins[1:] != bins[:-1]) | (frames[1:] != frames[:-1])
        return bins[new], frames[new]

    def _pairs(
        self, frame_ids: IntArray, wanted: npt.NDArray[np.bool_]
    ) -> tuple[IntArray, IntArray]:
        """Read frames and return every pair of a wanted bin and a frame that holds it."""
        bins = [np.empty(0, dtype=np.int64)]
        frames = [np.empty(0, dtype=np.int64)]
        for ids, values in _merged(self._read(frame_ids)):
            index = self._grid.index(values)
            row, column = np.nonzero(wanted[index])
            bins.append(index[row, column])
            frames.append(ids[row])
        return self._task.join(np.concatenate(bins)), self._task.join(np.concatenate(frames))

    def _read(self, frame_ids: IntArray) -> Iterator[Values]:
        for block, columns in self._prop.read(self._task, frame_ids):
            yield block.frame_ids, self._prop.values(block, columns)


def _merged(parts: Iterable[Values], n_values: int = 2**18) -> Iterator[Values]:
    """Put values of frames of the same size together, so that few arrays are worked on."""
    waiting: dict[int, list[Values]] = {}
    n_waiting: Counter[int] = Counter()
    for ids, values in parts:
        size = values.shape[1]
        waiting.setdefault(size, []).append((ids, values))
        n_waiting[size] += values.size
        if n_waiting[size] >= n_values:
            yield _together(waiting.pop(size))
            n_waiting[size] = 0
    for same in waiting.values():
        yield _together(same)


def _together(parts: list[Values]) -> Values:
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([held for _, held in parts])


def _range_max(values: FloatArray, start: IntArray, stop: IntArray) -> FloatArray:
    """Return the greatest of values[start:stop] for many stretches, 0 for an empty one.

    Examples
    --------
    >>> _range_max(np.array([3.0, 1.0, 2.0]), np.array([0, 1, 2]), np.array([2, 3, 2]))
    array([3., 2., 0.])
    """
    levels = [values]  # of level j: the greatest of 2^j values running
    while 2 ** len(levels) <= len(values):
        half = 2 ** (len(levels) - 1)
        levels.append(np.maximum(levels[-1][:-half], levels[-1][half:]))
    out = np.zeros(len(start))
    length = stop - start
    for j, level in enumerate(levels):
        at = np.flatnonzero((length >= 2**j) & (length < 2 ** (j + 1)))
        out[at] = np.maximum(level[start[at]], level[stop[at] - 2**j])
    return out
