"""Pools and data sets of mlsel's own on their way into another pool: nothing of them is guessed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from mlsel.core.hdf5_file import reading_hdf5
from mlsel.pool.copies import CONTENT_HASH
from mlsel.pool.damage import errors_told
from mlsel.pool.incoming import ARRAYS, INFO, PLACES, SOURCE_FILE, Incoming, Json, Value
from mlsel.pool.labels import LABELS
from mlsel.pool.pool import Pool
from mlsel.pool.teacher import ATTRIBUTE, teacher_of

if TYPE_CHECKING:
    from mlsel.core.arrays import Array
    from mlsel.pool.block import Block
    from mlsel.pool.layout import Layout

N_FRAMES = 256
"""Of a batch."""
_MADE_ANEW = ("positions", "volume", CONTENT_HASH)


def is_pool(path: Path) -> bool:
    """Whether an HDF5 file is a pool or data set of mlsel's."""
    with errors_told(path), reading_hdf5(path) as file:
        return "parameters/runs" in file


def references_of(path: Path) -> dict[int, float]:
    """Return the energies of isolated atoms that a source keeps beside its frames, eV."""
    if not h5py.is_hdf5(path) or not is_pool(path):
        return {}
    with Pool(path) as pool:
        return pool.element_references


def stamp_of_sources(paths: Iterable[Path]) -> dict[str, str]:
    """Return what a pool of these files must say of its atomic energies: of which models they are,
    where those of one source or more are a model's."""
    found = []
    for path in paths:
        if h5py.is_hdf5(path) and is_pool(path):
            with Pool(path) as pool:
                found.append(teacher_of(pool))
    teachers = "; ".join(sorted(filter(None, set(found))))
    return {ATTRIBUTE: teachers} if teachers else {}


def read_pool(path: Path, source: int) -> Iterator[list[Incoming]]:
    """Yield a pool's frames in their order, N_FRAMES at a time, with all that they hold.

    Labels keep their names, other values those that they had in the pool's own sources. The names
    of the files that a pool was itself imported from come with its frames.
    """
    with Pool(path) as pool:
        files = [str(name) for name in pool.attributes.get("sources", ())]
        # An imported frame has no time, and its step is its place in its source.
        lost = [] if files else ["attributes of runs", "steps and times"]
        for start in range(0, len(pool), N_FRAMES):
            ids = range(start, min(start + N_FRAMES, len(pool)))
            batch = []
            for block in pool.blocks(frame_ids=ids, everything=True):
                layouts = {f: pool.layout(block.run, f) for f in pool.fields_of(block.run)}
                values = _values(block, layouts, files)
                if len(pool.runs) > 1:  # those of the same atoms and fields become one
                    values.setdefault((INFO, "run"), [block.run.name] * len(block))
                batch.append(
                    Incoming(
                        source,
                        block.frame_ids,
                        pool.numbers(block.run),
                        block["positions"],
                        block["cell"],
                        pool.periodic(block.run),
                        values,
                        list(lost),
                        [],
                    )
                )
            yield batch


def _values(
    block: Block, layouts: dict[str, Layout], files: list[str]
) -> dict[tuple[str, str], Value]:
    values: dict[tuple[str, str], Value] = {}
    for name, layout in layouts.items():
        if name in LABELS:
            values[ARRAYS if layout.per_atom else INFO, name] = block[name]
    taken = {key for _, key in values}
    for name, layout in layouts.items():
        if name in LABELS or name in _MADE_ANEW:
            continue
        told = dict(layout.attributes)
        key = told.get("key", name)
        if key in taken:  # a label's name, of a value that was not taken for the label
            key = name
        taken.add(key)
        place = told.get("place", ARRAYS if layout.per_atom else INFO)
        place = place if place in PLACES else INFO
        values[place, key] = (
            [files[int(row)] for row in block[name]]
            if name == SOURCE_FILE and files
            else _value(block[name], layout)
        )
    return values


def _value(stored: Array, layout: Layout) -> Value:
    is_text = stored.dtype.kind in "UO"
    if dict(layout.attributes).get("encoding") == "json":
        return [Json(text) for text in stored]
    return [str(text) for text in stored] if is_text and stored.ndim == 1 else stored
