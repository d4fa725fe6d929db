"""A radial descriptor: fast, streamed, of any cell.

References
----------
Behler, J. Chem. Phys. 134, 074106 (2011), for radial symmetry functions.
"""

from __future__ import annotations

import ctypes
import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlsel.core import native
from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.pool.block import Block
from mlsel.pool.pool import Pool

SOURCE = Path(__file__).with_name("radial.cpp")
SERIES = np.array([1.0 / math.factorial(2 * k) for k in range(11)])
"""cos x = Σ_k SERIES[k] (−x²)^k; so many terms, as radial.cpp has, are exact up to x = π/2."""

Floats = npt.NDArray[np.float32]


@functools.cache
def _library() -> Any | None:
    library = native.load(
        "radial-descriptor", [SOURCE], native.SAME_BITS, "it is thirty times slower"
    )
    if library is not None:
        native.check_layout(library, "layout_radial", _Given)
    return library


@dataclass(frozen=True)
class Radial:
    """Neighbours of each species at each distance.

    For atom i, species s and shell k at r_k = (k + 1/2) w, w = cutoff / n_shells,

        g_isk = Σ_{j of species s} Λ(r_ij / w − k − 1/2) f(r_ij),
        Λ(x) = max(0, 1 − |x|),    f(r) = (1 + cos(π r / cutoff)) / 2,

    over all j and their periodic images nearer than the cutoff: a histogram of distances with
    triangular bins, which is continuous as atoms move.

    The sums are compiled where there is a compiler (`mlsel.core.native`), else done by array
    operations, thirty times slower and to the same bits.

    Parameters
    ----------
    numbers : tuple of int
        The atomic numbers that occur in the pool.
    cutoff : float
        Å.
    n_shells : int
    """

    numbers: tuple[int, ...]
    cutoff: float = 6.0
    n_shells: int = 8

    def atoms(self, pool: Pool, block: Block) -> Floats:
        """Return (F, N, D) for the frames of a block."""
        kinds = np.searchsorted(self.numbers, pool.numbers(block.run))
        periodic = np.array(pool.periodic(block.run))
        positions, cells = block["positions"], np.asarray(block["cell"], dtype=float)
        n_frames, n_atoms, _ = positions.shape
        out = np.empty((n_frames, n_atoms, len(self.numbers) * self.n_shells), dtype=np.float32)
        library = _library()
        # Arrays over all pairs of a few frames stay in the cache.
        n = max(1, 2**16 // n_atoms**2) if library is None else max(1, 2**16 // n_atoms)
        for start in range(0, n_frames, n):
            some = slice(start, start + n)
            few = _Geometry.of(positions[some], cells[some], periodic, self.cutoff)
            if library is None:
                out[some] = self._sums(few, kinds)
            else:
                self._compiled(library, few, kinds.astype(np.int32), out[some])
        return out

    def _compiled(self, library: Any, few: _Geometry, kinds: Array, out: Floats) -> None:
        def pointer(array: Array) -> int:
            assert array.flags.c_contiguous
            return array.ctypes.data

        given = _Given(
            *(few.fractional.shape[1:]),
            *(len(self.numbers), self.n_shells),
            tuple(few.n_images),
            tuple(int(is_periodic) for is_periodic in few.periodic),
            *self._scales(),
            *map(pointer, (SERIES, few.fractional, few.cells, kinds, out)),
        )
        native.check_memory(library.radial(ctypes.byref(given)), "the radial descriptor")

    def _scales(self) -> tuple[float, float, float]:
        return self.cutoff, self.n_shells / self.cutoff, -((math.pi / (2.0 * self.cutoff)) ** 2)

    def _sums(self, few: _Geometry, kinds: IntArray) -> FloatArray:
        """Do what radial.cpp does; each sum in the same order."""
        cutoff, to_shells, to_angle = self._scales()
        _, n_frames, n_atoms = few.fractional.shape
        width = self.n_shells + 2  # a shell to spare at both ends
        rows = n_atoms * len(self.numbers)
        counts = np.zeros(n_frames * rows * width)
        for shift in np.ndindex(*(2 * few.n_images + 1)):
            same_cell = np.array_equal(shift, few.n_images)
            first, second = np.triu_indices(n_atoms, 1 if same_cell else 0)
            r2 = few.squared_distances(first, second, shift - few.n_images)
            frame, pair = np.nonzero((r2 < cutoff**2) & (r2 > 1e-6))
            r2, i, j = r2[frame, pair], first[pair], second[pair]
            place = np.sqrt(r2) * to_shells - 0.5
            shell = (place + 1.0).astype(np.int64)
            upper = place - (shell - 1)
            cosine = np.full(len(r2), SERIES[-1])
            for term in SERIES[-2::-1]:
                cosine = cosine * (r2 * to_angle) + term
            weight = cosine * cosine
            here, after = (1.0 - upper) * weight, upper * weight
            of_i = (frame * rows + i * len(self.numbers) + kinds[j]) * width + shell
            of_j = (frame * rows + j * len(self.numbers) + kinds[i]) * width + shell
            other = np.where(i == j, 0.0, 1.0)  # an atom's own image: each of the two is met
            at = np.stack([of_i, of_i + 1, of_j, of_j + 1], axis=1)
            added = np.stack([here, after, here * other, after * other], axis=1)
            counts += np.bincount(at.ravel(), added.ravel(), minlength=len(counts))
        inside = counts.reshape(n_frames, rows, width)[:, :, 1:-1]
        return inside.reshape(n_frames, n_atoms, len(self.numbers) * self.n_shells)


@dataclass(frozen=True)
class _Geometry:
    """Some frames with as many atoms.

    Attributes
    ----------
    fractional : (3, F, N)
    cells : (F, 3, 3)
    periodic : bool, (3,)
    n_images : int, (3,)
        How many cells to either side hold neighbours.
    """

    fractional: FloatArray
    cells: FloatArray
    periodic: Array
    n_images: IntArray

    @classmethod
    def of(cls, positions: FloatArray, cells: FloatArray, periodic: Array, cutoff: float) -> Any:
        cells = np.where(periodic[:, None], cells, np.eye(3))
        inverse = np.linalg.inv(cells)
        # 1 / height over the faces; a pair nearer than half of it is the nearest image.
        reach = cutoff * np.sqrt((inverse**2).sum(axis=1)).max(axis=0)
        n_images = np.where(periodic, np.ceil(reach - 0.5).clip(0), 0).astype(int)
        x, y, z = (positions[..., b] for b in range(3))
        fractional = np.stack(
            [
                x * p[:, None] + y * q[:, None] + z * r[:, None]
                for p, q, r in inverse.transpose(2, 1, 0)
            ]
        )
        return cls(fractional, np.ascontiguousarray(cells), periodic, n_images)

    def squared_distances(self, first: IntArray, second: IntArray, shift: IntArray) -> FloatArray:
        """Return r² of pairs, the second one moved by −shift cells, (F, P)."""
        d = []
        for a in range(3):
            x = self.fractional[a]
            moved = x[:, first] - x[:, second]
            d.append(moved - np.rint(moved) * self.periodic[a] + shift[a])
        squares = []
        for b in range(3):
            x, y, z = (d[a] * self.cells[:, a, b, None] for a in range(3))
            along = x + y + z
            squares.append(along * along)
        total: FloatArray = squares[0] + squares[1] + squares[2]
        return total


class _Given(ctypes.Structure):
    """`Radial` of radial.cpp."""

    _fields_ = (
        *((x, ctypes.c_int32) for x in ("n_frames", "n_atoms", "n_kinds", "n_shells")),
        ("n_images", ctypes.c_int32 * 3),
        ("periodic", ctypes.c_int32 * 3),
        *((name, ctypes.c_double) for name in ("cutoff", "to_shells", "to_angle")),
        *((name, ctypes.c_void_p) for name in ("series", "fractional", "cells", "kind", "out")),
    )
