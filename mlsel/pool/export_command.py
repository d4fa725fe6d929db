"""`mlsel export`: a pool for other programs; `mlsel pack`: many files to one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mlsel.cli import Parser
from mlsel.core.errors import MlselError
from mlsel.pool.label_names import NAMES


def export_main(argv: Sequence[str] | None = None) -> int:
    """`mlsel export POOL FILE`."""
    parser = Parser(
        prog="mlsel export",
        description="Write a pool for other programs, in the format that FILE's suffix names: "
        "extended XYZ (.xyz, .extxyz, also .gz), .traj or .db of ASE, .json or .json.gz of "
        "chemiscope, input.data of n2p2; for DeePMD-kit FILE is a folder. Energies are in eV, "
        "lengths in Å.",
    )
    parser.add_argument("pool", type=Path, metavar="POOL")
    parser.add_argument("target", type=Path, metavar="FILE")
    parser.add_argument(
        "--frames", default=":", metavar="A:B:C", help="slice of frame ids (default: all)"
    )
    parser.add_argument(
        "--for",
        dest="program",
        choices=NAMES,
        help="name the labels as this program does (default: MACE's names; in .traj and .db ASE's)",
    )
    parser.add_argument(
        "--chemiscope", action="store_true", help="for that viewer; FILE is a .json or .json.gz"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")
    args = parser.parse_args(argv)
    _refuse_existing(args.target, args)
    kind = _kind(args.target, args.program)
    if args.chemiscope and not kind.startswith("json"):
        raise MlselError(f"{args.target}: chemiscope reads .json and .json.gz: end FILE so.")
    from mlsel.pool.exporting import write
    from mlsel.pool.pool import Pool
    from mlsel.pool.teacher import teacher_of

    with Pool(args.pool) as pool:
        teacher = teacher_of(pool)
        ids = range(len(pool))[_slice(args.frames)]
        if not len(ids):
            raise MlselError(
                f"--frames {args.frames} names no frame: {args.pool} has frames 0 to "
                f"{len(pool) - 1}."
            )
        references = write(args.target, kind, args.program, pool, ids)
    print(f"{args.target}: {len(ids)} frames")
    if teacher:
        print(f"their atomic energies are those of the model {teacher}, and no labels")
    if references:
        from ase.data import chemical_symbols

        told = ", ".join(f"{chemical_symbols[z]} {e!r} eV" for z, e in references.items())
        print(f"energies of isolated atoms, which are not among the frames: {told}")
    return 0


_KINDS = {
    ".xyz": "extxyz",
    ".extxyz": "extxyz",
    ".xyz.gz": "extxyz.gz",
    ".extxyz.gz": "extxyz.gz",
    ".traj": "traj",
    ".db": "db",
    ".json": "json",
    ".json.gz": "json.gz",
}
_OF_PROGRAM = {"deepmd": ("folder",), "n2p2": ("input.data",), "schnetpack": ("db",)}


def _kind(target: Path, program: str | None) -> str:
    """Return the format of a file from its name, or of a program that reads one format only."""
    kind = next((k for suffix, k in _KINDS.items() if target.name.endswith(suffix)), "")
    if program in ("deepmd", "n2p2"):
        if kind:
            what = "a folder" if program == "deepmd" else "a file named for instance input.data"
            raise MlselError(f"{target}: {program} reads {what}, not {kind}.")
        return _OF_PROGRAM[program][0]
    if program == "schnetpack" and kind != "db":
        raise MlselError(f"{target}: schnetpack reads .db: give the file that suffix.")
    if program in ("gap", "nep", "mace", "nequip") and not kind.startswith("extxyz"):
        raise MlselError(f"{target}: {program} reads extended XYZ: give it the suffix .xyz.")
    if not kind:
        raise MlselError(
            f"{target}: no format has this suffix: write {', '.join(_KINDS)}, or say --for deepmd "
            "or --for n2p2."
        )
    return kind


def pack_main(argv: Sequence[str] | None = None) -> int:
    """`mlsel pack POOL FILE.h5`."""
    parser = Parser(prog="mlsel pack", description="Copy a pool of many files into one.")
    parser.add_argument("pool", type=Path, metavar="POOL")
    parser.add_argument("target", type=Path, metavar="FILE")
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")
    args = parser.parse_args(argv)
    _refuse_existing(args.target, args)
    from mlsel.pool.pool import Pool
    from mlsel.pool.writer import PoolWriter

    with Pool(args.pool) as pool:
        parameters = {k: v for k, v in pool.attributes.items() if k != "digest"}
    with PoolWriter(args.target, parameters) as writer:
        writer.link_run(args.pool, copy=True)
    print(f"{args.target}: {args.target.stat().st_size / 2**20:.1f} MiB")
    return 0


def _slice(text: str) -> slice:
    try:
        parts = [int(part) if part else None for part in text.split(":")]
    except ValueError:
        parts = []
    if not 2 <= len(parts) <= 3 or (parts[-1] == 0 and len(parts) == 3):
        raise MlselError(f"--frames {text}: write first:end or first:end:step, for instance 0:100.")
    return slice(*parts)


def _refuse_existing(path: Path, args: argparse.Namespace) -> None:
    if path.exists() and not args.force:
        raise MlselError(f"{path} is there already: choose another name, or --force to replace it.")
