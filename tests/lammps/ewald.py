"""An independent Born-Mayer-Huggins-Coulomb sum in plain NumPy: no cutoff tricks, no tables.

Coulomb: Ewald's sum (P. P. Ewald, Ann. Phys. 369, 253 (1921)), split per atom. Short range: all
images within the cutoff.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
from scipy.special import erfc

from mlsel.md import deck

FloatArray = npt.NDArray[np.float64]
COULOMB = 14.399645  # eV Å / e²: LAMMPS's metal units use 14.399645

PairTable = dict[tuple[int, int], tuple[float, ...]]


def read_table(name: str) -> PairTable:
    """Read A, ρ, σ, C, D of the pairs of types from a potential's file."""
    text = (deck.packaged_folder("potentials") / f"{name}.lmp").read_text(encoding="utf-8")
    table = {}
    for line in re.findall(r"^pair_coeff (.+)$", text, re.MULTILINE):
        first, second, *values = line.split()
        table[int(first), int(second)] = table[int(second), int(first)] = tuple(map(float, values))
    return table


def energies_and_forces(
    positions: FloatArray,
    side: float,
    types: npt.NDArray[np.int64],
    charges: FloatArray,
    table: PairTable,
    cutoff: float,
) -> tuple[FloatArray, FloatArray]:
    """Return ε_i (N,) in eV and forces (N, 3) in eV/Å in a cubic box."""
    n = len(positions)
    energies, forces = np.zeros(n), np.zeros((n, 3))
    alpha = 3.2 / (side / 2) * 1.4  # real-space terms below 1e-12 beyond two boxes
    reach = int(np.ceil(max(cutoff, 6.5 / alpha) / side + 1))
    images = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3), -1).reshape(-1, 3)
    for i in range(n):
        for image in images:
            d = positions[i] - positions - image * side
            r = np.linalg.norm(d, axis=1)
            near = r > 1e-9
            j = np.flatnonzero(near & (r < max(cutoff, 6.5 / alpha)))
            if not len(j):
                continue
            d, r = d[j], r[j]
            qq = COULOMB * charges[i] * charges[j]
            u = qq * erfc(alpha * r) / r
            slope = -u / r - qq * 2 * alpha / np.sqrt(np.pi) * np.exp(-((alpha * r) ** 2)) / r
            short = r < cutoff
            parameters = np.array([table[int(types[i]), int(types[k])] for k in j])
            a, rho, sigma, c, dd = parameters.T
            repulsion = a * np.exp((sigma - r) / rho)
            u = u + short * (repulsion - c / r**6 + dd / r**8)
            slope = slope + short * (-repulsion / rho + 6 * c / r**7 - 8 * dd / r**9)
            energies[i] += 0.5 * u.sum()
            forces[i] -= (slope / r) @ d
    k_max = int(np.ceil(2 * alpha * 6.5 * side / (2 * np.pi)))
    grid = np.stack(np.meshgrid(*[np.arange(-k_max, k_max + 1)] * 3), -1).reshape(-1, 3)
    grid = grid[(grid**2).sum(axis=1) > 0]
    k = 2 * np.pi / side * grid
    k2 = (k**2).sum(axis=1)
    keep = k2 < (2 * alpha * 6.5) ** 2
    k, k2 = k[keep], k2[keep]
    weight = 4 * np.pi / side**3 * np.exp(-k2 / (4 * alpha**2)) / k2
    phase = positions @ k.T
    structure = (charges[:, None] * np.exp(1j * phase)).sum(axis=0)
    local = np.exp(-1j * phase) * structure
    energies += 0.5 * COULOMB * charges * (local.real @ weight)
    energies -= COULOMB * alpha / np.sqrt(np.pi) * charges**2
    forces += -COULOMB * charges[:, None] * ((local.imag * weight) @ k)
    return energies, forces
