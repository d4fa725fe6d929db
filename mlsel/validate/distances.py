"""Distances in frames of any periodic cell: the shortest of each pair of species, peaks of RDFs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import FloatArray
from mlsel.core.neighbours import NeighborList
from mlsel.pool.pool import Pool
from mlsel.validate.rdf import main_peak
from mlsel.validate.stability import pair_names

if TYPE_CHECKING:
    from pathlib import Path

    from mlsel.study.study import Study

PEAK_BINS, PEAK_CUTOFF = 60, 6.0


def atom_types(numbers: npt.NDArray[np.int64], study: Study) -> npt.NDArray[np.int64]:
    from ase.data import chemical_symbols

    return np.array([study.system.species.index(chemical_symbols[z]) for z in numbers])


def closest_distances(
    positions: FloatArray,
    cell: FloatArray,
    types: npt.NDArray[np.int64],
    n_types: int,
    periodic: tuple[bool, bool, bool] = (True, True, True),
) -> FloatArray:
    """Return the shortest distance of each pair of types, (n_pairs,), Å, in any periodic cell.

    The pairs are (0, 0), (0, 1), …, (1, 1), …; an atom and its own images are none. Infinite where
    there is no such pair.

    >>> closest_distances(np.array([[0.0, 0, 0], [9.0, 0, 0], [5.0, 0, 0]]), 10 * np.eye(3),
    ...     np.array([0, 1, 1]), 2).tolist()
    [inf, 1.0, 4.0]
    """
    counts = np.bincount(types, minlength=n_types)
    rows, columns = np.triu_indices(n_types)
    wanted = np.where(rows == columns, counts[rows] > 1, counts[rows] * counts[columns] > 0)
    shortest: FloatArray = np.full(len(rows), np.inf)
    extent = np.ptp(positions, axis=0)
    reach, farthest = 4.0, float(np.linalg.norm(cell, axis=1).sum() + np.linalg.norm(extent))
    while np.isinf(shortest[wanted]).any() and reach < 2 * farthest:
        pairs, distances, _ = _distances(positions, cell, types, n_types, reach, periodic)
        for place in np.flatnonzero(wanted):
            of_pair = distances[pairs == place]
            shortest[place] = of_pair.min() if of_pair.size else np.inf
        reach *= 2
    return shortest


def _distances(
    positions: FloatArray,
    cell: FloatArray,
    types: npt.NDArray[np.int64],
    n_types: int,
    reach: float,
    periodic: tuple[bool, bool, bool] = (True, True, True),
    *,
    with_images: bool = False,
) -> tuple[npt.NDArray[np.int64], FloatArray, npt.NDArray[np.bool_]]:
    """The pair of types and the distance of all pairs of atoms within reach, each once, and
    whether it is one of two atoms and none of an atom and its own image."""
    table = np.zeros((n_types, n_types), np.int64)
    rows, columns = np.triu_indices(n_types)
    table[rows, columns] = table[columns, rows] = np.arange(len(rows))
    neighbours = NeighborList(cutoff=reach, full_list=False, sorted=False, n_threads=1)
    first, second, distances = neighbours.compute(
        points=np.ascontiguousarray(positions), box=np.ascontiguousarray(cell),
        periodic=list(periodic), quantities="ijd",
    )  # fmt: skip
    first, second, distances = first.astype(np.int64), second.astype(np.int64), distances.copy()
    others = first != second
    kept = np.ones(len(others), bool) if with_images else others
    pairs = table[types[first[kept]], types[second[kept]]]
    return pairs, np.asarray(distances)[kept], others[kept]


def pair_counts(
    positions: FloatArray,
    cell: FloatArray,
    types: npt.NDArray[np.int64],
    n_types: int,
    edges: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Return a histogram of distances of each pair of types, and the shortest ones.

    Returns
    -------
    counts : (n_pairs, n_bins)
        Neighbours of the second type around all atoms of the first, an atom's own images too.
    closest : (n_pairs,), Å
        Infinite where no two atoms are within the last edge.
    """
    pairs, distances, are_two = _distances(
        positions, cell, types, n_types, float(edges[-1]), with_images=True
    )
    rows, columns = np.triu_indices(n_types)
    counts = np.empty((len(rows), len(edges) - 1))
    closest: FloatArray = np.full(len(rows), np.inf)
    for place in range(len(rows)):
        here = pairs == place
        # A pair of one type is two neighbours, each of the other.
        counts[place] = np.histogram(distances[here], edges)[0] * (
            2 if rows[place] == columns[place] else 1
        )
        apart = distances[here & are_two]
        closest[place] = apart.min() if apart.size else np.inf
    return counts, closest


def main_peaks(product: Path, study: Study) -> str:
    """Return position and height of the main peak of each pair's RDF in a
    file of frames, in words."""
    species = study.system.species
    names = pair_names(species)
    edges = np.linspace(0, PEAK_CUTOFF, PEAK_BINS + 1)
    r, shells = (edges[1:] + edges[:-1]) / 2, np.diff(4 / 3 * np.pi * edges**3)
    g = []
    with Pool(product) as pool:
        types = atom_types(pool.numbers(pool.runs[0]), study)
        counts = np.bincount(types, minlength=len(species)).astype(float)
        rows, columns = np.triu_indices(len(species))
        n_pairs = np.where(rows == columns, counts[rows] ** 2 / 2, counts[rows] * counts[columns])
        for part in pool.blocks("positions", "cell"):
            for positions, cell in zip(part["positions"], part["cell"], strict=True):
                pairs, distances, _ = _distances(positions, cell, types, len(species), PEAK_CUTOFF)
                uniform = np.outer(n_pairs / abs(np.linalg.det(cell)), shells)
                counted = [np.histogram(distances[pairs == k], edges)[0] for k in range(len(names))]
                g.append(np.array(counted) / np.maximum(uniform, 1e-300))
    mean = np.repeat(np.mean(g, axis=0)[None], 8, axis=0)
    peaks = [main_peak(r, mean[:, k]) for k in range(len(names))]
    return ", ".join(
        f"{name} {float(peak.position.value):.2f} Å high {float(peak.height.value):.1f}"
        for name, peak in zip(names, peaks, strict=True)
    )
