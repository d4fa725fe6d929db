"""The scan behind the defaults of GAP: sparse points, sigmas, delta.

    python -m benchmarks.gap_scan DATA TEST [-n 20] [--points 200 500 1000]

Descriptors and their gradients are computed once, by quippy, with the paper's SOAP (Table 3); then
each set of parameters is one least-squares problem (Bartók and Csányi, Int. J. Quantum Chem. 115,
1051 (2015), Eq. 20), solved by NumPy. gap_fit would take minutes for each. Sparse points are drawn
at random, where gap_fit's CUR chooses a little better ones.

Prints a Markdown table: root mean square errors of force components on the training frames and on
frames of TEST, and of energies.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsel.training.base import Frames, read_frames, reference_energies

Array = NDArray[np.float64]
ZETA = 4
JITTER = 1e-8
ENERGY_SIGMA = 0.001  # eV/atom


@dataclass(frozen=True)
class Environments:
    """One element's descriptors in a frame, and their gradients: a row for each pair (i, j)."""

    soap: Array
    gradient: Array
    centre: NDArray[np.intp]
    moved: NDArray[np.intp]


def choose(path: Path, n: int) -> list[Frames]:
    """Return n frames, spread over a file."""
    from mlsel.pool.pool import Pool

    with Pool(path) as pool:
        rows = np.linspace(0, pool.n_frames - 1, n).astype(int)
        return [part.take([k]) for part in read_frames(pool, rows) for k in range(len(part))]


def environments(frames: Sequence[Frames], numbers: Sequence[int]) -> list[list[Environments]]:
    """Return for each frame and element its environments."""
    from ase import Atoms
    from quippy.descriptors import Descriptor

    several = " ".join(map(str, numbers))
    soap = "soap n_max=8 l_max=6 atom_sigma=0.825 cutoff=6.5 cutoff_transition_width=0.5"
    tools = [
        Descriptor(f"{soap} n_species={len(numbers)} species_Z={{{several}}} Z={z}")
        for z in numbers
    ]
    made = []
    for frame in frames:
        atoms = Atoms(frame.numbers, frame.positions[0], cell=frame.cell[0], pbc=frame.periodic)
        one = []
        for tool in tools:
            found = tool.calc(atoms, grad=True)
            index = found["grad_index_0based"]
            centre = np.unique(index[:, 0], return_inverse=True)[1]
            one.append(Environments(found["data"], found["grad_data"], centre, index[:, 1]))
        made.append(one)
    return made


def design(made: Sequence[Sequence[Environments]], sparse: Sequence[Array], n: int) -> Any:
    """Return the covariances of sparse points with energies (frames, m) and with forces."""
    energies, forces = [], []
    for one in made:
        columns, slopes = [], []
        for part, points in zip(one, sparse, strict=True):
            similar = part.soap @ points.T
            columns.append((similar**ZETA).sum(axis=0))
            slope = np.einsum("kxd,md->kxm", part.gradient, points, optimize=True)
            slope *= ZETA * similar[part.centre][:, None, :] ** (ZETA - 1)
            force = np.zeros((n, 3, len(points)))
            np.subtract.at(force, part.moved, slope)
            slopes.append(force.reshape(3 * n, -1))
        energies.append(np.concatenate(columns))
        forces.append(np.concatenate(slopes, axis=1))
    return np.array(energies), np.concatenate(forces)


def labels(frames: Sequence[Frames]) -> tuple[Array, Array]:
    """Return energies and force components."""
    energy = [float(f.energy[0]) for f in frames if f.energy is not None]
    forces = [f.forces.ravel() for f in frames if f.forces is not None]
    return np.array(energy), np.concatenate(forces)


def rms(difference: Array) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(difference**2)))


def main() -> int:
    """Scan and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("data", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("-n", type=int, default=20, help="training frames")
    parser.add_argument("--points", type=int, nargs="+", default=[50, 200, 500, 1000])
    parser.add_argument("--sigmas", type=float, nargs="+", default=[0.02, 0.05, 0.1])
    parser.add_argument("--deltas", type=float, nargs="+", default=[1.0])
    args = parser.parse_args()
    train, test = choose(args.data, args.n), choose(args.test, 6)
    references = reference_energies(train)
    shift = sum(references[int(z)] for z in train[0].numbers)
    n_atoms = train[0].n_atoms
    made, judged = environments(train, list(references)), environments(test, list(references))
    (energy, force), (true_energy, true_force) = labels(train), labels(test)
    print(f"| points | delta | force sigma | forces, {args.n} training frames | forces | energy |")
    print("| --- | --- | --- | --- | --- | --- |")
    random = np.random.default_rng(0)
    for n_points in args.points:
        sparse = []
        for k in range(len(references)):
            everything = np.concatenate([one[k].soap for one in made])
            sparse.append(everything[random.choice(len(everything), n_points, replace=False)])
        here, there = design(made, sparse, n_atoms), design(judged, sparse, n_atoms)
        root = np.zeros((2 * n_points, 2 * n_points))
        for k, points in enumerate(sparse):
            block = slice(k * n_points, (k + 1) * n_points)
            covariance = (points @ points.T) ** ZETA
            root[block, block] = np.linalg.cholesky(covariance + JITTER * np.eye(n_points)).T
        for delta, sigma in product(args.deltas, args.sigmas):
            width = ENERGY_SIGMA * n_atoms**0.5
            rows = [delta * here[0] / width, delta * here[1] / sigma, root]
            right = [(energy - shift) / width, force / sigma, np.zeros(len(root))]
            weights = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right), rcond=None)[0]
            weights *= delta
            print(
                f"| {n_points} | {delta:g} | {sigma:g} | {rms(here[1] @ weights - force):.3f} "
                f"| {rms(there[1] @ weights - true_force):.3f} "
                f"| {1000 * rms(there[0] @ weights + shift - true_energy) / n_atoms:.1f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
