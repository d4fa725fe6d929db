"""MD with a trained model through ASE: does it keep its energy?

    python md_with_ase.py MODEL STRUCTURE

MODEL: a folder that `mlsel training` made. STRUCTURE: a file that ASE reads. Ends with start.data,
from which the deck in.nvt goes on in LAMMPS.
"""

import sys

import numpy as np
from ase import units
from ase.io import read, write
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

from mlsel import load_model

atoms = read(sys.argv[2])
atoms.calc = load_model(sys.argv[1]).calculator()
MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(1))
dynamics = VelocityVerlet(atoms, timestep=0.5 * units.fs)
before = atoms.get_total_energy()
dynamics.run(20)
drift = (atoms.get_total_energy() - before) / len(atoms)
print(f"change of the total energy in 10 fs: {1000 * drift:+.3f} meV an atom")
print(f"potential energy {atoms.get_potential_energy():.6f} eV")

elements = list(dict.fromkeys(atoms.symbols))  # in the order of LAMMPS's atom types
write("start.data", atoms, format="lammps-data", specorder=elements, masses=True)
print(f"start.data: atom types {' '.join(elements)}")
