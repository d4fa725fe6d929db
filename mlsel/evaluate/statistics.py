"""Errors of predicted forces, energies and stresses: per frame, then over any set of frames.

For each frame and element the sum, the sum of squares and the largest of the absolute errors are
kept, so that Max, RMSE and MAE over any selection of frames and elements follow exactly. Of atomic
energies the errors have their sign: a constant that a model adds to every atom of an element is no
error, since forces don't know it and the energy only their sum; it is taken off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.units import BAR

FORCE_QUANTITIES = {
    "force_component": "|F_k − F'_k| of each Cartesian component",
    "force_magnitude": "||F| − |F'||",
    "force_vector": "|F − F'|",
}
ENERGY_QUANTITY = "energy_per_atom"
STRESS_QUANTITY = "stress_component"
"""|σ_k − σ'_k| of the six independent components."""
ATOMIC_QUANTITY = "atomic_energy"
ALL = "all"


@dataclass(frozen=True)
class Summary:
    """Max, RMSE and MAE of n values; NaN what is not known."""

    n: int
    max: float
    rmse: float
    mae: float


@dataclass
class FrameErrors:
    """Errors of some frames; the first axis of each array is the frame.

    Attributes
    ----------
    frame_id : int64, (n_frames)
    counts : int64, (n_frames, n_elements)
        Atoms of each element.
    sums, squares, largest : float64, (n_frames, n_elements, 3)
        Of the absolute errors of FORCE_QUANTITIES, eV/Å.
    energy : float64, (n_frames)
        Predicted less reference energy, eV/atom.
    worst_atom : int64, (n_frames)
        Of the largest |F − F'|.
    atomic_sums, atomic_squares, atomic_low, atomic_high : float64, (n_frames, n_elements)
        Sum, sum of squares, least and largest of predicted less reference atomic energies, eV; NaN
        where the test set has none.
    stress : float64, (n_frames, 6)
        Predicted less reference stress, xx, yy, zz, yz, xz, xy, positive in tension, GPa; NaN
        where the frame has no virial or the model says none.
    """

    frame_id: IntArray
    counts: IntArray
    sums: FloatArray
    squares: FloatArray
    largest: FloatArray
    energy: FloatArray
    worst_atom: IntArray
    atomic_sums: FloatArray
    atomic_squares: FloatArray
    atomic_low: FloatArray
    atomic_high: FloatArray
    stress: FloatArray

    @classmethod
    def join(cls, parts: Sequence[FrameErrors]) -> FrameErrors:
        """Return the errors of all parts, sorted by frame."""
        arrays = {
            f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)
        }
        order = np.argsort(arrays["frame_id"], kind="stable")
        return cls(**{name: array[order] for name, array in arrays.items()})

    def take(self, rows: npt.ArrayLike) -> FrameErrors:
        """Return the errors of some of the frames (a mask, rows or a slice)."""
        return FrameErrors(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def forces(self, quantity: str, element: int | None = None) -> Summary:
        """Return the errors of a force quantity, of all elements or one (its index)."""
        q = list(FORCE_QUANTITIES).index(quantity)
        which = slice(None) if element is None else [element]
        n = int(self.counts[:, which].sum()) * (3 if quantity == "force_component" else 1)
        if n == 0:
            return Summary(0, float("nan"), float("nan"), float("nan"))
        return Summary(
            n,
            float(self.largest[:, which, q].max()),
            float((self.squares[:, which, q].sum() / n) ** 0.5),
            float(self.sums[:, which, q].sum() / n),
        )

    def energies(self) -> Summary:
        """Return the errors of the energy, eV/atom."""
        absolute = np.abs(self.energy)
        if not len(absolute):
            return Summary(0, float("nan"), float("nan"), float("nan"))
        rmse = float(np.mean(absolute**2) ** 0.5)
        return Summary(len(absolute), float(absolute.max()), rmse, float(absolute.mean()))

    def stresses(self) -> Summary:
        """Return the errors of the stress's components, GPa, of the frames that have them."""
        absolute = np.abs(self.stress[np.isfinite(self.stress).all(axis=1)])
        if not len(absolute):
            return Summary(0, float("nan"), float("nan"), float("nan"))
        rmse = float(np.mean(absolute**2) ** 0.5)
        return Summary(absolute.size, float(absolute.max()), rmse, float(absolute.mean()))

    @property
    def atomic_shifts(self) -> FloatArray:
        """The mean error of each element's atomic energies, eV, (n_elements); NaN if unknown."""
        n = self.counts.sum(axis=0)
        shifts = np.full(len(n), np.nan)
        np.divide(self.atomic_sums.sum(axis=0), n, out=shifts, where=n > 0)
        return shifts

    def atomic(self, shifts: FloatArray, element: int | None = None) -> Summary:
        """Return Max and RMSE of atomic energies, eV, less a shift of each element.

        Their MAE is NaN: it does not follow from sums.

        Parameters
        ----------
        shifts : (n_elements)
            eV, mostly `atomic_shifts` of all frames.
        element : int, optional
            Its index; default all.
        """
        own = self.counts.any(axis=0)
        which = [element] if element is not None else np.flatnonzero(own).tolist()
        n = int(self.counts[:, which].sum())
        if n == 0 or np.isnan(self.atomic_sums[:, which]).any():
            return Summary(0, float("nan"), float("nan"), float("nan"))
        counts, sums, squares = (
            x[:, which].sum(axis=0) for x in (self.counts, self.atomic_sums, self.atomic_squares)
        )
        shift = shifts[which]
        square = float((squares - 2 * shift * sums + counts * shift**2).sum()) / n
        there = self.counts[:, which] > 0
        beyond = (self.atomic_high[:, which] - shift, shift - self.atomic_low[:, which])
        largest = max(float(part[there].max()) for part in beyond)
        return Summary(n, largest, max(square, 0.0) ** 0.5, float("nan"))

    def worst(self, n: int) -> IntArray:
        """Return the rows of the n frames with the largest |F − F'|, the worst first."""
        size = self.largest[:, :, 2].max(axis=1)
        return np.argsort(-size, kind="stable")[:n]


def frame_errors(
    frame_ids: npt.ArrayLike,
    numbers: IntArray,
    elements: Sequence[int],
    reference: tuple[Any, ...],
    predicted: tuple[Any, ...],
    stress: FloatArray | None = None,
) -> FrameErrors:
    """Compare forces (n_frames, n_atoms, 3) and energies (n_frames) of the same atoms.

    Parameters
    ----------
    elements : sequence of int
        Atomic numbers that the second axis of the result stands for.
    reference, predicted : (forces, energy) or (forces, energy, atomic energies)
    stress : (n_frames, 6), optional
        What `stress_errors` found.

    Examples
    --------
    >>> forces = np.zeros((1, 2, 3)); other = forces.copy(); other[0, 1] = [3, 0, 4]
    >>> errors = frame_errors([7], np.array([11, 17]), [11, 17], (forces, [0.0]), (other, [0.5]))
    >>> errors.forces("force_vector", 1), errors.energies().max
    (Summary(n=1, max=5.0, rmse=5.0, mae=5.0), 0.25)
    """
    forces, energy = (np.asarray(x, float) for x in reference[:2])
    other, other_energy = (np.asarray(x, float) for x in predicted[:2])
    difference = np.abs(other - forces)
    norm = np.linalg.norm
    vector = norm(difference, axis=2)
    magnitude = np.abs(norm(other, axis=2) - norm(forces, axis=2))
    n_frames = len(forces)
    shape = (n_frames, len(elements))
    counts = np.zeros(shape, np.int64)
    sums, squares, largest = (np.zeros((*shape, 3)) for _ in range(3))
    atomic = np.full((4, *shape), np.nan)
    if len(reference) > 2 and len(predicted) > 2:
        of_atoms = np.asarray(predicted[2], float) - np.asarray(reference[2], float)
        atomic[:] = 0.0
    else:
        of_atoms = np.full(forces.shape[:2], np.nan)
    for s, z in enumerate(elements):
        mask = numbers == z
        if not mask.any():
            continue
        counts[:, s] = np.count_nonzero(mask)
        errors = (difference[:, mask].reshape(n_frames, -1), magnitude[:, mask], vector[:, mask])
        for q, error in enumerate(errors):
            sums[:, s, q] = error.sum(1)
            squares[:, s, q] = (error**2).sum(1)
            largest[:, s, q] = error.max(1)
        own = of_atoms[:, mask]
        atomic[:, :, s] = own.sum(1), (own**2).sum(1), own.min(1), own.max(1)
    return FrameErrors(
        np.asarray(frame_ids, np.int64),
        counts,
        sums,
        squares,
        largest,
        (other_energy - energy) / forces.shape[1],
        vector.argmax(1),
        atomic[0],
        atomic[1],
        atomic[2],
        atomic[3],
        np.full((n_frames, 6), np.nan) if stress is None else stress,
    )


def stress_errors(cell: Any, reference: Any | None, predicted: Any | None) -> FloatArray | None:
    """Return the errors of stresses from virials, (n_frames, 6), GPa; None where one is missing.

    Parameters
    ----------
    cell, reference, predicted : (n_frames, 3, 3)
        Å; −∂E/∂ε in eV.

    Examples
    --------
    >>> apart = stress_errors(10 * np.eye(3)[None], np.zeros((1, 3, 3)), -np.eye(3)[None])
    >>> apart.round(5).tolist()
    [[0.16022, 0.16022, 0.16022, 0.0, 0.0, 0.0]]
    """
    if reference is None or predicted is None:
        return None
    volume = np.abs(np.linalg.det(cell))[:, None, None]
    apart = (np.asarray(reference, float) - predicted) / volume * (BAR / 1e4)
    apart = 0.5 * (apart + apart.transpose(0, 2, 1))
    found: FloatArray = apart[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    return found
