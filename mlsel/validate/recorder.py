"""What is measured while a validation run goes on: numbers, RDFs, frames, stability."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mlsel.core.arrays import FloatArray
from mlsel.core.files import write_bytes
from mlsel.md.resumable_run import StepReport
from mlsel.md.row_file import RowFile
from mlsel.md.session import LammpsError, LammpsSession
from mlsel.study.study import Study
from mlsel.validate.results import LARGEST_FORCE
from mlsel.validate.schedule import Schedule
from mlsel.validate.stability import Bounds
from mlsel.validate.uncertainty import Committee

SAMPLE = ("step", "temperature", "pressure", "potential_energy", "total_energy")
"""The numbers of a sample; the shortest distance of each pair of species follows."""
HOPELESS = 10.0
"""A temperature this many times the thermostat's ends a run: LAMMPS would lose the atoms next."""
SOUND = "sound.bin"
"""Step and positions of the last frame before the run left its bounds."""


class Recorded(Protocol):
    """The run whose samples are taken."""

    @property
    def folder(self) -> Path: ...
    @property
    def root(self) -> Path: ...
    @property
    def study(self) -> Study: ...
    @property
    def schedule(self) -> Schedule: ...
    @property
    def committee(self) -> tuple[Path, ...]: ...
    @property
    def start(self) -> Mapping[str, Any]: ...
    @property
    def columns(self) -> tuple[str, ...]: ...
    def rows(self, step: int) -> dict[str, tuple[int, int]]: ...
    def bounds(self, first_energy: float) -> Bounds: ...


class Recorder:
    """Takes the samples of a run: numbers, RDFs, frames; looks whether it is sound."""

    def __init__(
        self,
        run: Recorded,
        session: LammpsSession,
        step: int,
        report: Callable[[int], None],
    ) -> None:
        self._run, self._session = run, session
        self._rows = {
            name.removesuffix(".bin"): RowFile(run.folder / name, n_rows)
            for name, (n_rows, _) in run.rows(step).items()
        }
        self._stack = ExitStack()
        self._unwatched: list[tuple[int, FloatArray]] = []
        self._committee: Committee | None = None
        self._sum: FloatArray | None = None
        self._n_summed = 0
        self._bounds: Bounds | None = None
        self._before: tuple[int, FloatArray] | None = None
        self._resumed_at = step
        self._steps = StepReport(report)
        self._is_root = session.comm.rank == 0

    def __enter__(self) -> Recorder:
        for rows in self._rows.values():
            self._stack.enter_context(rows)
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:  # closed where a full disk refuses the rows, too
            if self._is_root:
                self.flush()

    def advance(self, phase: str, n_steps: int) -> None:
        """Advance a segment, taking its samples.

        Raises
        ------
        LammpsError
            As `sample`, and with LAMMPS's own message.
        """
        interval = self._run.schedule.sample
        self._session.run(0)
        for _ in range(n_steps // interval):
            self._session.run(interval, setup=False)
            self.sample(phase)

    def sample(self, phase: str) -> None:
        """Measure at the current step.

        Raises
        ------
        LammpsError
            On every rank, if the run is hopeless.
        """
        session, schedule = self._session, self._run.schedule
        table = session.global_array("rdf")
        positions = session.unwrapped_positions()
        thermo = session.thermo()
        step = session.step
        force = [session.largest_force()] if LARGEST_FORCE in self._run.columns else []
        if not self._is_root:
            self._end_if_hopeless("")
            return
        closest = self._closest_distances(table)
        numbers = [*(thermo[key] for key in ("Temp", "Press", "PotEng", "TotEng")), *force]
        self._rows["samples"].add([step, *numbers], closest)
        if phase == "production":
            if (step - schedule.equilibrate) % schedule.frame == 0:
                self._rows["trajectory"].add([step], positions)
                if self._run.committee:
                    self._unwatched.append((step, positions))
            self._sum = table[:, 1:] if self._sum is None else self._sum + table[:, 1:]
            self._n_summed += 1
            if (step - schedule.equilibrate) % schedule.block == 0:
                self._rows["blocks"].add(self._sum / self._n_summed)
                self._sum, self._n_summed = None, 0
        self._keep_sound(step, positions, numbers, closest)
        self._steps.add(schedule.sample)
        self._end_if_hopeless(self._hopeless(numbers))

    def _closest_distances(self, table: FloatArray) -> FloatArray:
        """The shortest distance of each pair, Å: the lower edge of its RDF's first filled bin."""
        filled = table[:, 1::2] > 0
        first = np.where(filled.any(axis=0), filled.argmax(axis=0), len(table))
        width = self._run.study.validation.rdf_cutoff / len(table)
        distances: FloatArray = first * width
        return distances

    def _keep_sound(
        self, step: int, positions: FloatArray, numbers: Sequence[float], closest: FloatArray
    ) -> None:
        """Where the run leaves its bounds first, keep the frame before."""
        if self._bounds is None:
            self._bounds = self._run.bounds(numbers[2])
            path = self._run.folder / SOUND
            self._is_sound = not (path.is_file() and np.fromfile(path)[0] < self._resumed_at)
        if not self._is_sound:
            return
        if self._bounds.broken(numbers[0], numbers[2], closest, *numbers[4:]):
            self._write_sound()
        else:
            self._before = step, positions

    def _write_sound(self) -> None:
        if self._before is not None:
            step, positions = self._before
            row = np.concatenate([[float(step)], positions.ravel()])
            write_bytes(self._run.folder / SOUND, row.tobytes())
        self._is_sound = False

    def end_early(self) -> None:
        """Keep what an early end would lose: the last stable frame and the block begun."""
        if self._bounds is not None and self._is_sound:
            self._write_sound()
        if self._sum is not None:
            self._rows["blocks"].add(self._sum / self._n_summed)
            self._sum = None

    def _hopeless(self, numbers: Sequence[float]) -> str:
        limit = HOPELESS * self._run.study.validation.temperature
        if not np.isfinite(numbers).all():
            return "temperature, pressure or energy is no finite number"
        if numbers[0] > limit:
            return f"temperature {numbers[0]:.3g} K is above {limit:.3g} K"
        return ""

    def _end_if_hopeless(self, reason: str) -> None:
        comm = self._session.comm
        if comm.size > 1:
            reason = comm.bcast(reason)
        if reason:
            raise LammpsError(reason)

    def _watch(self) -> None:
        """Ask the committee for the frames since the last checkpoint."""
        from mlsel.training import Frames

        run = self._run
        if self._committee is None:
            data = run.root / "data" / f"{run.committee[0].parent.name}.h5"
            self._committee = Committee.of(run.committee, data)
        positions = np.stack([positions for _, positions in self._unwatched])
        cell = np.array(run.start["cell"])
        frames = Frames(
            np.array(run.start["numbers"]), positions, np.repeat(cell[None], len(positions), axis=0)
        )
        for (step, _), row in zip(self._unwatched, self._committee.summary(frames), strict=True):
            self._rows["watch"].add([step], row)
        self._unwatched = []

    def flush(self) -> None:
        """Bring all rows to the disk."""
        if self._is_root:
            if self._unwatched:
                self._watch()
            for rows in self._rows.values():
                rows.flush()
            self._steps.tell()
