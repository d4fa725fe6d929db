"""What the commands share: arguments, the study, and how errors end a command."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mlsel.core import stopping
from mlsel.core.errors import MlselError
from mlsel.core.parallel import end_all_ranks, launched_rank, on_root, world
from mlsel.study.preset import DEFAULT_STUDY, presets

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.study.study import Study

Main = Callable[[Sequence[str] | None], int]

PACKAGES = {"torch": "torch", "schnetpack": "schnetpack", "quippy": "quippy-ase"}
"""Modules that only some commands use, and the packages that bring them."""


class Parser(argparse.ArgumentParser):
    """argparse's parser; under mpirun rank 0 alone prints."""

    def _print_message(self, message: str, file: IO[str] | None = None) -> None:  # type: ignore[override]
        if launched_rank() == 0:
            super()._print_message(message, file)


def study_parser(prog: str, description: str) -> Parser:
    """Return a parser with what every stage takes: STUDY, -o DIR, --set key=value."""
    parser = Parser(prog=prog, description=description)
    parser.add_argument(
        "study",
        nargs="?",
        metavar="STUDY",
        help=f"a TOML file, or one of {', '.join(presets())} (default: the study that DIR is of, "
        f"in a new folder {DEFAULT_STUDY})",
    )
    add_study_options(parser)
    return parser


def add_study_options(parser: argparse.ArgumentParser) -> None:
    """Add -o DIR and --set key=value."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="the study's folder (default: the study's name)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one key of the study, for instance pool.seed=7; may be repeated",
    )


def add_folder_argument(parser: argparse.ArgumentParser) -> None:
    """Add DIR, the folder of a study that was begun."""
    parser.add_argument(
        "folder",
        nargs="?",
        type=_folder,
        default=Path(DEFAULT_STUDY),
        metavar="DIR",
        help="a study's folder (default: %(default)s)",
    )


def _folder(text: str) -> Path:
    path = Path(text)
    if path.is_file():
        raise argparse.ArgumentTypeError(
            f"{text} is a file: give the study's folder, {path.stem} unless -o said another"
        )
    return path


def open_study(
    args: argparse.Namespace, comm: MPI.Comm | None = None, *, needs_study: bool = True
) -> tuple[Study, Path]:
    """Return the study and its folder, as `choose_study`; rank 0 reads it for all.

    Raises
    ------
    MlselError
        On every rank alike, if the study is wrong.
    """
    from mlsel.study.choice import choose_study

    def choose() -> tuple[Study, Path]:
        return choose_study(args.study, args.output, args.set, needs_study=needs_study)

    return on_root(comm or world(), choose)


def run_stage(
    argv: Sequence[str] | None,
    command: str,
    description: str,
    stage: Callable[..., object],
    again: str,
) -> int:
    """Be a stage's command that takes a study and --again: stage(study, folder, comm, again=…).

    Parameters
    ----------
    again : str
        What --again does.
    """
    parser = study_parser(command, description)
    parser.add_argument("--again", action="store_true", help=again)
    args = parser.parse_args(argv)
    comm = world()
    study, folder = open_study(args, comm)
    with stopping.heard():
        stage(study, folder, comm, again=args.again)
    return 0


def run_main(main: Main, argv: Sequence[str] | None = None) -> int:
    """Run a command's main and return its exit code; the end of every command.

    A user's mistake is one sentence and exit code 2, a stage that ended incomplete a sentence
    and 1, one that a signal stopped a sentence and 75. An error on one rank of several ends all
    ranks: they would wait for it for ever.
    """
    logging.basicConfig(
        level=logging.INFO if launched_rank() == 0 else logging.WARNING,
        format="%(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it tells of its font cache
    try:
        return main(argv)
    except MlselError as error:
        # Before MPI is needed every rank does the same, and makes the same mistake.
        everywhere = error.is_everywhere or "mpi4py.MPI" not in sys.modules
        if not everywhere or launched_rank() == 0:
            print(f"mlsel: {error}", file=sys.stderr, flush=True)
        if not everywhere:
            end_all_ranks(error.exit_code)
        return error.exit_code
    except BrokenPipeError:  # `mlsel info … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the launcher may pass on a second
        print("mlsel: stopped; the same command goes on from here.", file=sys.stderr, flush=True)
        end_all_ranks(130)
        return 130
    except OSError as error:
        told = _told(error)
        if told:
            print(f"mlsel: {told}", file=sys.stderr, flush=True)
        else:
            _print_traceback()
        end_all_ranks(2 if told else 1)
        return 2 if told else 1
    except ModuleNotFoundError as error:
        package = PACKAGES.get((error.name or "").partition(".")[0])
        if package:
            print(
                f"mlsel: this command needs {package}, which is not installed here: give "
                f"`pip install {package}` in mlsel's environment, in the version of "
                "constraints.txt (docs/index.md tells of torch's smaller build without GPUs).",
                file=sys.stderr,
                flush=True,
            )
        else:
            _print_traceback()
        end_all_ranks(2 if package else 1)
        return 2 if package else 1
    except Exception:
        _print_traceback()
        end_all_ranks(1)
        return 1
    finally:
        # The work is done, and what it came to is known: a batch system's signal in the second that
        # Python takes to end would make a job that failed of it.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def _told(error: OSError) -> str:
    """Say in a sentence what the system refused, where a user can do something about it."""
    text = str(error)
    where = f" for {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text:
        return (
            f"the disk is full{where}: make room and give the same command again, "
            "it goes on from the last checkpoint."
        )
    if error.errno == errno.EIO:
        return (
            f"the disk reports an error{where} ({os.strerror(error.errno)}): when it is whole "
            "again, the same command goes on from the last checkpoint."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission{where} ({os.strerror(error.errno)}): choose another folder with -o."
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST) and error.filename:
        return f"{error.filename}: {os.strerror(error.errno)}; choose another folder with -o."
    if error.errno in (errno.ENOENT, errno.ESTALE):
        return (
            f"{error.filename or 'a file that is needed'} is not there (any more): was a folder "
            "moved or removed? With it back the same command goes on from what is there."
        )
    return ""


def _print_traceback() -> None:
    """Print the traceback in one piece, so that no other rank's output comes between."""
    sys.stderr.write(traceback.format_exc())
    sys.stderr.flush()
