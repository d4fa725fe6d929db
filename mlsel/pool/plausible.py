"""Whether numbers look like the units that they are said to be in: warnings, never refusals.

A sample of the frames is looked at, the same whatever their order: those whose hashes are the
smallest.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import numpy as np

from mlsel.core import units
from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.core.errors import MlselError
from mlsel.core.neighbours import NeighborList
from mlsel.pool.incoming import Incoming

N_SAMPLE = 400
SUM_APART = 1e-3
"""eV/atom, of atomic energies' sum from the energy: rounding in files leaves a tenth of it."""
LARGE_FORCE = 12.0
"""eV/Å, rms of a component: hot melts have a fifth of it."""
FEWEST, ENOUGH_ATOMS = 40, 10_000
"""Of the sample so many atoms are looked at, and frames at least."""


class Plausibility:
    """Collects a sample of frames in our units, and warns of what was likely meant otherwise."""

    def __init__(self) -> None:
        self._sample: list[tuple[int, int, tuple[Array, Array, Array, bool, dict[str, Array]]]] = []
        self._n = 0

    def see(self, frames: Incoming, ranks: IntArray, labels: Mapping[str, Array]) -> None:
        """Take note of frames.

        Parameters
        ----------
        ranks : (F,)
            Hashes of their contents: the frames with the smallest are the sample.
        labels : of the frames, (F, …), by name
        """
        for k in np.argsort(ranks, kind="stable")[:N_SAMPLE]:
            rank = -int(ranks[k])
            if len(self._sample) == N_SAMPLE and rank <= self._sample[0][0]:
                return
            self._n += 1
            # Copies: a view would keep all the frames that it is one of.
            here = {label: values[k].copy() for label, values in labels.items()}
            positions, cell = frames.positions[k].copy(), frames.cell[k].copy()
            frame = frames.numbers, positions, cell, all(frames.periodic), here
            if len(self._sample) < N_SAMPLE:
                heapq.heappush(self._sample, (rank, self._n, frame))
            else:
                heapq.heapreplace(self._sample, (rank, self._n, frame))

    def warnings(self) -> list[str]:
        """Return what looks wrong, a sentence each."""
        frames = [frame for _, _, frame in sorted(self._sample, key=lambda item: -item[0])]
        n_atoms = np.cumsum([len(frame[0]) for frame in frames])
        frames = frames[: max(FEWEST, int((n_atoms <= ENOUGH_ATOMS).sum()))]
        found = [_of_lengths(frames), _of_energies(frames), _of_forces(frames), _of_sums(frames)]
        return [sentence for sentence in found if sentence]


_Frames = list[tuple[Array, Array, Array, bool, dict[str, Array]]]


def closeness(
    numbers: Array, positions: Array, cell: Array, periodic: bool, cutoff: float = 6.0
) -> float:
    """Return the shortest distance as a share of two covalent radii; inf beyond the cutoff."""
    from ase.data import covalent_radii

    if len(numbers) < 2 and not periodic:
        return np.inf
    neighbours = NeighborList(cutoff=cutoff, full_list=False)
    try:
        i, j, d = neighbours.compute(
            points=positions,
            box=cell if periodic else np.zeros((3, 3)),
            periodic=periodic,
            quantities="ijd",
        )
    except (RuntimeError, MlselError):  # a cell so small that it has too many images, or one so
        # large that it is no length
        return 0.0
    if not len(d):
        return np.inf
    return float((d / (covalent_radii[numbers[i]] + covalent_radii[numbers[j]])).min())


def _of_lengths(frames: _Frames) -> str:
    from ase.data import atomic_masses

    shares = np.array([closeness(*frame[:4]) for frame in frames if len(frame[0]) > 1])
    share = float(np.median(shares)) if len(shares) else np.nan
    dense: list[float] = []
    for numbers, _, cell, periodic, _ in frames:
        if periodic:
            dense.append(atomic_masses[numbers].sum() * units.DENSITY / abs(np.linalg.det(cell)))
    density = float(np.median(dense)) if dense else np.nan
    also = f", the density {density:.3g} g/cm³" if np.isfinite(density) else ""
    told = f"the shortest distance is {share:.2f} of the covalent radii's sum in the median{also}"
    if share < 0.3:
        return f"{told}: are lengths in nm (--length-unit nm)?"
    if np.isfinite(share) and share > 1.4:
        return f"{told}: are lengths in Bohr (--length-unit Bohr)? A gas or noble gas looks so too."
    if density > 30:
        return f"{told}: are lengths in nm, or is the cell's in another unit?"
    return ""


def _of_energies(frames: _Frames) -> str:
    """Thomas–Fermi: an atom of number Z has about −0.7687 Z^(7/3) Hartree, never much less."""
    shares = [
        float(-labels["energy"]) / (0.7687 * float((numbers ** (7 / 3)).sum()))
        for numbers, _, _, _, labels in frames
        if "energy" in labels
    ]
    if not shares:
        return ""
    share, hartree = float(np.median(shares)), units.factor("Hartree", "energy")
    per_atom = np.median([float(f[4]["energy"]) / len(f[0]) for f in frames if "energy" in f[4]])
    told = f"the energy is {per_atom:.6g} eV an atom in the median"
    if abs(share) > 1.1 * hartree:
        return f"{told}, more than all electrons have: is it in kcal/mol or kJ/mol (--energy-unit)?"
    if 0.6 < share < 1.02:
        return (
            f"{told}, {share:.2f} of all electrons' energy in Hartree: is it in Hartree "
            "(--energy-unit Hartree)?"
        )
    return ""


def _of_forces(frames: _Frames) -> str:
    sizes: list[FloatArray] = [f[4]["forces"] for f in frames if "forces" in f[4]]
    with np.errstate(over="ignore"):  # what is no force is told as too large
        moved = [float(np.sqrt((size**2).mean())) for size in sizes if size.any() and len(size) > 1]
    if not moved:
        return ""
    rms = float(np.median(moved))
    told = f"forces are {rms:.3g} eV/Å (rms of a component, median of the frames)"
    if rms > LARGE_FORCE:
        return f"{told}: are they in kcal/mol/Å or kJ/mol/nm (--force-unit, --energy-unit)?"
    if rms < 0.03:
        return (
            f"{told}: are they in Hartree/Bohr (--force-unit Hartree/Bohr)? Relaxed structures "
            "look so too."
        )
    return ""


def _of_sums(frames: _Frames) -> str:
    apart = [
        (float(labels["atomic_energies"].sum()) - float(labels["energy"])) / len(numbers)
        for numbers, _, _, _, labels in frames
        if "energy" in labels and "atomic_energies" in labels
    ]
    middle = float(np.median(apart)) if apart else 0.0
    if not abs(middle) > SUM_APART:
        return ""
    side = "above" if middle > 0 else "below"
    return (
        f"the sum of the atomic energies is {abs(middle):.3g} eV/atom {side} the energy in the "
        "median: other units, another zero, or a part alone? Methods that choose by them see "
        "what they say, and no potential learns both."
    )
