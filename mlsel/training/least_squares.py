"""Least squares in blocks of rows: what is kept is one triangle, whatever the number of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core.arrays import FloatArray

if TYPE_CHECKING:
    from mpi4py import MPI

PANEL = 64
"""Columns that LAPACK reflects at once."""
_TAG = 73


class BlockedLeastSquares:
    """Minimises |A x − b|² for rows that come block by block.

    The triangle R of a QR factorisation of all rows so far is kept, the right-hand side as its
    last column; each block goes below it and is factorised again. Unlike sums of AᵀA this loses no
    digits.

    References
    ----------
    Golub and Van Loan, Matrix Computations, 4th ed., 5.3 and 6.5 (2013).
    Demmel, Grigori, Hoemmen, Langou, SIAM J. Sci. Comput. 34, A206 (2012), for the tree.

    Examples
    --------
    >>> system = BlockedLeastSquares(2)
    >>> system.add(np.array([[1.0, 0.0]]), np.array([3.0]))
    >>> system.add(np.array([[1.0, 1.0], [0.0, 2.0]]), np.array([5.0, 4.0]))
    >>> system.solve().round(9).tolist()
    [3.0, 2.0]
    """

    def __init__(self, n_unknowns: int) -> None:
        self.triangle: FloatArray = np.zeros((n_unknowns + 1, n_unknowns + 1), order="F")
        """(n_unknowns + 1, n_unknowns + 1), the right-hand side its last column, Fortran's order;
        the corner is the length of what is left of b."""

    def add(self, rows: FloatArray, right: FloatArray) -> None:
        """Add rows (n, n_unknowns) with their right-hand sides (n)."""
        self.add_system(np.concatenate((rows, right[:, None]), axis=1))

    def add_system(self, rows: FloatArray) -> None:
        """Add rows (n, n_unknowns + 1), right-hand sides last; where they are in Fortran's order
        they are overwritten."""
        self._reflect(rows, 0)

    def merge(self, other: BlockedLeastSquares) -> None:
        """Add all rows of another system, which is of no use afterwards."""
        self._reflect(other.triangle, len(self.triangle))

    def _reflect(self, rows: FloatArray, n_triangular: int) -> None:
        from scipy.linalg import lapack

        if not len(rows):
            return
        panel = min(PANEL, len(self.triangle))
        self.triangle = lapack.dtpqrt(
            n_triangular, panel, self.triangle, rows, overwrite_a=True, overwrite_b=True
        )[0]

    def solve(self) -> FloatArray:
        """Return the smallest of the best solutions."""
        solution: FloatArray = np.linalg.lstsq(
            np.triu(self.triangle[:-1, :-1]), self.triangle[:-1, -1]
        )[0]
        return solution

    def solve_regular(self) -> FloatArray:
        """Return the best solution, where the rows leave no choice."""
        from scipy.linalg import solve_triangular

        solution: FloatArray = solve_triangular(self.triangle[:-1, :-1], self.triangle[:-1, -1])
        return solution

    @property
    def residual(self) -> float:
        """The square root of the smallest |A x − b|²."""
        return abs(float(self.triangle[-1, -1]))


def parts_of(rank: int, n_parts: int, n_ranks: int) -> range:
    """Return which parts a rank has."""
    return range(n_parts * rank // n_ranks, n_parts * (rank + 1) // n_ranks)


Nodes = dict[tuple[int, int], BlockedLeastSquares]
"""Systems of parts begin … end − 1, by (begin, end)."""


def own_nodes(parts: range, n_parts: int, system_of: Callable[[int], BlockedLeastSquares]) -> Nodes:
    """Return the systems of a rank's parts, put together as far as `joined` would.

    Parameters
    ----------
    system_of : callable
        system_of(k) -> the system of part k, asked for in order.
    """
    nodes: Nodes = {}

    def whole(begin: int, end: int) -> BlockedLeastSquares:
        if end - begin == 1:
            return system_of(begin)
        middle = (begin + end) // 2
        left = whole(begin, middle)
        left.merge(whole(middle, end))
        return left

    def visit(begin: int, end: int) -> None:
        if end <= parts.start or parts.stop <= begin:
            return
        if parts.start <= begin and end <= parts.stop:
            nodes[begin, end] = whole(begin, end)
            return
        middle = (begin + end) // 2
        visit(begin, middle)
        visit(middle, end)

    visit(0, n_parts)
    return nodes


def joined(comm: MPI.Intracomm, n_parts: int, nodes: Nodes) -> BlockedLeastSquares | None:
    """Return the system of all ranks' parts, on rank 0; None on the others. Collective.

    Parts are put together by a tree that depends on their number alone, so that the same bits come
    out on any number of ranks.
    """
    owner = [rank for rank in range(comm.size) for _ in parts_of(rank, n_parts, comm.size)]

    def visit(begin: int, end: int) -> BlockedLeastSquares | None:
        """The system of these parts, on the rank that has the first."""
        if (begin, end) in nodes or comm.rank not in owner[begin:end]:
            return nodes.pop((begin, end), None)
        middle = (begin + end) // 2
        left, right = visit(begin, middle), visit(middle, end)
        if owner[begin] != owner[middle]:
            right = _moved(comm, right, left, owner[middle], owner[begin])
        if comm.rank != owner[begin]:
            return None
        assert left is not None and right is not None
        left.merge(right)
        return left

    return visit(0, n_parts)


def _moved(
    comm: MPI.Intracomm,
    system: BlockedLeastSquares | None,
    like: BlockedLeastSquares | None,
    source: int,
    target: int,
) -> BlockedLeastSquares | None:
    """Bring a system from one rank to another, which has one of the same size."""
    from mlsel.core.parallel import wait_for

    if comm.rank == source:
        assert system is not None
        wait_for(comm.Isend(system.triangle.T, target, tag=_TAG))
        return None
    if comm.rank != target:
        return None
    assert like is not None
    got = BlockedLeastSquares(len(like.triangle) - 1)
    wait_for(comm.Irecv(got.triangle.T, source, tag=_TAG))
    return got
