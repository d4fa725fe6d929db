"""Selection of the set whose own histogram is as flat as possible.

The uniform methods choose a frame for one value and take the others as they come, so that the
bulk of the set's histogram is still the pool's. Here all values of a candidate count: greedily,
each frame is the one with which the histogram of all atoms in the set has the greatest entropy.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.selection.base import Selector, Task, refuse
from mlsel.selection.binned.properties import AtomicEnergy, ForceMagnitude, Property
from mlsel.selection.binned.scan import Grid, scan

Histograms = npt.NDArray[np.float32]

MARGIN = 1e-3
"""Above the rounding of the bounds, which are computed in single precision (nats times atoms)."""


@dataclass(frozen=True)
class _Flat(Selector):
    """Greedy in the entropy of the set's histogram.

    With c_k the number of values in bin k of the set (one that is given counts too), T = Σ c_k,
    and h_fk those that frame f adds, the next frame is the one with the greatest

        S_f = ln T_f − (1 / T_f) Σ_k φ(c_k + h_fk),    φ(c) = c ln c,    T_f = T + Σ_k h_fk ;

    of several the one with the smallest random number. The K equal bins are those of
    `mlsel.selection.binned.uniform`.

    For all frames at once an upper bound of S_f is a product of a matrix and a vector, because φ
    is convex: φ(c + h) ≥ φ(c) + h (φ(c + 1) − φ(c)) for whole h. Only frames whose bound reaches
    the best value are computed exactly.

    References
    ----------
    For greedy maximal entropy: Karabin and Perez, J. Chem. Phys. 153, 094110 (2020).
    """

    bins: int = 64
    species: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= 1024:
            raise refuse(f"bins is {self.bins}: it must be from 1 to 1024.")
        self.property()

    @abstractmethod
    def property(self) -> Property:
        """Return what the frames are chosen by."""

    def choose(self, task: Task) -> IntArray:
        prop = self.property()
        prop.prepare(task)
        keys = task.keys()
        found = scan(task, prop, self.bins)
        histograms = _histograms(task, prop, found.grid, found.frame_ids)
        start = np.zeros(self.bins, dtype=np.int64)
        if task.given is not None:
            own = task.given.frame_ids
            of_given = _histograms(task.given, prop.of(task.given.pool), found.grid, own)
            start = of_given.sum(axis=0, dtype=np.float64).astype(np.int64)
        return _Greedy(task, found.frame_ids, histograms, keys[found.frame_ids], start).choose()


@dataclass(frozen=True)
class FlatAtomicEnergy(_Flat):
    """The atoms' energies of the set as flat as possible."""

    name = "flat-atomic-energy"
    summary = "the set's histogram of atomic energies as flat as possible"
    fields = ("atomic_energies",)

    def property(self) -> Property:
        return AtomicEnergy(self.species)


@dataclass(frozen=True)
class FlatForce(_Flat):
    """The magnitudes of the atoms' forces of the set as flat as possible."""

    name = "flat-force"
    summary = "the set's histogram of force magnitudes as flat as possible"
    fields = ("forces",)

    def property(self) -> Property:
        return ForceMagnitude(self.species)


def _histograms(task: Task, prop: Property, grid: Grid, ids: IntArray) -> Histograms:
    """Return the histograms of some frames, (F, K)."""
    n_bins = grid.n
    out = np.empty((len(ids), n_bins), dtype=np.float32)
    for block, columns in prop.read(task, ids):
        index = grid.index(prop.values(block, columns))
        index += np.arange(len(block))[:, None] * n_bins
        counts = np.bincount(index.ravel(), minlength=len(block) * n_bins)
        out[np.searchsorted(ids, block.frame_ids)] = counts.reshape(len(block), n_bins)
    return out


class _Greedy:
    def __init__(
        self,
        task: Task,
        ids: IntArray,
        histograms: Histograms,
        keys: FloatArray,
        counts: IntArray,
    ) -> None:
        self._task, self._ids, self._histograms, self._keys = task, ids, histograms, keys
        self._sizes = histograms.sum(axis=1, dtype=np.float64)
        most = max(task.every([float(self._sizes.max(initial=0.0))]))
        total = np.arange(int(counts.sum() + most * task.n) + 2, dtype=np.float64)
        total[1:] *= np.log(total[1:])
        self._phi = total
        self._counts = counts
        self._free = np.ones(len(ids), dtype=bool)

    def choose(self) -> IntArray:
        chosen = []
        for _ in range(self._task.n):
            best = self._best()
            value, key, frame, histogram = min(self._task.every([best]), key=lambda x: x[:3])
            assert np.isfinite(value) and np.isfinite(key)
            chosen.append(frame)
            self._counts += histogram.astype(np.int64)
            self._free[self._ids == frame] = False
        return np.array(chosen, dtype=np.int64)

    def _best(self) -> tuple[float, float, int, FloatArray]:
        """Return minus the entropy, the key, the id and the histogram of this rank's best."""
        counts, phi = self._counts, self._phi
        slope = phi[counts + 1] - phi[counts]
        so_far, total = float(phi[counts].sum()), float(counts.sum())
        added = self._histograms @ slope.astype(np.float32)
        after = total + self._sizes
        with np.errstate(divide="ignore"):
            bound = np.log(after) - (so_far + added) / after
        bound[~self._free] = -np.inf
        best: tuple[float, float, int, FloatArray] = (np.inf, np.inf, -1, np.zeros(len(counts)))
        if not self._free.any():
            return best
        # The few with the highest bounds first, then all that could still be better.
        n_first = min(64, len(bound))
        first = np.argpartition(-bound, n_first - 1)[:n_first]
        first = first[self._free[first]]
        exact = self._entropy(first, so_far, total)
        margin = MARGIN * (1.0 + abs(so_far) / max(total, 1.0)) / max(total, 1.0)
        rest = np.flatnonzero(bound >= exact.max() - margin)
        for start in range(0, len(rest), 4096):
            some = rest[start : start + 4096]
            entropy = self._entropy(some, so_far, total)
            top = entropy.max()
            tied = some[entropy == top]
            one = tied[np.lexsort((self._ids[tied], self._keys[tied]))[0]]
            found = (-float(top), float(self._keys[one]), int(self._ids[one]))
            if found < best[:3]:
                best = (*found, self._histograms[one])
        return best

    def _entropy(self, rows: IntArray, so_far: float, total: float) -> FloatArray:
        """Return S_f exactly; each row's sum is its own, whatever the other rows."""
        counts = self._counts + self._histograms[rows].astype(np.int64)
        after = total + self._sizes[rows]
        entropy: FloatArray = np.log(after) - np.add.reduce(self._phi[counts], axis=1) / after
        return entropy
