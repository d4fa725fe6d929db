"""All stages of a study in order, ending with the report.

    python -m mlsel.run [STUDY] [-o DIR]
    mpirun -n 2 python -m mlsel.run quick

Each stage does only what is missing, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlsel import cli
from mlsel.core import stopping
from mlsel.core.errors import MlselError, StageIncomplete
from mlsel.core.parallel import world
from mlsel.core.progress import duration
from mlsel.core.record import AGAIN
from mlsel.study.stage import command
from mlsel.study.study import record_study, recorded_study
from mlsel.validate.held_against import reference_kind
from mlsel.workflow.stages import IMPORT, STAGES, stages_of

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.study.study import Study

log = logging.getLogger(__name__)

VALIDATE = "validate"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stages.

    Raises
    ------
    StageIncomplete
        At the end, if some stage left something undone; the stages after it were run all the same.
    """
    parser = cli.study_parser("mlsel run", "Do all stages of a study, then the report.")
    parser.add_argument(
        "--until",
        choices=[stage.name for stage in (IMPORT, *STAGES)],
        default=STAGES[-1].name,
        help="the last stage to do",
    )
    args = parser.parse_args(argv)
    comm = world()
    study, folder = cli.open_study(args, comm)
    with stopping.heard():
        return _run(study, folder, args.until, comm)


def _run(study: Study, folder: Path, until: str, comm: MPI.Intracomm) -> int:
    incomplete: list[str] = []
    begun = time.monotonic()
    stages = stages_of(study)
    names = [stage.name for stage in stages]
    if until not in names:
        raise MlselError(
            f"--until {until}: the stages of this study are {', '.join(names)}.",
            everywhere=True,
        )
    if VALIDATE in names[: names.index(until) + 1]:
        reference_kind(study)  # told before hours of training
    for stage in stages:
        if comm.rank == 0:
            log.info("== %s (%s)", stage.name, duration(time.monotonic() - begun))
        try:
            stage.run(study, folder, comm)
        except StageIncomplete as error:
            if comm.rank == 0:
                log.warning("%s: %s", stage.name, error)
            incomplete.append(f"{stage.name} ({error})")
        except MlselError as error:
            if AGAIN in str(error):  # which this command has not
                way = f"`{command(stage.name, study, folder)} --again` makes it anew"
                error.args = (str(error).replace(AGAIN, way),)
            raise
        if stage.name == until:
            break
    if comm.rank == 0:
        if until == names[-1] and recorded_study(folder) != study:
            record_study(study, folder)  # all that is there is of it now
        log.info("== done in %s", duration(time.monotonic() - begun))
    if incomplete:
        raise StageIncomplete(
            "some stages ended incomplete: " + "; ".join(incomplete), everywhere=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_main(main))
