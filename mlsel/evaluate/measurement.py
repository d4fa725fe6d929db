"""What is measured of a model: errors of each frame, counts for the parity plot and the quantiles;
as chunks while it is measured, and in the file of a model when it is whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core.arrays import IntArray
from mlsel.core.files import FORMAT, DurableFile, creating
from mlsel.core.hdf5_file import creating_hdf5, reading_hdf5
from mlsel.core.provenance import versions
from mlsel.evaluate.quantile import Tail, histograms, weights
from mlsel.evaluate.statistics import (
    ALL,
    FORCE_QUANTITIES,
    FrameErrors,
    frame_errors,
    stress_errors,
)
from mlsel.pool.block import BLOCK_BYTES
from mlsel.pool.pool import Pool
from mlsel.pool.teacher import teacher_of
from mlsel.study.folder import UNSEEN

if TYPE_CHECKING:
    from mlsel.training.base import TrainedModel
    from mlsel.training.frames import Frames

N_PARITY = 200
"""Bins of each axis of the parity plot."""
MOST_KEPT = 100_000
"""Atoms whose neighbours are kept; those of a liquid within 6 Å take 2 kB an atom."""


@dataclass(frozen=True)
class Against:
    """The test set that models are measured on.

    Attributes
    ----------
    elements : atomic numbers, sorted
    limit : eV/Å
        The largest force component.
    parts : frames of each part
        Those for which the quantile is asked, beside that of all frames but unseen runs'.
    has_atomic : whether it holds atomic energies that are labels, no model's
    """

    elements: tuple[int, ...]
    limit: float
    parts: Mapping[str, IntArray]
    has_atomic: bool

    @classmethod
    def of(cls, test: Pool, parts: Mapping[str, IntArray]) -> Against:
        limit = max(float(np.abs(block["forces"]).max()) for block in test.blocks("forces"))
        elements = sorted({int(z) for run in test.runs for z in test.numbers(run)})
        has_atomic = "atomic_energies" in test.fields and not teacher_of(test)
        return cls(tuple(elements), limit, parts, has_atomic)

    @property
    def tails(self) -> list[tuple[str, str]]:
        """Part and element of each quantile."""
        from ase.data import chemical_symbols

        of_elements = [(ALL, chemical_symbols[z]) for z in self.elements]
        return [(ALL, ALL), *of_elements, *((part, ALL) for part in self.parts)]


@dataclass(frozen=True)
class Measured:
    """What was measured of some frames.

    Attributes
    ----------
    errors : FrameErrors
    parity : int64, (N_PARITY, N_PARITY)
        Reference (first axis) and predicted force components from −limit to limit; those beyond
        count in the outermost bins.
    tails : int64, (n_tails, 1 + RESAMPLES, N_BINS)
        Counts of errors of force components, in the order of `Against.tails`.
    """

    errors: FrameErrors
    parity: IntArray
    tails: IntArray

    @classmethod
    def join(cls, parts: Sequence[Measured]) -> Measured:
        return cls(
            FrameErrors.join([part.errors for part in parts]),
            reduce(np.add, (part.parity for part in parts)),
            reduce(np.add, (part.tails for part in parts)),
        )

    def write_chunk(self, path: Path) -> None:
        arrays = {f.name: getattr(self.errors, f.name) for f in fields(self.errors)}
        with creating(path, DurableFile) as file:
            np.savez_compressed(file, parity=self.parity, tails=self.tails, **arrays)

    @classmethod
    def read_chunk(cls, path: Path) -> Measured:
        with np.load(path, allow_pickle=False) as file:
            errors = FrameErrors(**{f.name: file[f.name] for f in fields(FrameErrors)})
            return cls(errors, file["parity"], file["tails"])


def labelled_frames(pool: Pool, frame_ids: range, against: Against) -> Iterator[Frames]:
    """Yield frames of the test set with their labels, in blocks."""
    from mlsel.training.frames import read_frames

    more = ("atomic_energies",) if against.has_atomic else ()
    return read_frames(pool, frame_ids, BLOCK_BYTES, more)


class Chunk:
    """The frames that were measured last, kept for the next model: it needs the same neighbours,
    and often the same baseline."""

    def __init__(self, pool: Pool, against: Against) -> None:
        self._pool, self._against = pool, against
        self._ids = range(0)
        self._frames: list[Frames] = []

    def frames(self, frame_ids: range) -> Iterable[Frames]:
        """Return frames of the test set, kept if they are few enough."""
        if frame_ids == self._ids:
            return self._frames
        self._ids, self._frames = range(0), []
        run_of, _ = self._pool.locate(frame_ids)
        n_atoms = sum(self._pool.runs[run].n_atoms for run in run_of.tolist())
        if n_atoms > MOST_KEPT:
            return labelled_frames(self._pool, frame_ids, self._against)
        found = labelled_frames(self._pool, frame_ids, self._against)
        self._ids, self._frames = frame_ids, [replace(part, kept={}) for part in found]
        return self._frames


def measure(model: TrainedModel, frames: Iterable[Frames], against: Against) -> Measured:
    """Measure a model on some frames of the test set."""
    found = []
    for part in frames:
        assert part.energy is not None and part.forces is not None and part.frame_ids is not None
        said = model.predict(part.unlabelled())
        reference: tuple[Any, ...] = part.forces, part.energy
        predicted: tuple[Any, ...] = said.forces, said.energy
        if against.has_atomic:
            reference = *reference, part.atomic_energies
            predicted = *predicted, said.atomic_energies
        stress = stress_errors(part.cell, part.virial, said.virial)
        errors = frame_errors(
            part.frame_ids, part.numbers, against.elements, reference, predicted, stress
        )
        parity = _parity(part.forces, said.forces, against.limit)
        found.append(Measured(errors, parity, _tails(part, said.forces, against)))
    return Measured.join(found)


def _parity(forces: Any, predicted: Any, limit: float) -> IntArray:
    places = [
        np.clip((f.ravel() / limit + 1) * (N_PARITY / 2), 0, N_PARITY - 1).astype(np.int64)
        for f in (forces, np.nan_to_num(predicted))
    ]
    flat = np.bincount(places[0] * N_PARITY + places[1], minlength=N_PARITY**2)
    return flat.reshape(N_PARITY, N_PARITY)


def _tails(frames: Frames, predicted: Any, against: Against) -> IntArray:
    difference = np.abs(predicted - frames.forces)
    assert frames.frame_ids is not None
    counts = weights(frames.frame_ids)
    of_elements = [histograms(difference[:, frames.numbers == z]) for z in against.elements]
    together = reduce(np.add, of_elements)
    tails = []
    seen = ~np.isin(frames.frame_ids, against.parts.get(UNSEEN, np.empty(0, np.int64)))
    for counted in (together, *of_elements):
        tails.append(Tail())
        tails[-1].add(counts[seen], counted[seen])
    for part in against.parts.values():
        inside = np.isin(frames.frame_ids, part)
        tails.append(Tail())
        tails[-1].add(counts[inside], together[inside])
    return np.stack([tail.counts for tail in tails])


def write_errors(path: Path, measured: Measured, against: Against, identity: str) -> None:
    """Write a model's file."""
    errors = measured.errors
    with creating_hdf5(path) as (file, _):
        for f in fields(errors):
            file[f.name] = getattr(errors, f.name)
        for name in ("sums", "largest"):
            file[name].attrs["unit"] = "eV Angstrom-1"
        file["squares"].attrs["unit"] = "eV+2 Angstrom-2"
        for name in ("energy", "atomic_sums", "atomic_low", "atomic_high"):
            file[name].attrs["unit"] = "eV"
        file["atomic_squares"].attrs["unit"] = "eV+2"
        file["stress"].attrs["unit"] = "GPa"
        quantiles = np.array([Tail(counts).quantile for counts in measured.tails])
        file["quantiles"] = quantiles
        file["quantiles"].attrs["unit"] = "eV Angstrom-1"
        file["quantiles"].attrs["of"] = json.dumps(against.tails, ensure_ascii=False)
        file["quantiles"].attrs["means"] = (
            "99.99 % quantile of errors of force components, and its standard error"
        )
        file["parity"] = measured.parity
        file["parity"].attrs["limit"] = against.limit
        file["parity"].attrs["unit"] = "eV Angstrom-1"
        file.attrs["force_quantities"] = list(FORCE_QUANTITIES)
        file.attrs["elements"] = against.elements
        file.attrs["format_version"] = FORMAT
        file.attrs["identity"] = identity
        file.attrs["versions"] = json.dumps(versions("numpy", "h5py"))


def read_errors(path: Path) -> tuple[FrameErrors, list[int]]:
    """Return the errors per frame and the elements that a model's file holds."""
    with reading_hdf5(path) as file:
        errors = FrameErrors(**{f.name: file[f.name][()] for f in fields(FrameErrors)})
        return errors, [int(z) for z in file.attrs["elements"]]


def read_quantiles(path: Path) -> dict[tuple[str, str], tuple[float, float]]:
    """Return the 99.99 % quantile and its standard error, eV/Å, by part and element."""
    with reading_hdf5(path) as file:
        of = json.loads(file["quantiles"].attrs["of"])
        values = file["quantiles"][()]
    return {
        (part, element): (float(value), float(error))
        for (part, element), (value, error) in zip(of, values, strict=True)
    }
