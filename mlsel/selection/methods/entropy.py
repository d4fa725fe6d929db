"""Greedy gain of information entropy over atomic environments.

References
----------
Schwalbe-Koda, Hamel, Sadigh, Zhou, Lordi, Nat. Commun. 16, 4014 (2025) (QUESTS).
Minoux, in Optimization Techniques, Springer (1978), for lazy evaluation.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core import native
from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.selection.base import Selector, Task, refuse
from mlsel.selection.descriptors.features import Floats, atom_features, user_array

SOURCE = Path(__file__).with_name("entropy.cpp")
BATCH = 64
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
    bound reaches the best are computed again.

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
    n_own = len(environments)
    environments = [*environments, *given]
    h = bandwidth or bandwidth_of(environments)
    every = list if task is None else task.every
    comm = None if task is None else task.comm
    rank, n_ranks = (0, 1) if comm is None else (comm.rank, comm.size)
    chosen = list(range(n_own, len(environments)))
    own = np.zeros(n_own)
    if cover or not chosen:
        part = [
            np.log(len(frame)) - float(log_kernel_sums(frame, frame, h).mean())
            for frame in environments[:n_own][rank::n_ranks]
        ]
        for other, entropies in enumerate(every([part])):
            own[other::n_ranks] = entropies
    if not chosen:
        chosen = [int(np.lexsort((keys, -own))[0])]
    sizes = np.array([len(frame) for frame in environments])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    logs = np.full(starts[-1], -np.inf)  # ln Σ_j for each environment, over the chosen seen
    seen = np.zeros(len(environments), dtype=np.int64)  # how many of the chosen that are
    bound = np.full(len(environments), np.inf)
    bound[chosen] = -np.inf
    while len(chosen) < len(given) + n:
        top = bound.max()
        best = np.flatnonzero(bound == top)
        fresh = seen[best] == len(chosen)
        if fresh.all():
            pick = int(best[np.argmin(keys[best])])
            chosen.append(pick)
            bound[pick] = -np.inf
            continue
        if np.isinf(top):
            stale = best
        else:
            n_batch = min(BATCH, len(bound))
            stale = np.argpartition(-bound, n_batch - 1)[:n_batch]
            stale = np.union1d(stale, best)
            stale = stale[(seen[stale] < len(chosen)) & (bound[stale] > -np.inf)]
        # Frame by frame: a sum must not depend on which frames are computed together.
        new = []
        for frame in stale[rank::n_ranks].tolist():
            unseen = [environments[number] for number in chosen[seen[frame] :]]
            new.append((frame, log_kernel_sums(environments[frame], np.concatenate(unseen), h)))
        for frame, sums in every(new):
            some = slice(starts[frame], starts[frame + 1])
            logs[some] = np.logaddexp(logs[some], sums)
            seen[frame] = len(chosen)
            bound[frame] = own[frame] - logs[some].min() if cover else -logs[some].mean()
    return np.array(chosen[len(given) :], dtype=np.int64)
