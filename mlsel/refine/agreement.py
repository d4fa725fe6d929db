"""Whether new labels go with those that frames came with: by their units, and their zero."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from mlsel.core.arrays import FloatArray
from mlsel.core.errors import MlselError
from mlsel.refine.labelled import label_file

if TYPE_CHECKING:
    from mlsel.pool.pool import Pool

ALIKE = 3.0
"""Ratio of forces beyond which the labels are in other units, or of another material."""
ALONG, FELT = 0.2, 0.1
"""Cosine between old and new forces below which these are of another sign, or of the atoms in
another order; by judgement. Forces of less than FELT eV/Å (rms) tell nothing of that."""
VARY_ALIKE = 5.0
"""The same of how energies vary from frame to frame, by which nearly equal frames tell less."""
LEAST = 1e-4
"""eV/atom: energies that vary less tell nothing of units."""
APART = 0.05
"""eV/atom: energies that are farther from a training set's can't be learnt beside them."""
KEPT = ("old", "new", "along", "taught", "old_energy", "label_energy")
"""Of a frame's file: mean squares of the frame's, the labeller's and a teacher's forces and mean
product of the first two; energies."""


def refuse_other_units(pool: Pool, folder: Path, frames: Sequence[int]) -> None:
    """Refuse labels, and a teacher, that are in other units than what the frames came with, or of
    another sign, or of the atoms in another order.

    Forces are compared by their size and direction, energies, whose zero is a code's own choice, by
    how they vary among frames of the same atoms.

    Raises
    ------
    MlselError
        If they are; the labels are taken away.
    """
    held = []
    for frame in frames:
        if label_file(folder, frame).is_file():
            with np.load(label_file(folder, frame)) as file:
                held.append([frame, *(float(file[key]) if key in file.files else np.nan
                                      for key in KEPT)])  # fmt: skip
    ids, old, new, along, taught, old_energy, energy = np.array(held).reshape(-1, 7).T
    labelled = np.isfinite(new)
    mine = np.where(labelled, new, old)
    was, varies = _variations(
        pool, ids.astype(int).tolist(), old_energy, np.where(labelled, energy, np.nan)
    )
    forces, energies = "Hartree/Bohr to eV/Å is 51.4", "Hartree to eV is 27.2"
    for one, other, most, units, what, whose in (
        (new, old, ALIKE, forces, "the new forces are", f"those that {pool.path} has"),
        (taught, mine, ALIKE, forces, "the forces of --atomic-energies-from are", "the labels'"),
        (varies, was, VARY_ALIKE, energies, "differences of the new energies are",
         f"those that {pool.path} has"),
    ):  # fmt: skip
        known = np.isfinite(one) & np.isfinite(other)
        if not known.any() or not one[known].sum() or not other[known].sum():
            continue
        ratio = float(np.sqrt(one[known].sum() / other[known].sum()))
        if not 1 / most <= ratio <= most:
            _refuse(
                folder,
                f"on {int(known.sum())} frames {what} {ratio:.3g} times {whose}, and must be "
                f"within a factor of {most:g}: other units ({units}), or another material?",
            )
    known = np.isfinite(along) & (np.sqrt(np.where(np.isfinite(old), old, 0.0)) > FELT)
    if known.any() and new[known].sum():
        cosine = float(along[known].sum() / np.sqrt(old[known].sum() * new[known].sum()))
        if cosine < ALONG:
            _refuse(
                folder,
                f"on {int(known.sum())} frames the new forces do not point where those of "
                f"{pool.path} do: the cosine between them is {cosine:.2f}, and must be {ALONG:g} "
                "or more: another sign (gradients), or the atoms in another order?",
            )


def _refuse(folder: Path, sentence: str) -> NoReturn:
    from mlsel.core.files import take_away

    take_away(folder)
    raise MlselError(f"{sentence} Nothing is labelled.")


def _variations(pool: Pool, frames: Sequence[int], *energies: FloatArray) -> tuple[FloatArray, ...]:
    """Return the squares of energies an atom less their means over frames of the same atoms; NaN
    where there are too few of these, or the first energies are all but equal."""
    atoms = [np.sort(pool.numbers(pool.runs[run])) for run in pool.locate(frames)[0]]
    kinds = [numbers.tobytes() for numbers in atoms]
    per_atom = [np.asarray(energy) / [len(a) for a in atoms] for energy in energies]
    known = np.all([np.isfinite(energy) for energy in per_atom], axis=0)
    found = [np.full(len(kinds), np.nan) for _ in energies]
    for kind in set(kinds):
        here = known & [k == kind for k in kinds]
        if here.sum() > 2:
            for squares, energy in zip(found, per_atom, strict=True):
                squares[here] = (energy[here] - energy[here].mean()) ** 2
    if np.isfinite(found[0]).any() and np.sqrt(np.nanmean(found[0])) < LEAST:
        found[0][:] = np.nan
    return tuple(found)


def other_zero(known: Pool, labelled: Pool, whose: str) -> str:
    """Say what is wrong with energies that can't be learnt beside those of a training set, or "".

    Parameters
    ----------
    known, labelled : Pool
        Frames of the training set, and what a labeller says of some of these.
    whose : str
        The labeller.
    """
    if "energy" not in known.fields:
        return ""
    frames = labelled.values("source_frame").astype(int)
    n_atoms = [len(known.numbers(known.runs[run])) for run in known.locate(frames)[0]]
    apart = (labelled.values("energy") - known.values("energy")[frames]) / n_atoms
    farthest = float(apart[np.abs(apart).argmax()])
    if abs(farthest) <= APART:
        return ""
    return (
        f"{whose} gives a training frame an energy {farthest:+.3g} eV/atom from that which it has, "
        f"and {APART:g} is the most: other units, another zero, other settings? Frames of both "
        "would be learnt together: label the pool anew with `mlsel label`, or mend the calculator."
    )
