"""Pools and data sets: the HDF5 format, read.

This module, `run_arrays`, `layout` and `writer` alone know how it is laid out. It is H5MD 1.1
(https://nongnu.org/h5md), so that h5py, or any H5MD reader, finds everything without mlsel:

    /h5md                                    version, author, creator
    /particles/<run>/box/edges               Å, (F, 3) or, where a box is triclinic, (F, 3, 3)
    /particles/<run>/species                 atomic numbers, (N,)
    /particles/<run>/position                Å, (F, N, 3), from the lower corner of the box
    /particles/<run>/force                   eV/Å, (F, N, 3)
    /particles/<run>/potential_energy        eV, (F, N): ε_i of `compute pe/atom` (ours, not H5MD's)
    /particles/<run>/<name>                  what else a source had per atom, (F, N, …)
    /observables/<run>/<name>                one value a frame: energy, temperature, config_type, …
    /observables/<run>/virial                eV, (F, 3, 3): −dE/dε, ε the strain
    /parameters                              attributes: what made the file; digest; format_version
    /parameters/element_references/{species,energy}
                                             energies of isolated atoms, eV, where they are known
    /parameters/runs/{name,n_frames,n_atoms,digest}
                                             the runs in the order that numbers the frames
    /parameters/frames/{run,row}             only where frames are not in the order of the runs

Each time-dependent element is a group of `value`, `step` and `time` (ps); steps and times of a
run are one pair of datasets under several names (hard links). Each `value` has its `unit`; that
of `force` stands on its group, because MDAnalysis opens no file whose force unit it can't convert,
and it knows none with eV. What mlsel did not make itself carries the attributes `key` (its name in
the source), `place` (info, arrays or results: where ASE keeps it) and, for what is no array,
`encoding` = json. A field that only some runs have is no field of the pool (`Pool.fields`), but of
these runs (`Pool.fields_of`). What is known of a run as a whole
stands in the attributes of /particles/<run>. In a pool of many files /particles/<run> and
/observables/<run> are external links to the file of the run.

A frame is named by `frame_id`: 0 … n_frames − 1 over all runs.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from mlsel.core import units
from mlsel.core.arrays import Array, IntArray, whole_numbers
from mlsel.core.errors import MlselError, shortened
from mlsel.core.hdf5_file import bounded
from mlsel.pool.block import BLOCK_BYTES, Block, Run
from mlsel.pool.contiguous import AHEAD_BYTES, Piece
from mlsel.pool.damage import damage_told, errors_told, first_words
from mlsel.pool.layout import ATOM_FIELDS, FORMAT_VERSION, LONG_LISTS, Layout
from mlsel.pool.run_arrays import RunArrays

MOST_AHEAD = 4
"""Pieces on their way into memory, so few that `Descriptors` keeps their files open."""


class Pool:
    """A pool or data set, opened for reading: frames by frame_id, arrays in blocks.

    Parameters
    ----------
    path : path
        The pool, a run's own file, or a data set that a selection made.

    Raises
    ------
    MlselError
        If there is no such file or it is no mlsel file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise MlselError(f"{self.path} is a folder: give its pool, {self.path / 'pool.h5'}.")
        if not self.path.is_file():
            raise MlselError(
                f"There is no pool {self.path}: `mlsel generate` makes one by MD, `mlsel import` "
                "of trajectories."
            )
        try:
            with bounded(self.path):
                self._file = h5py.File(self.path, "r", locking=False)
        except OSError as error:
            raise MlselError(
                f"{self.path} is not an HDF5 file that can be read ({first_words(error)}): of "
                "trajectories `mlsel import` makes one."
            ) from None
        try:
            with damage_told(self.path):
                self._read_index()
        except MlselError:
            self._file.close()
            raise
        self._order: tuple[IntArray, IntArray] | None = None
        self._arrays = RunArrays(self.path, self._file, self._atom_extras)

    def _read_index(self) -> None:
        if "parameters/runs" not in self._file:
            raise MlselError(
                f"{self.path} has no /parameters/runs, so it is no mlsel pool: "
                "make one from a trajectory with `mlsel import`."
            )
        table = self._file["parameters/runs"]
        self.attributes: dict[str, Any] = dict(self._file["parameters"].attrs)
        for name in LONG_LISTS:
            if name in self._file["parameters"]:
                self.attributes[name] = self._file["parameters"][name].asstr()[()]
        version = int(self.attributes.get("format_version", 1))
        if not 1 <= version <= FORMAT_VERSION:
            raise MlselError(
                f"{self.path} has the format_version {shortened(str(version), 20)}; this mlsel "
                f"reads 1 to {FORMAT_VERSION}: a newer mlsel made it, or it is damaged."
            )
        n_frames = table["n_frames"][()]
        n_atoms = table["n_atoms"][()]
        if {n_frames.dtype.kind, n_atoms.dtype.kind} != {"i"}:
            raise TypeError("frames and atoms of the runs are no whole numbers")
        if (n_frames < 1).any() or (n_atoms < 1).any():
            raise MlselError(
                f"{self.path} is damaged: a run has {n_frames.min()} frames or {n_atoms.min()} "
                "atoms; take a copy of it, or make it again."
            )
        ends = np.cumsum(n_frames)
        self.runs: tuple[Run, ...] = tuple(
            Run(i, name, int(n), int(n_of), int(end - n))
            for i, (name, n, n_of, end) in enumerate(
                zip(table["name"].asstr()[()], n_frames, n_atoms, ends, strict=True)
            )
        )
        self._first_frames = np.array([run.first_frame for run in self.runs], dtype=np.int64)
        self.n_frames = int(n_frames.sum())
        self.fields: tuple[str, ...] = tuple(map(str, table.attrs["fields"]))
        self.partial_fields: tuple[str, ...] = tuple(
            map(str, table.attrs.get("partial_fields", ()))
        )
        self._atom_extras = frozenset(map(str, table.attrs.get("atom_fields", ())))
        self.digest: str = str(self.attributes["digest"])
        first = self.runs[0].name if self.runs else ""
        link = self._file["particles"].get(first, getlink=True) if first else None
        self.is_packed = not isinstance(link, h5py.ExternalLink)
        self.is_ordered = "parameters/frames" not in self._file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._arrays.close()
        self._file.close()

    def __len__(self) -> int:
        return self.n_frames

    def require(self, *fields: str) -> None:
        """Raise MlselError, naming what there is, unless every frame has all these fields."""
        for field in fields:
            if field in (*self.fields, "cell", "step"):
                continue
            if field in self.partial_fields:
                lacking = [run for run in self.runs if field not in self.fields_of(run)]
                n = sum(run.n_frames for run in lacking)
                raise MlselError(
                    f"{self.path}: {n} of {self.n_frames} frames hold no {field} (the first in "
                    f"run {lacking[0].name}): leave them out, for instance by "
                    "`mlsel check --drop` or by importing with --without-labels skip."
                )
            raise MlselError(f"{self.path} holds no {field}: it holds {', '.join(self.fields)}.")

    def fields_of(self, run: Run) -> tuple[str, ...]:
        """Return what the frames of a run hold: the pool's fields, and those of this run."""
        if not self.partial_fields:
            return self.fields
        return (*self.fields, *(f for f in self.partial_fields if self._arrays.holds(run, f)))

    def layout(self, run: Run, field: str) -> Layout:
        """Return how a field lies in a run, as `PoolWriter.add_run` takes it."""
        with damage_told(self.path):
            dataset, per_atom = self._arrays.dataset(run, field), self._arrays.per_atom(field)
            told = ((name, dataset.attrs.get(name)) for name in ("key", "place", "encoding"))
            return Layout(
                per_atom,
                tuple(dataset.shape[1 + per_atom :]),
                dataset.dtype.str.lstrip("|<"),
                _unit(dataset),
                tuple((name, str(text)) for name, text in told if text is not None),
            )

    @property
    def element_references(self) -> dict[int, float]:
        """Energies of isolated atoms by atomic number, eV, as far as the sources had them."""
        if "parameters/element_references" not in self._file:
            return {}
        with damage_told(self.path):
            group = self._file["parameters/element_references"]
            if group["energy"].dtype.kind != "f" or group["species"].dtype.kind != "i":
                raise TypeError("element_references are no numbers")
            pairs = zip(group["species"][()], group["energy"][()], strict=True)
            return {int(number): float(energy) for number, energy in pairs}

    def unit(self, field: str) -> str:
        """Return the unit of a field in H5MD's notation ('' for a pure number)."""
        if field in ATOM_FIELDS:
            return ATOM_FIELDS[field].unit
        if field == "cell":
            return units.LENGTH
        run = next((run for run in self.runs if field in self.fields_of(run)), None)
        if run is None:
            self.require(field)
        with damage_told(self.path):
            return _unit(self._arrays.dataset(run or self.runs[0], field))

    def numbers(self, run: Run) -> IntArray:
        """Return the atomic numbers of a run's atoms, int64 (N,)."""
        self._arrays.place(run, "species")  # as many as the index tells, before counted out
        rows = np.arange(run.n_atoms)
        return self._arrays.rows(run, "species", rows, consecutive=True).astype(np.int64)

    def is_orthogonal(self, run: Run) -> bool:
        """Whether the cells of a run are stored as three lengths."""
        return self._arrays.is_orthogonal(run)

    def periodic(self, run: Run) -> tuple[bool, bool, bool]:
        """Return which of a run's three directions are periodic."""
        with damage_told(self.path):
            boundary = self._arrays.groups(run)[0]["box"].attrs["boundary"]
            a, b, c = (str(kind) == "periodic" for kind in boundary)
        return a, b, c

    def run_attributes(self, run: Run) -> dict[str, Any]:
        """Return what is known of a run as a whole (set temperature, whether it melted, …)."""
        with damage_told(self.path):
            return dict(self._arrays.groups(run)[0].attrs)

    def locate(self, frame_ids: npt.ArrayLike) -> tuple[IntArray, IntArray]:
        """Return the index of the run and the row in it of each frame, both int64 (F,).

        Raises
        ------
        MlselError
            If a frame id is not in 0 … n_frames − 1.
        """
        ids = whole_numbers(frame_ids, "frame ids")
        if ids.size and (ids.min() < 0 or ids.max() >= self.n_frames):
            bad = ids[(ids < 0) | (ids >= self.n_frames)][0]
            raise MlselError(
                f"{self.path} has no frame {bad}: frame ids go from 0 to {self.n_frames - 1}."
            )
        if self.is_ordered:
            run = np.searchsorted(self._first_frames, ids, side="right") - 1
            return run, ids - self._first_frames[run]
        if self._order is None:
            with damage_told(self.path):
                self._order = self._read_order()
        return self._order[0][ids], self._order[1][ids]

    def atom_starts(self) -> IntArray:
        """Return where each frame's atoms begin among those of all frames, and their number at the
        end, (F + 1)."""
        run_of, _ = self.locate(np.arange(self.n_frames))
        sizes = np.array([run.n_atoms for run in self.runs], dtype=np.int64)[run_of]
        return np.concatenate([[0], np.cumsum(sizes)])

    def _read_order(self) -> tuple[IntArray, IntArray]:
        order = self._file["parameters/frames"]
        run, row = order["run"][()].astype(np.int64), order["row"][()].astype(np.int64)
        counts = np.bincount(run, minlength=len(self.runs)) if run.size and run.min() >= 0 else ()
        if len(run) != len(row) or [r.n_frames for r in self.runs] != list(counts):
            raise ValueError("/parameters/frames does not name each frame once")
        if (row < 0).any() or (row >= np.array([r.n_frames for r in self.runs])[run]).any():
            raise ValueError("/parameters/frames names rows that no run has")
        return run, row

    def values(self, field: str) -> Array:
        """Return one value a frame for all frames, in the order of frame ids, (n_frames, …)."""
        if self._arrays.per_atom(field) or field == "cell":
            raise ValueError(f"{field} is not one value a frame: read it with blocks()")
        parts = [(block.frame_ids, block[field]) for block in self.blocks(field)]
        if not parts:
            return np.empty(0)
        out = np.empty(
            (self.n_frames, *parts[0][1].shape[1:]), np.result_type(*(part for _, part in parts))
        )
        for ids, part in parts:
            out[ids] = part
        return out

    def blocks(
        self,
        *fields: str,
        frame_ids: range | npt.ArrayLike | None = None,
        max_bytes: int = BLOCK_BYTES,
        everything: bool = False,
        optional: Sequence[str] = (),
    ) -> Iterator[Block]:
        """Yield the fields of all frames, or of those named, each frame once.

        Parameters
        ----------
        fields : str
            Names as in `Block`.
        frame_ids : range of step 1 or int array, optional
            Which frames; they come sorted by run and row, and `Block.frame_ids` says which came.
        max_bytes : int
            Upper bound of a block's arrays (one frame at least).
        everything : bool
            Give with the fields named all others that a run has, cell and step too.
        optional : sequence of str
            Fields to give where a run has them.
        """
        self.require(*fields)
        named = fields
        for run, ids, rows, one_piece in self._spans(frame_ids):
            if everything:
                fields = tuple(dict.fromkeys((*named, *self.fields_of(run), "cell", "step")))
            elif optional:
                known = self.fields_of(run)
                fields = (*named, *(field for field in optional if field in known))
            n = max(1, max_bytes // max(1, self._arrays.frame_bytes(run, fields)))
            for start in range(0, len(ids), n):
                part, chosen = ids[start : start + n], rows[start : start + n]
                consecutive = one_piece or _consecutive(chosen)
                taken = {f: self._arrays.take(run, f, chosen, consecutive) for f in fields}
                yield Block(part, run, chosen, taken)

    def pieces(self, field: str, frame_ids: range) -> Iterator[tuple[Run, IntArray, Piece | None]]:
        """Yield frames run by run, and where a field of them lies until the next is asked for;
        None where only `blocks` can read it. Those that come next are on their way into memory."""
        waiting: deque[tuple[Run, IntArray, Piece | None]] = deque()
        for found in self._pieces(field, frame_ids):
            waiting.append(found)
            if found[2] is not None:
                found[2].will_be_read()
            n_bytes = sum(piece.n_bytes for _, _, piece in waiting if piece is not None)
            if n_bytes > AHEAD_BYTES or len(waiting) > MOST_AHEAD:
                yield waiting.popleft()
        yield from waiting

    def _pieces(self, field: str, frame_ids: range) -> Iterator[tuple[Run, IntArray, Piece | None]]:
        self.require(field)
        for run, ids, rows, one_piece in self._spans(frame_ids):
            piece = None
            if one_piece:
                piece = self._arrays.piece(run, field, int(rows[0]), len(rows))
            yield run, ids, piece

    def _spans(
        self, frame_ids: range | npt.ArrayLike | None
    ) -> Iterator[tuple[Run, IntArray, IntArray, bool]]:
        """Yield frames run by run: ids, rows, and whether these are known to be consecutive."""
        if frame_ids is None:
            frame_ids = range(self.n_frames)
        if isinstance(frame_ids, range) and frame_ids.step == 1 and self.is_ordered:
            first = int(np.searchsorted(self._first_frames, frame_ids.start, side="right")) - 1
            for run in itertools.islice(self.runs, max(0, first), None):
                start = max(frame_ids.start, run.first_frame)
                stop = min(frame_ids.stop, run.first_frame + run.n_frames)
                if start >= stop:
                    return
                with errors_told(self.path):  # as many as the index tells
                    ids = np.arange(start, stop)
                yield run, ids, ids - run.first_frame, True
            return
        ids = whole_numbers(frame_ids, "frame ids")
        run_of, row_of = self.locate(ids)
        order = np.lexsort((row_of, run_of))
        ends = np.append(np.flatnonzero(np.diff(run_of[order])) + 1, len(ids))
        for start, stop in itertools.pairwise([0, *ends.tolist()]):
            chosen = order[start:stop]
            if len(chosen):
                yield self.runs[run_of[chosen[0]]], ids[chosen], row_of[chosen], False


def _unit(dataset: Any) -> str:
    return str(dataset.attrs.get("unit", ""))


def _consecutive(rows: IntArray) -> bool:
    """Whether rows, one at least, go up in steps of one."""
    return bool(rows[-1] - rows[0] == len(rows) - 1 and np.all(np.diff(rows) == 1))
