"""SchNet's hyperparameters; without torch, so that asking what a study wants is light."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """SchNet's hyperparameters, named as in the paper's Table 1; `cutoff` in Å."""

    n_interactions: int
    n_atom_basis: int
    n_filters: int
    n_gaussians: int
    n_neurons: tuple[int, ...]
    cutoff: float = 6.0
    activation: str = "silu"
    """Of the output network: "silu", schnetpack 2's, or "shifted_softplus", schnetpack 0.3's."""
    output_per_element: bool = False
    """An output network for each element, as schnetpack 0.3's ElementalAtomwise, or one for all."""


SIZES: Mapping[str, Architecture] = {
    "small": Architecture(3, 32, 32, 3, (48, 48)),
    "medium": Architecture(4, 48, 64, 48, (128, 64, 32)),
    "large": Architecture(4, 64, 128, 64, (128, 128, 64, 32)),
}
