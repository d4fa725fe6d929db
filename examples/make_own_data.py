"""Make labelled frames as an ab initio study leaves them, by ASE's EMT in the place of DFT.

    python make_own_data.py [FOLDER]

FOLDER (default: aimd) gets extended XYZ files with REF_energy, REF_forces and REF_stress:

    melt.extxyz      a molten alloy of 32 atoms, dynamics at 1600 K, a frame every 0.02 ps
    warm.extxyz      the same atoms at 1100 K
    cells.extxyz     cells of 4 and 8 atoms, strained and shaken, in no order
    atoms.extxyz     each element alone in a large cell
    odd.extxyz       what real collections hold: frames twice, one whose electrons did not converge,
                     one with two atoms on top of each other
"""

import sys
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write
from ase.md.langevin import Langevin

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "aimd")
folder.mkdir(exist_ok=True)


def labelled(atoms: Atoms, **info: object) -> Atoms:
    """Return a copy with labels under the keys that training programs read."""
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    frame.info["REF_energy"] = atoms.get_potential_energy()
    frame.arrays["REF_forces"] = atoms.get_forces()
    if all(atoms.pbc):
        frame.info["REF_stress"] = atoms.get_stress(voigt=False)
    frame.info.update(info)
    return frame


def dynamics(temperature: float, n_frames: int, seed: int) -> list[Atoms]:
    """Melt an alloy at 3000 K, cool it down, and follow it: a frame every 0.02 ps."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu", cubic=True, a=4.05).repeat(2)
    atoms.symbols[rng.permutation(len(atoms))[: len(atoms) // 2]] = "Ag"
    atoms.calc = EMT()
    run = Langevin(
        atoms, 4 * units.fs, temperature_K=3000, friction=0.02 / units.fs, fixcm=False, rng=rng
    )
    run.run(400)
    run.set_temperature(temperature_K=temperature)
    run.run(600)
    frames = []
    for _ in range(n_frames):
        run.run(5)
        state = {"temperature": atoms.get_temperature(), "config_type": "dynamics"}
        frames.append(labelled(atoms, **state))
    return frames


def small_cells(n_frames: int, seed: int) -> list[Atoms]:
    """Crystals of 4 and 8 atoms with random species, strained and shaken."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(n_frames):
        atoms = bulk("Cu", cubic=True, a=3.9).repeat((1 + k % 2, 1, 1))
        atoms.symbols[rng.random(len(atoms)) < 0.5] = "Ag"
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.05 * rng.uniform(-1, 1, (3, 3))), True)
        atoms.rattle(0.15, rng=rng)
        atoms.calc = EMT()
        frames.append(labelled(atoms, config_type="cell"))
    return frames


melt = dynamics(1600, 300, seed=1)
cells = small_cells(60, seed=3)
write(folder / "melt.extxyz", melt)
write(folder / "warm.extxyz", dynamics(1100, 150, seed=2))
write(folder / "cells.extxyz", cells)

alone = []
for symbol in ("Cu", "Ag"):
    atom = Atoms(symbol, cell=[15, 15, 15], pbc=False, calculator=EMT())
    alone.append(labelled(atom, config_type="IsolatedAtom"))
write(folder / "atoms.extxyz", alone)

unconverged = melt[50].copy()
unconverged.rattle(0.05, seed=4)
unconverged.info.update(REF_energy=melt[50].info["REF_energy"] + 20.0, scf_converged=False)
clash = cells[0].copy()
clash.positions[1] = clash.positions[0] + [0.8, 0.0, 0.0]
clash.calc = EMT()
odd = [*melt[100:104], unconverged, labelled(clash, config_type="cell")]
write(folder / "odd.extxyz", odd)
print(f"{len(melt) + 150 + len(cells) + len(alone) + len(odd)} frames in {folder}")
