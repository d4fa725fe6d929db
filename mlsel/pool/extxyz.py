"""Extended XYZ, exactly as ASE reads it: by a scanner of ours where that is sure, else by ASE.

The scanner (extxyz_scan) puts frames that are written alike into arrays. The first frame of each
kind is read by ASE too, and says what becomes of each value (extxyz_kind); where the two differ in
anything, the frames of that kind are left to ASE, as is every frame that the scanner calls odd.
"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, TextIO

from mlsel.core.errors import MlselError, nearest
from mlsel.pool.extxyz_kind import Kind
from mlsel.pool.extxyz_scan import CHUNK, Group, ahead, library, scans
from mlsel.pool.from_atoms import checked, from_atoms
from mlsel.pool.incoming import Incoming, gathered

MAX_KINDS = 2000
"""Kinds of frames that are remembered from one chunk to the next."""


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
    scanner = library()
    with opened(path) as raw:
        if scanner is None:
            yield from _through_ase(raw, path, source, 0)
            return
        kinds: dict[bytes, Kind | None] = {}
        number = 0
        for scan in ahead(scans(scanner, raw)):
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


def _of_group(
    group: Group,
    text: bytes,
    kinds: dict[bytes, Kind | None],
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
        kinds[group.key] = Kind.of(group, text, example)
    kind = kinds[group.key]
    if kind is None:
        return [part for k in range(len(group.places)) for part in by_ase(k)]
    frames = kind.frames(group, text)
    return checked(replace(frames, source=source, index=frames.index + first), path)
