"""Sparse points for a GAP, chosen from the data as gap_fit chooses them.

Of SOAPs at random, or by leverage scores (CUR); of distances so that they cover the range evenly.
Environments that are the same within 1e-10 count once.

References
----------
Mahoney and Drineas, Proc. Natl. Acad. Sci. 106, 697 (2009) (CUR).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement

import numpy as np

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.errors import MlselError
from mlsel.core.neighbours import NeighborList
from mlsel.core.provenance import derived_seed
from mlsel.training.frames import Frames, symbols
from mlsel.training.gap.covariances import Covariances
from mlsel.training.gap.evaluator import neighbour_list
from mlsel.training.gap.terms import SparsePoints, Term
from mlsel.training.least_squares import BlockedLeastSquares

log = logging.getLogger(__name__)

METHODS = ("random", "cur_points")
"""What is covered of gap_fit's `sparse_method`."""
SAME = 1e-10
"""Descriptors that differ less are one."""
NOISE = 1e-13
"""Singular values that are no larger are none; gap_fit's TOL_SVD."""
ROWS = 2000
"""Descriptors that are held at once."""


def choose(
    covariances: Covariances, frames: Sequence[Frames], method: str, seed: int
) -> list[SparsePoints]:
    """Return the sparse points of each term; one with fewer environments that differ than it
    shall have points has fewer, which the log tells.

    Parameters
    ----------
    covariances : Covariances
        Of the terms.
    frames : sequence of Frames
        The training data.
    method : str
        One of METHODS, of SOAPs.
    seed : int

    Raises
    ------
    MlselError
        If a term has no environment at all.
    """
    found = []
    for k, term in enumerate(covariances.terms):
        n = term.n_points
        rng = np.random.default_rng(derived_seed(seed, "sparse points", *term.elements, k))
        if term.is_pair:
            one = _even_distances(term, frames, n, rng)
        else:
            centres = _Centres(covariances, k, frames)
            one = (_at_random if method == "random" else _by_leverage)(centres, n, rng)
        if not len(one):
            raise MlselError(
                f"the training frames have no {_name(term)} within {term.cutoff:g} Å: a GAP "
                "with a term for it cannot be fitted."
            )
        if len(one) < n:
            log.warning(
                "%d sparse points of %s instead of %d: the training frames have no more "
                "environments that differ.",
                len(one),
                _name(term),
                n,
            )
        found.append(one)
    return found


def pairs_within(frames: Sequence[Frames], cutoff: float) -> set[tuple[int, int]]:
    """Return which pairs of elements come closer than a cutoff (Å), atomic numbers in order."""
    elements = sorted({int(z) for part in frames for z in part.numbers})
    wanted = set(combinations_with_replacement(elements, 2))
    found: set[tuple[int, int]] = set()
    neighbours = neighbour_list(cutoff)
    for part in frames:
        for row in range(len(part)):
            i, j, _ = _pairs(neighbours, part, row)
            a, b = part.numbers[i], part.numbers[j]
            found |= set(zip(np.minimum(a, b).tolist(), np.maximum(a, b).tolist(), strict=True))
            if found == wanted:
                return found
    return found


def _name(term: Term) -> str:
    return "–".join(symbols([z]) for z in term.elements) + (" pair" if term.is_pair else "")


class _Centres:
    """A term's central atoms in all frames, numbered through, and their descriptors."""

    def __init__(self, covariances: Covariances, k: int, frames: Sequence[Frames]) -> None:
        self._covariances, self._k = covariances, k
        self._frames = [(part, row) for part in frames for row in range(len(part))]
        element = covariances.terms[k].elements[0]
        counts = [np.count_nonzero(part.numbers == element) for part, _ in self._frames]
        self._first = np.concatenate(([0], np.cumsum(counts)))
        self.n_dimensions = covariances.n_dimensions[k]

    def __len__(self) -> int:
        return int(self._first[-1])

    def blocks(self) -> Iterator[FloatArray]:
        """Yield all descriptors in their order, some thousand at once."""
        waiting, n = [], 0
        for frame, (part, row) in enumerate(self._frames):
            if self._first[frame] == self._first[frame + 1]:
                continue
            waiting.append(self._covariances.describe(self._k, part, row, frame))
            n += len(waiting[-1])
            if n >= ROWS:
                yield np.concatenate(waiting)
                waiting, n = [], 0
        if waiting:
            yield np.concatenate(waiting)

    def take(self, centres: IntArray) -> FloatArray:
        """Return the descriptors of these, in their order."""
        out = np.empty((len(centres), self.n_dimensions))
        of = np.searchsorted(self._first, centres, side="right") - 1
        for frame in np.unique(of):
            part, row = self._frames[frame]
            mine = of == frame
            descriptors = self._covariances.describe(self._k, part, row, frame)
            out[mine] = descriptors[centres[mine] - self._first[frame]]
        return out


def _at_random(centres: _Centres, n: int, rng: np.random.Generator) -> SparsePoints:
    order = rng.permutation(len(centres))
    points = np.empty((0, centres.n_dimensions))
    at = 0
    while len(points) < n and at < len(order):
        more = order[at : at + n - len(points)]
        at += len(more)
        points = np.concatenate((points, centres.take(more)))
        points = points[_first_of_each(points)]
    return SparsePoints(points, np.ones(len(points)))


def _first_of_each(points: FloatArray) -> IntArray:
    """Return the rows that are not the same as an earlier one, in order; like gap_fit, only rows
    are compared whose sums of absolute values are neighbours in size."""
    sums = np.abs(points).sum(axis=1)
    order = np.lexsort((np.arange(len(sums)), sums))
    near = np.flatnonzero(np.diff(sums[order]) < SAME)
    same = np.abs(points[order[near]] - points[order[near + 1]]).max(axis=1, initial=0) < SAME
    twice = np.maximum(order[near], order[near + 1])[same]
    return np.setdiff1d(np.arange(len(points)), twice)


def _by_leverage(centres: _Centres, n: int, rng: np.random.Generator) -> SparsePoints:
    """gap_fit's cur_decomposition: a point is likely to be chosen by how much of it lies in the
    space of the larger half of the singular vectors."""
    system = BlockedLeastSquares(centres.n_dimensions - 1)
    sums = []
    for block in centres.blocks():
        sums.append(np.abs(block).sum(axis=1))
        system.add_system(np.asfortranarray(block))
    _, values, vectors = np.linalg.svd(np.triu(system.triangle))
    rank = max(1, np.count_nonzero(values > NOISE) // 2)
    project = vectors[:rank].T / values[:rank]
    scores = np.concatenate([((block @ project) ** 2).sum(axis=1) for block in centres.blocks()])
    chance = np.minimum(1.0, scores * n / rank) - rng.random(len(scores))
    chance[_all_but_first(np.concatenate(sums))] = -np.inf
    chosen = np.argsort(-chance, kind="stable")[:n]
    chosen = np.sort(chosen[np.isfinite(chance[chosen])])
    return SparsePoints(centres.take(chosen), np.ones(len(chosen)))


def _all_but_first(sums: FloatArray) -> IntArray:
    """Return which descriptors are another's copies: their sums are the same to the last digits,
    which among 10⁵ different ones happens to one or two."""
    order = np.argsort(sums, kind="stable")
    return order[1:][np.diff(sums[order]) < SAME]


def _pairs(
    neighbours: NeighborList, frames: Frames, row: int
) -> tuple[IntArray, IntArray, FloatArray]:
    i, j, r = neighbours.compute(frames.positions[row], frames.cell[row], frames.periodic, "ijd")
    return i, j, r


def _distances(term: Term, frames: Sequence[Frames]) -> Iterator[FloatArray]:
    """Yield the distances of a pair of elements in each frame."""
    z1, z2 = term.elements
    neighbours = neighbour_list(term.cutoff)
    for part in frames:
        if not ({z1, z2} <= set(part.numbers.tolist())):
            continue
        for row in range(len(part)):
            i, j, r = _pairs(neighbours, part, row)
            wanted = (part.numbers[i] == z1) & (part.numbers[j] == z2)
            if wanted.any():
                yield r[wanted]


def _even_distances(
    term: Term, frames: Sequence[Frames], n: int, rng: np.random.Generator
) -> SparsePoints:
    """gap_fit's select_uniform: the first distance in each of n equal bins, and of empty bins one
    more from another that is drawn."""
    low, high = np.inf, -np.inf
    for r in _distances(term, frames):
        low, high = min(low, r.min()), max(high, r.max())
    if high < low:
        return SparsePoints(np.empty((0, 1)), np.empty(0))
    kept: list[list[float]] = [[] for _ in range(n)]
    for r in _distances(term, frames):
        bins = np.rint((r - low) / max(high - low, SAME) * (n - 1)).astype(int)
        for one in np.unique(bins):
            if len(kept[one]) < n:
                # the same distance comes twice, from either end
                found = np.unique(r[bins == one].round(10))
                new = [x for x in found.tolist() if x not in kept[one]]
                kept[one] += new[: n - len(kept[one])]
    chosen = [inside.pop(0) for inside in kept if inside]
    while len(chosen) < n and any(kept):
        inside = kept[int(rng.choice([k for k, rest in enumerate(kept) if rest]))]
        chosen.append(inside.pop(int(rng.integers(len(inside)))))
    points = np.sort(chosen)[:, None]
    return SparsePoints(points, _cutoff_function(points[:, 0], term))


def _cutoff_function(r: FloatArray, term: Term) -> FloatArray:
    """QUIP's: a cosine's half period."""
    begin = term.cutoff - term.width
    along = np.clip((r - begin) / term.width, 0.0, 1.0)
    value: FloatArray = 0.5 * (np.cos(np.pi * along) + 1)
    return value
