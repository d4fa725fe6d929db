"""`mlsel selection`: the data sets of a study, or one data set from any pool.

    python -m mlsel.selection [STUDY] [-o DIR]
    mpirun -n 4 python -m mlsel.selection
    python -m mlsel.selection --pool pool.h5 --method atomic-energy -n 512 --seed 1 -o train.h5

The first two make every data set of a study, the last one data set from any pool.
"""

from __future__ import annotations

import argparse
import logging
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.cli import open_study, study_parser
from mlsel.core import stopping
from mlsel.core.errors import MlselError
from mlsel.core.parallel import on_root, world

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.pool.pool import Pool

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage."""
    parser = study_parser("mlsel selection", "Choose data sets from the pool.")
    one = parser.add_argument_group("one data set from any pool")
    one.add_argument("--pool", type=Path, metavar="FILE", help="the pool; -o is then a file")
    one.add_argument("--method", metavar="NAME", help="how to choose (--list tells the methods)")
    one.add_argument("-n", type=int, metavar="N", help="how many frames")
    one.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    one.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a parameter of the method, for instance species=Na; may be repeated",
    )
    one.add_argument(
        "--exclude",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a data set of the same pool, or a text with a frame id a line, whose frames must not "
        "be chosen; may be repeated",
    )
    one.add_argument(
        "--given",
        type=Path,
        metavar="FILE",
        help="a data set that is there already, of this pool or another: choose what goes with it",
    )
    parser.add_argument(
        "--again", action="store_true", help="make data sets anew whose parameters or pool changed"
    )
    parser.add_argument("--list", action="store_true", help="list the methods and end")
    args = parser.parse_args(argv)
    if args.list:
        print(_list_methods())
        return 0
    if args.pool is None:
        for option in ("method", "n", "parameter", "exclude", "given"):
            if getattr(args, option):
                raise MlselError(f"--{option} is for one data set: say from which --pool, too.")
        from mlsel.selection.stage import select_study

        comm = world()
        study, folder = open_study(args, comm)
        with stopping.heard():
            select_study(study, folder, comm, again=args.again)
        return 0
    for option in ("method", "n", "output"):
        if getattr(args, option) is None:
            name = {"method": "--method", "n": "-n", "output": "-o"}[option]
            raise MlselError(f"{name} is missing: with --pool give --method NAME -n N -o FILE.")
    if args.set or args.study != parser.get_default("study"):
        raise MlselError("STUDY and --set are for a whole study: leave them out with --pool.")
    _select_one(args, world())
    return 0


def _list_methods() -> str:
    from dataclasses import MISSING

    from mlsel.selection.registry import METHODS

    lines: list[str] = []
    for name, kind in METHODS.items():
        given = ", ".join(
            parameter if default is MISSING else f"{parameter}={default}"
            for parameter, default in kind.defaults().items()
        )
        lines.append(f"{name:20} {kind.summary}" + (f" ({given})" if given else ""))
    return "\n".join(lines)


def _select_one(args: argparse.Namespace, comm: MPI.Intracomm) -> None:
    from mlsel.pool.pool import Pool
    from mlsel.selection.registry import make_selector
    from mlsel.selection.stage import opened

    parameters = parse_parameters(args.parameter)
    selector = make_selector(args.method, parameters)
    with opened(args.pool, comm) as pool, ExitStack() as stack:
        exclude = on_root(comm, lambda: _frames_of(args.exclude, pool))
        given = None if args.given is None else stack.enter_context(opened(args.given, comm))
        asked = selector.asked(pool, args.n, args.seed, exclude).record()
        asked["given"] = None if given is None else given.digest
        if on_root(comm, lambda: _is_there(args.output, asked, again=args.again)):
            if comm.rank == 0:
                log.info("%s is there already, chosen from the same in the same way", args.output)
            return
        selection = selector.select(pool, args.n, args.seed, exclude, comm, given=given)
        on_root(comm, lambda: selection.write(pool, args.output))
    if comm.rank == 0:
        with Pool(args.output) as made:
            log.info("%s: %d frames of %s by %s", args.output, len(made), args.pool, args.method)


def _is_there(path: Path, asked: Mapping[str, Any], *, again: bool) -> bool:
    """Whether a data set is there and was chosen in the same way; nothing else is overwritten.

    Raises
    ------
    MlselError
        If it was chosen otherwise, and `again` is false, or is no data set of a selection's.
    """
    import h5py

    from mlsel.core.record import settle
    from mlsel.pool.pool import Pool
    from mlsel.selection.sets import compared

    if not path.exists():
        return False
    if path.is_file() and h5py.is_hdf5(path):
        with Pool(path) as data:
            if "pool_digest" in data.attributes:
                return settle(path, *compared(data, asked), again=again)
    raise MlselError(
        f"{path} is there already, and was not made by a selection: choose another name with -o."
    )


def parse_parameters(words: Iterable[str]) -> dict[str, Any]:
    """Return the values of KEY=VALUE words, in TOML's notation; a bare word is a text.

    Examples
    --------
    >>> parse_parameters(["bins=64", "species=Na"])
    {'bins': 64, 'species': 'Na'}
    """
    values = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise MlselError(f"--parameter {word}: write KEY=VALUE, for instance species=Na.")
        try:
            values[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key.strip()] = text.strip()
    return values


def _frames_of(paths: Iterable[Path], pool: Pool) -> list[int]:
    """Return the frames of a pool that data sets hold, or that texts of `mlsel check` name."""
    import h5py

    from mlsel.pool.check import read_exclude
    from mlsel.pool.pool import Pool

    frames: list[int] = []
    for path in paths:
        if path.is_file() and not h5py.is_hdf5(path):
            frames += read_exclude(path, pool)
            continue
        with Pool(path) as data:
            made_from = data.attributes.get("pool_digest")
            if made_from != pool.digest:
                raise MlselError(
                    f"{path} was not selected from {pool.path}: it was made from a pool with the "
                    f"digest {made_from}, this one has {pool.digest}."
                )
            frames += data.values("source_frame").tolist()
    return frames
