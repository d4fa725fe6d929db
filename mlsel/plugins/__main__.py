"""`python -m mlsel.plugins build|where|clean`."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence

from mlsel.core.errors import MlselError
from mlsel.core.native import cache_folders
from mlsel.plugins.builder import KIND, Stack, build, build_cuda, locate


def main(argv: Sequence[str] | None = None) -> int:
    """Build, find or remove the plugins; what a user got wrong is told in one sentence."""
    parser = argparse.ArgumentParser(
        prog="python -m mlsel.plugins",
        description="The LAMMPS plugins of mlsel: pair_style quip and pair_style schnet.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("build", help="compile the plugins, unless that is done already")
    make.add_argument("--force", action="store_true", help="compile even so")
    make.add_argument(
        "--cuda",
        action="store_true",
        help="pair_style schnet's compressed mode for GPUs too: needs CUDA's nvcc",
    )
    commands.add_parser("where", help="print the folder, for LAMMPS_PLUGIN_PATH")
    commands.add_parser("clean", help="remove every plugin that this environment has built")
    args = parser.parse_args(argv)
    try:
        if args.command == "build":
            built = build(force=args.force)
            verb = f"Built in {built.seconds:.0f} s" if built.seconds else "Already built"
            print(f"{verb}: {', '.join(built.styles)} in {built.folder}")
            if args.cuda:
                print(f"For GPUs: {build_cuda(built, force=args.force)}")
        elif args.command == "where":
            found = locate(Stack.installed())
            if found is None:
                raise MlselError(
                    "the plugins are not built for what is installed now: "
                    "run `python -m mlsel.plugins build`."
                )
            print(found.folder)
        else:
            for folder in cache_folders(KIND):
                shutil.rmtree(folder, ignore_errors=True)
    except MlselError as error:
        print(f"mlsel: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
