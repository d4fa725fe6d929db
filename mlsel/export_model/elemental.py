"""One output network for each element, as SchNetPack 0.3 had it.

schnetpack 2 has no such module; this one is made of its dense layers and stands in a
NeuralNetworkPotential wherever an Atomwise does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn


class ElementalAtomwise(nn.Module):
    """Energies of atoms by the network of their element, and their sum.

    Parameters
    ----------
    n_in : int
        Features of an atom.
    elements : sequence of int
        Atomic numbers; an atom of any other raises ValueError.
    n_hidden : sequence of int
        Widths of the hidden layers, the same in all networks.
    activation : callable
    output_key, per_atom_output_key : str
        Where the sum (n_frames) and the energies of the atoms (n_atoms, 1) go.

    References
    ----------
    SchNetPack 0.3, `schnetpack.atomistic.ElementalAtomwise`: a network for each of `elements`,
    whose outputs are gated by the atom's element.
    """

    n_out = 1
    aggregation_mode = "sum"

    def __init__(
        self,
        n_in: int,
        elements: Sequence[int],
        n_hidden: Sequence[int],
        activation: Callable[[torch.Tensor], torch.Tensor],
        output_key: str = "energy",
        per_atom_output_key: str = "atomic_energies",
    ) -> None:
        import schnetpack

        super().__init__()
        self.elements = [int(z) for z in elements]
        self.output_key, self.per_atom_output_key = output_key, per_atom_output_key
        self.model_outputs = [output_key, per_atom_output_key]
        self.outnets = nn.ModuleList(
            schnetpack.nn.build_mlp(
                n_in=n_in,
                n_out=1,
                n_hidden=list(n_hidden),
                n_layers=len(n_hidden) + 1,
                activation=activation,
            )
            for _ in self.elements
        )

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        x, numbers = inputs["scalar_representation"], inputs["_atomic_numbers"]
        known = torch.isin(numbers, torch.tensor(self.elements, device=numbers.device))
        if not bool(known.all()):
            raise ValueError(f"no output network for the atomic number {int(numbers[~known][0])}")
        y = torch.zeros_like(x[:, :1])
        for number, outnet in zip(self.elements, self.outnets, strict=True):
            y = torch.where((numbers == number)[:, None], outnet(x), y)
        frame = inputs["_idx_m"]
        total = y.new_zeros(int(frame[-1]) + 1).index_add(0, frame, y[:, 0])
        inputs[self.per_atom_output_key] = y
        inputs[self.output_key] = total
        return inputs
