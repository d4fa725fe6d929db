"""An ASE calculator of any trained model."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from mlsel.training.base import TrainedModel
from mlsel.training.frames import Frames


class ModelCalculator(Calculator):
    """ASE's interface to `TrainedModel.predict`: energy, energies, forces, stress.

    Of a model that can tell also "sigma", the uncertainty of each atom's energy (eV), when asked:
    ``atoms.calc.get_property("sigma", atoms)``.

    Examples
    --------
    ``atoms.calc = load_model("study/models/random/schnet-small-e0.01").calculator()``
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
    ]

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.model = model
        if model.has_uncertainty:
            self.implemented_properties = [*self.implemented_properties, "sigma"]  # type: ignore[misc]

    def calculate(
        self,
        atoms: Any = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        a, b, c = (bool(p) for p in atoms.pbc)
        frames = Frames(
            np.asarray(atoms.numbers, np.int64),
            atoms.get_positions()[None],
            atoms.cell.array[None],
            (a, b, c),
        )
        prediction = self.model.predict(frames)
        energy = float(prediction.energy[0])
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": prediction.atomic_energies[0],
            "forces": prediction.forces[0],
        }
        if "sigma" in properties:
            self.results["sigma"] = self.model.uncertainty(frames)[0]
        if prediction.virial is not None and all(atoms.pbc):
            stress = -prediction.virial[0] / atoms.get_volume()
            self.results["stress"] = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
