"""Pools to other formats. The command is `mlsel.pool.export_command`."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core.arrays import IntArray
from mlsel.core.files import creating_text
from mlsel.pool.copies import CONTENT_HASH
from mlsel.pool.formats import (
    Outgoing,
    require_lattice,
    with_labels,
    write_db,
    write_deepmd,
    write_extxyz,
    write_n2p2,
)
from mlsel.pool.incoming import SOURCE_FILE
from mlsel.pool.label_names import NAMES, Names
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


def write(
    target: Path, kind: str, program: str | None, pool: Pool, frame_ids: Sequence[int]
) -> dict[int, float]:
    """Write frames in a format; return the energies of isolated atoms, which are none of them.

    Parameters
    ----------
    kind : extxyz, extxyz.gz, traj, db, json, json.gz, input.data, or folder for DeePMD-kit's
    program : names the labels as this program does; None: as MACE, in traj and db as ASE
    """
    references = pool.element_references
    frames = outgoing(pool, frame_ids)
    if program == "nep":
        frames = require_lattice(frames)
    names = NAMES[program or ("nequip" if kind in ("db", "traj") else "mace")]
    if kind == "folder":
        _write_folder(target, frames, names)
    elif kind.startswith("json"):
        from mlsel.pool.chemiscope import write_chemiscope

        with creating_text(target, packed=kind.endswith(".gz")) as file:
            write_chemiscope(file, frames, pool.path.stem)
    elif kind in ("db", "traj"):
        _write_ase(target, kind, frames, names, references)
    else:
        _write_text(target, kind, frames, names)
    return references


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
