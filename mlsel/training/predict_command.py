"""`mlsel predict`: forces of trained models on a pool.

mlsel predict pool.h5 models/random*/schnet-* -o forces.npy
mpirun -n 8 mlsel predict pool.h5 models/random*/schnet-* -o forces.npy
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mlsel.cli import Parser
from mlsel.core import stopping
from mlsel.core.errors import MlselError
from mlsel.core.parallel import on_root, world


def main(argv: Sequence[str] | None = None) -> int:
    """Predict, and say what was written."""
    parser = Parser(
        prog="mlsel predict",
        description="Write the forces of trained models on all frames of a pool, for the selection "
        "method committee (predictions=FILE).",
    )
    parser.add_argument("pool", type=Path, metavar="POOL", help="a pool or data set")
    parser.add_argument(
        "models", type=Path, nargs="+", metavar="MODEL", help="a folder that `mlsel training` left"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="a .npy")
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")
    args = parser.parse_args(argv)
    from mlsel.training.predictions import write_predictions

    comm = world()
    on_root(comm, lambda: _refuse(args))
    with stopping.heard():
        write_predictions(args.pool, args.models, args.output, comm)
    return 0


def _refuse(args: argparse.Namespace) -> None:
    if args.output.suffix != ".npy":
        raise MlselError(f"{args.output}: predictions are an array of NumPy's: end FILE in .npy.")
    if args.output.exists() and not args.force:
        raise MlselError(f"{args.output} is there already: name another file, or give --force.")
    twice = [path for path in args.models if args.models.count(path) > 1]
    if twice:
        raise MlselError(f"{twice[0]} is named twice: its vote would count twice.")
