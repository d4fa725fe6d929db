"""How frames that the scanner read become ASE's: learnt from one of them that ASE read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mlsel.core.arrays import Array
from mlsel.pool.extxyz_scan import Group
from mlsel.pool.incoming import ARRAYS, RESULTS, Incoming, Value

SQUARE = ("Lattice", "virial", "stress")
"""Keys whose nine numbers are a matrix, column by column."""
SCALARS = ("energy", "magmom", "free_energy")
"""Results that ASE leaves as they are; it makes all others real numbers."""


class Differs(Exception):
    """The scanner's frame is not ASE's."""


@dataclass(frozen=True)
class Kind:
    """How the frames of a group become ASE's: learnt from one that ASE read.

    Attributes
    ----------
    example : what ASE made of a frame
    header : kind (F, I, T), number of values and key of what stands in the header, in order
    columns : ASE's name, kind (R or I) and number of columns of the numbers of atoms, in order
    fixed : names that are the same in all frames of the kind
    """

    example: Incoming
    header: tuple[tuple[str, int, str], ...]
    columns: tuple[tuple[str, str, int], ...]
    fixed: frozenset[str]

    @classmethod
    def of(cls, group: Group, text: bytes, example: Incoming) -> Kind | None:
        """Return the kind of a group whose first frame is `example`; None if they differ."""
        header: list[tuple[str, int, str]] = []
        columns: list[tuple[str, str, int]] = []
        fixed: set[str] = set()
        for line in group.key.decode("ascii").split("\n")[1:-1]:
            what, _, name = line.partition(" ")
            if what != "L":
                header.append((what[0], int(what[1:] or 1), name))
                continue
            name, _, value = name.partition("=")
            if name == "Properties":
                more, words = _columns(value)
                columns += more
                fixed |= words
            else:
                fixed.add(name)
        kind = cls(example, tuple(header), tuple(columns), frozenset(fixed))
        try:
            ours = kind.frames(group.first, text)
        except Differs:
            return None
        return kind if _same(ours, replace(example, index=ours.index)) else None

    def frames(self, group: Group, text: bytes) -> Incoming:
        """Return the frames of a group of this kind; `index` counts from the scanned text's first.

        Raises
        ------
        Differs
            If a value has no place among ASE's, or one of ASE's no value.
        """
        example, n = self.example, len(group.places)
        info, at = self._of_header(group, text)
        arrays = self._of_atoms(group, at)
        lattice = info.pop("Lattice", None)
        cell = np.repeat(example.cell, n, axis=0)
        if isinstance(lattice, np.ndarray):
            cell = np.ascontiguousarray(lattice.transpose(0, 2, 1), dtype=np.float64)
        positions = arrays.pop("positions", None)
        if positions is None or positions.dtype != np.float64:
            raise Differs
        values: dict[tuple[str, str], Value] = {}
        for (place, key), known in example.values.items():
            homes: list[dict[str, Any]] = [arrays, info]
            if place != RESULTS:
                homes = [arrays] if place == ARRAYS else [info]
            found = [home.pop(key) for home in homes if key in home]
            if len(found) == 1:
                values[place, key] = _as_result(key, found[0]) if place == RESULTS else found[0]
            elif not found and key in self.fixed:
                values[place, key] = (
                    known * n if isinstance(known, list) else np.repeat(known, n, axis=0)
                )
            else:
                raise Differs
        if info or arrays or example.not_kept or example.filled_in:
            raise Differs
        index = np.array(group.places)
        return Incoming(
            0, index, example.numbers, positions, cell, example.periodic, values, [], []
        )

    def _of_header(self, group: Group, text: bytes) -> tuple[dict[str, Value], tuple[int, int]]:
        """Return the header's values, and where the atoms' begin among doubles and integers."""
        info: dict[str, Value] = {}
        at = {"F": 0, "I": 0, "T": 0}
        numbers = {"F": group.doubles, "I": group.integers}
        for kind, count, name in self.header:
            begin = at[kind]
            at[kind] += count
            if kind == "T":
                spans = group.texts[:, begin].tolist()
                info[name] = [text[a:b].decode("ascii") for a, b in spans]
                continue
            value = np.array(numbers[kind][:, begin : begin + count])
            if name in SQUARE:
                if count != 9:
                    raise Differs
                value = value.reshape(-1, 3, 3).transpose(0, 2, 1)
            info[name] = value[:, 0] if count == 1 else value
        return info, (at["F"], at["I"])

    def _of_atoms(self, group: Group, begin: tuple[int, int]) -> dict[str, Array]:
        n, n_atoms = len(group.places), self.example.n_atoms
        reals = group.doubles[:, begin[0] :].reshape(n, n_atoms, -1)
        integers = group.integers[:, begin[1] :].reshape(n, n_atoms, -1)
        arrays: dict[str, Array] = {}
        at = {"R": 0, "I": 0}
        for name, kind, count in self.columns:
            table = reals if kind == "R" else integers
            value = np.array(table[:, :, at[kind] : at[kind] + count])
            arrays[name] = value[:, :, 0] if count == 1 else value
            at[kind] += count
        return arrays


def _columns(properties: str) -> tuple[list[tuple[str, str, int]], set[str]]:
    """Return the columns of numbers, by ASE's names, and the names of those that are in the key."""
    from ase.io.extxyz import REV_PROPERTY_NAME_MAP

    fields = properties.split(":")
    columns, words = [], set()
    for name, kind, count in zip(fields[::3], fields[1::3], map(int, fields[2::3]), strict=True):
        if kind in "SL" or name in ("Z", "numbers", "move_mask"):
            words.add(REV_PROPERTY_NAME_MAP.get(name, name))
        else:
            columns.append((REV_PROPERTY_NAME_MAP.get(name, name), kind, count))
    return columns, words


def _as_result(key: str, value: Value) -> Value:
    """Return a value as ASE's calculator holds it."""
    if isinstance(value, list):
        raise Differs
    if key == "stress" and value.shape[1:] == (3, 3):  # to Voigt's order
        value = value[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    return value if key in SCALARS else np.asarray(value, dtype=np.float64)


def _same(ours: Incoming, theirs: Incoming) -> bool:
    """Whether frames agree in every bit."""
    if ours.values.keys() != theirs.values.keys() or ours.periodic != theirs.periodic:
        return False
    pairs: list[tuple[Value, Value]] = [
        (ours.positions, theirs.positions),
        (ours.cell, theirs.cell),
        (ours.numbers, theirs.numbers),
        *((ours.values[at], theirs.values[at]) for at in ours.values),
    ]
    return all(_is_same(one, other) for one, other in pairs)


def _is_same(one: Value, other: Value) -> bool:
    if isinstance(one, list) or isinstance(other, list):
        return (
            type(one) is type(other) and one == other and [*map(type, one)] == [*map(type, other)]
        )
    is_alike = one.shape == other.shape and one.dtype == other.dtype
    return is_alike and one.tobytes() == other.tobytes()
