"""All stages of a study in order, ending with the report.

    python -m mlsel.run [STUDY] [-o DIR]
    mpirun -n 2 python -m mlsel.run quick

Each stage does only what is missing, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mlsel import cli
from mlsel.core import stopping
from mlsel.core.errors import StageIncomplete
from mlsel.core.parallel import on_root, world
from mlsel.core.progress import duration

if TYPE_CHECKING:
    from mpi4py import MPI

log = logging.getLogger(__name__)

STAGES = {
    "generate": "mlsel.generate",
    "selection": "mlsel.selection.stage",
    "training": "mlsel.training.stage",
    "evaluate": "mlsel.evaluate.stage",
    "validate": "mlsel.validate.stage",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stages.

    Raises
    ------
    StageIncomplete
        At the end, if some stage left something undone; the stages after it were run all the same.
    """
    parser = cli.study_parser("mlsel run", "Do all stages of a study, then the report.")
    parser.add_argument(
        "--until", choices=(*STAGES, "report"), default="report", help="the last stage to do"
    )
    args = parser.parse_args(argv)
    comm = world()
    _, folder = cli.open_study(args, comm)
    with stopping.heard():
        return _run(args, folder, comm)


def _run(args: argparse.Namespace, folder: Path, comm: MPI.Intracomm) -> int:
    words = [args.study, "-o", str(folder)]
    for override in args.set:
        words += ["--set", override]
    incomplete: list[str] = []
    begun = time.monotonic()
    for stage, module in STAGES.items():
        if comm.rank == 0:
            log.info("== %s (%s)", stage, duration(time.monotonic() - begun))
        try:
            import_module(module).main(words)
        except StageIncomplete as error:
            if comm.rank == 0:
                log.warning("%s: %s", stage, error)
            incomplete.append(f"{stage} ({error})")
        if stage == args.until:
            break
    if args.until == "report":
        from mlsel.report.stage import write_report

        path = on_root(comm, lambda: write_report(folder))
        if comm.rank == 0:
            log.info("== done in %s", duration(time.monotonic() - begun))
            print(path, flush=True)
    if incomplete:
        raise StageIncomplete(
            "some stages ended incomplete: " + "; ".join(incomplete), everywhere=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(cli.run_main(main))
