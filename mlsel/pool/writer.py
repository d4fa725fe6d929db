"""Writing pools and data sets, in the layout that `mlsel.pool.pool` documents."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from mlsel.core import units
from mlsel.core.arrays import Array
from mlsel.core.hdf5_file import creating_hdf5
from mlsel.core.provenance import digest, versions
from mlsel.pool.layout import (
    ATOM_FIELDS,
    FORMAT_VERSION,
    LONG_LISTS,
    OBSERVABLE_UNITS,
    VIRIAL,
    Layout,
)
from mlsel.pool.pool import Pool


class RunWriter:
    """Writes the frames of one run, in order; made by `PoolWriter.add_run`."""

    def __init__(
        self,
        name: str,
        n_atoms: int,
        values: dict[str, Any],
        clock: tuple[Any, Any],
        check: Callable[[], None],
    ) -> None:
        self.name, self._check = name, check
        self.n_atoms = n_atoms
        self._values = values
        self._step, self._time = clock
        self.n_frames = len(self._step)
        self.n_written = 0
        self._hashes = {field: hashlib.blake2b(digest_size=16) for field in values}

    def append(self, step: npt.ArrayLike, time: npt.ArrayLike, **arrays: npt.ArrayLike) -> None:
        """Write the next frames: step (F,), time (F,) in ps, and every field of the run."""
        start, stop = self.n_written, self.n_written + len(np.asarray(step))
        if arrays.keys() != self._values.keys() or stop > self.n_frames:
            raise ValueError(
                f"run {self.name}: {stop} of {self.n_frames} frames with fields "
                f"{sorted(arrays)} where {sorted(self._values)} belong"
            )
        self._step[start:stop] = step
        self._time[start:stop] = time
        for field, given in arrays.items():
            dataset = self._values[field]
            if dataset.dtype.kind == "S":
                given = np.strings.encode(np.asarray(given), "utf-8")
            array = np.ascontiguousarray(given, dtype=dataset.dtype)
            if field == "cell" and dataset.ndim == 2:
                array = np.ascontiguousarray(array[:, [0, 1, 2], [0, 1, 2]])
            if array.shape != (stop - start, *dataset.shape[1:]):
                raise ValueError(f"run {self.name}: {field} has shape {array.shape}")
            dataset[start:stop] = array
            self._hashes[field].update(array)
        self._check()
        self.n_written = stop

    def digest(self) -> str:
        return digest({field: h.hexdigest() for field, h in self._hashes.items()})


class PoolWriter:
    """Writes a pool, run by run; the file has its name only when it is whole.

    Parameters
    ----------
    path : path
    parameters : mapping
        Attributes of /parameters: what made the file (JSON text, numbers, strings). The same
        input must give the same file bit for bit, so times and hosts don't belong here.
    author : str
        H5MD's author.
    element_references : mapping of atomic number to eV
        Energies of isolated atoms.

    Examples
    --------
    >>> import tempfile; folder = tempfile.TemporaryDirectory()
    >>> with PoolWriter(Path(folder.name, "pool.h5")) as writer:
    ...     run = writer.add_run("argon", [18, 18], 1, ["positions"], {"energy": "eV"})
    ...     run.append([0], [0.0], positions=np.zeros((1, 2, 3)), cell=[np.eye(3)], energy=[-1.0])
    >>> with Pool(Path(folder.name, "pool.h5")) as pool:
    ...     pool.n_frames, pool.fields, pool.values("energy")
    (1, ('positions', 'energy'), array([-1.]))
    >>> folder.cleanup()
    """

    def __init__(
        self,
        path: str | Path,
        parameters: Mapping[str, Any] | None = None,
        author: str = "not stated",
        element_references: Mapping[int, float] | None = None,
    ) -> None:
        self.path = Path(path)
        self._element_references = dict(element_references or {})
        self._parameters = dict(parameters or {})
        self._author = author
        self._runs: list[RunWriter | tuple[str, int, int, str]] = []
        self._fields: list[set[str]] = []
        self._atom_extras: set[str] = set()
        self._order: tuple[Array, Array] | None = None

    def __enter__(self) -> Self:
        self._creating = creating_hdf5(self.path)
        self._file, self._check = self._creating.__enter__()
        h5md = self._file.create_group("h5md")
        h5md.attrs["version"] = np.array([1, 1], dtype=np.int32)
        h5md.create_group("author").attrs["name"] = self._author
        creator = h5md.create_group("creator")
        creator.attrs["name"] = "mlsel"
        creator.attrs["version"] = versions()["mlsel"]
        h5md.create_group("modules/units").attrs["version"] = np.array([1, 0], dtype=np.int32)
        for group in ("particles", "observables", "parameters"):
            self._file.create_group(group)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._write_index()
        except BaseException as failure:
            self._close_after(failure)
            raise
        if error is None:
            self._creating.__exit__(None, None, None)
        else:
            self._close_after(error)

    def _close_after(self, error: BaseException) -> None:
        """Close, and raise what went wrong with the disk if that is what `error` came of."""
        try:
            self._creating.__exit__(type(error), error, error.__traceback__)
        except BaseException as raised:
            if raised is not error:  # which the caller raises
                raise raised from None

    def add_run(
        self,
        name: str,
        numbers: npt.ArrayLike,
        n_frames: int,
        fields: Iterable[str],
        observables: Mapping[str, str] | None = None,
        *,
        periodic: Sequence[bool] = (True, True, True),
        orthogonal: bool = True,
        attributes: Mapping[str, Any] | None = None,
        extras: Mapping[str, Layout] | None = None,
    ) -> RunWriter:
        """Make room for a run of n_frames frames and return its writer.

        Parameters
        ----------
        name : str
            Unique in the pool, without a slash.
        numbers : int, (N,)
            Atomic numbers.
        fields : of ATOM_FIELDS
            What the run holds per atom; positions always among them.
        observables : mapping of name to unit
            What it holds per frame.
        periodic : three bools
        orthogonal : bool
            Whether all boxes are orthogonal (edges are then stored as three lengths).
        attributes : mapping
            What is known of the run as a whole.
        extras : mapping of name to Layout
            What else it holds, per atom or per frame.
        """
        species = np.asarray(numbers, dtype=np.int32)
        particles = self._file["particles"].create_group(name)
        particles.attrs.update(attributes or {})
        particles["species"] = species
        box = particles.create_group("box")
        box.attrs["dimension"] = np.int32(3)
        box.attrs["boundary"] = ["periodic" if p else "none" for p in periodic]
        values: dict[str, Any] = {}
        clock: tuple[Any, Any] | None = None

        def element(group: Any, path: str, shape: tuple[int, ...], unit: str, dtype: Any) -> Any:
            nonlocal clock
            made = group.create_group(path)
            if clock is None:
                clock = (
                    made.create_dataset("step", (n_frames,), np.int64),
                    made.create_dataset("time", (n_frames,), np.float64),
                )
                clock[1].attrs["unit"] = units.TIME
            else:
                made["step"], made["time"] = clock
            value = made.create_dataset("value", (n_frames, *shape), dtype)
            if unit:
                (made if path == ATOM_FIELDS["forces"].element else value).attrs["unit"] = unit
            return value

        names = list(fields)
        for field in sorted(names, key=list(ATOM_FIELDS).index):
            layout = ATOM_FIELDS[field]
            shape = (len(species), *layout.tail)
            values[field] = element(particles, layout.element, shape, layout.unit, np.float64)
        edges = (3,) if orthogonal else (3, 3)
        values["cell"] = element(box, "edges", edges, units.LENGTH, np.float64)
        group = self._file["observables"].create_group(name)
        for observable, unit in (observables or {}).items():
            dtype = np.int64 if unit == INTEGER else np.float64
            values[observable] = element(
                group, observable, (), "" if unit == INTEGER else unit, dtype
            )
        for extra, how in (extras or {}).items():
            shape = (len(species), *how.tail) if how.per_atom else how.tail
            home = particles if how.per_atom else group
            kind = how.dtype
            text = h5py.string_dtype("utf-8", int(kind[1:])) if kind.startswith("S") else kind
            values[extra] = element(home, extra, shape, how.unit, text)
            values[extra].attrs.update(dict(how.attributes))
            if how.per_atom:
                self._atom_extras.add(extra)
        assert clock is not None
        run = RunWriter(name, len(species), values, clock, self._check)
        self._runs.append(run)
        self._fields.append({*names, *(observables or {}), *(extras or {})})
        return run

    def link_run(self, source: Path, *, copy: bool = False, prefix: str = "") -> None:
        """Show the runs of another mlsel file in this one: by link, or whole.

        A link is relative to this pool's folder, so the folder can be moved as a whole. `prefix`
        goes before the runs' names.
        """
        with Pool(source) as pool:
            digests = pool._file["parameters/runs/digest"].asstr()[()]
            self._atom_extras |= pool._atom_extras
            self._element_references |= pool.element_references
            for run, of_run in zip(pool.runs, digests, strict=True):
                name = prefix + run.name
                for group in ("particles", "observables"):
                    if copy:
                        pool._file.copy(f"{group}/{run.name}", self._file[group], name)
                    else:
                        target = source.resolve().relative_to(self.path.resolve().parent)
                        self._file[group][name] = h5py.ExternalLink(
                            target.as_posix(), f"/{group}/{run.name}"
                        )
                self._runs.append((name, run.n_frames, run.n_atoms, of_run))
                self._fields.append(set(pool.fields_of(run)))

    def set_order(self, run: npt.ArrayLike, row: npt.ArrayLike) -> None:
        """Number the frames otherwise than run by run: frame f is row[f] of run run[f]."""
        self._order = np.asarray(run, dtype=np.int32), np.asarray(row, dtype=np.int64)

    def _write_index(self) -> None:
        rows: list[tuple[str, int, int, str]] = []
        for run in self._runs:
            if isinstance(run, RunWriter):
                if run.n_written != run.n_frames:
                    raise ValueError(
                        f"run {run.name}: {run.n_written} of {run.n_frames} frames written"
                    )
                rows.append((run.name, run.n_frames, run.n_atoms, run.digest()))
            else:
                rows.append(run)
        table = self._file.create_group("parameters/runs")
        table.create_dataset("name", data=[row[0] for row in rows], dtype=h5py.string_dtype())
        table["n_frames"] = np.array([row[1] for row in rows], dtype=np.int64)
        table["n_atoms"] = np.array([row[2] for row in rows], dtype=np.int64)
        table.create_dataset("digest", data=[row[3] for row in rows], dtype=h5py.string_dtype())
        common = set.intersection(*self._fields) if self._fields else set()
        known = [*ATOM_FIELDS, *OBSERVABLE_UNITS]
        ordered = [f for f in known if f in common] + sorted(common.difference(known))
        table.attrs.create("fields", ordered, dtype=h5py.string_dtype())
        partial = sorted(set().union(*self._fields) - common)
        for what, some in (("partial_fields", partial), ("atom_fields", sorted(self._atom_extras))):
            if some:
                table.attrs.create(what, some, dtype=h5py.string_dtype())
        if self._element_references:
            references = self._file.create_group("parameters/element_references")
            known_energies = sorted(self._element_references.items())
            references["species"] = np.array([number for number, _ in known_energies], np.int64)
            references["energy"] = np.array([energy for _, energy in known_energies])
            references["energy"].attrs["unit"] = units.ENERGY
        order = ""
        if self._order is not None:
            group = self._file.create_group("parameters/frames")
            group["run"], group["row"] = self._order
            order = digest(self._order[0].tobytes() + self._order[1].tobytes())
        attributes = {
            **self._parameters,
            "digest": digest([*(row[3] for row in rows), order]),
            "format_version": FORMAT_VERSION,
        }
        for name, value in attributes.items():
            if name in LONG_LISTS and len(value) > 1000:  # HDF5 has 64 KiB for an attribute
                self._file["parameters"].create_dataset(
                    name, data=list(value), dtype=h5py.string_dtype()
                )
            else:
                self._file["parameters"].attrs[name] = value


LABELS = {
    "energy": Layout(unit=units.ENERGY),
    "forces": Layout(True, (3,), unit=units.FORCE),
    "atomic_energies": Layout(True, unit=units.ENERGY),
    "virial": VIRIAL,
}
"""What a calculation says of a frame, and how it lies in a run."""
INTEGER = "integer"
"""Given instead of a unit, it makes an observable of whole numbers (indices, say)."""
