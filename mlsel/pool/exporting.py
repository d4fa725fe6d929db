"""Pools to and from other formats: extended XYZ and whatever ASE reads; many files to one."""

from __future__ import annotations

import argparse
import errno
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlsel.cli import Parser
from mlsel.core.arrays import IntArray
from mlsel.core.errors import MlselError
from mlsel.core.files import creating_text
from mlsel.pool.copies import CONTENT_HASH
from mlsel.pool.formats import (
    NAMES,
    Names,
    Outgoing,
    require_lattice,
    with_labels,
    write_db,
    write_deepmd,
    write_extxyz,
    write_n2p2,
)
from mlsel.pool.incoming import SOURCE_FILE
from mlsel.pool.labels import LABELS

if TYPE_CHECKING:
    from mlsel.pool.block import Block
    from mlsel.pool.layout import Layout
    from mlsel.pool.pool import Pool

_OWN = ("frame_id", "run", "source_file", "source_index", "source_frame")
"""What a pool says of a frame; a source's values of these names keep the pool's names for them."""


def outgoing(pool: Pool, frame_ids: Sequence[int] | None = None) -> Iterator[Outgoing]:
    """Yield frames with all that they hold, in the order given.

    The volume is the cell's, and so is not among it. Beside the pool's own frame_id and run, info
    says where a frame came from: source_file and source_index of an imported one.
    """
    ids = range(len(pool)) if frame_ids is None else frame_ids
    sources = list(pool.attributes.get("sources", ()))
    # Blocks come in the file's order; a few hundred frames at a time are put into the ids' order.
    for start in range(0, len(ids), 256):
        part = ids[start : start + 256]
        made: dict[int, Outgoing] = {}
        for block in pool.blocks(frame_ids=part, everything=True):
            layouts = {f: pool.layout(block.run, f) for f in pool.fields_of(block.run)}
            atoms = pool.numbers(block.run), pool.periodic(block.run)
            for i, frame_id in enumerate(block.frame_ids):
                made[int(frame_id)] = _outgoing(block, i, atoms, layouts, sources)
        for frame_id in part:
            yield made[int(frame_id)]


def _outgoing(
    block: Block,
    i: int,
    atoms: tuple[IntArray, tuple[bool, bool, bool]],
    layouts: dict[str, Layout],
    sources: Sequence[str],
) -> Outgoing:
    run = block.run
    frame = Outgoing(
        int(block.frame_ids[i]),
        run.index,
        atoms[0],
        block["positions"][i],
        block["cell"][i],
        atoms[1],
        info={"frame_id": int(block.frame_ids[i]), "run": run.name},
    )
    for name, layout in layouts.items():
        value = block[name][i]
        told = dict(layout.attributes)
        if name in LABELS:
            frame.labels[name] = value
        elif name == SOURCE_FILE:
            frame.info[name] = str(sources[int(value)])
        elif name not in ("positions", "volume", "source_run", CONTENT_HASH):
            if told.get("encoding") == "json":
                value = json.loads(str(value))
            elif isinstance(value, np.generic):
                value = value.item()
            home = frame.arrays if layout.per_atom else frame.info
            key = told.get("key", name)
            home[name if key in home or key in _OWN else key] = value
    return frame


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
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")
    args = parser.parse_args(argv)
    _refuse_existing(args.target, args)
    kind = _kind(args.target, args.program)
    from mlsel.pool.pool import Pool

    with Pool(args.pool) as pool:
        ids = range(len(pool))[_slice(args.frames)]
        if not len(ids):
            raise MlselError(
                f"--frames {args.frames} names no frame: {args.pool} has frames 0 to "
                f"{len(pool) - 1}."
            )
        references = pool.element_references
        frames = outgoing(pool, ids)
        if args.program == "nep":
            frames = require_lattice(frames)
        names = NAMES[args.program or ("nequip" if kind in ("db", "traj") else "mace")]
        if kind == "folder":
            _write_folder(args.target, frames, names)
        elif kind.startswith("json"):
            from mlsel.pool.chemiscope import write_chemiscope

            with creating_text(args.target, packed=kind.endswith(".gz")) as file:
                write_chemiscope(file, frames, args.pool.stem)
        elif kind in ("db", "traj"):
            _write_ase(args.target, kind, frames, names, references)
        else:
            _write_text(args.target, kind, frames, names)
    print(f"{args.target}: {len(ids)} frames")
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


def _write_ase(
    target: Path, kind: str, frames: Iterator[Outgoing], names: Names, references: dict[int, float]
) -> None:
    import sqlite3

    from mlsel.core.files import finishing

    with finishing(target) as partial:
        if kind == "db":
            try:
                write_db(partial, frames, references)
            except sqlite3.OperationalError as error:
                number = {"SQLITE_FULL": errno.ENOSPC}.get(error.sqlite_errorname, errno.EIO)
                raise OSError(number, os.strerror(number), str(target)) from None
            return
        from ase.io.trajectory import TrajectoryWriter

        with TrajectoryWriter(str(partial), "w") as trajectory:
            for frame in frames:
                trajectory.write(with_labels(frame, names))


def _write_text(target: Path, kind: str, frames: Iterator[Outgoing], names: Names) -> None:
    write_one = write_n2p2 if kind == "input.data" else write_extxyz
    with creating_text(target, packed=kind.endswith(".gz")) as file:
        for frame in frames:
            write_one(file, frame, names)


def _write_folder(target: Path, frames: Iterator[Outgoing], names: Names) -> None:
    from mlsel.core.files import creating_folder

    with creating_folder(target) as partial:
        write_deepmd(partial, frames, names)


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
