"""A fitted pair potential: its file, its predictions, and what LAMMPS reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core.errors import MlselError
from mlsel.core.neighbours import LARGEST
from mlsel.training.base import Prediction, TrainedModel
from mlsel.training.description import LARGEST_ENERGY, element_energies, numbers_of
from mlsel.training.frames import Frames
from mlsel.training.pair.basis import Basis
from mlsel.training.pair.curve import Curves

PRODUCT = "pair.json"
LAMMPS_FILE = "pair.eam.alloy"


class PairModel(TrainedModel):
    """A pair potential, E = Σ_i e(Z_i) + Σ_{i<j} u(Z_i, Z_j, r_ij); half of u is each atom's."""

    kind = "pair"
    files = (PRODUCT, LAMMPS_FILE)

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder, self.facts = folder, facts
        self.numbers = numbers_of(facts)
        self.energies = element_energies(facts["element_energies"], self.numbers)
        coefficients = np.array(facts["coefficients"], float)
        starts = np.array(facts["starts"], float)
        basis = Basis(self.numbers, float(facts["cutoff"]), coefficients.shape[1])
        n_curves = len(basis.curves)
        if len(coefficients) != n_curves or starts.shape != (n_curves,):
            raise ValueError("coefficients and starts are not of the pairs of elements")
        if not (
            (np.abs(coefficients) < LARGEST_ENERGY).all()
            and (np.abs(starts) < LARGEST).all()
            and 0 < basis.cutoff < LARGEST
        ):
            raise ValueError("a coefficient, a start or the cutoff makes no sense")
        self.curves = Curves(basis, coefficients, starts)

    @classmethod
    def load(cls, folder: Path) -> PairModel:
        path = folder / PRODUCT
        try:
            return cls(folder, json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise MlselError(
                f"{folder} holds no pair potential ({PRODUCT} is missing): train it with "
                "`mlsel training`."
            ) from None
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            raise MlselError(f"{path} is damaged: train the model again.") from None

    def predict(self, frames: Frames) -> Prediction:
        self.check(frames.numbers)
        n, n_atoms = len(frames), frames.n_atoms
        alone = np.array([self.energies[int(z)] for z in frames.numbers])
        atomic, forces = np.tile(alone, (n, 1)), np.zeros((n, n_atoms, 3))
        virial = np.zeros((n, 3, 3))
        for k in range(n):
            pairs = self.curves.basis.find(
                frames.numbers, frames.positions[k], frames.cell[k], frames.periodic
            )
            energy, slope = self.curves(pairs.curve, pairs.distance)
            pull = slope[:, None] * pairs.unit
            for atoms, sign in ((pairs.first, 1.0), (pairs.second, -1.0)):
                atomic[k] += np.bincount(atoms, 0.5 * energy, n_atoms)
                for axis in range(3):
                    forces[k, :, axis] += np.bincount(atoms, sign * pull[:, axis], n_atoms)
            virial[k] = -(pull * pairs.distance[:, None]).T @ pairs.unit
        return Prediction(
            atomic.sum(axis=1), forces, atomic, virial if all(frames.periodic) else None
        )

    def lammps_commands(self, species: Sequence[str]) -> list[str]:
        self.check_species(species)
        path = (self.folder / LAMMPS_FILE).resolve()
        return ["pair_style eam/alloy", f'pair_coeff * * "{path}" {" ".join(species)}']

    def calculator(self) -> Any:
        from mlsel.training.calculator import ModelCalculator

        return ModelCalculator(self)
