"""Greedy gain of information entropy over atomic environments.

References
----------
Schwalbe-Koda, Hamel, Sadigh, Zhou, Lordi, Nat. Commun. 16, 4014 (2025) (QUESTS).
Minoux, in Optimization Techniques, Springer (1978), for lazy evaluation.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core import native
from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.selection.base import Selector, Task, refuse
from mlsel.selection.descriptors.features import Floats, atom_features, user_array
from mlsel.selection.methods.entropy_bounds import Bounds

SOURCE = Path(__file__).with_name("entropy.cpp")
BATCH = 64
"""Frames, of which more are looked at together the more often a choice asks again."""
MAX_BYTES = 2**30


@dataclass(frozen=True)
class OfEnvironments(Selector):
    """What methods that compare all environments are asked for.

    Parameters
    ----------
    descriptor : str or array
        See `mlsel.selection.descriptors.features`; an array has the shape (n_frames, n_atoms, D).
    cutoff : float
        Å, of the descriptor.
    bandwidth : float
        h, in the descriptor's unit; 0 takes a tenth of the root mean square distance of the
        environments from their mean.
    candidates : int
        Choose among so many frames, drawn at random; 0: among all. Environments of all candidates
        are held in memory.
    """

    descriptor: str | Array = "radial"
    cutoff: float = 6.0
    bandwidth: float = 0.0
    candidates: int = 0

    fields = ("positions",)

    def __post_init__(self) -> None:
        if self.bandwidth < 0 or not np.isfinite(self.bandwidth):
            raise refuse(f"bandwidth is {self.bandwidth:g}: it must be above 0, or 0 to find one.")
        if self.candidates < 0:
            raise refuse(f"candidates is {self.candidates}: it must be at least 0 (0: all).")


@dataclass(frozen=True)
class Entropy(OfEnvironments):
    """Each new frame is the one whose environments are the most surprising to those chosen.

    With the environments x_j of the atoms in the frames chosen so far, the gain of a frame with
    the environments y_1 … y_N is the mean of its differential entropies,

        δH = (1 / N) Σ_i − ln Σ_j exp(− |y_i − x_j|² / (2 h²)),

    and the first frame, where none is given, is the one with the greatest entropy of its own,
    − (1 / N) Σ_i ln (1 / N) Σ_j exp(− |y_i − y_j|² / (2 h²)); of several the one with the smallest
    random number. Sums are kept as logarithms, so no bandwidth is too small. A gain can only fall
    as frames are added: one that was computed earlier is an upper bound, and only the frames whose
    bound reaches the best are computed again: bounds by
    `mlsel.selection.methods.entropy_bounds`, and exactly where these don't tell.

    Its parameters are those of `OfEnvironments`.
    """

    name = "entropy"
    summary = "each frame the one that adds most information entropy over environments"

    def choose(self, task: Task) -> IntArray:
        return by_environments(self, task)


def by_environments(asked: OfEnvironments, task: Task, *, cover: bool = False) -> IntArray:
    """Return the frames that `greedy_entropy` chooses among the candidates."""
    keys = task.keys()
    n_eligible = int(task.eligible.sum())
    n_candidates = min(asked.candidates or n_eligible, n_eligible)
    if n_candidates < task.n:
        raise refuse(
            f"Asked for {task.n} frames of candidates={asked.candidates}: candidates must be at "
            f"least {task.n}, or 0 for all."
        )
    frames = np.sort(task.first(keys, n_candidates))
    n_values = n_candidates * max(run.n_atoms for run in task.pool.runs)
    computed = user_array(task.pool, asked.descriptor) is None
    if computed and n_values * 4 * 32 > 4 * MAX_BYTES:
        raise refuse(
            f"The environments of {n_candidates} candidates don't fit in "
            f"{4 * MAX_BYTES >> 30} GiB: set candidates to at most "
            f"{n_candidates * 4 * MAX_BYTES // (n_values * 128)}."
        )
    environments = atom_features(task, asked.descriptor, asked.cutoff, frames)
    given: list[Floats] = []
    if task.given is not None:
        own = task.given.frame_ids
        given = atom_features(task.given, asked.descriptor, asked.cutoff, own)
    order = greedy_entropy(
        environments, task.n, asked.bandwidth, keys[frames], task, given, cover=cover
    )
    return frames[order]


def bandwidth_of(environments: Sequence[Floats]) -> float:
    """Return a tenth of the root mean square distance of environments from their mean."""
    n = sum(map(len, environments))
    mean = sum(frame.sum(axis=0, dtype=np.float64) for frame in environments) / n
    squares = sum(float(np.square(frame - mean).sum()) for frame in environments)
    return float(0.1 * np.sqrt(squares / n)) or 1.0


def log_kernel_sums(points: Floats, others: Floats, bandwidth: float) -> FloatArray:
    """Return ln Σ_j exp(−|y_i − x_j|² / (2 h²)) for each point y_i, stable at any bandwidth.

    Examples
    --------
    >>> log_kernel_sums(np.array([[0.0]]), np.array([[3.0]]), 0.01).round(6).tolist()
    [-45000.0]
    """
    scale = 1.0 / (bandwidth * np.sqrt(2.0))
    library = _library()
    if library is None:
        return _log_sums(points, others, scale)
    y, x = (np.ascontiguousarray(array, dtype=np.float64) for array in (points, others))
    sums = np.empty(len(y))
    sizes = map(ctypes.c_int64, (len(y), *x.shape))
    pointers = (ctypes.c_void_p(array.ctypes.data) for array in (y, x))
    status = library.log_sums(
        *sizes, *pointers, ctypes.c_double(scale), ctypes.c_void_p(sums.ctypes.data)
    )
    native.check_memory(status, "the entropy of so many points")
    return sums


def own_means(frames: Sequence[Floats], bandwidth: float) -> FloatArray:
    """Return, for each frame, the mean over its points of their `log_kernel_sums` over its points.

    Examples
    --------
    >>> own_means([np.zeros((2, 1)), np.array([[0.0], [9.0], [18.0]])], 0.01).round(6).tolist()
    [0.693147, 0.0]
    """
    library = _library()
    if library is None:
        return np.array([log_kernel_sums(frame, frame, bandwidth).mean() for frame in frames])
    points = np.concatenate(frames).astype(np.float64, copy=False)
    starts = np.concatenate([[0], np.cumsum([len(frame) for frame in frames])]).astype(np.int64)
    sums = np.empty(len(points))
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (starts, points, sums)]
    status = library.own_log_sums(
        ctypes.c_int64(len(frames)), pointers[0], ctypes.c_int64(points.shape[1]), pointers[1],
        ctypes.c_double(1.0 / (bandwidth * np.sqrt(2.0))), pointers[2],
    )  # fmt: skip
    native.check_memory(status, "the entropy of so many points")
    means: FloatArray = np.add.reduceat(sums, starts[:-1]) / np.diff(starts)
    return means


@functools.cache
def _library() -> Any | None:
    return native.load("entropy", [SOURCE], ("-ffast-math",), "it is twice as slow")


def _log_sums(points: Floats, others: Floats, scale: float) -> FloatArray:
    """Do what entropy.cpp does."""
    origin = others.mean(axis=0, dtype=np.float64)  # near it less is lost to rounding
    y, x = (points - origin) * scale, (others - origin) * scale
    exponent = y @ x.T
    exponent *= 2.0
    exponent -= (y * y).sum(axis=1)[:, None]
    exponent -= (x * x).sum(axis=1)
    np.minimum(exponent, 0.0, out=exponent)  # a distance can't be below 0, its rounding can
    top = exponent.max(axis=1)
    exponent -= top[:, None]
    np.exp(exponent, out=exponent)
    sums: FloatArray = np.log(exponent.sum(axis=1)) + top
    return sums


def greedy_entropy(
    environments: Sequence[Floats],
    n: int,
    bandwidth: float,
    keys: FloatArray,
    task: Task | None = None,
    given: Sequence[Floats] = (),
    *,
    cover: bool = False,
) -> IntArray:
    """Return the places of n frames in the order chosen; the ranks of a task share the sums.

    Given environments are there from the start, as if their frames were chosen first. To cover, a
    frame's gain is that of its most surprising environment, and its own entropy is added.
    """
    return _Greedy(environments, given, bandwidth, n, task, cover).choose(n, keys)


class _Greedy:
    """Between which values the gain of each frame lies; a gain falls as frames are chosen.

    A rank keeps the sums of its own frames alone, and tells the others their bounds.
    """

    def __init__(
        self,
        environments: Sequence[Floats],
        given: Sequence[Floats],
        bandwidth: float,
        n: int,
        task: Task | None,
        cover: bool,
    ) -> None:
        self._n_own = len(environments)
        self._environments = [*environments, *given]
        self._bandwidth = bandwidth or bandwidth_of(self._environments)
        self._task, self._cover = task, cover
        comm = None if task is None else task.comm
        self._rank, self._n_ranks = (0, 1) if comm is None else (comm.rank, comm.size)
        self._chosen: list[int] = []
        self._own = np.zeros(self._n_own)
        if cover or not given:
            self._own = self._shared(self._own_entropies, np.arange(self._n_own))
        self._logs: dict[int, FloatArray] = {}  # ln Σ_j, over the chosen that were seen
        self._seen: dict[int, int] = {}  # how many of the chosen those are
        self._low = np.full(self._n_own, -np.inf)
        self._high = np.full(self._n_own, np.inf)
        self._fresh = np.zeros(self._n_own, dtype=bool)  # whether both are of all that are chosen
        bounds = Bounds(self._environments, self._bandwidth, len(given) + n, task, len(given))
        self._bounds = bounds if bounds.is_of_use else None
        for place in range(self._n_own, len(self._environments)):
            self._take(place)

    def choose(self, n: int, keys: FloatArray) -> IntArray:
        order: list[int] = []
        if not self._chosen:
            order.append(int(np.lexsort((keys, -self._own))[0]))
            self._take(order[0])
        while len(order) < n:
            best = self._best()
            order.append(int(best[np.argmin(keys[best])]))
            self._take(order[-1])
        return np.array(order, dtype=np.int64)

    def _take(self, place: int) -> None:
        self._chosen.append(place)
        if self._bounds is not None:
            self._bounds.add(place)
        if place < self._n_own:
            self._high[place] = -np.inf
        self._low[:] = -np.inf
        self._fresh[:] = False

    def _best(self) -> IntArray:
        """Return the frames with the greatest gain."""
        n_batch = BATCH
        while True:
            floor = self._low.max()
            rivals = np.flatnonzero((self._high >= floor) & (self._high > -np.inf))
            stale = rivals[~self._fresh[rivals]]
            if len(stale):
                if len(stale) > n_batch and np.isfinite(self._high[stale]).all():
                    stale = stale[np.argpartition(-self._high[stale], n_batch - 1)[:n_batch]]
                n_batch *= 2
                self._refresh(stale, exactly=self._bounds is None)
                continue
            unsure = rivals[self._low[rivals] < self._high[rivals]]
            if len(rivals) == 1 or not len(unsure):
                return rivals
            self._refresh(unsure, exactly=True)

    def _refresh(self, frames: IntArray, *, exactly: bool) -> None:
        """Compute frames' gains, or bounds of them, with all that are chosen."""
        found = self._shared(self._gains if exactly else self._gain_bounds, frames)
        self._low[frames], self._high[frames] = found.reshape(len(frames), 2).T
        self._fresh[frames] = True

    def _shared(self, function: Callable[[IntArray], FloatArray], frames: IntArray) -> FloatArray:
        """Call a function on each rank's own frames, and return what it gives for all."""
        if self._task is None or self._n_ranks == 1:
            return function(frames)
        owner = frames % self._n_ranks
        parts = self._task.every([function(frames[owner == self._rank])])
        found = np.empty((len(frames), *parts[0].shape[1:]))
        for rank, part in enumerate(parts):
            found[owner == rank] = part
        return found

    def _own_entropies(self, frames: IntArray) -> FloatArray:
        own = [self._environments[frame] for frame in frames.tolist()]
        found = [np.empty(0)]
        for at in range(0, len(own), BATCH):
            some = own[at : at + BATCH]
            found.append(np.log([len(frame) for frame in some]) - own_means(some, self._bandwidth))
        return np.concatenate(found)

    def _gains(self, frames: IntArray) -> FloatArray:
        # Frame by frame: a sum must not depend on which frames are computed together.
        gains = np.empty((len(frames), 2))
        for row, frame in zip(gains, frames.tolist(), strict=True):
            seen = self._seen.get(frame, 0)
            if seen < len(self._chosen):
                unseen = [self._environments[place] for place in self._chosen[seen:]]
                own = self._environments[frame]
                sums = log_kernel_sums(own, np.concatenate(unseen), self._bandwidth)
                before = self._logs.get(frame)
                self._logs[frame] = sums if before is None else np.logaddexp(before, sums)
                self._seen[frame] = len(self._chosen)
            logs = self._logs[frame]
            row[:] = self._own[frame] - logs.min() if self._cover else -logs.mean()
        return gains

    def _gain_bounds(self, frames: IntArray) -> FloatArray:
        assert self._bounds is not None
        mean_low, mean_high, least_low, least_high = self._bounds.of(frames)
        if self._cover:
            own = self._own[frames]
            return np.stack([own - least_high, own - least_low], axis=1)
        return np.stack([-mean_high, -mean_low], axis=1)
