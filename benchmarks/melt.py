"""The melt that the pair styles' benchmarks run: 1000 ions of NaCl at 1400 K, and MD with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.plugins.support import box_commands, open_lammps

TEMPERATURE = 1400.0
MELT_DENSITY = 8 / 6.3**3
"""Ions per Å³ of the melt at 1400 K and 1 bar."""
MELT_EDGE = 5 * 6.3
"""Å, of 1000 ions."""
N_TYPES = {11: 1, 17: 2}


def melt() -> Any:
    """1000 ions of the melt at 1400 K: the reference potential's, from rocksalt through 3000 K."""
    from ase.build import bulk

    from mlsel.md.deck import read_potential

    atoms = bulk("NaCl", "rocksalt", a=(8 / MELT_DENSITY) ** (1 / 3), cubic=True).repeat(5)
    lmp = open_lammps()
    lmp.commands_string(box_commands(atoms).replace("atom_style atomic", "atom_style charge"))
    create(lmp, atoms)
    lmp.commands_string(read_potential("nacl-tosi-fumi", ("Na", "Cl")))
    lmp.commands_string(
        "kspace_style pppm 1e-4\nvelocity all create 3000 1 loop geom\ntimestep 0.002\n"
        "fix 1 all nvt temp 3000 3000 0.1\nrun 1000\n"
        f"fix 1 all nvt temp {TEMPERATURE} {TEMPERATURE} 0.1\nrun 1500"
    )
    atoms.positions = np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3)
    lmp.close()
    atoms.wrap()
    return atoms


def create(lmp: Any, atoms: Any) -> None:
    """Create the atoms in a box that is there already."""
    types = [N_TYPES[int(number)] for number in atoms.numbers]
    lmp.create_atoms(
        len(atoms), list(range(1, len(atoms) + 1)), types, atoms.positions.ravel().tolist()
    )


def nve_drift(atoms: Any, potential: str, n_steps: int) -> float:
    """eV/atom/ps at 0.5 fs: the slope of a line through the total energy."""
    lmp = open_lammps()
    lmp.commands_string(box_commands(atoms))
    create(lmp, atoms)
    lmp.commands_string(
        f"""
        {potential}
        velocity all create {TEMPERATURE} 1 loop geom
        timestep 0.0005
        thermo_modify norm no
        fix 1 all nve
        run 200 post no
        """
    )
    energies = []
    for k in range(n_steps // 10):
        lmp.command("run 10 pre no post no" if k else "run 10 post no")
        energies.append(lmp.get_thermo("etotal") / len(atoms))
    lmp.close()
    return float(np.polyfit(0.005 * np.arange(len(energies)), energies, 1)[0])


def density(atoms: Any, potential: str, temperature: float) -> float:
    """g/cm³ in NPT at 1 bar: 4 ps after 4 ps."""
    lmp = open_lammps()
    lmp.commands_string(box_commands(atoms).replace("atom_style atomic", "atom_style charge"))
    create(lmp, atoms)
    lmp.commands_string(potential)
    lmp.commands_string(
        f"""
        velocity all create {temperature} 1 loop geom
        timestep 0.002
        fix 1 all npt temp {temperature} {temperature} 0.1 iso 1 1 0.5
        run 2000 post no
        variable density equal density
        fix 2 all ave/time 10 200 2000 v_density
        run 2000 post no
        """
    )
    value = float(lmp.extract_fix("2", 0, 0))
    lmp.close()
    return value
