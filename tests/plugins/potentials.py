"""Models of schnetpack for the tests of the export, with random weights; and what schnetpack says
of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlsel.export_model.parts import torchscript
from mlsel.export_model.written_file import Answer

CUTOFF = 5.0


def modules() -> Any:
    with torchscript():
        import schnetpack

    return schnetpack


def potential(
    outputs: Sequence[Any] | None = None,
    *,
    kind: str = "SchNet",
    inputs: Sequence[Any] = (),
    postprocessors: Sequence[Any] = (),
    basis: Any = None,
    forces: Sequence[Any] | None = None,
    cutoff: float = CUTOFF,
    **more: Any,
) -> Any:
    """A small model in float64: an Atomwise and Forces if no others are given."""
    import torch

    spk = modules()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        representation = getattr(spk.representation, kind)(
            n_atom_basis=12,
            n_interactions=2,
            radial_basis=basis or spk.nn.GaussianRBF(10, cutoff),
            cutoff_fn=spk.nn.CosineCutoff(cutoff),
            **more,
        )
        outputs = [atomwise()] if outputs is None else outputs
    return spk.model.NeuralNetworkPotential(
        representation,
        input_modules=[spk.atomistic.PairwiseDistances(), *inputs],
        output_modules=[*outputs, *([spk.atomistic.Forces()] if forces is None else forces)],
        postprocessors=list(postprocessors),
    ).double()


def atomwise(key: str = "energy", seed: int = 2, **more: Any) -> Any:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return modules().atomistic.Atomwise(12, output_key=key, **more)


def elemental(elements: Sequence[int] = (11, 17), seed: int = 2) -> Any:
    """An output network for each element."""
    import torch

    from mlsel.export_model.elemental import ElementalAtomwise

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ElementalAtomwise(12, elements, (10, 8), modules().nn.activations.shifted_softplus)


def with_zbl(zbl_cutoff: float | None = CUTOFF, **more: Any) -> Any:
    """A network and ZBLRepulsionEnergy, their sum the energy."""
    spk = modules()
    function = None if zbl_cutoff is None else spk.nn.CosineCutoff(zbl_cutoff)
    zbl = spk.atomistic.ZBLRepulsionEnergy("eV", "Ang", "zbl", cutoff_fn=function)
    total = spk.atomistic.Aggregation(["network", "zbl"], output_key="energy")
    return potential([atomwise("network"), zbl, total], **more)


def with_charges() -> Any:
    """A network and EnergyCoulomb between the charges of a DipoleMoment."""
    atomistic = modules().atomistic
    return potential(
        [
            atomwise("network"),
            atomistic.DipoleMoment(12, return_charges=True),
            atomistic.EnergyCoulomb(
                "eV", "Ang", atomistic.CoulombPotential(), "coulomb",
                use_neighbors_lr=False, cutoff=CUTOFF,
            ),
            atomistic.Aggregation(["network", "coulomb"], output_key="energy"),
        ]
    )  # fmt: skip


def schnetpack_says(
    model: Any, atoms: Any, energy_unit: str = "eV", length_unit: str = "Ang"
) -> Answer:
    """Energy (eV) and forces (eV/Å) by schnetpack's own calculator and its own units. It takes
    positions as they are, so that they are given to it in the model's unit."""
    import copy

    import torch

    spk = modules()
    from schnetpack.interfaces import SpkCalculator
    from schnetpack.units import convert_units

    length = convert_units(length_unit, "Ang")
    scaled = atoms.copy()
    scaled.set_cell(atoms.cell.array / length, scale_atoms=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # schnetpack's own
        scaled.calc = SpkCalculator(
            copy.deepcopy(model),
            neighbor_list=spk.transform.MatScipyNeighborList(
                cutoff=float(model.representation.cutoff_fn.cutoff)
            ),
            energy_unit=energy_unit, position_unit=length_unit, dtype=torch.float64,
        )  # fmt: skip
        energy, forces = scaled.get_potential_energy(), scaled.get_forces()
    return Answer(float(energy), np.asarray(forces, np.float64))
