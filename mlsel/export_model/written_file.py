"""A written file evaluated without LAMMPS: its TorchScript as on several ranks, and its tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlsel.export_model.parts import torchscript
from mlsel.export_model.potential_file import read_arrays, read_metadata
from mlsel.export_model.tables import B_SPLINES, spline

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Answer:
    """Energy (eV) and forces (n_atoms, 3), eV/Å."""

    energy: float
    forces: Array


@dataclass(frozen=True)
class Pairs:
    """Each pair within the cutoff once: vectors (n_pairs, 3) from i to j, Å, which depend on the
    positions (n_atoms, 3)."""

    positions: torch.Tensor
    i: torch.Tensor
    j: torch.Tensor
    vectors: torch.Tensor

    @classmethod
    def of(cls, atoms: Any, cutoff: float) -> Pairs:
        import torch
        from ase.neighborlist import neighbor_list

        i, j, shifts = neighbor_list("ijS", atoms, cutoff)
        forward = (shifts @ [1e6, 1e3, 1.0]) > 0  # of an atom and its own images
        half = (i < j) | ((i == j) & forward)
        i, j, shifts = i[half], j[half], shifts[half]
        positions = torch.tensor(atoms.positions, dtype=torch.float64, requires_grad=True)
        to, source = torch.tensor(i), torch.tensor(j)
        images = torch.tensor(shifts @ atoms.cell.array, dtype=torch.float64)
        return cls(positions, to, source, positions[source] - positions[to] + images)

    def answer(self, energies: torch.Tensor) -> Answer:
        import torch

        energy = energies.double().sum()
        if not energy.requires_grad:  # no pairs
            return Answer(energy.item(), np.zeros(self.positions.shape))
        (slopes,) = torch.autograd.grad(energy, self.positions, allow_unused=True)
        forces = np.zeros(self.positions.shape) if slopes is None else -slopes.numpy()
        return Answer(energy.item(), forces)


class WrittenFile:
    """A file for pair_style schnet, evaluated from what it holds."""

    def __init__(self, path: Path) -> None:
        import torch

        self.metadata = read_metadata(path)
        with torchscript():
            self.module: Any = torch.jit.load(str(path))
        self.cutoff = float(self.metadata["cutoff"])
        self.compressed: dict[str, Any] | None = self.metadata["compressed"]
        if self.compressed is not None:
            self._read_tables(read_arrays(path, self.metadata))

    def offset(self, atoms: Any) -> float:
        """Return the sum of the energy offsets, eV."""
        offsets = dict(zip(self.metadata["numbers"], self.metadata["energy_offsets"], strict=True))
        return float(sum(offsets[number] for number in atoms.numbers.tolist()))

    def torchscript(self, atoms: Any, n_ranks: int) -> Answer:
        """Evaluate the four methods, atoms dealt out to ranks that exchange features."""
        import torch

        pairs = Pairs.of(atoms, self.cutoff)
        dtype = getattr(torch, self.metadata["dtype"])
        n, numbers = len(atoms), torch.tensor(atoms.numbers, dtype=torch.int64)
        owner = torch.arange(n) % n_ranks
        ranks = []
        for rank in range(n_ranks):
            own, others = torch.where(owner == rank)[0], torch.where(owner != rank)[0]
            nodes = torch.cat([own, others])
            place = torch.empty(n, dtype=torch.int64)
            place[nodes] = torch.arange(n)
            i_own, j_own = owner[pairs.i] == rank, owner[pairs.j] == rank
            both, only_i, only_j = i_own & j_own, i_own & ~j_own, ~i_own & j_own
            vectors = torch.cat(
                [pairs.vectors[both], pairs.vectors[only_i], -pairs.vectors[only_j]]
            )
            receivers = torch.cat([pairs.i[both], pairs.i[only_i], pairs.j[only_j]])
            senders = torch.cat([pairs.j[both], pairs.j[only_i], pairs.i[only_j]])
            edges = self.module.edges(vectors.to(dtype))
            ranks.append(
                (nodes, edges, place[receivers], place[senders], len(own), int(both.sum()))
            )
        order = torch.argsort(torch.cat([rank[0][: rank[4]] for rank in ranks]))
        with torchscript():
            x = self.module.embed(numbers)
            for layer in range(self.metadata["n_layers"]):
                x = torch.cat([
                    self.module.interact(layer, x[nodes], edges, to, source, n_local, n_mirrored)
                    for nodes, edges, to, source, n_local, n_mirrored in ranks
                ])[order]  # fmt: skip
            answer = pairs.answer(self.module.readout(x))
        return Answer(answer.energy + self.offset(atoms), answer.forces)

    def _read_tables(self, arrays: dict[str, Array]) -> None:
        """As the pair style does: worked out in double, kept in the file's precision."""
        import torch

        assert self.compressed is not None
        n_layers, n_knots = self.compressed["n_layers"], self.compressed["n_knots"]
        spacing = self.cutoff / (n_knots - 1)
        self.arrays = {key: torch.tensor(array) for key, array in arrays.items()}
        self.coefficients = [
            torch.tensor(
                spline(arrays[f"layer{k}/table"].transpose(1, 0, 2), spacing)
                .astype(self.metadata["dtype"]).astype(np.float64)
            )
            for k in range(n_layers)
        ]  # fmt: skip

    def tables(self, atoms: Any) -> Answer:
        """Evaluate what the compressed mode is given, in double precision."""
        import torch

        assert self.compressed is not None
        pairs, arrays = Pairs.of(atoms, self.cutoff), self.arrays
        species = [self.metadata["numbers"].index(number) for number in atoms.numbers.tolist()]
        inner = _ACTIVATIONS[self.compressed["activation"]]
        outer = _ACTIVATIONS[self.compressed["readout_activation"]]
        place = pairs.vectors.norm(dim=1) * ((self.compressed["n_knots"] - 1) / self.cutoff)
        first = place.detach().long()
        powers = (place - first)[:, None] ** torch.arange(6)
        weights = powers @ torch.tensor(B_SPLINES.T)
        rows = first[:, None] + torch.arange(6)
        x = arrays["embedding"][species]
        for k, coefficients in enumerate(self.coefficients):
            layer = f"layer{k}/"
            filters = (weights[:, :, None] * coefficients[rows]).sum(1)
            y = x @ arrays[layer + "in2f"].T
            into = torch.zeros_like(y).index_add(0, pairs.i, filters * y[pairs.j])
            into = into.index_add(0, pairs.j, filters * y[pairs.i])
            hidden = inner(into @ arrays[layer + "f2out0/weight"].T + arrays[layer + "f2out0/bias"])
            x = x + hidden @ arrays[layer + "f2out1/weight"].T + arrays[layer + "f2out1/bias"]
        if self.compressed.get("readout_per_element"):
            kinds = torch.tensor(species)[:, None]
            found = torch.zeros_like(x[:, :1])
            for s in set(species):
                found = torch.where(kinds == s, self._read_out(x, f"element{s}/", outer), found)
        else:
            found = self._read_out(x, "", outer)
        answer = pairs.answer(found)
        return Answer(answer.energy + self.offset(atoms), answer.forces)

    def _read_out(self, x: torch.Tensor, head: str, activation: Any) -> torch.Tensor:
        assert self.compressed is not None
        last = len(self.compressed["readout"]) - 1
        for m in range(last + 1):
            layer = f"{head}readout{m}/"
            x = x @ self.arrays[layer + "weight"].T + self.arrays[layer + "bias"]
            x = activation(x) if m < last else x
        return x


def _shifted_softplus(x: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.nn.functional.softplus(x) - np.log(2.0)


def _silu(x: torch.Tensor) -> torch.Tensor:
    return x * x.sigmoid()


def _tanh(x: torch.Tensor) -> torch.Tensor:
    return x.tanh()


def _identity(x: torch.Tensor) -> torch.Tensor:
    return x


_ACTIVATIONS = {
    "shifted_softplus": _shifted_softplus,
    "silu": _silu,
    "tanh": _tanh,
    "identity": _identity,
}
