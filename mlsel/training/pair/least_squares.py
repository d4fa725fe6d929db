"""Least squares in blocks of rows: what is kept is one triangle, whatever the number of rows."""

from __future__ import annotations

import numpy as np

from mlsel.training.pair.basis import Floats


class BlockedLeastSquares:
    """Minimises |A x − b|² for rows that come block by block.

    The triangle R of a QR factorisation of all rows so far is kept, the right-hand side as its
    last column; each block goes below it and is factorised again. Unlike sums of AᵀA this loses no
    digits.

    References
    ----------
    Golub and Van Loan, Matrix Computations, 4th ed., 5.3 and 6.5 (2013).

    Examples
    --------
    >>> system = BlockedLeastSquares(2)
    >>> system.add(np.array([[1.0, 0.0]]), np.array([3.0]))
    >>> system.add(np.array([[1.0, 1.0], [0.0, 2.0]]), np.array([5.0, 4.0]))
    >>> system.solve().round(9).tolist()
    [3.0, 2.0]
    """

    def __init__(self, n_unknowns: int) -> None:
        self._triangle = np.zeros((0, n_unknowns + 1))

    def add(self, rows: Floats, right: Floats) -> None:
        """Add rows (n, n_unknowns) with their right-hand sides (n)."""
        below = np.concatenate((rows, right[:, None]), axis=1)
        self._triangle = np.linalg.qr(np.concatenate((self._triangle, below)), mode="r")

    def solve(self) -> Floats:
        """Return the smallest of the best solutions."""
        solution: Floats = np.linalg.lstsq(self._triangle[:, :-1], self._triangle[:, -1])[0]
        return solution
