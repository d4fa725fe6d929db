"""Our own fit of a GAP: what gap_fit computes, in blocks of rows.

The weights of the sparse points minimise |L⁻¹(K_nm α − y)|² + αᵀ K_mm α: energies, forces and
virials, divided by their sigmas, and below them the Cholesky factor of K_mm + jitter. gap_fit holds
all descriptors, their gradients and then all covariances; here a frame's rows are made from its
atoms, and of many rows a triangle is kept, so that memory does not depend on the number of frames.
Ranks have parts of the frames.

References
----------
Foster et al., J. Mach. Learn. Res. 10, 857 (2009) (QR in place of normal equations).
Bartók and Csányi, Int. J. Quantum Chem. 115, 1051 (2015).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core import stopping
from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.errors import MlselError, Stopped
from mlsel.core.parallel import on_root, wait_for_all
from mlsel.training.frames import Frames
from mlsel.training.gap.covariances import N_STRAINS, Covariances
from mlsel.training.gap.sparse_points import choose, pairs_within
from mlsel.training.gap.terms import Settings, SparsePoints, Term, terms_of
from mlsel.training.gap.xml_file import write_gap
from mlsel.training.least_squares import BlockedLeastSquares, Nodes, joined, own_nodes, parts_of

if TYPE_CHECKING:
    from mpi4py import MPI

MOST_PARTS = 64
"""Of the frames, and so ranks that can share a fit; a triangle for each halving of it is held."""
PART = 2.0
"""Rows of a part, at least, for each column: smaller ones cost more to put together."""
STRAINS = ((0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (2, 2))


def fit(
    settings: Settings,
    frames: Sequence[Frames],
    references: Mapping[int, float],
    product: Path,
    comm: MPI.Intracomm,
    on_report: Callable[[float, str], None],
) -> dict[str, Any]:
    """Fit a GAP and write its file; return what there is to tell. Collective.

    Raises
    ------
    MlselError
        On all ranks, if there is no compiler, a frame cannot be fitted, or sparse points are too
        much alike.
    Stopped
        On all ranks, if one was asked to stop.
    """
    start = time.perf_counter()

    def chosen() -> tuple[list[Term], list[SparsePoints]]:
        on_report(0.0, "chooses sparse points")
        pairs = pairs_within(frames, settings.cutoff) if settings.two_body else ()
        terms = terms_of(settings, sorted(references), pairs)
        return terms, choose(Covariances(terms), frames, settings.sparse_method, settings.seed)

    terms, sparse = on_root(comm, chosen)
    sigmas = Sigmas(settings.energy_sigma, settings.force_sigma, settings.virial_sigma)
    system = System(Covariances(terms), sparse, frames, references, sigmas)
    try:
        solution = solve(
            system,
            sparse,
            settings.jitter,
            comm,
            lambda share: on_report(0.02 + 0.95 * share, "covariances"),
        )
    except Stopped as stop:
        raise Stopped(
            f"{settings.name}: the fit was ended after {time.perf_counter() - start:.0f} s and "
            "can't go on from there, so it needs a job that is longer than it",
            has_progress=False,
            everywhere=stop.is_everywhere,
        ) from None

    def written() -> dict[str, Any]:
        on_report(0.98, "writes the potential")
        return {
            "label": write_gap(product, terms, sparse, solution.weights, references),
            "n_points": [len(one) for one in sparse],
            "n_labels": solution.n_rows,
            "residual": solution.residual,
        }

    return on_root(comm, written)


@dataclass(frozen=True)
class Sigmas:
    """Expected errors of labels.

    Attributes
    ----------
    energy : float
        eV/atom: that of N atoms is √N times this, as gap_fit has it.
    force : float
        eV/Å.
    virial : float
        eV/atom, like the energy's; 0: virials are not used.
    """

    energy: float
    force: float
    virial: float


@dataclass(frozen=True)
class Solution:
    """What a fit found.

    Attributes
    ----------
    weights : list of float64 arrays
        Of the sparse points of each term.
    n_rows : int
        Energies, forces and virials.
    residual : float
        The root mean square of what is left of them, over the sigmas, regularisation included.
    """

    weights: list[FloatArray]
    n_rows: int
    residual: float


class System:
    """The rows of a fit."""

    def __init__(
        self,
        covariances: Covariances,
        sparse: Sequence[SparsePoints],
        frames: Sequence[Frames],
        references: Mapping[int, float],
        sigmas: Sigmas,
    ) -> None:
        covariances.set_points(sparse)
        self._covariances, self._sigmas, self._references = covariances, sigmas, references
        self._frames = [(part, row) for part in frames for row in range(len(part))]
        lengths = [self._n_rows(part) for part, _ in self._frames]
        self._ends = np.cumsum(lengths)
        self.n_rows = int(self._ends[-1])
        n = int(self.n_rows / (PART * covariances.n_points))
        self.n_parts = max(1, min(MOST_PARTS, len(lengths), 1 << max(0, n.bit_length() - 1)))

    def _has_virial(self, part: Frames) -> bool:
        return self._sigmas.virial > 0 and part.virial is not None

    def _n_rows(self, part: Frames) -> int:
        return 1 + 3 * part.n_atoms + (N_STRAINS if self._has_virial(part) else 0)

    def frames_of(self, k: int) -> IntArray:
        """Return which frames a part has: those whose last rows lie in its share of all."""
        begin, end = (self.n_rows * edge // self.n_parts for edge in (k, k + 1))
        return np.flatnonzero((self._ends > begin) & (self._ends <= end))

    def part(self, k: int, on_rows: Callable[[int], None]) -> BlockedLeastSquares:
        """Return the triangle of a part of the frames; on_rows(n) is told of every n rows.

        Raises
        ------
        Stopped
            If the process was asked to stop.
        """
        m = self._covariances.n_points
        system = BlockedLeastSquares(m)
        mine = self.frames_of(k)
        most = max((self._n_rows(self._frames[f][0]) for f in mine), default=0)
        block = np.empty((max(m, most), m + 1), order="F")
        n = 0
        for frame in mine:
            if stopping.asked():
                raise Stopped("", has_progress=False)
            part, _ = self._frames[frame]
            if n + self._n_rows(part) > len(block):
                system.add_system(np.asfortranarray(block[:n]))
                on_rows(n)
                n = 0
            n += self._fill(block[n:], frame)
        if n:
            system.add_system(np.asfortranarray(block[:n]))
            on_rows(n)
        return system

    def _fill(self, out: FloatArray, frame: int) -> int:
        """Put a frame's rows into `out`, each over its sigma; return how many they are."""
        part, row = self._frames[frame]
        assert part.energy is not None and part.forces is not None
        sigmas, n = self._sigmas, part.n_atoms
        energy, positions, strain = self._covariances.rows(part, row, self._has_virial(part), frame)
        bare = part.energy[row] - sum(self._references[int(z)] for z in part.numbers)
        pieces = [
            (energy, np.array([bare]), sigmas.energy * np.sqrt(n)),
            (positions, -part.forces[row].ravel(), sigmas.force),
        ]
        if self._has_virial(part):
            assert part.virial is not None
            whole = 0.5 * (part.virial[row] + part.virial[row].T)
            labels = -np.array([whole[a, b] for a, b in STRAINS])
            pieces.append((strain, labels, sigmas.virial * np.sqrt(n)))
        at = 0
        for covariances, labels, sigma in pieces:
            to = slice(at, at + len(labels))
            np.multiply(covariances, 1 / sigma, out=out[to, :-1])
            np.multiply(labels, 1 / sigma, out=out[to, -1])
            at += len(labels)
        return at

    def regularisation(self, sparse: Sequence[SparsePoints], jitter: float) -> BlockedLeastSquares:
        """Return the rows of the sparse points' own covariances, which are a triangle already.

        Raises
        ------
        MlselError
            If these are not positive: points are too much alike.
        """
        from scipy.linalg import LinAlgError, cholesky

        system = BlockedLeastSquares(self._covariances.n_points)
        at = 0
        for term, one in zip(self._covariances.terms, sparse, strict=True):
            own = term.kernel(one)
            own[np.diag_indices(len(own))] += jitter
            to = slice(at, at + len(own))
            try:
                system.triangle[to, to] = cholesky(own)
            except LinAlgError:
                raise MlselError(
                    f"the covariances of the sparse points of '{term.line.split()[0]}' are not "
                    f"positive with training.gap.jitter = {jitter:g}: points are too much alike; "
                    "give a larger jitter or fewer points (training.gap.n_sparse)."
                ) from None
            at += len(own)
        return system


def solve(
    system: System,
    sparse: Sequence[SparsePoints],
    jitter: float,
    comm: MPI.Intracomm,
    on_report: Callable[[float], None],
) -> Solution:
    """Return the weights of the sparse points, on all ranks. Collective.

    Parameters
    ----------
    on_report : callable
        Told the share of this rank's rows that are done.

    Raises
    ------
    MlselError
        On all ranks, if a frame cannot be fitted or sparse points are too much alike.
    Stopped
        On all ranks, if any was asked to stop.
    """
    mine = parts_of(comm.rank, system.n_parts, comm.size)
    n_mine = max(1, system.n_rows * len(mine) // system.n_parts)
    done = 0

    def on_rows(n: int) -> None:
        nonlocal done
        done += n
        on_report(min(1.0, done / n_mine))

    failure: MlselError | None = None
    nodes: Nodes = {}
    try:
        nodes = own_nodes(mine, system.n_parts, lambda k: system.part(k, on_rows))
    except MlselError as error:
        failure = error
    agree(comm, failure)
    whole = joined(comm, system.n_parts, nodes)

    def weights() -> Solution:
        assert whole is not None
        whole.merge(system.regularisation(sparse, jitter))
        all_weights = whole.solve_regular()
        if not np.isfinite(all_weights).all():
            raise MlselError(
                "the linear system of the GAP has no solution in double precision: give a larger "
                "training.gap.jitter, or fewer points (training.gap.n_sparse)."
            )
        ends = np.cumsum([len(one) for one in sparse])[:-1]
        residual = whole.residual / np.sqrt(system.n_rows)
        return Solution(np.split(all_weights, ends), system.n_rows, residual)

    return on_root(comm, weights)


def agree(comm: MPI.Intracomm, failure: MlselError | None) -> None:
    """Raise on all ranks what one of them met. Collective."""
    if comm.size > 1:
        wait_for_all(comm)
    found = [error for error in comm.allgather(failure) if error is not None]
    if found:
        first = next((e for e in found if not isinstance(e, Stopped)), found[0])
        first.is_everywhere = True
        raise first
