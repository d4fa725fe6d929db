"""What a training makes small, and the errors that it reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from mlsel.training.schnet.graphs import Batch
    from mlsel.training.schnet.network import Network, Output


@dataclass(frozen=True)
class Loss:
    """w ⟨ΔE⟩ + (1 − w) ⟨ΔF⟩ + w_ε ⟨Δε⟩ + w_s ⟨ΔW⟩, means of a penalty of each number.

    The numbers are the energies of frames (eV, or eV/atom with `energy_per_atom`), the components
    of forces (eV/Å), the energies of atoms (eV) and the components of the virials, each over its
    number of atoms (eV/atom), so that large frames weigh no more than small ones. The penalty of x
    is x², or Huber's: x² up to `delta`, from there on the straight line 2 δ |x| − δ².

    References
    ----------
    Huber, Ann. Math. Statist. 35, 73 (1964), here twice as large, so that small errors count as
    they do in squares.
    """

    energy_weight: float
    energy_per_atom: bool = False
    atomic_energy_weight: float = 0.0
    stress_weight: float = 0.0
    delta: float | None = None
    """None: squares."""

    def penalty(self, wrong: torch.Tensor) -> torch.Tensor:
        """Return the penalty of each number.

        >>> import torch
        >>> Loss(0.1, delta=0.5).penalty(torch.tensor([-0.1, 0.5, 2.0]))
        tensor([0.0100, 0.2500, 1.7500])
        """
        if self.delta is None:
            return wrong**2
        size = wrong.abs()
        inner = size.clamp(max=self.delta)
        return inner * (2 * size - inner)

    @property
    def weights(self) -> Mapping[str, float]:
        """The terms that count, and their weights."""
        known = {
            "energy": self.energy_weight,
            "force": 1 - self.energy_weight,
            "atomic_energy": self.atomic_energy_weight,
            "virial": self.stress_weight,
        }
        return {name: weight for name, weight in known.items() if weight or name in REPORTED}

    def __call__(self, network: Network, batch: Batch) -> tuple[torch.Tensor, Errors]:
        """Return the loss of a batch, to be differentiated, and its errors."""
        import torch

        output = network(batch)
        wrong = self._wrong(network, batch, output)
        penalties = {name: self.penalty(x) for name, x in wrong.items()}
        terms = [weight * penalties[name].mean() for name, weight in self.weights.items()]
        with torch.no_grad():
            errors = Errors()
            for name, x in penalties.items():
                errors.add(f"{name}_penalty", x.double().sum(), x.numel())
            n_atoms = self._n_atoms(batch)
            # energies an atom, whichever the loss has
            per_atom = wrong["energy"].double() / (1 if self.energy_per_atom else n_atoms)
            for name, x in {**wrong, "energy": per_atom}.items():
                errors.add(f"{name}_square", (x.double() ** 2).sum(), x.numel())
            sizes = wrong["force"].double().abs()
            errors.add("force_size", sizes.sum(), sizes.numel())
        return torch.stack([term.double() for term in terms]).sum(), errors

    def _n_atoms(self, batch: Batch) -> torch.Tensor:
        import torch

        return torch.as_tensor(np.diff(batch.atom_start), device=batch.species.device)

    def _wrong(self, network: Network, batch: Batch, output: Output) -> dict[str, torch.Tensor]:
        assert batch.energy is not None and batch.forces is not None
        energy = output.atomic.new_zeros(batch.n_frames)
        difference = energy.index_add(0, batch.frame, output.atomic) - batch.energy.to(energy)
        n_atoms = self._n_atoms(batch)
        wrong = {
            "energy": difference / n_atoms if self.energy_per_atom else difference,
            "force": output.forces - batch.forces,
        }
        if self.atomic_energy_weight:
            assert batch.atomic_energies is not None
            wrong["atomic_energy"] = output.atomic - batch.atomic_energies.to(output.atomic)
        if self.stress_weight:
            assert batch.virial is not None
            virial = network.virials(batch, output) - batch.virial
            wrong["virial"] = virial / n_atoms[:, None, None]
        return wrong

    def of(self, errors: Errors) -> float:
        """Return the loss of everything that these errors are summed over."""
        return sum(w * errors.mean(f"{name}_penalty") for name, w in self.weights.items())


REPORTED = ("energy", "force")
"""Terms whose errors are in metrics.csv, whatever they weigh."""


class Errors:
    """Sums over batches, and how many numbers are in them."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, value: Any, count: int) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts[name] = self._counts.get(name, 0) + count

    def __iadd__(self, other: Errors) -> Errors:
        for name, value in other._sums.items():
            self.add(name, value, other._counts[name])
        return self

    def __contains__(self, name: str) -> bool:
        return name in self._sums

    def mean(self, name: str) -> float:
        return float(self._sums[name]) / self._counts[name]
