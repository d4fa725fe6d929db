"""`mlsel validate`: the runs of a study, their snapshot alone, or a part of them."""

from __future__ import annotations

from collections.abc import Sequence

from mlsel.cli import open_study, study_parser
from mlsel.core import stopping
from mlsel.core.errors import MlselError
from mlsel.core.parallel import world
from mlsel.core.shards import add_part_option


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage."""
    parser = study_parser("mlsel validate", "Drive large MD with trained potentials.")
    parser.add_argument(
        "--again", action="store_true", help="make runs anew whose inputs have changed"
    )
    parser.add_argument(
        "--start", action="store_true", help="make only the snapshot that all runs start from"
    )
    add_part_option(parser, "run")
    args = parser.parse_args(argv)
    if args.start and args.part:
        raise MlselError("--start and --part exclude each other: the start is made before parts.")
    from mlsel.validate.stage import make_start, validate, validate_part

    comm = world()
    study, folder = open_study(args, comm)
    with stopping.heard():
        if args.start:
            make_start(study, folder, comm, again=args.again)
        elif args.part:
            validate_part(study, folder, comm, args.part, again=args.again)
        else:
            validate(study, folder, comm, again=args.again)
    return 0
