"""What other programs call our labels.

Sources: MACE's `--energy_key REF_energy …`; NequIP's ASE data set (ASE's names); gap_fit's
default `energy_parameter_name` ….
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """What a program calls the labels; is_stress: stress in place of the virial."""

    energy: str = "REF_energy"
    forces: str = "REF_forces"
    virial: str = "REF_stress"
    atomic_energies: str = "REF_atomic_energies"
    is_stress: bool = True


ASE = Names("energy", "forces", "stress", "energies")
NAMES = {
    "mace": Names(),
    "nequip": ASE,
    "gap": Names("energy", "force", "virial", is_stress=False),
    "deepmd": Names("energy", "force", "virial", "atom_ener", is_stress=False),
    "nep": Names("energy", "force", "virial", is_stress=False),
    "n2p2": Names(),
    "schnetpack": ASE,
}
"""Of each program that `mlsel export --for` knows."""
