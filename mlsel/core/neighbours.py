"""Neighbour lists by vesin, of frames that it can take: it ends the process on some others."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from mlsel.core.errors import MlselError

LARGEST = 1e5
"""Å: farther no cell vector reaches and no two atoms are apart. Beyond it vesin divides by zero."""
MOST_PAIRS = 1e9
"""Expected pairs of a frame; that of 10⁶ atoms of a liquid within 6 Å has a tenth of it."""


class NeighborList:
    """vesin's, which refuses what it would hang or crash on."""

    def __init__(self, cutoff: float, full_list: bool, **options: Any) -> None:
        self._list = _vesin().NeighborList(cutoff=cutoff, full_list=full_list, **options)
        self._cutoff = float(cutoff)

    def compute(
        self,
        points: npt.NDArray[Any],
        box: npt.NDArray[Any],
        periodic: Any,
        quantities: str = "ij",
    ) -> Any:
        """Return what vesin finds, (n_pairs,) or (n_pairs, 3) each.

        Parameters
        ----------
        points : (N, 3), Å
        box : (3, 3), Å
        periodic : bool or three bools

        Raises
        ------
        MlselError
            If a number is not finite, the frame reaches too far, or its cell is so small that it
            would have pairs without end.
        """
        check_extent(points, box, periodic, self._cutoff)
        return self._list.compute(points, box, periodic, quantities)


def _vesin() -> Any:
    """Return vesin, which would load torch where there is one (seconds, 500 MB) for tensors that
    nobody gives it."""
    if "torch" in sys.modules:
        import vesin

        return vesin
    sys.modules["torch"] = None  # type: ignore[assignment]  # importing it is an ImportError then
    try:
        import vesin
    finally:
        del sys.modules["torch"]
    return vesin


def check_extent(
    points: npt.NDArray[Any], box: npt.NDArray[Any], periodic: Any, cutoff: float
) -> None:
    """Raise MlselError unless the neighbours of a frame within a cutoff (Å) can be listed.

    >>> check_extent(np.zeros((1, 3)), np.diag([1e6, 9, 9]), True, 6.0)
    Traceback (most recent call last):
        ...
    mlsel.core.errors.MlselError: a frame's cell or atoms reach over 1e+06 Å, where 100000 Å \
are the most: leave the frame out, or mend its lengths.
    """
    along = np.broadcast_to(np.asarray(periodic, bool), 3)
    extents = [np.abs(box[along]).max(initial=0.0)]
    if len(points):
        extents.append(np.abs(points).max() if along.all() else np.ptp(points, axis=0).max())
    largest = float(max(extents))
    if not largest <= LARGEST:
        if not np.isfinite(largest):
            raise MlselError("a frame has a position or a cell that is NaN or infinite.")
        raise MlselError(
            f"a frame's cell or atoms reach over {largest:.6g} Å, where {LARGEST:g} Å are the "
            "most: leave the frame out, or mend its lengths."
        )
    if not along.all():
        return
    volume = abs(np.linalg.det(box))
    n_pairs = len(points) ** 2 * 4.19 * cutoff**3
    if not n_pairs <= MOST_PAIRS * volume:
        raise MlselError(
            f"a frame has {len(points)} atoms in a cell of {volume:.3g} Å³, which is more than "
            f"{MOST_PAIRS:g} pairs within {cutoff:g} Å: leave the frame out, or mend its lengths."
        )
