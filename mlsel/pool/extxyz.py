"""Extended XYZ, exactly as ASE reads it: by a scanner of ours where that is sure, else by ASE.

The scanner (extxyz.cpp) puts frames that are written alike into arrays. The first frame of each
kind is read by ASE too, and says what becomes of each value; where the two differ in anything, the
frames of that kind are left to ASE, as is every frame that the scanner calls odd.
"""

from __future__ import annotations

import ctypes
import functools
import gzip
import io
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, TextIO

import numpy as np

from mlsel.core import native
from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.core.errors import MlselError, nearest
from mlsel.pool.from_atoms import checked, from_atoms
from mlsel.pool.incoming import ARRAYS, RESULTS, Incoming, Value, gathered

SOURCE = Path(__file__).with_suffix(".cpp")
CHUNK = 8 * 2**20
"""Bytes that are scanned at once."""
MAX_KINDS = 2000
"""Kinds of frames that are remembered from one chunk to the next."""
SQUARE = ("Lattice", "virial", "stress")
"""Keys whose nine numbers are a matrix, column by column."""
SCALARS = ("energy", "magmom", "free_energy")
"""Results that ASE leaves as they are; it makes all others real numbers."""


def opened(path: Path) -> Any:
    """Open a file, or what a .gz holds, for reading bytes."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def read_extxyz(path: Path, source: int) -> Iterator[list[Incoming]]:
    """Yield the frames of a file, checked; those of a batch come before those of the next.

    Raises
    ------
    MlselError
        If a frame is not what its header promises, or none that a potential could be trained on.
    """
    library = _library()
    with opened(path) as raw:
        if library is None:
            yield from _through_ase(raw, path, source, 0)
            return
        kinds: dict[bytes, _Kind | None] = {}
        number = 0
        for scan in _ahead(_scans(library, raw)):
            with scan:
                batch: list[Incoming] = []
                for place, begin, end in scan.odd():
                    batch += _by_ase(scan.text[begin:end], path, source, number + place)
                for group in scan.groups():
                    batch += _of_group(group, scan.text, kinds, path, source, number)
                if batch:
                    yield gathered(batch)
                number += len(scan.spans)
                if scan.is_stuck:
                    rest = io.BufferedReader(_Rest(scan.text[scan.consumed :], raw))
                    yield from _through_ase(rest, path, source, number)
            if len(kinds) > MAX_KINDS:
                kinds.clear()


def _scans(library: ctypes.CDLL, raw: Any) -> Iterator[_Scan]:
    """Yield a file's text scanned in parts; the last is the one that is stuck, if one is."""
    left, size, is_end = b"", CHUNK, False
    while not is_end:
        read = raw.read(size)
        is_end = not read
        scan = _Scan(library, left + read, is_end=is_end)
        left = scan.text[scan.consumed :]
        size = CHUNK if len(scan.spans) else 2 * size  # a frame larger than what was read
        yield scan
        if scan.is_stuck:
            return


def _ahead(scans: Iterator[_Scan]) -> Iterator[_Scan]:
    """Yield what comes while a thread prepares the next: the scanner lets Python go on."""
    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(next, scans, None)
        while (scan := coming.result()) is not None:
            coming = worker.submit(next, scans, None)
            yield scan


# ------------------------------------------------------------------ through ASE


class _Rest(io.RawIOBase):
    """What was read ahead, and the file after it."""

    def __init__(self, left: bytes, file: IO[bytes]) -> None:
        self._left, self._file = left, file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._left[: len(buffer)] or self._file.read(len(buffer))
        self._left = self._left[len(part) :]
        buffer[: len(part)] = part
        return len(part)


def _through_ase(file: Any, path: Path, source: int, number: int) -> Iterator[list[Incoming]]:
    """Yield batches of frames that ASE reads one by one."""
    waiting: list[Incoming] = []
    n_bytes = 0
    for frame in _frames_by_ase(file, path, source, number):
        waiting += checked(frame, path)
        n_bytes += 8 * frame.positions.nbytes + 4096
        if n_bytes > CHUNK:
            yield gathered(waiting)
            waiting, n_bytes = [], 0
    if waiting:
        yield gathered(waiting)


def _by_ase(text: bytes, path: Path, source: int, number: int) -> list[Incoming]:
    frames = _frames_by_ase(io.BytesIO(text), path, source, number)
    return [part for frame in frames for part in checked(frame, path)]


def _frames_by_ase(raw: Any, path: Path, source: int, number: int) -> Iterator[Incoming]:
    """Frame by frame through ASE, each first held against what its own header promises."""
    file = io.TextIOWrapper(raw, encoding="utf-8")
    try:
        yield from _frames_of_text(file, path, source, number)
    finally:
        with suppress(ValueError):  # it is closed already, after an error
            file.detach()  # whoever opened it closes it


def _frames_of_text(file: TextIO, path: Path, source: int, number: int) -> Iterator[Incoming]:
    from ase.io.extxyz import read_extxyz as by_ase

    while True:
        try:
            line = file.readline(2**20)
            if not line:
                return
            if not line.strip():
                continue
            where = f"{path}, frame {number}"
            n_atoms = _count(line, where)
            header = file.readline()
            rows = []
            for k in range(n_atoms):
                row = file.readline()
                if not row.strip():
                    raise MlselError(
                        f"{where} ends after {k} of {n_atoms} atoms: it was cut short; leave it "
                        "out."
                    )
                rows.append(row)
        except UnicodeDecodeError as error:
            raise MlselError(f"{path}, frame {number} is no UTF-8 text: {error}.") from None
        _check_header(header, rows, where)
        text = f"{n_atoms}\n{header}{''.join(rows)}"
        yield from_atoms(next(iter(by_ase(io.StringIO(text), index=0))), {}, source, number)
        number += 1


def _count(line: str, where: str) -> int:
    if line.startswith("VEC"):
        raise MlselError(f"{where}: VEC lines are not read; put the cell in Lattice.")
    try:
        n_atoms = int(line)
    except ValueError:
        raise MlselError(
            f"{where} begins with {_quote(line)} where the number of atoms belongs: a frame before "
            "has more lines than it says, or the file is no XYZ."
        ) from None
    if n_atoms < 1:
        raise MlselError(f"{where} has {n_atoms or 'no'} atoms: leave it out.")
    return n_atoms


def _check_header(header: str, rows: list[str], where: str) -> None:
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|\{[^}]*\}|\[[^]]*\]', '""', header)
    keys = re.findall(r"(?:^|\s)([^\s=\"]+)\s*=", bare)
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise MlselError(f"{where} has the key {twice} twice: leave one of them out.")
    for key in keys:
        for known in ("Lattice", "Properties", "pbc"):
            if key != known and key.lower() == known.lower():
                raise MlselError(f"{where} has the key {key}: it is written {known}.")
    found = re.search(r'(?:^|\s)Properties\s*=\s*"?([^\s"]+)', header)
    if found is None:
        return
    parts = found[1].split(":")
    counts = parts[2::3]
    if len(parts) % 3 or not all(count.isdigit() for count in counts):
        raise MlselError(f"{where}: Properties={_quote(found[1])} is no list of name:type:columns.")
    n_columns = sum(map(int, counts))
    for k, row in enumerate(rows):
        if (n_there := len(row.split())) != n_columns:
            which = "its first atom" if k == 0 else f"atom {k}, counted from 0,"
            raise MlselError(
                f"{where}: Properties names {n_columns} columns ({_quote(found[1])}), {which} has "
                f"{n_there}."
            )
    names = parts[::3]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise MlselError(f"{where}: Properties names the column {_quote(double)} twice.")
    for columns, told in ((("pos", "positions"), "pos"), (("species", "Z", "numbers"), "species")):
        if not set(columns) & set(names):
            near = next((name for name in names if name.lower() in columns), None)
            hint = f": {near} is written {told}" if near else nearest(told, names)
            raise MlselError(f"{where}: Properties names no column {told}{hint}.")


def _quote(text: str) -> str:
    plain = repr(text.strip())
    return plain if len(plain) <= 80 else plain[:79] + "…'"


# ------------------------------------------------------------------ by the scanner


@functools.cache
def _library() -> ctypes.CDLL | None:
    library = native.load(
        "extxyz", [SOURCE], (), "extended XYZ is read by ASE, more than five times slower"
    )
    if library is not None:
        numbers = ctypes.POINTER(ctypes.c_int64)
        library.extxyz_scan.restype = ctypes.c_void_p
        library.extxyz_scan.argtypes = [ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64, numbers]
        library.extxyz_group.restype = None
        library.extxyz_group.argtypes = [ctypes.c_void_p, ctypes.c_int64, numbers]
        library.extxyz_free.restype = None
        library.extxyz_free.argtypes = [ctypes.c_void_p]
    return library


@dataclass(frozen=True)
class _Group:
    """Frames that are written alike; the arrays are the scanner's.

    Attributes
    ----------
    key : all that is the same in them
    places : (F,), which of the scanned frames they are
    spans : (F, 2), where their texts begin and end
    doubles, integers : (F, …), first those of the header, then the atoms'
    texts : (F, n, 2), where each text of the header begins and ends
    """

    key: bytes
    places: IntArray
    spans: IntArray
    doubles: FloatArray
    integers: IntArray
    texts: IntArray


class _Scan:
    """What the scanner makes of a text."""

    def __init__(self, library: ctypes.CDLL, text: bytes, *, is_end: bool) -> None:
        found = (ctypes.c_int64 * 5)()
        self.text = text
        self._library = library
        self._handle = library.extxyz_scan(text, len(text), is_end, found)
        native.check_memory(self._handle is None, "the frames of an extended XYZ file")
        n_frames, self._n_groups, self.consumed, is_stuck, address = found
        self.is_stuck = bool(is_stuck)
        self.spans = _at(address, 3 * n_frames, np.int64).reshape(n_frames, 3)

    def __enter__(self) -> _Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self.spans = self.spans.copy()
        self._library.extxyz_free(self._handle)
        self._handle = None

    def __del__(self) -> None:
        self._library.extxyz_free(self._handle)

    def odd(self) -> list[tuple[int, int, int]]:
        """Return place, begin and end of the frames that are left to ASE."""
        places = np.flatnonzero(self.spans[:, 2] < 0)
        return [(int(k), int(self.spans[k, 0]), int(self.spans[k, 1])) for k in places]

    def groups(self) -> Iterator[_Group]:
        found = (ctypes.c_int64 * 14)()
        for index in range(self._n_groups):
            self._library.extxyz_group(self._handle, index, found)
            n, n_doubles, n_integers, n_texts, *parts = found
            key, places, doubles, integers, texts = (
                _at(parts[2 * k], parts[2 * k + 1], kind)
                for k, kind in enumerate((np.uint8, np.int64, np.float64, np.int64, np.int64))
            )
            yield _Group(
                key.tobytes(),
                places,
                self.spans[places, :2],
                doubles.reshape(n, n_doubles),
                integers.reshape(n, n_integers),
                texts.reshape(n, n_texts, 2),
            )


def _at(address: int, n: int, kind: Any) -> Any:
    """Return numbers that lie at an address."""
    if not n:
        return np.empty(0, dtype=kind)
    n_bytes = n * np.dtype(kind).itemsize
    return np.frombuffer((ctypes.c_char * n_bytes).from_address(address), dtype=kind)


def _of_group(
    group: _Group,
    text: bytes,
    kinds: dict[bytes, _Kind | None],
    path: Path,
    source: int,
    first: int,
) -> list[Incoming]:
    """Return the frames of a group, by the scanner if it is known to agree with ASE on them."""

    def by_ase(k: int) -> list[Incoming]:
        begin, end = group.spans[k]
        return _by_ase(text[begin:end], path, source, first + int(group.places[k]))

    if group.key not in kinds:
        if len(group.places) == 1:
            return by_ase(0)
        begin, end = group.spans[0]
        number = first + int(group.places[0])
        (example,) = _frames_by_ase(io.BytesIO(text[begin:end]), path, source, number)
        kinds[group.key] = _Kind.of(group, text, example)
    kind = kinds[group.key]
    if kind is None:
        return [part for k in range(len(group.places)) for part in by_ase(k)]
    frames = kind.frames(group, text)
    return checked(replace(frames, source=source, index=frames.index + first), path)


class _Differs(Exception):
    """The scanner's frame is not ASE's."""


@dataclass(frozen=True)
class _Kind:
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
    def of(cls, group: _Group, text: bytes, example: Incoming) -> _Kind | None:
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
            ours = kind.frames(_first_of(group), text)
        except _Differs:
            return None
        return kind if _same(ours, replace(example, index=ours.index)) else None

    def frames(self, group: _Group, text: bytes) -> Incoming:
        """Return the frames of a group of this kind; `index` counts from the scanned text's first.

        Raises
        ------
        _Differs
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
            raise _Differs
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
                raise _Differs
        if info or arrays or example.not_kept or example.filled_in:
            raise _Differs
        index = np.array(group.places)
        return Incoming(
            0, index, example.numbers, positions, cell, example.periodic, values, [], []
        )

    def _of_header(self, group: _Group, text: bytes) -> tuple[dict[str, Value], tuple[int, int]]:
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
                    raise _Differs
                value = value.reshape(-1, 3, 3).transpose(0, 2, 1)
            info[name] = value[:, 0] if count == 1 else value
        return info, (at["F"], at["I"])

    def _of_atoms(self, group: _Group, begin: tuple[int, int]) -> dict[str, Array]:
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


def _first_of(group: _Group) -> _Group:
    """Return a group's first frame alone."""
    return _Group(
        group.key,
        group.places[:1],
        group.spans[:1],
        group.doubles[:1],
        group.integers[:1],
        group.texts[:1],
    )


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
        raise _Differs
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
