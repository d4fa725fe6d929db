"""The scanner of extended XYZ: texts to arrays of the frames that are written alike."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core import native
from mlsel.core.arrays import FloatArray, IntArray

SOURCE = Path(__file__).with_suffix(".cpp")
CHUNK = 4 * 2**20
"""Bytes that are scanned at once."""


@functools.cache
def library() -> ctypes.CDLL | None:
    found = native.load(
        "extxyz", [SOURCE], (), "extended XYZ is read by ASE, more than five times slower"
    )
    if found is not None:
        numbers = ctypes.POINTER(ctypes.c_int64)
        found.extxyz_scan.restype = ctypes.c_void_p
        found.extxyz_scan.argtypes = [ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64, numbers]
        found.extxyz_group.restype = None
        found.extxyz_group.argtypes = [ctypes.c_void_p, ctypes.c_int64, numbers]
        found.extxyz_free.restype = None
        found.extxyz_free.argtypes = [ctypes.c_void_p]
    return found


@dataclass(frozen=True)
class Group:
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

    @property
    def first(self) -> Group:
        """The first frame alone."""
        return Group(
            self.key,
            self.places[:1],
            self.spans[:1],
            self.doubles[:1],
            self.integers[:1],
            self.texts[:1],
        )


class Scan:
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

    def __enter__(self) -> Scan:
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

    def groups(self) -> Iterator[Group]:
        found = (ctypes.c_int64 * 14)()
        for index in range(self._n_groups):
            self._library.extxyz_group(self._handle, index, found)
            n, n_doubles, n_integers, n_texts, *parts = found
            key, places, doubles, integers, texts = (
                _at(parts[2 * k], parts[2 * k + 1], kind)
                for k, kind in enumerate((np.uint8, np.int64, np.float64, np.int64, np.int64))
            )
            yield Group(
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


def scans(library: ctypes.CDLL, raw: Any) -> Iterator[Scan]:
    """Yield a file's text scanned in parts; the last is the one that is stuck, if one is."""
    left, size, is_end = b"", CHUNK, False
    while not is_end:
        read = raw.read(size)
        is_end = not read
        scan = Scan(library, left + read, is_end=is_end)
        left = scan.text[scan.consumed :]
        size = CHUNK if len(scan.spans) else 2 * size  # a frame larger than what was read
        yield scan
        if scan.is_stuck:
            return


def ahead(scans: Iterator[Scan]) -> Iterator[Scan]:
    """Yield what comes while a thread prepares the next: the scanner lets Python go on."""
    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(next, scans, None)
        while (scan := coming.result()) is not None:
            coming = worker.submit(next, scans, None)
            yield scan
