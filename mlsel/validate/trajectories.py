"""Trajectories in a pool: frames that follow each other, and those of them at a state.

Imported frames share a run where they have the same atoms, whether or not one came of the other by
dynamics. Here a run is cut wherever the source, its numbering, the volume or the positions jump.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.errors import MlselError, shortened
from mlsel.pool.block import Block, Run
from mlsel.pool.pool import Pool
from mlsel.validate.blocking import FEWEST_BLOCKS
from mlsel.validate.stability import BOLTZMANN

if TYPE_CHECKING:
    from mlsel.study.study import Study

LONGEST_STEP = 1.0
"""Å, root mean square over the atoms: what moves farther between two frames did not follow."""
LARGEST_SWELLING = 0.05
"""Relative change of volume between two frames of one trajectory."""
SAME_TEMPERATURE, SAME_VOLUME = 0.05, 0.01
"""Relative differences within which trajectories are of one state."""
TEMPERATURES = ("temperature", "temperature_of_source")
"""What a pool calls the temperature of a frame: its own, and a source's info key."""
WANTED = ("energy", "virial", *TEMPERATURES, "momenta", "source_file", "source_index")


@dataclass(frozen=True)
class Stretch:
    """Frames of a run that follow each other.

    Attributes
    ----------
    run : Run
    frame_ids : int64, (F,)
    source : path of the file that they came from, "" if the pool does not say
    numbers : int64, (N,), atomic numbers
    temperature : K, mean; NaN where the pool does not say
    volume : Å³, mean
    """

    run: Run
    frame_ids: IntArray
    source: str
    numbers: IntArray
    temperature: float
    volume: float

    def __len__(self) -> int:
        return len(self.frame_ids)

    def is_named(self, patterns: Sequence[str]) -> bool:
        """Whether a pattern is of its run or file."""
        names = (self.run.name, self.source, Path(self.source).name)
        return any(fnmatch(name, pattern) for name in names for pattern in patterns)

    def __str__(self) -> str:
        first, last = self.frame_ids[0], self.frame_ids[-1]
        return f"{self.run.name} {first}–{last}"


@dataclass(frozen=True)
class AtState:
    """The trajectories of a pool at one state: one composition, temperature and volume.

    Attributes
    ----------
    stretches : of equal atoms
    left_out : frames at the temperature, but of other atoms or another volume
    """

    stretches: tuple[Stretch, ...]
    left_out: int

    @property
    def numbers(self) -> IntArray:
        return self.stretches[0].numbers

    @property
    def n_frames(self) -> int:
        return sum(map(len, self.stretches))

    @property
    def temperature(self) -> float:
        """K; NaN where the pool does not say."""
        weights = [len(stretch) for stretch in self.stretches]
        return float(np.average([s.temperature for s in self.stretches], weights=weights))

    def __str__(self) -> str:
        """Which frames these are, in words."""
        n, known = len(self.stretches), self.temperature
        named = ", ".join(map(str, self.stretches[:3])) + (", …" if n > 3 else "")
        mean = "" if math.isnan(known) else f", {known:.0f} K on average"
        rest = f"; {self.left_out} others of the temperature have other atoms or another volume"
        return (
            f"{self.n_frames} frames of {len(self.numbers)} atoms in {n} "
            f"trajector{'ies' if n > 1 else 'y'} ({named}){mean}{rest if self.left_out else ''}"
        )


def stretches_of(pool: Pool) -> list[Stretch]:
    """Return the stretches of a pool's periodic runs, two frames long at the least."""
    found: list[Stretch] = []
    for run in pool.runs:
        if all(pool.periodic(run)):
            found += _stretches(pool, run)
    return found


def _stretches(pool: Pool, run: Run) -> Iterator[Stretch]:
    numbers = pool.numbers(run)
    weights = _masses(numbers)
    ids: list[IntArray] = []
    temperatures: list[FloatArray] = []
    volumes: list[FloatArray] = []
    sources: list[Any] = []
    breaks: list[bool] = []
    before: _Last | None = None
    blocks = pool.blocks("positions", "cell", optional=WANTED, frame_ids=_ids(pool, run))
    for block in blocks:
        indices = block.fields.get("source_index")
        files = block.fields.get("source_file", np.zeros(len(block), np.int64))
        ids.append(block.frame_ids)
        temperatures.append(_temperatures(block, weights))
        volumes.append(np.abs(np.linalg.det(block["cell"])))
        sources.append(files)
        for k in range(len(block)):
            index = None if indices is None else int(indices[k])
            here = _Last(block["positions"][k], block["cell"][k], int(files[k]), index)
            breaks.append(before is None or not here.follows(before))
            before = here
    if not ids:
        return
    all_ids, source = np.concatenate(ids), np.concatenate(sources)
    temperature, volume = np.concatenate(temperatures), np.concatenate(volumes)
    paths = [str(path) for path in pool.attributes.get("sources", ())]
    starts = [*np.flatnonzero(breaks), len(all_ids)]
    for start, stop in pairwise(starts):
        if stop - start > 1:
            part = slice(start, stop)
            file = int(source[start])
            yield Stretch(
                run,
                all_ids[part],
                paths[file] if file < len(paths) else "",
                numbers,
                float(temperature[part].mean()),
                float(volume[part].mean()),
            )


def _ids(pool: Pool, run: Run) -> Any:
    """The frame ids of a run."""
    if pool.is_ordered:
        return range(run.first_frame, run.first_frame + run.n_frames)
    every = np.arange(pool.n_frames)
    return every[pool.locate(every)[0] == run.index]


@dataclass(frozen=True)
class _Last:
    """A frame, to be compared with the next."""

    positions: FloatArray
    cell: FloatArray
    file: int
    index: int | None

    def follows(self, before: _Last) -> bool:
        """Whether it may have come of the one before by dynamics."""
        if self.file != before.file:
            return False
        if self.index is not None and before.index is not None and self.index - before.index != 1:
            return False
        volumes = [abs(float(np.linalg.det(frame.cell))) for frame in (before, self)]
        if not abs(volumes[1] - volumes[0]) <= LARGEST_SWELLING * volumes[0]:
            return False
        moved = displacement(before.positions, before.cell, self.positions, self.cell)
        return bool(np.sqrt((moved**2).sum(axis=1).mean()) <= LONGEST_STEP)


def displacement(
    before: FloatArray, cell_before: FloatArray, after: FloatArray, cell_after: FloatArray
) -> FloatArray:
    """Return how far atoms moved between two frames, (N, 3), Å, each the shortest way.

    What the cell itself swells or shears is no movement.

    >>> box = 10 * np.eye(3)
    >>> displacement(np.array([[9.5, 0, 0]]), box, np.array([[0.5, 0, 0]]), box).round(9).tolist()
    [[1.0, 0.0, 0.0]]
    """
    moved = after @ np.linalg.inv(cell_after) - before @ np.linalg.inv(cell_before)
    moved -= np.round(moved)
    found: FloatArray = moved @ (0.5 * (cell_before + cell_after))
    return found


def _masses(numbers: IntArray) -> FloatArray:
    from ase.data import atomic_masses

    masses: FloatArray = np.asarray(atomic_masses[numbers], np.float64)
    return masses


def _temperatures(block: Block, masses: FloatArray) -> FloatArray:
    """K, (F,): as the pool says, else from momenta (ASE's unit, √(eV·u)); NaN without either."""
    for name in TEMPERATURES:
        values = block.fields.get(name)
        if values is not None and values.ndim == 1 and values.dtype.kind in "if":
            return values.astype(np.float64)
    momenta = block.fields.get("momenta")
    if momenta is None or momenta.shape[1:] != (len(masses), 3) or len(masses) < 2:
        return np.full(len(block), np.nan)
    twice_kinetic = (momenta.astype(np.float64) ** 2 / masses[:, None]).sum(axis=(1, 2))
    found: FloatArray = twice_kinetic / (3 * (len(masses) - 1) * BOLTZMANN)
    return found


def at_state(pool: Pool, study: Study) -> AtState:
    """Return the trajectories at validation.temperature: those of the atoms and the volume that
    most frames have.

    Raises
    ------
    MlselError
        If there are none, or too few frames.
    """
    section, every = study.validation, stretches_of(pool)
    if not every:
        raise MlselError(
            f"{pool.path} holds no trajectory: in no periodic run do two frames follow each other. "
            'Set validation.reference = "none", or name a system.potential.'
        )
    named = every
    if section.trajectories:
        named = [stretch for stretch in every if stretch.is_named(section.trajectories)]
        if not named:
            raise MlselError(
                f"{study.source}: validation.trajectories is "
                f"{', '.join(section.trajectories)[:60]}, and no run or file of {pool.path} with "
                f"frames that follow each other has such a name: there are {_names(every)}."
            )
    chosen = [stretch for stretch in named if _is_at(stretch, study)]
    if not chosen:
        known = sorted(
            {10 * round(s.temperature / 10) for s in named if not math.isnan(s.temperature)}
        )
        if not known:
            raise MlselError(
                f"{pool.path}: no frame says its temperature. Name what is at "
                f"{section.temperature:g} K as validation.trajectories, by runs or files: there "
                f"are {_names(every)}."
            )
        listed = shortened(", ".join(map(str, known)), 60)
        raise MlselError(
            f"{pool.path}: no trajectory is within {SAME_TEMPERATURE:.0%} of "
            f"validation.temperature ({section.temperature:g} K): there are some at {listed} K. "
            "Set it to one of these."
        )
    largest = max(_of_one_volume(chosen), key=lambda group: sum(map(len, group)))
    state = AtState(tuple(largest), sum(map(len, chosen)) - sum(map(len, largest)))
    if state.n_frames < FEWEST_BLOCKS:
        raise MlselError(
            f"{pool.path}: only {state.n_frames} frames at {section.temperature:g} K follow each "
            f'other, and {FEWEST_BLOCKS} are needed: set validation.reference = "none".'
        )
    return state


def _is_at(stretch: Stretch, study: Study) -> bool:
    section = study.validation
    if math.isnan(stretch.temperature):
        return bool(section.trajectories)
    return abs(stretch.temperature / section.temperature - 1) <= SAME_TEMPERATURE


def _of_one_volume(stretches: Sequence[Stretch]) -> list[list[Stretch]]:
    """Groups of stretches that have the same atoms and volume."""
    groups: list[list[Stretch]] = []
    for stretch in sorted(stretches, key=len, reverse=True):
        for group in groups:
            same = np.array_equal(group[0].numbers, stretch.numbers)
            if same and abs(stretch.volume / group[0].volume - 1) <= SAME_VOLUME:
                group.append(stretch)
                break
        else:
            groups.append([stretch])
    return groups


def _names(stretches: Sequence[Stretch]) -> str:
    return shortened(", ".join(dict.fromkeys(s.run.name for s in stretches)), 80)
