"""The covariances that a GAP is fitted from, computed by the C++ of our evaluator.

The energy of a frame is a sum over environments, E = Σ_s α_s Σ_i k(d_i, d_s), so that a frame's
row of the linear system is Σ_i k(d_i, d_s) for all sparse points s; forces and virials are its
derivatives.

References
----------
Bartók and Csányi, Int. J. Quantum Chem. 115, 1051 (2015).
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlsel.core.arrays import FloatArray
from mlsel.core.errors import MlselError
from mlsel.training.frames import Frames
from mlsel.training.gap.evaluator import (
    MESSAGE_BYTES,
    compiled,
    environment,
    neighbour_list,
    pointer,
)
from mlsel.training.gap.terms import SparsePoints, Term

VERSION = 1600000000
"""Of GAP, whose meaning of descriptors ours have; no later one has changed it."""
LONGEST = 25
"""Characters of a number and the end of its line."""
N_STRAINS = 6
"""Of a symmetric tensor: xx, yx, zx, yy, zy, zz."""


def text_of(numbers: FloatArray) -> str:
    """Return numbers in the fewest digits that give them back, one a line.

    >>> text_of(np.array([0.1, -2.0]))
    '0.1\\n-2\\n'
    """
    library = _library()
    numbers = np.ascontiguousarray(numbers, np.float64)
    out = ctypes.create_string_buffer(LONGEST * numbers.size)
    length = library.mlsel_fit_text(pointer(numbers), ctypes.c_long(numbers.size), out)
    return out.raw[:length].decode("ascii")


def _library() -> Any:
    library = compiled()
    if library is None:
        raise MlselError(
            "mlsel's own GAP fit is C++ that must be compiled, and there is no compiler: "
            'install g++, or set training.gap.fit = "gap_fit".'
        )
    return library


class Covariances:
    """Descriptors of some terms, and covariances with their sparse points, a frame at a time.

    Raises
    ------
    MlselError
        If there is no compiler, or a term that is not covered.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        library = _library()
        self.terms, self.n_dimensions = tuple(terms), [0] * len(terms)
        self.n_points = 0
        self._library = library
        self._handle = ctypes.c_void_p(library.mlsel_fit_open())
        for k, term in enumerate(terms):
            n = ctypes.c_int()
            said = self._call(
                "add",
                term.line.encode(),
                ctypes.c_long(VERSION),
                *(ctypes.c_double(x) for x in (term.theta, term.zeta, term.delta)),
                ctypes.byref(n),
            )
            if said:
                raise MlselError(
                    f"mlsel does not fit a GAP that {said}: change [training.gap], or set "
                    'training.gap.fit = "gap_fit".'
                )
            self.n_dimensions[k] = n.value
        self.neighbours = neighbour_list(max(term.cutoff for term in terms))

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._library.mlsel_fit_close(self._handle)

    def set_points(self, sparse: Sequence[SparsePoints]) -> None:
        """Take the sparse points of all terms: the columns of `rows`, one term behind the other."""
        for k, one in enumerate(sparse):
            points = np.ascontiguousarray(one.points, np.float64)
            cutoffs = np.ascontiguousarray(one.cutoffs, np.float64)
            if points.shape != (len(cutoffs), self.n_dimensions[k]):
                raise ValueError(f"points of shape {points.shape} for {self.terms[k].line}")
            said = self._call("points", k, len(points), pointer(points), pointer(cutoffs))
            assert not said, said
        self.n_points = sum(map(len, sparse))

    def describe(self, k: int, frames: Frames, row: int, number: int = 0) -> FloatArray:
        """Return the SOAPs of the central atoms of term k in a frame, (n_centres, n_dimensions).

        `number` is that of the frame among all, for what is told of it.
        """
        n_centres = np.count_nonzero(frames.numbers == self.terms[k].elements[0])
        out = np.empty((n_centres, self.n_dimensions[k]))
        self._of_frame("describe", [k], frames, row, [pointer(out)], number)
        return out

    def rows(
        self, frames: Frames, row: int, has_strain: bool, number: int = 0
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return covariances of a frame with all sparse points.

        Returns
        -------
        energy : float64, (1, n_points)
        positions : float64, (3 n_atoms, n_points)
            The derivatives by the atoms' x, y and z: less the covariances of forces.
        strain : float64, (6 or 0, n_points)
            Those by xx, yx, zx, yy, zy and zz of the strain: less the virial's.

        Raises
        ------
        MlselError
            If two atoms are at the same place.
        """
        energy = np.zeros((1, self.n_points))
        positions = np.zeros((3 * frames.n_atoms, self.n_points))
        strain = np.zeros((N_STRAINS if has_strain else 0, self.n_points))
        out = [pointer(energy), pointer(positions), pointer(strain) if has_strain else None]
        self._of_frame("covariances", [], frames, row, out, number)
        return energy, positions, strain

    def _of_frame(
        self,
        name: str,
        before: Sequence[Any],
        frames: Frames,
        row: int,
        out: Sequence[Any],
        number: int,
    ) -> None:
        arrays = environment(self.neighbours, frames, row)
        said = self._call(name, *before, frames.n_atoms, *map(pointer, arrays), *out)
        if said:
            raise MlselError(
                f"training frame {number + 1}, of {frames.n_atoms} atoms, cannot be fitted: "
                f"{said}. Leave it out (`mlsel check` names such frames)."
            )

    def _call(self, name: str, *arguments: Any) -> str:
        """Return what went wrong, "" if nothing did."""
        message = ctypes.create_string_buffer(MESSAGE_BYTES)
        function = getattr(self._library, f"mlsel_fit_{name}")
        failed = function(self._handle, *arguments, message, MESSAGE_BYTES)
        return message.value.decode(errors="replace") if failed else ""
