"""A trained model as a teacher: its atomic energies beside labels that have none.

A DFT code gives an energy of all atoms together, and the methods that choose by the energies of
atoms have nothing to choose by. A model that was trained on some of the frames has such energies.
They are the model's: their sum is its own energy, not the label's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core.errors import MlselError
from mlsel.refine.labeller import NotLabelled, are_shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlsel.core.arrays import FloatArray, IntArray
    from mlsel.pool.pool import Pool

ROUNDING = 1e-5
"""Relative, and in eV: how far sums of energies that a network computed in float32 may be off."""


class Teacher:
    """Gives frames the atomic energies of a trained model.

    Raises
    ------
    MlselError
        If the folder holds no model.
    """

    def __init__(self, folder: Path) -> None:
        from mlsel.training.description import model_digest
        from mlsel.training.registry import load_model

        self._model = load_model(folder)
        self.name = f"{folder} ({model_digest(folder)[:12]})"
        """Who made the atomic energies: a folder, and a hash of the model in it."""
        self._folder = folder

    def check(self, pool: Pool) -> None:
        """Raise MlselError unless the model knows the elements of all frames."""
        for run in pool.runs:
            self._model.check(pool.numbers(run))

    def atomic_energies(
        self,
        numbers: IntArray,
        positions: FloatArray,
        cell: FloatArray,
        periodic: tuple[bool, bool, bool],
    ) -> tuple[FloatArray, FloatArray]:
        """Return the atomic energies (N,), eV, that the model says, and its forces (N, 3), eV/Å.

        Raises
        ------
        MlselError
            If the model has no atomic energies, or they are no shares of its energy.
        NotLabelled
            If they are NaN or infinite.
        """
        from mlsel.training.frames import Frames

        said = self._model.predict(Frames(numbers, positions[None], cell[None], periodic))
        atomic = np.asarray(said.atomic_energies, float)
        if atomic.shape != (1, len(numbers)):
            raise MlselError(
                f"{self._folder}, a model of the kind {self._model.kind}, gives no energy of each "
                "atom: name another model with --atomic-energies-from."
            )
        energy = float(said.energy[0])
        if not np.isfinite(atomic).all() or not np.isfinite(energy):
            raise NotLabelled(f"the atomic energies of {self._folder} are NaN or infinite")
        if not are_shares(atomic[0], energy, ROUNDING):
            raise MlselError(
                f"{self._folder} says {energy:.10g} eV of a frame, and its atomic energies add up "
                f"to {atomic.sum():.10g} eV: they are no shares of its energy (LAMMPS's tail "
                "correction has none). Name another model with --atomic-energies-from."
            )
        return atomic[0], said.forces[0]


def disagreement(
    energies: Sequence[float], sums: Sequence[float], atoms: Sequence[Sequence[int]]
) -> str:
    """Say how far the sums of atomic energies are from the labels' energies, per atom.

    A constant of each element, which no selection sees within one element, is taken off first.

    Parameters
    ----------
    energies, sums : (F,), eV
        Of the label, and of the model's atomic energies.
    atoms : (F, n_elements)
        Atoms of each element.

    Examples
    --------
    >>> disagreement([-4.0, -4.1, -4.3], [-6.0, -6.1, -6.3], [[1, 1]] * 3)
    'their sums differ from the energies by 0 meV/atom rms, where these vary by 62.4'
    >>> disagreement([-4.0, -4.2, -4.0], [-4.0, -4.0, -4.2], [[1, 1]] * 3)
    ... # doctest: +ELLIPSIS
    'their sums differ from the energies by 81.6 meV/atom rms, where these vary by 47.1: ...'
    """
    counts = np.array(atoms, float)
    size = counts.sum(1)
    of_label, of_model = np.array(energies) / size, np.array(sums) / size
    share = counts / size[:, None]

    def spread(values: FloatArray) -> float:
        constants = np.linalg.lstsq(share, values)[0]
        return 1000 * float(np.sqrt(np.mean((values - share @ constants) ** 2)))

    off, varied = spread(of_model - of_label), spread(of_label)
    off = off if off > 1e-6 else 0.0
    text = (
        f"their sums differ from the energies by {off:.3g} meV/atom rms, where these vary by "
        f"{varied:.3g}"
    )
    if off > varied > 0:
        text += (
            ": the model says nothing of what these energies differ by, and a selection by its "
            "atomic energies says no more. Train it on some of these frames"
        )
    return text
