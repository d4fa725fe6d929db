"""`mlsel training`: every model of a study, or one model on one data set."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.cli import open_study, study_parser
from mlsel.core import stopping
from mlsel.core.errors import MlselError, shortened
from mlsel.core.parallel import on_root, world
from mlsel.core.progress import Progress, duration
from mlsel.core.shards import add_part_option

if TYPE_CHECKING:
    from mlsel.training.task import Report, Task

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage, or with --data train one model."""
    parser = study_parser("mlsel training", "Train every model of a study on every data set.")
    one = parser.add_argument_group("one model on one data set")
    one.add_argument("--data", type=Path, metavar="FILE", help="a pool or data set")
    one.add_argument("--model", metavar="NAME", help="which of the study's models")
    one.add_argument(
        "--validation",
        type=Path,
        metavar="FILE",
        help="a data set held out to stop by (default: a share of the frames)",
    )
    one.add_argument("-n", type=int, metavar="N", help="use the first N frames (default: all)")
    parser.add_argument(
        "--again", action="store_true", help="train models anew whose parameters or data changed"
    )
    add_part_option(parser, "model")
    args = parser.parse_args(argv)
    world()  # before: MPICH puts a handler of its own on SIGUSR1 when it starts
    with stopping.heard():
        return _main(args)


def _main(args: argparse.Namespace) -> int:
    if args.data is None:
        for option in ("model", "validation", "n"):
            if getattr(args, option) is not None:
                raise MlselError(f"--{option} is for one model: say on which --data, too.")
        from mlsel.training.stage import train_study

        comm = world()
        study, folder = open_study(args, comm)
        train_study(study, folder, comm, again=args.again, part=args.part)
        return 0
    if args.part is not None:
        raise MlselError("--part is for a whole study: leave it out with --data.")
    return _train_one(args)


def _train_one(args: argparse.Namespace) -> int:
    from mlsel.study.preset import DEFAULT_STUDY
    from mlsel.study.study import load_study
    from mlsel.training.registry import trainer_named
    from mlsel.training.stage import baseline_of, has_networks, use_threads
    from mlsel.training.task import Task

    study = load_study(args.study or DEFAULT_STUDY, args.set)  # its [training] alone is used
    if not args.model:
        raise MlselError("--data needs --model NAME, for instance --model schnet-small.")
    trainer = trainer_named(study.training, args.model)
    if has_networks([trainer]):
        use_threads()
    out = args.output or Path(trainer.name)
    task = Task(
        args.data.stem,
        args.data,
        args.validation,
        trainer,
        args.n,
        out,
        baseline_of(study, trainer),
        bool(study.training.core),
    )
    comm = world()
    on_root(comm, lambda: _refuse_foreign(task))
    if on_root(comm, lambda: task.is_done(again=args.again)):
        on_root(comm, task.settle_added)
        if comm.rank == 0:
            log.info("%s is there already, made from the same data and parameters", task.out)
        return 0
    progress = Progress(1.0, lambda done, rate: line[0])
    line = [trainer.name]

    def report(value: Report) -> None:
        if comm.rank == 0:
            line[0] = value.text
            progress.advance(value.share - progress.done)

    if trainer.shares_ranks and comm.size > 1:
        task.perform(report, comm)
    else:
        on_root(comm, lambda: _drop(task.perform(report)))
    on_root(comm, task.settle_added)
    progress.end()
    if comm.rank == 0:
        log.info("%s: trained in %s", task.out, duration(progress.elapsed))
    return 0


def _refuse_foreign(task: Task) -> None:
    """Refuse a folder that is there and not a model's: --again would take it away with all in it.

    Raises
    ------
    MlselError
        If it is such a folder.
    """
    if not task.out.is_dir() or task.is_begun:
        return
    found = sorted(path.name for path in task.out.iterdir() if not path.name.startswith("."))
    if found:
        raise MlselError(
            f"{task.out} is there already and holds {shortened(', '.join(found), 80)}, and no "
            "model: the folder of a model is its alone, name another with -o."
        )


def _drop(_: object) -> None:
    """What other ranks have no use for isn't sent to them."""
