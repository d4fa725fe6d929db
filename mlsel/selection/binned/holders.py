"""Which frames hold a value in a bin, in the order of their keys, found out when asked.

A frame's set of bins would be too much to find, and to keep, for all frames of a large pool. What
is known at first: the bins of the frames with the smallest keys (the sample), and the extremes of
all others. A frame whose least or greatest value is in a bin holds it; one whose extremes enclose
the bin may hold it, and is read when its key is smaller than those of the frames that are known to
hold the bin and will be asked for.

Every rank knows of its own frames; the lists of holders are the same on all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.selection.base import Task
from mlsel.selection.binned.properties import Property
from mlsel.selection.binned.scan import Scan, Values

Pairs = tuple[IntArray, IntArray]
"""Bins and frames that hold them, (P,) each."""

LOW_WATER = 4
"""A bin with fewer known frames left is filled when another one has to be."""
MANY = 4096
"""Frames that take as long to read as opening the runs of another rank."""
AT_ONCE = 2**15
"""As many frames may be read at once, or eight times those known if that is more."""


class Holders:
    """For each bin the frames that hold a value in it, each frame given once.

    Parameters
    ----------
    task, prop
    found : Scan
        Its values are those of all frames with a key below `limit`.
    keys : (n_frames,)
    limit : float

    Attributes
    ----------
    lists : list of int64 arrays
        For each bin, the frames known to hold it, in the order of the keys.
    known_below : (K,)
        All holders with a smaller key than this are in the bin's list.
    """

    def __init__(
        self, task: Task, prop: Property, found: Scan, keys: FloatArray, limit: float
    ) -> None:
        self._task, self._prop, self._grid, self._keys = task, prop, found.grid, keys
        self._ids, self._own_keys = found.frame_ids, keys[found.frame_ids]
        self._first_bin = found.grid.index(found.low)
        self._last_bin = found.grid.index(found.high)
        self._used = np.zeros(task.pool.n_frames, dtype=bool)
        self._next = np.zeros(found.grid.n, dtype=np.int64)
        self.known_below = np.full(found.grid.n, limit)
        self.lists = self._from_sample(found.values)
        occupied = max(1, sum(len(frames) > 0 for frames in self.lists))
        self._extend(2 * -(-task.n // occupied) + LOW_WATER)

    def take(self, k: int) -> int | None:
        """Return the first frame of bin k that is not taken, and take it; None if there is none."""
        while True:
            frames, place = self.lists[k], int(self._next[k])
            while place < len(frames):
                some = frames[place : place + 64]
                first = int(self._used[some].argmin())
                frame = int(some[first])
                if not self._used[frame]:
                    self._next[k] = place + first + 1
                    self._used[frame] = True
                    return frame
                place += 64
            self._next[k] = len(frames)
            if self.known_below[k] >= 1.0:
                return None
            self._extend(LOW_WATER)

    def _from_sample(self, values: list[Values]) -> list[IntArray]:
        """Return for each bin the frames of the sample that hold it."""
        own = np.concatenate([np.empty(0, dtype=np.int64), *(ids for ids, _ in values)])
        frames = self._task.in_order(self._task.join(own), self._keys)
        place = np.empty(self._task.pool.n_frames, dtype=np.int32)
        place[frames] = np.arange(len(frames))
        holds = np.zeros((self._grid.n, len(frames)), dtype=bool)
        for ids, of_frames in _merged(values):
            cells = self._grid.index(of_frames)
            cells *= len(frames)
            cells += place[ids, None]
            holds.reshape(-1)[cells] = True
        if self._task.comm is not None and self._task.comm.size > 1:
            packed = np.bitwise_or.reduce(self._task.join(np.packbits(holds)[None]), axis=0)
            holds = np.unpackbits(packed, count=holds.size).view(bool).reshape(holds.shape)
        return [frames[np.flatnonzero(row)] for row in holds]

    def _extend(self, low_water: int) -> None:
        """Find more holders for the bins whose known ones are nearly used up."""
        left = np.array([len(frames) for frames in self.lists]) - self._next
        wanted = (self.known_below < 1.0) & (left < low_water)
        if not wanted.any():
            return
        known = np.where(wanted, self.known_below, np.inf)
        n_before = np.concatenate([[0], np.cumsum(wanted)]).astype(np.int32)
        mine = np.flatnonzero(n_before[1:][self._last_bin] > n_before[:-1][self._first_bin])
        mine = mine[self._own_keys[mine] >= known.min()]
        frames, keys = self._ids[mine], self._own_keys[mine]
        first, last = self._first_bin[mine], self._last_bin[mine]

        again = last > first
        certain = np.concatenate([first, last[again]]), np.concatenate([frames, frames[again]])
        certain = self._accepted(certain, known)
        bound = np.where(wanted, self._key_that_is_enough(certain, low_water), 0.0)
        unsure = keys < _range_max(bound, first + 1, last)
        n_known = int(known.min() * self._task.pool.n_frames)
        n_unsure = self._task.every([int(unsure.sum())])
        if sum(n_unsure) > max(8 * n_known, AT_ONCE):
            # A gap in the middle of the range: nearly all frames enclose it.
            np.minimum(bound, 4.0 * known.min(), out=bound)
            unsure = keys < _range_max(bound, first + 1, last)
            n_unsure = self._task.every([int(unsure.sum())])
        asked = frames[unsure]
        if max(n_unsure) * len(n_unsure) > 2 * sum(n_unsure) + MANY:
            # One rank's runs have most of them: all read, though each then opens others' runs.
            asked = np.asarray(self._task.share(self._task.join(asked)))
        more = self._pairs(asked, wanted)
        bins, holders = self._accepted(_both(certain, more), known, bound)
        bins, holders = self._accepted((self._task.join(bins), self._task.join(holders)), known)
        starts = np.searchsorted(bins, np.arange(self._grid.n + 1))
        for k in np.flatnonzero(wanted & (starts[1:] > starts[:-1])):
            found = holders[starts[k] : starts[k + 1]]
            self.lists[k] = np.concatenate([self.lists[k], found])
        self.known_below[wanted] = np.maximum(bound, self.known_below)[wanted]

    def _key_that_is_enough(self, certain: Pairs, low_water: int) -> FloatArray:
        """Return up to which key a bin must be known to have enough holders; 1 if it hasn't, (K,).

        Parameters
        ----------
        certain : Pairs
            This rank's, sorted by bin and key.
        """
        bins, frames = certain
        starts = np.searchsorted(bins, np.arange(self._grid.n))
        few = np.arange(len(bins)) - starts[bins] <= low_water
        bins, frames = self._task.join(bins[few]), self._task.join(frames[few])
        order = np.lexsort((self._keys[frames], bins))
        bins, keys = bins[order], self._keys[frames[order]]
        starts = np.searchsorted(bins, np.arange(self._grid.n))
        ends = np.searchsorted(bins, np.arange(self._grid.n), side="right")
        bound = np.ones(self._grid.n)
        enough = starts + low_water < ends
        bound[enough] = keys[starts[enough] + low_water]
        return bound

    def _accepted(
        self, pairs: Pairs, known: FloatArray, bound: FloatArray | float = np.inf
    ) -> Pairs:
        """Return the pairs that a bin doesn't know yet and may know, once each, in order."""
        bins, frames = pairs
        keys = self._keys[frames]
        limit = bound if isinstance(bound, float) else np.where(bound >= 1.0, np.inf, bound)[bins]
        good = (keys >= known[bins]) & (keys < limit)
        bins, frames, keys = bins[good], frames[good], keys[good]
        order = np.lexsort((frames, keys, bins))
        bins, frames = bins[order], frames[order]
        new = np.ones(len(bins), dtype=bool)
        new[1:] = (bins[1:] != bins[:-1]) | (frames[1:] != frames[:-1])
        return bins[new], frames[new]

    def _pairs(self, frame_ids: IntArray, wanted: npt.NDArray[np.bool_]) -> Pairs:
        """Read some frames; return every pair of a wanted bin and a holder."""
        bins = [np.empty(0, dtype=np.int64)]
        frames = [np.empty(0, dtype=np.int64)]
        read = self._prop.read(self._task, frame_ids)
        values = ((block.frame_ids, self._prop.values(block, columns)) for block, columns in read)
        for ids, of_frames in _merged(values):
            index = self._grid.index(of_frames)
            row, column = np.nonzero(wanted[index])
            bins.append(index[row, column])
            frames.append(ids[row])
        return np.concatenate(bins), np.concatenate(frames)


def _both(some: Pairs, others: Pairs) -> Pairs:
    return np.concatenate([some[0], others[0]]), np.concatenate([some[1], others[1]])


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
