"""The properties that frames are chosen by: one number a frame, or one an atom."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.errors import nearest
from mlsel.pool.block import Block, Run
from mlsel.pool.layout import PAIR_ENERGIES
from mlsel.pool.pool import Pool
from mlsel.selection.base import Task, refuse
from mlsel.selection.binned.extremes import extremes, extremes_in_file, squares
from mlsel.study.sections.system import ELEMENTS

ATOMIC_NUMBER = {symbol: z for z, symbol in enumerate(ELEMENTS.split(), 1)}

Columns = slice | IntArray
Extremes = tuple[FloatArray, FloatArray]
"""The least and the greatest value of each frame, (F,) each."""


class Property(ABC):
    """A property with one or more values a frame.

    Attributes
    ----------
    field : str
        What it is computed from.
    label, unit : str
        For axes and tables.
    """

    field: ClassVar[str]
    label: ClassVar[str]
    unit: ClassVar[str]
    is_stored: ClassVar[bool] = True
    """Whether what is stored tells the extremes by itself (`of_stored`)."""

    def __init__(self, species: str = "") -> None:
        self.species = species
        self._columns: dict[int, Columns] = {}
        if species and species not in ATOMIC_NUMBER:
            raise refuse(
                f"species is {species!r}, which is no element{nearest(species, ATOMIC_NUMBER)}."
            )

    def prepare(self, task: Task) -> None:  # noqa: B027  most need nothing
        """Find out what the values need to know of the pool as a whole."""

    def of(self, pool: Pool) -> Property:
        """Return the same property for the frames of another pool."""
        return type(self)(self.species)

    @abstractmethod
    def values(self, block: Block, columns: Columns) -> FloatArray:
        """Return the values of each frame for the atoms in `columns`, (F, M)."""

    def extremes(self, block: Block, columns: Columns) -> Extremes:
        """Return the least and the greatest value of each frame; NaN where there is a NaN."""
        low, high = extremes(block[self.field], columns)
        return self.of_stored(low), self.of_stored(high)

    def of_stored(self, extreme: FloatArray) -> FloatArray:
        """Return an extreme value of frames from that of what is stored: numbers, or the squared
        lengths of vectors. The values must have the same order."""
        return extreme

    def scan(
        self, task: Task, frame_ids: range, keep: npt.NDArray[np.bool_]
    ) -> Iterator[tuple[IntArray, Extremes, tuple[IntArray, FloatArray]]]:
        """Yield some frames, their extremes, and those of them to keep (a mask of the whole pool)
        with their values: every frame of the range once."""
        pool, buffer = task.pool, np.empty(task.block_bytes // 8)
        for run, ids, piece in pool.pieces(self.field, frame_ids):
            columns = self.columns(pool, run)
            found = None
            if piece is not None and self.is_stored:
                found = extremes_in_file(piece, columns, keep[ids], buffer)
            if found is not None:
                low, high, values = found
                rows = np.flatnonzero(keep[ids])
                kept = Block(ids[rows], run, ids[rows] - run.first_frame, {self.field: values})
                both = self.of_stored(low), self.of_stored(high)
                yield ids, both, (kept.frame_ids, self.values(kept, columns))
                continue
            some = ids if piece is None else range(int(ids[0]), int(ids[-1]) + 1)
            for block in task.blocks(self.field, frame_ids=some):
                kept = block.at(np.flatnonzero(keep[block.frame_ids]))
                both = self.extremes(block, columns)
                yield block.frame_ids, both, (kept.frame_ids, self.values(kept, columns))

    def columns(self, pool: Pool, run: Run) -> Columns:
        """Return which atoms of a run count, as a slice where they are evenly spaced."""
        if not self.species:
            return slice(None)
        if run.index not in self._columns:
            self._columns[run.index] = self._find_columns(pool, run)
        return self._columns[run.index]

    def _find_columns(self, pool: Pool, run: Run) -> Columns:
        atoms = np.flatnonzero(pool.numbers(run) == ATOMIC_NUMBER[self.species])
        steps = np.unique(np.diff(atoms))
        if len(atoms) == 1:
            return slice(int(atoms[0]), int(atoms[0]) + 1)
        if len(steps) == 1:
            return slice(int(atoms[0]), int(atoms[-1]) + 1, int(steps[0]))
        return atoms

    def read(self, task: Task, frame_ids: range | IntArray) -> Iterator[tuple[Block, Columns]]:
        """Yield frames in blocks, with the atoms that count."""
        run = -1
        columns: Columns = slice(None)
        for block in task.blocks(self.field, frame_ids=frame_ids):
            if block.run.index != run:
                run, columns = block.run.index, self.columns(task.pool, block.run)
            yield block, columns


class GlobalEnergy(Property):
    """Total energy per atom; where compositions differ, (E − Σ_z n_z e_z)/N.

    n_z is the number of atoms of element z and e_z the energy of an isolated one, where the pool
    knows those of all its elements; else by least squares of E/N over the eligible frames.
    Elements' energies differ by far more than those of configurations, so that bins of E/N would
    tell compositions apart and nothing else.
    """

    field = "energy"
    label = "energy per atom"
    unit = "eV"
    is_stored = False

    def __init__(self) -> None:
        super().__init__()
        self._energies: dict[int, float] = {}
        """e_z, eV; empty where all runs have one composition."""
        self._of_run = np.zeros(0)
        """Σ_z n_z e_z / N of each run's atoms, eV."""

    def prepare(self, task: Task) -> None:
        pool = task.pool
        elements, shares = _compositions(pool, task)
        if (shares == shares[:1]).all():
            return
        known_energies = pool.element_references
        if known_energies.keys() >= set(elements.tolist()):
            self._energies = known_energies
            self._of_run = shares @ np.array([known_energies[z] for z in elements.tolist()])
            return
        sums, counts = np.zeros(len(pool.runs)), np.zeros(len(pool.runs))
        # All frames on every rank: eight bytes each, and the same bits for any ranks.
        for block in task.blocks("energy", frame_ids=range(pool.n_frames)):
            per_atom = block["energy"][task.eligible[block.frame_ids]] / block.run.n_atoms
            finite = per_atom[np.isfinite(per_atom)]  # another is refused when it is binned
            sums[block.run.index] += finite.sum()
            counts[block.run.index] += len(finite)
        known = counts > 0
        weight = np.sqrt(counts[known])
        means = sums[known] / counts[known]
        energies = np.linalg.lstsq(shares[known] * weight[:, None], means * weight)[0]
        self._energies = dict(zip(elements.tolist(), energies.tolist(), strict=True))
        self._of_run = shares @ energies

    def of(self, pool: Pool) -> GlobalEnergy:
        other = GlobalEnergy()
        if self._energies:
            elements, shares = _compositions(pool)
            unknown = sorted(set(elements.tolist()) - self._energies.keys())
            if unknown:
                raise refuse(
                    f"{pool.path} holds elements (atomic numbers {unknown}) that the pool does "
                    "not: their energies can't be told from it."
                )
            other._energies = self._energies
            other._of_run = shares @ np.array([self._energies[z] for z in elements.tolist()])
        return other

    def extremes(self, block: Block, columns: Columns) -> Extremes:
        values = self.values(block, columns)[:, 0]
        return values, values

    def values(self, block: Block, columns: Columns) -> FloatArray:
        per_atom: FloatArray = block["energy"][:, None] / block.run.n_atoms
        if self._energies:
            per_atom -= self._of_run[block.run.index]
        return per_atom


def _compositions(pool: Pool, task: Task | None = None) -> tuple[IntArray, FloatArray]:
    """Return a pool's elements (K,) and their share of each run's atoms (n_runs, K); the ranks of
    a task share the runs."""
    mine = np.arange(len(pool.runs))
    mine = mine if task is None else np.asarray(task.share(mine))
    own = [Counter(pool.numbers(pool.runs[k]).tolist()) for k in mine.tolist()]
    counts = own if task is None else task.every(own)
    elements = np.array(sorted(set().union(*counts)), dtype=np.int64)
    shares = [[of[z] / of.total() for z in elements.tolist()] for of in counts]
    return elements, np.array(shares)


class AtomicEnergy(Property):
    """ε_i."""

    field = "atomic_energies"
    label = "atomic energy"
    unit = "eV"

    def values(self, block: Block, columns: Columns) -> FloatArray:
        values: FloatArray = block["atomic_energies"][:, columns]
        return values


class PairEnergy(AtomicEnergy):
    """½ Σ_j u(r_ij) over the atoms nearer than the cutoff, u without the charges' interaction."""

    field = PAIR_ENERGIES
    label = "pair energy of an atom"

    def values(self, block: Block, columns: Columns) -> FloatArray:
        values: FloatArray = block[self.field][:, columns]
        return values


class ForceMagnitude(Property):
    """|F_i|."""

    field = "forces"
    label = "|F|"
    unit = "eV/Å"

    def values(self, block: Block, columns: Columns) -> FloatArray:
        found = squares(block["forces"], columns)
        return np.sqrt(found, out=found)

    def of_stored(self, extreme: FloatArray) -> FloatArray:
        # ±inf marks a frame without a value
        return np.sqrt(extreme, out=extreme, where=extreme >= 0)
