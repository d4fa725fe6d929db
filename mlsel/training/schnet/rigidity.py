"""How unusual an atom's environment is to a SchNet: the rigidity of its last layer.

An atom's energy is linear in what goes into the last layer, f (with 1 for its bias). By linear
regression its variance is

    σ² = α² fᵀ (Σ f fᵀ + ς² 1)⁻¹ f,

the sum over the atoms of the training frames, ς² `REGULARISATION` of the sum's largest eigenvalue.
α² is such that energies of held-out frames are off as much as independent errors of their atoms
make them be: the mean of ΔE²/Σ σ².

That is the local prediction rigidity of the reference, with an atom's energy in place of the
frame's as what was learnt. With the frames' energies alone, sums over all atoms, the matrix knows
little of the environments that a single atom can have: the ranking of atoms by it is near chance
(docs/uncertainty.md has both).

References
----------
Bigi, Chong, Ceriotti, Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024), arXiv:2403.02251.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core.arrays import FloatArray

if TYPE_CHECKING:
    import torch

    from mlsel.training.schnet.graphs import Batch, Graphs
    from mlsel.training.schnet.network import Network

FILE = "uncertainty.npz"
REGULARISATION = 1e-8
BATCH = 16


@dataclass(frozen=True)
class Rigidity:
    """What the training set tells of an environment.

    Attributes
    ----------
    factors : (n_networks, n, n), eV
        Of each output network: σ is the length of the product with the last layer's features.
    shortest : (n_elements, n_elements), Å
        The shortest distance of each pair of elements; the cutoff where none was nearer.
    """

    factors: FloatArray
    shortest: FloatArray

    @classmethod
    def of(cls, network: Network, train: Graphs, validation: Graphs, device: str) -> Rigidity:
        """Return that of a network with its final weights; `validation` sets its scale."""
        import torch

        n_networks = network.n_output_networks
        sums: torch.Tensor | None = None
        with torch.no_grad():
            for batch in train.batches(BATCH, device):
                features = network.last_features(batch).double()
                own = _networks(batch, n_networks)
                part = torch.stack([features[rows].T @ features[rows] for rows in own])
                sums = part if sums is None else sums + part
        assert sums is not None
        bare = cls(
            np.stack([_inverse_root(one) for one in sums.cpu().numpy()]),
            train.shortest_by_species(len(network.numbers)),
        )
        ratios = []
        with torch.no_grad():
            for batch in validation.batches(BATCH, device):
                assert batch.energy is not None
                square = bare.of_batch(network, batch) ** 2
                atomic = network(batch).atomic.double().cpu().numpy()
                error = np.add.reduceat(atomic, batch.atom_start[:-1]) - batch.energy.cpu().numpy()
                ratios.append(error**2 / np.add.reduceat(square, batch.atom_start[:-1]))
        return cls(bare.factors * np.sqrt(np.concatenate(ratios).mean()), bare.shortest)

    def of_batch(self, network: Network, batch: Batch) -> FloatArray:
        """Return each atom's σ, (n_atoms), eV."""
        features = network.last_features(batch).double().cpu().numpy()
        sigma = np.empty(len(features))
        for factor, rows in zip(self.factors, _networks(batch, len(self.factors)), strict=True):
            own = rows.cpu().numpy()
            sigma[own] = np.linalg.norm(features[own] @ factor.T, axis=1)
        return sigma

    def write(self, folder: Path) -> None:
        """Keep it beside a model's weights."""
        import io

        from mlsel.core.files import write_bytes

        buffer = io.BytesIO()
        np.savez(buffer, factors=self.factors, shortest=self.shortest)
        write_bytes(folder / FILE, buffer.getvalue())

    @classmethod
    def read(cls, folder: Path, n_networks: int, n_features: int, n_elements: int) -> Rigidity:
        """Return what `write` wrote.

        Raises
        ------
        FileNotFoundError
            If there is none: models were trained without, once.
        ValueError and others
            If it is damaged or another model's.
        """
        with np.load(folder / FILE, allow_pickle=False) as file:
            made = cls(file["factors"], file["shortest"])
        n = n_features + 1
        shapes = made.factors.shape, made.shortest.shape
        if shapes != ((n_networks, n, n), (n_elements, n_elements)):
            raise ValueError(f"{FILE} is another model's")
        if not (np.isfinite(made.factors).all() and np.isfinite(made.shortest).all()):
            raise ValueError(f"{FILE} holds something that is no finite number")
        return made


def _networks(batch: Batch, n: int) -> Sequence[torch.Tensor]:
    """Return the atoms of each output network."""
    import torch

    if n == 1:
        return [torch.arange(len(batch.species), device=batch.species.device)]
    return [torch.nonzero(batch.species == k)[:, 0] for k in range(n)]


def _inverse_root(matrix: FloatArray) -> FloatArray:
    """Return A with AᵀA = (matrix + ς² 1)⁻¹."""
    values, vectors = np.linalg.eigh(matrix)
    floor = REGULARISATION * max(values[-1], 1e-300)
    root: FloatArray = (vectors / np.sqrt(np.maximum(values, 0.0) + floor)).T
    return root
