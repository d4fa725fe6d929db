"""Make the golden files again: `python -m tests.plugins.golden`. Only for a new format of the file.

golden/model.pt is a small SchNet with random weights, float64, as mlsel exported it; melt.npz
what schnetpack said of melts()[1] then: energy (eV), forces (eV/Å), virial (eV), and its version.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np

from mlsel.export_model import export_schnet
from tests.plugins.support import evaluate_model, melts, schnet

FOLDER = Path(__file__).with_name("golden")


def main() -> None:
    model = schnet(n_atom_basis=8, n_filters=8, n_interactions=2, n_rbf=4, n_hidden=(6,))
    export_schnet(model, FOLDER / "model.pt", ("Na", "Cl"), energy_offset={"Na": -1.5, "Cl": 2.0})
    made = evaluate_model(model, melts()[1])
    energy = made.energy + 32 * (-1.5 + 2.0)
    np.savez(
        FOLDER / "melt.npz", energy=energy, forces=made.forces, virial=made.virial,
        schnetpack=version("schnetpack"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
