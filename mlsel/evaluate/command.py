"""`mlsel evaluate`: errors of a study's models, or the two-ion probe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlsel.cli import open_study, study_parser
from mlsel.core import stopping
from mlsel.core.parallel import world


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage."""
    parser = study_parser("mlsel evaluate", "Measure every model's errors on the test set.")
    parser.add_argument(
        "--test", type=Path, metavar="FILE", help="a data set (default: DIR/data/test.h5)"
    )
    parser.add_argument(
        "--probe", action="store_true", help="push two atoms together instead: probe.csv, a figure"
    )
    args = parser.parse_args(argv)
    comm = world()
    study, folder = open_study(args, comm, needs_study=False)
    if args.probe:
        from mlsel.evaluate.probes import probe_study

        with stopping.heard():
            made = probe_study(study, folder, comm, args.test)
        for path in made if comm.rank == 0 else ():
            print(path)
        return 0
    from mlsel.evaluate.stage import evaluate

    with stopping.heard():
        evaluate(study, folder, comm, args.test)
    return 0
