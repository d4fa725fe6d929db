"""The terms of a GAP: descriptors with their kernels, as gap_fit writes them and as we fit them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, Protocol

import numpy as np

from mlsel.core.arrays import FloatArray

TWO_BODY_POINTS = 20
TWO_BODY_WIDTH = 1.0
"""Å, of the Gaussians."""
TWO_BODY = {
    "covariance_type": "ard_se",
    "theta_uniform": TWO_BODY_WIDTH,
    "n_sparse": TWO_BODY_POINTS,
    "sparse_method": "uniform",
    "add_species": "T",
}
"""The descriptor distance_2b: Gaussians of the distance, at even distances."""


class Settings(Protocol):
    """What a GAP and its fit are to be; see `mlsel.study.sections.training.GapSection`."""

    name: str
    n_sparse: int
    sparse_method: str
    two_body: bool
    two_body_delta: float
    force_sigma: float
    energy_sigma: float
    virial_sigma: float
    n_max: int
    l_max: int
    atom_sigma: float
    zeta: float
    cutoff: float
    cutoff_transition_width: float
    delta: float
    jitter: float
    seed: int


@dataclass(frozen=True)
class Term:
    """A descriptor and its kernel: a SOAP of one element, or the distance of a pair.

    Attributes
    ----------
    line : str
        The descriptor's words.
    elements : tuple of int
        The central atom's, or the pair's two.
    cutoff, width : float
        Å; over the width before the cutoff an atom's influence ends.
    delta : float
        eV; the kernel is delta² times one that is 1 where two descriptors are the same.
    n_points : int
        How many sparse points it shall have.
    zeta : float
        The power of the dot product of two SOAPs.
    theta : float
        Å, the width of the squared exponential of two distances; 0: it is a SOAP.
    """

    line: str
    elements: tuple[int, ...]
    cutoff: float
    width: float
    delta: float
    n_points: int
    zeta: float = 0.0
    theta: float = 0.0

    @property
    def is_pair(self) -> bool:
        return self.theta > 0

    def kernel(self, sparse: SparsePoints) -> FloatArray:
        """Return the covariances of sparse points with each other, (n, n), eV²."""
        points = sparse.points
        if self.is_pair:
            bare = np.exp(-0.5 * ((points - points.T) / self.theta) ** 2)
        else:
            bare = (points @ points.T) ** self.zeta
        covariances: FloatArray = self.delta**2 * bare * sparse.cutoffs * sparse.cutoffs[:, None]
        return covariances


@dataclass(frozen=True)
class SparsePoints:
    """A term's sparse points.

    Attributes
    ----------
    points : float64, (n, n_dimensions)
        Descriptors as QUIP has them.
    cutoffs : float64, (n)
        Their cutoff functions: 1 for SOAPs.
    """

    points: FloatArray
    cutoffs: FloatArray

    def __len__(self) -> int:
        return len(self.points)


def terms_of(
    settings: Settings, elements: Sequence[int], pairs: Collection[tuple[int, int]]
) -> list[Term]:
    """Return the terms of a GAP, as gap_fit makes them of `words_of`: pairs first.

    Parameters
    ----------
    settings : Settings
    elements : sequence of int
        Atomic numbers, in order.
    pairs : collection of pairs of these
        That come within the cutoff: another pair has no term.
    """
    made = []
    for z1, z2 in combinations_with_replacement(elements, 2) if settings.two_body else ():
        if (z1, z2) in pairs:
            made.append(
                Term(
                    _line("distance_2b", {**_pair_words(settings), "Z1": z1, "Z2": z2}),
                    (z1, z2),
                    settings.cutoff,
                    settings.cutoff_transition_width,
                    settings.two_body_delta,
                    TWO_BODY_POINTS,
                    theta=TWO_BODY_WIDTH,
                )
            )
    species = f"{{{' '.join(map(str, elements))}}}"
    for z in elements:
        words = {
            **_soap_words(settings), "n_species": len(elements), "Z": z, "species_Z": species
        }  # fmt: skip
        made.append(
            Term(
                _line("soap", words),
                (z,),
                settings.cutoff,
                settings.cutoff_transition_width,
                settings.delta,
                settings.n_sparse,
                zeta=settings.zeta,
            )
        )
    return made


def words_of(settings: Settings) -> str:
    """Return gap_fit's argument `gap`."""
    descriptors = [_line("soap", _soap_words(settings))]
    if settings.two_body:
        descriptors.insert(0, _line("distance_2b", _pair_words(settings)))
    return " : ".join(descriptors)


def _soap_words(settings: Settings) -> dict[str, Any]:
    return {
        "n_max": settings.n_max,
        "l_max": settings.l_max,
        "atom_sigma": settings.atom_sigma,
        "zeta": f"{settings.zeta:g}",
        "cutoff": settings.cutoff,
        "cutoff_transition_width": settings.cutoff_transition_width,
        "delta": settings.delta,
        "covariance_type": "dot_product",
        "n_sparse": settings.n_sparse,
        "sparse_method": settings.sparse_method,
        "add_species": "T",
    }


def _pair_words(settings: Settings) -> dict[str, Any]:
    return {
        "cutoff": settings.cutoff,
        "cutoff_transition_width": settings.cutoff_transition_width,
        "delta": settings.two_body_delta,
        **TWO_BODY,
    }


def _line(descriptor: str, values: Mapping[str, Any]) -> str:
    """Return a descriptor as gap_fit reads it."""
    return " ".join([descriptor, *(f"{key}={value}" for key, value in values.items())])
