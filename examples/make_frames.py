"""200 frames of solid copper at 600 K by ASE's EMT, in frames.extxyz: of docs/tutorial-refine.md.

python make_frames.py
"""

import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

TEMPERATURE = 600  # K
N_FRAMES = 200


def main() -> None:
    """Write the frames."""
    rng = np.random.default_rng(1)
    atoms = bulk("Cu", cubic=True, a=3.65) * (2, 2, 2)
    atoms.calc = EMT()
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE, rng=rng)
    md = Langevin(atoms, 4 * units.fs, temperature_K=TEMPERATURE, friction=0.02, rng=rng)
    md.run(100)
    frames = []
    for _ in range(N_FRAMES):
        md.run(5)
        frame = atoms.copy()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
        frames.append(frame)
    write("frames.extxyz", frames)


if __name__ == "__main__":
    main()
