"""A file before it gets its name: does it give what schnetpack gives?

Random structures of all its species, at short, usual and long distances, and a periodic cell
smaller than the cutoff are evaluated by schnetpack itself, with its own neighbour list, modules and
postprocessors in double precision, and from the file: by its TorchScript, as one and as two ranks
would, and by its tables.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core.errors import MlselError
from mlsel.export_model.energy import Energy, reach
from mlsel.export_model.parts import torchscript
from mlsel.export_model.tables import WITHOUT
from mlsel.export_model.units import in_angstrom, in_ev
from mlsel.export_model.written_file import Answer, WrittenFile

DISTANCES = {"short": (0.06, 0.25), "usual": (0.3, 0.6), "long": (0.7, 1.02)}
"""From an atom to its next, in cutoffs."""
TOLERANCE = {"float64": 1e-9, "float32": 1e-3}
"""Largest difference of a force from schnetpack's, over the largest force there or a thousandth of
the largest in all structures: the TorchScript computes in this precision."""
TABLE_TOLERANCE = {"float64": 1e-6, "float32": 1e-4}
"""The same of the tables, evaluated in double: what they lose, thirty times and more over."""


_Way = tuple[str, Callable[[Any], Answer], float]


def structures(numbers: Sequence[int], cutoff: float) -> dict[str, Any]:
    """Return random structures of all the elements: where their distances are → ase.Atoms.

    All are periodic; the cell of each but the last is too large for that to matter.
    """
    from ase import Atoms

    rng = np.random.default_rng(1)
    species = (list(numbers) * 12)[: max(12, len(numbers))]
    found: dict[str, Any] = {}
    for name, (nearest, farthest) in DISTANCES.items():
        positions = [np.zeros(3)]
        while len(positions) < len(species):
            direction = rng.normal(size=3)
            direction *= rng.uniform(nearest, farthest) * cutoff / np.linalg.norm(direction)
            place = positions[rng.integers(len(positions))] + direction
            if np.linalg.norm(np.array(positions) - place, axis=1).min() > nearest * cutoff:
                positions.append(place)
        extent = np.ptp(positions, axis=0).max()
        atoms = Atoms(rng.permutation(species), positions, pbc=True)
        atoms.set_cell(np.eye(3) * (extent + 2.2 * cutoff))
        found[f"{name} distances"] = atoms
    cell = 0.8 * cutoff * (np.eye(3) + np.tril(rng.uniform(-0.2, 0.2, (3, 3)), -1))
    corners = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    places = corners + rng.uniform(-0.05, 0.05, (4, 3))
    found["a small cell"] = Atoms((list(numbers) * 4)[:4], scaled_positions=places, cell=cell,
                                  pbc=True)  # fmt: skip
    return found


class Reference:
    """A model of schnetpack, evaluated by schnetpack in double precision."""

    def __init__(
        self, model: Any, offsets: Mapping[str, float], energy_unit: Any, length_unit: Any
    ) -> None:
        import torch

        with torchscript():
            from schnetpack.interfaces import AtomsConverter
            from schnetpack.transform import CastMap, CastTo32, CastTo64, MatScipyNeighborList

        self.ev, self.angstrom = in_ev(energy_unit, ""), in_angstrom(length_unit, "")
        self.offsets = offsets
        energy = Energy.of(model)
        self.key, self.force_key = energy.key, energy.force_key
        self.model = copy.deepcopy(model).cpu().double().eval()
        self.model.postprocessors = torch.nn.ModuleList(
            one for one in self.model.postprocessors
            if not isinstance(one, CastMap | CastTo32 | CastTo64)
        )  # fmt: skip
        cutoff = reach(model.representation.cutoff_fn)
        self.converter = AtomsConverter(MatScipyNeighborList(cutoff=cutoff), dtype=torch.float64)

    def __call__(self, atoms: Any) -> Answer:
        import torch

        scaled = atoms.copy()
        scaled.set_cell(atoms.cell.array / self.angstrom, scale_atoms=False)
        scaled.positions /= self.angstrom
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # schnetpack's own, of NumPy's and torch's novelties
            inputs = self.converter(scaled)
            positions = inputs["_positions"].requires_grad_()
            outputs = self.model(inputs)
        energy = outputs[self.key].sum()
        if self.force_key is not None:
            forces = outputs[self.force_key]
        else:
            forces = -torch.autograd.grad(energy, positions)[0]
        offset = sum(self.offsets[symbol] for symbol in atoms.get_chemical_symbols())
        return Answer(
            float(energy.detach()) * self.ev + offset,
            forces.detach().numpy() * (self.ev / self.angstrom),
        )


def check_potential(
    path: Path,
    model: Any,
    offsets: Mapping[str, float],
    energy_unit: str | float,
    length_unit: str | float,
) -> None:
    """Compare the file with schnetpack's model.

    Raises
    ------
    MlselError
        If they differ, or schnetpack cannot evaluate its model.
    """
    file = WrittenFile(path)
    dtype = file.metadata["dtype"]
    tolerance = TOLERANCE[dtype]
    reference = Reference(model, offsets, energy_unit, length_unit)
    ways: list[_Way] = [
        ("its TorchScript", lambda atoms: file.torchscript(atoms, 1), tolerance),
        ("its TorchScript on two ranks", lambda atoms: file.torchscript(atoms, 2), tolerance),
    ]
    if file.compressed is not None:
        ways.append(("its tables", file.tables, TABLE_TOLERANCE[dtype]))
    _compare(file, reference, "the model", ways)


def check_module(path: Path) -> None:
    """Compare one rank and two, for a module that schnetpack does not know.

    Raises
    ------
    MlselError
        If they differ.
    """
    file = WrittenFile(path)
    two = lambda atoms: file.torchscript(atoms, 2)  # noqa: E731
    _compare(
        file, lambda atoms: file.torchscript(atoms, 1), "one rank",
        [("its TorchScript on two ranks", two, TOLERANCE[file.metadata["dtype"]])],
    )  # fmt: skip


def _compare(
    file: WrittenFile, reference: Callable[[Any], Answer], who: str, ways: Sequence[_Way]
) -> None:
    configurations = structures(file.metadata["numbers"], file.cutoff)
    expected = {where: _asked(reference, atoms, where) for where, atoms in configurations.items()}
    forces = {where: float(np.abs(one.forces).max()) for where, one in expected.items()}
    for where, atoms in configurations.items():
        right, n = expected[where], len(atoms)
        scale = max(forces[where], 1e-3 * max(forces.values()))
        network = abs(right.energy - file.offset(atoms))
        for way, evaluate, tolerance in ways:
            found = evaluate(atoms)
            force = float(np.abs(found.forces - right.forces).max())
            # energies: over 1 Å times the force an atom, and their own rounding
            allowed = 0.1 * tolerance * (n * scale + network) + 1e-12 * abs(right.energy)
            if force <= tolerance * scale and abs(found.energy - right.energy) <= allowed:
                continue
            advice = WITHOUT if way == "its tables" else "part of the model is not understood here"
            raise MlselError(
                f"The file was not written: at {where} {way} would give {found.energy:.9g} eV "
                f"where {who} gives {right.energy:.9g}, and forces up to {force:.2g} eV/Å off (the "
                f"largest is {forces[where]:.3g}): {advice}."
            )


def _asked(reference: Callable[[Any], Answer], atoms: Any, where: str) -> Answer:
    try:
        answer = reference(atoms)
    except Exception as error:  # whatever a module of the model's raises
        reason = (str(error).strip().splitlines() or [""])[0][:150]
        raise MlselError(
            f"The model cannot be evaluated, at {where} ({type(error).__name__}: {reason}), so "
            "that the file could not be compared with it: it was not written."
        ) from error
    if not (np.isfinite(answer.forces).all() and np.isfinite(answer.energy)):
        raise MlselError(
            f"The model gives no finite energy and forces at {where}: the file was not written."
        )
    return answer
