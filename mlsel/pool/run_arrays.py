"""The arrays of a pool's runs: which dataset holds a field, and its rows, read where they lie."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.core.errors import MlselError
from mlsel.core.hdf5_file import bounded
from mlsel.pool.block import Run
from mlsel.pool.contiguous import Descriptors, Piece, Place, take_rows
from mlsel.pool.damage import damage_told, errors_told
from mlsel.pool.layout import ATOM_FIELDS, OBSERVABLE_UNITS


class RunArrays:
    """The datasets of an open pool, by run and field.

    Parameters
    ----------
    path : path
        The pool, for sentences.
    file : h5py.File
    atom_extras : collection of str
        Fields of atoms beside those that mlsel knows.
    """

    def __init__(self, path: Path, file: Any, atom_extras: Collection[str]) -> None:
        self._path, self._file, self._atom_extras = path, file, atom_extras
        self._open_runs: OrderedDict[int, tuple[Any, Any]] = OrderedDict()
        self._places: dict[tuple[int, str], Place | None] = {}
        self._descriptors = Descriptors()

    def close(self) -> None:
        self._open_runs.clear()
        self._descriptors.close()

    def groups(self, run: Run) -> tuple[Any, Any]:
        """The run's particles and observables; few runs' files are kept open at a time."""
        if run.index not in self._open_runs:
            try:
                particles = self._file["particles"][run.name]
                observables = self._file["observables"][run.name]
            except (KeyError, OSError, RuntimeError, ValueError):
                raise MlselError(
                    f"{self._path} points to run {run.name}, whose file is not in its place: "
                    f"keep the folder of {self._path.name} whole, or pack it with `mlsel pack`."
                ) from None
            self._open_runs[run.index] = particles, observables
            while len(self._open_runs) > 16:
                self._open_runs.popitem(last=False)
        self._open_runs.move_to_end(run.index)
        return self._open_runs[run.index]

    def holds(self, run: Run, field: str) -> bool:
        """Whether a run has a field."""
        self.groups(run)
        with damage_told(self._path):
            return self.element(run.name, field) in self._file

    def is_orthogonal(self, run: Run) -> bool:
        """Whether its cells are stored as three lengths."""
        with damage_told(self._path):
            return bool(self.groups(run)[0]["box/edges/value"].ndim == 2)

    def per_atom(self, field: str) -> bool:
        """Whether a field has a value for each atom."""
        return field in ATOM_FIELDS or field in self._atom_extras

    def element(self, run: str, field: str) -> str:
        """Return the path of the dataset that holds a field of a run."""
        if field in ATOM_FIELDS:
            return f"particles/{run}/{ATOM_FIELDS[field].element}/value"
        if field in self._atom_extras:
            return f"particles/{run}/{field}/value"
        if field == "cell":
            return f"particles/{run}/box/edges/value"
        if field == "step":
            return f"particles/{run}/position/step"
        if field == "species":
            return f"particles/{run}/species"
        return f"observables/{run}/{field}/value"

    def dataset(self, run: Run, field: str) -> Any:
        """Return the dataset that holds a field of a run."""
        self.groups(run)
        return self._file[self.element(run.name, field)]

    def place(self, run: Run, field: str) -> Place | None:
        """Where a field of a run lies, if it is one stretch of a file; found once."""
        key = run.index, field
        if key not in self._places:
            with damage_told(self._path):
                self._places[key] = self._find_place(run, field)
        return self._places[key]

    def _find_place(self, run: Run, field: str) -> Place | None:
        """Return where a field of a run lies, if it is one stretch of a file."""
        path = self.element(run.name, field)
        try:  # h5py's own objects would take five times as long, and there are many runs
            dataset = h5py.h5d.open(self._file.id, path.encode())
        except KeyError:
            self.groups(run)
            raise
        dtype, shape = dataset.dtype, dataset.shape
        self._check_shape(run, field, dtype, shape)
        offset = dataset.get_offset()  # None where the dataset isn't contiguous
        if offset is None or dataset.get_create_plist().get_external_count():
            return None
        return Place(os.fsdecode(h5py.h5f.get_name(dataset)), offset, dtype, shape)

    def _check_shape(
        self, run: Run, field: str, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> None:
        """Raise unless a dataset has a value for each frame (and atom) that the index tells."""
        expected: tuple[int, ...] = (run.n_frames,)
        if field == "species":
            expected = (run.n_atoms,)
        elif self.per_atom(field):
            expected = (run.n_frames, run.n_atoms)
        known: tuple[tuple[int, ...], ...] | None = None
        if field in ATOM_FIELDS:
            known = ((*expected, *ATOM_FIELDS[field].tail),)
        elif field == "cell":
            known = ((*expected, 3), (*expected, 3, 3))
        elif field in (*OBSERVABLE_UNITS, "step", "species"):
            known = (expected,)
        if shape not in known if known else shape[: len(expected)] != expected:
            raise ValueError(f"{field} of run {run.name} has the shape {shape}")
        if field in (*ATOM_FIELDS, *OBSERVABLE_UNITS, "cell") and dtype.kind != "f":
            raise ValueError(f"{field} of run {run.name} has the type {dtype}")

    def frame_bytes(self, run: Run, fields: Sequence[str]) -> int:
        """Return the size of some fields of a frame."""
        known = [field for field in fields if field in ATOM_FIELDS]
        per_atom = sum(math.prod(ATOM_FIELDS[field].tail) for field in known)
        size = 8 * (run.n_atoms * per_atom + 9 * ("cell" in fields))
        for field in set(fields).difference(known, {"cell"}):
            place = self.place(run, field)
            size += place.row_bytes if place else 8
        return size

    def piece(self, run: Run, field: str, first: int, n: int) -> Piece | None:
        """Return where n rows of a field lie, None if not in one stretch of a file."""
        place = self.place(run, field)
        if place is None:
            return None
        with errors_told(self._path):
            descriptor = self._descriptors[place.filename]
        return place.piece(descriptor, first, n)

    def take(self, run: Run, field: str, rows: IntArray, consecutive: bool) -> Array:
        """Read rows of a field, cells as matrices."""
        if field == "cell":
            return self._cells(run, rows, consecutive)
        return self.rows(run, field, rows, consecutive)

    def rows(self, run: Run, field: str, rows: IntArray, consecutive: bool) -> Array:
        """Read rows of a dataset as they are stored."""
        place = self.place(run, field)
        with errors_told(self._path):
            if place is None:
                with bounded(self._path):
                    dataset = self.dataset(run, field)
                found = take_rows(self._path, dataset, rows, consecutive)
            else:
                found = place.take(self._descriptors[place.filename], rows, consecutive)
            return np.strings.decode(found, "utf-8") if found.dtype.kind == "S" else found

    def _cells(self, run: Run, rows: IntArray, consecutive: bool) -> FloatArray:
        cells = np.zeros((len(rows), 3, 3))
        with damage_told(self._path):
            there = "edges" in self.groups(run)[0]["box"]
        if there:
            edges = self.rows(run, "cell", rows, consecutive)
            if edges.ndim == 3:
                return edges
            cells[:, [0, 1, 2], [0, 1, 2]] = edges
        return cells
