"""Frames on their way in: what a source holds of frames that are alike, before it is decided on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlsel.core.arrays import Array, FloatArray, IntArray

RESULTS, INFO, ARRAYS = "results", "info", "arrays"
PLACES = (RESULTS, INFO, ARRAYS)
"""Where ASE keeps a value: its calculator's results, Atoms.info, Atoms.arrays."""
SOURCE_FILE, SOURCE_INDEX = "source_file", "source_index"
"""Of every imported frame: which of the attribute `sources` it is from, and its place there."""


class Json(str):
    """A value that is neither a number, an array nor a text, as JSON."""


Value = Array | list[str]
"""Of F frames: an array whose first axis they are, or F texts."""


@dataclass(slots=True)
class Incoming:
    """Frames of one source with the same atoms and the same kinds of values; lengths in Å where
    the source says its unit.

    Attributes
    ----------
    source : int
    index : (F,), of each frame in its source
    numbers : (N,)
    positions : (F, N, 3)
    cell : (F, 3, 3)
    values : dict of (place, key) to the frames' values
    not_kept : names of what has no form that could be kept
    filled_in : names of labels that a reader filled in where the source has none
    """

    source: int
    index: IntArray
    numbers: IntArray
    positions: FloatArray
    cell: FloatArray
    periodic: tuple[bool, bool, bool]
    values: dict[tuple[str, str], Value]
    not_kept: list[str]
    filled_in: list[str]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    def find(self, key: str) -> tuple[str, Value] | None:
        """Return where a key is, and its values."""
        for place in PLACES:
            if (place, key) in self.values:
                return place, self.values[place, key]
        return None

    @property
    def volume(self) -> FloatArray:
        """Of the cells, Å³; 0 without a cell."""
        found: FloatArray = np.abs(np.linalg.det(self.cell))
        return found

    def take(self, chosen: Array) -> Incoming:
        """Return some of the frames: their places, or a mask."""
        places = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        if len(places) == len(self) and (places == np.arange(len(self))).all():
            return self
        return Incoming(
            self.source,
            self.index[places],
            self.numbers,
            self.positions[places],
            self.cell[places],
            self.periodic,
            {
                at: [value[int(k)] for k in places] if isinstance(value, list) else value[places]
                for at, value in self.values.items()
            },
            list(self.not_kept),
            list(self.filled_in),
        )

    def are_isolated_atoms(self) -> Array:
        """Whether each is one atom and called so, or has only images 8 Å away or more; (F,)."""
        if self.n_atoms != 1:
            return np.zeros(len(self), dtype=bool)
        spacing = np.full(len(self), np.inf)
        for axis, along in enumerate(self.periodic):
            if along:
                face = np.cross(self.cell[:, (axis + 1) % 3], self.cell[:, (axis + 2) % 3])
                spacing = np.minimum(spacing, self.volume / np.linalg.norm(face, axis=1))
        found: Array = spacing >= 8.0
        called = self.values.get((INFO, "config_type"))
        if isinstance(called, list):
            found |= ["isolatedatom" in re.sub(r"\W|_", "", name.lower()) for name in called]
        return found


def distinct(table: Array) -> Iterator[tuple[Array, Array]]:
    """Yield each different column of a table (K, F), and which of the F columns are so.

    >>> for column, where in distinct(np.array([[0, 1, 0]])): print(column, where)
    [0] [ True False  True]
    [1] [False  True False]
    """
    if (table == table[:, :1]).all():  # the usual case, without sorting
        yield table[:, 0], np.ones(table.shape[1], dtype=bool)
        return
    for column in np.unique(table, axis=1).T:
        yield column, (table == column[:, None]).all(axis=0)


def _kind(frames: Incoming) -> tuple[Any, ...]:
    """What frames must have in common to stand in one array."""
    values = tuple(
        (
            *at,
            type(value[0]).__name__
            if isinstance(value, list)
            else (value.dtype.kind, value.shape[1:]),
        )
        for at, value in sorted(frames.values.items(), key=lambda item: item[0])
    )
    lost = (tuple(frames.not_kept), tuple(frames.filled_in))
    return frames.source, frames.numbers.tobytes(), frames.periodic, values, lost


def gathered(parts: Iterable[Incoming]) -> list[Incoming]:
    """Put frames that are alike together, in their order."""
    alike: dict[tuple[Any, ...], list[Incoming]] = {}
    for part in parts:
        alike.setdefault(_kind(part), []).append(part)
    return [_joined(same) for same in alike.values()]


def _joined(parts: list[Incoming]) -> Incoming:
    if len(parts) == 1:
        return parts[0]
    values: dict[tuple[str, str], Value] = {}
    for at, first in parts[0].values.items():
        if isinstance(first, list):
            values[at] = [text for part in parts for text in part.values[at]]
        else:
            values[at] = np.concatenate([part.values[at] for part in parts])
    return Incoming(
        parts[0].source,
        np.concatenate([part.index for part in parts]),
        parts[0].numbers,
        np.concatenate([part.positions for part in parts]),
        np.concatenate([part.cell for part in parts]),
        parts[0].periodic,
        values,
        parts[0].not_kept,
        parts[0].filled_in,
    )
