"""How far a run of LAMMPS is, read from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.study.stage import BEGUN, DONE, FAILED, MISSING

if TYPE_CHECKING:
    from mlsel.md.npt_run import MdRun


def state_of_run(run: MdRun) -> tuple[str, str]:
    """Return a run's state, and how far it is in a few words."""
    if run.product.is_file():
        return DONE, ""
    if run.failure.is_file():
        return FAILED, run.failure.read_text(encoding="utf-8").partition("\n")[0]
    step = last_checkpoint(run.folder)
    if step:
        return BEGUN, f"{step / run.n_steps:.0%} of {run.n_steps} steps"
    return MISSING, ""


def last_checkpoint(folder: Path) -> int:
    """Return the step of a run's newest restart file, 0 if there is none."""
    steps = [path.stem.rpartition("-")[2] for path in folder.glob("*.restart")]
    return max((int(step) for step in steps if step.isdigit()), default=0)
