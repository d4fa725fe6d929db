"""Values of other people's frames that are no labels: their names in a pool, and how they lie."""

from __future__ import annotations

import json
import re
from collections.abc import Container
from dataclasses import dataclass, field

import numpy as np

from mlsel.core.arrays import Array
from mlsel.pool.copies import CONTENT_HASH
from mlsel.pool.incoming import ARRAYS, SOURCE_FILE, SOURCE_INDEX, Incoming, Json, Value
from mlsel.pool.layout import ATOM_FIELDS, OBSERVABLE_UNITS, Layout

RESERVED = {
    *ATOM_FIELDS,
    *OBSERVABLE_UNITS,
    *(layout.element for layout in ATOM_FIELDS.values()),
    *("virial", "cell", "box", "species", "step", "time", "source_frame", "source_run"),
    *(SOURCE_FILE, SOURCE_INDEX, CONTENT_HASH),
}


@dataclass
class Extra:
    """A value that is no label, over all frames that have it."""

    place: str
    key: str
    name: str = ""
    n: int = 0
    kinds: set[str] = field(default_factory=set)
    shape: tuple[int, ...] | None = None
    has_one_shape: bool = True
    follows_atoms: bool = True
    longest: int = 1

    def see(self, values: Value, n_atoms: int) -> None:
        """Take note of frames' values."""
        self.n += len(values)
        if isinstance(values, list):
            self.kinds.add("json" if isinstance(values[0], Json) else "text")
            self.has_one_shape &= self.shape in (None, ())
            self.shape, self.follows_atoms = (), False
            return
        shape = values.shape[1:]
        self.kinds.add("text" if values.dtype.kind == "U" else values.dtype.kind)
        self.has_one_shape &= self.shape in (None, shape)
        self.follows_atoms &= len(shape) > 0 and shape[0] == n_atoms
        self.shape = shape

    @property
    def is_per_atom(self) -> bool:
        known = self.key in ("magmoms", "charges", "stresses", "energies", "forces")
        likely = self.place == ARRAYS or known or not self.has_one_shape
        return self.follows_atoms and likely

    @property
    def encoding(self) -> str:
        """number, text, json, or nothing for what has no form of its own."""
        if self.kinds <= {"b", "i", "f"} and (self.is_per_atom or self.has_one_shape):
            return "number"
        if self.kinds == {"text"} and (self.is_per_atom or self.shape == ()):
            return "text"
        return "" if self.place == ARRAYS else "json"

    def encode(self, values: Value) -> Array:
        """Return frames' values as they are stored, (F, …)."""
        if self.encoding == "json":
            values = [
                str(value if isinstance(value, Json) else json.dumps(value))
                for value in (values if isinstance(values, list) else values.tolist())
            ]
        stored = np.asarray(values)
        if self.encoding == "number":
            return stored
        encoded = np.strings.encode(stored, "utf-8")
        self.longest = max(self.longest, encoded.dtype.itemsize)
        return stored

    def layout(self, shape: tuple[int, ...]) -> Layout:
        """Return how a frame's value of a shape, as it is stored, lies in a run."""
        numbers = {"b": "b1", "i": "i8", "f": "f8"}
        kind = max(self.kinds & set(numbers), key=list(numbers).index, default="f")
        told = [("key", self.key), ("place", self.place)]
        if self.encoding == "json":
            told.append(("encoding", "json"))
        return Layout(
            self.is_per_atom,
            shape[1:] if self.is_per_atom else shape,
            numbers[kind] if self.encoding == "number" else f"S{self.longest}",
            "",
            tuple(told),
        )


class Extras:
    """All values that are no labels."""

    def __init__(self) -> None:
        self.of: dict[tuple[str, str], Extra] = {}

    def see(self, frames: Incoming) -> None:
        """Take note of frames."""
        for (place, key), values in frames.values.items():
            self.of.setdefault((place, key), Extra(place, key)).see(values, frames.n_atoms)

    def settle(self) -> None:
        """Give each a name of its own, in an order that is not the frames'."""
        taken = set(RESERVED)
        for place, key in sorted(self.of):
            name = re.sub(r"[/\s]", "_", key).strip(".") or "unnamed"
            if name in taken:
                name += "_of_source"
            while name in taken:
                name += "_"
            taken.add(name)
            self.of[place, key].name = name

    def without_form(self) -> dict[str, int]:
        """Return what is not stored, and of how many frames."""
        return {key: extra.n for (_, key), extra in self.of.items() if not extra.encoding}

    def of_frames(self, frames: Incoming, used: Container[str]) -> dict[str, tuple[Extra, Array]]:
        """Return frames' values beside their labels, as they are stored, by name."""
        made = {}
        for (place, key), values in frames.values.items():
            extra = self.of[place, key]
            if key not in used and extra.encoding:
                made[extra.name] = extra, extra.encode(values)
        return made
