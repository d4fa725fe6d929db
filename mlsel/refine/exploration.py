"""Exploration: MD with a trained potential that notes the frames its training set lacks.

A run's folder holds its deck, potential and start structure, and, once it has ended,

    new.npz        the frames that are new (at most `MAX_NEW`, spread over the run), or, of a run
                   that was lost without any, the last one before
    outcome.json   how long it lasted, what ended it, how many frames were new

and while it goes on what `resumable_run` says, with frames.bin as its row file.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mlsel.core import units
from mlsel.core.arrays import FloatArray
from mlsel.core.files import write_bytes, write_json
from mlsel.md import deck
from mlsel.md.resumable_run import ResumableRun, StepReport
from mlsel.md.row_file import RowFile
from mlsel.md.session import LammpsError, LammpsSession
from mlsel.refine.bounds import Watch
from mlsel.study.study import Study
from mlsel.validate.distances import closest_distances

if TYPE_CHECKING:
    from mpi4py import MPI

FRAMES = "frames.bin"
SCALARS = 4
"""Numbers in a row before the cell and the positions: step, temperature, energy, largest force;
after them what the pair style tells, where it is watched."""
MAX_NEW = 64
"""Frames that one run offers: neighbours in time say the same."""

WARM_UP = 20.0
"""Times of the thermostat: a run starts from a training frame, which can be of a colder run."""


class Lost(LammpsError):
    """A run left its bounds."""


class FrameWatcher:
    """Advances a run, keeps its frames and ends it where it is lost; on one rank."""

    def __init__(
        self,
        run: ExplorationRun,
        session: LammpsSession,
        rows: RowFile,
        report: Callable[[int], None],
    ) -> None:
        self._run, self._session, self._rows = run, session, rows
        self._steps = StepReport(report)

    def advance(self, phase: str, n_steps: int) -> None:
        """Advance a segment.

        Raises
        ------
        Lost
            If the run left its bounds.
        """
        session, interval = self._session, self._run.interval
        session.run(0)
        for _ in range(n_steps // interval):
            session.run(interval, setup=False)
            self._keep()
        self._steps.tell()

    def flush(self) -> None:
        """Bring all rows to the disk."""
        self._rows.flush()

    def _keep(self) -> None:
        session, run = self._session, self._run
        thermo = session.thermo()
        cell, positions = session.cell(), session.unwrapped_positions()
        if not np.isfinite(positions).all():
            raise Lost("positions are NaN or infinite")
        closest = closest_distances(positions, cell, run.types, len(run.watch.species))
        temperature, energy = thermo["Temp"], thermo["PotEng"]
        first = run.first_energy(energy)
        bounds = run.watch.bounds(run.temperature, first, len(positions))
        # half of the first velocities' energy goes into the potential where a frame was colder
        is_warm = session.step >= run.warm_up
        felt = temperature if is_warm else max(temperature, run.temperature)
        volume = abs(np.linalg.det(cell)) / len(positions)
        broken = bounds.broken(felt, energy, closest) or run.watch.outgrown(volume)
        if broken:
            raise Lost(broken)
        told = [session.global_scalar(f"watch_{name}") for name in run.watch.told]
        self._rows.add([session.step, temperature, energy, thermo["Fmax"], *told], cell, positions)
        self._steps.add(run.interval)


@dataclass(frozen=True)
class ExplorationRun(ResumableRun[FrameWatcher]):
    """One replica under one condition.

    Attributes
    ----------
    folder : its own
    temperature : K
    pressure : bar; None at constant volume
    seed : of the velocities
    numbers : (N,), atomic numbers
    """

    root: Path
    place: Path
    study: Study
    watch: Watch
    temperature: float
    pressure: float | None
    seed: int
    numbers: tuple[int, ...]
    phases = ("run",)
    ensembles: ClassVar = {"run": "ensemble"}
    row_files = (FRAMES,)

    @property
    def folder(self) -> Path:
        return self.place

    @property
    def product(self) -> Path:
        return self.folder / "outcome.json"

    @property
    def failure(self) -> Path:
        return self.folder / "failure.json"

    @property
    def interval(self) -> int:
        return self.study.refine.sampling_interval

    @property
    def warm_up(self) -> float:
        """Steps in which a temperature that is too low is no sign of a lost run."""
        section = self.study.refine
        return WARM_UP * section.thermostat_time * units.FS_PER_PS / section.timestep

    @property
    def phase_steps(self) -> dict[str, int]:
        steps = round(self.study.refine.duration * units.FS_PER_PS / self.study.refine.timestep)
        return {"run": max(1, round(steps / self.interval)) * self.interval}

    @property
    def segment(self) -> int:
        steps = round(
            self.study.refine.checkpoint_interval * units.FS_PER_PS / self.study.refine.timestep
        )
        return max(1, steps // self.interval) * self.interval

    @cached_property
    def types(self) -> Any:
        from ase.data import chemical_symbols

        return np.array([self.watch.species.index(chemical_symbols[z]) for z in self.numbers])

    def first_energy(self, now: float) -> float:
        """The energy of the run's first frame, eV: that on the disk, if it is there."""
        path = self.folder / FRAMES
        if path.is_file() and path.stat().st_size >= 8 * SCALARS:
            return float(np.fromfile(path, count=SCALARS)[2])
        return self.__dict__.setdefault("_first_energy", now)  # type: ignore[no-any-return]

    def deck_text(self) -> str:
        """Return the run's deck."""
        system, section = self.study.system, self.study.refine
        here = self.folder.relative_to(self.root).as_posix()
        t = f"{self.temperature} {self.temperature} {section.thermostat_time}"
        ensemble = f"nvt temp {t}"
        if self.pressure is not None:
            ensemble = (
                f"npt temp {t} iso {self.pressure} {self.pressure} {section.barostat_time} "
                "fixedpoint 0 0 0"
            )
        return deck.fill(
            deck.template("in.refine"),
            {
                "data": f"{here}/start.data",
                "potential": f"{here}/potential.lmp",
                "cutoff": system.cutoff,
                "kspace_accuracy": system.kspace_accuracy,
                "temperature": self.temperature,
                "ensemble": ensemble,
                "timestep": section.timestep / units.FS_PER_PS,
                "seed": self.seed,
                "steps": self.n_steps,
                "interval": self.interval,
                "segment": self.segment,
            },
        )

    def rows(self, step: int) -> dict[str, tuple[int, int]]:
        """Rows that frames.bin has at a step, and how many doubles a row is."""
        n_scalars = SCALARS + len(self.watch.told)
        return {FRAMES: (step // self.interval, n_scalars + 9 + 3 * len(self.numbers))}

    @contextmanager
    def recording(
        self, session: LammpsSession, step: int, report: Callable[[int], None]
    ) -> Iterator[FrameWatcher]:
        """Keep the frames; where the run is lost, that is its result."""
        with RowFile(self.folder / FRAMES, self.rows(step)[FRAMES][0]) as rows:
            try:
                yield FrameWatcher(self, session, rows, report)
            except LammpsError as error:
                rows.flush()
                write_json(self.failure, {"step": session.step, "message": str(error)})

    def perform(self, comm: MPI.Intracomm, report: Callable[[int], None]) -> None:
        """Run on one rank from the last checkpoint to the outcome.

        Raises
        ------
        Stopped
            At a checkpoint, if a signal asked for it.
        """
        if not self.failure.is_file():
            self.advance(comm, report)
        self._conclude()

    def _conclude(self) -> None:
        """Write the new frames, then the outcome."""
        path, length = self.folder / FRAMES, self.rows(0)[FRAMES][1]
        numbers = np.fromfile(path) if path.is_file() else np.empty(0)
        rows = numbers[: len(numbers) // length * length].reshape(-1, length)
        begin = SCALARS + len(self.watch.told)
        cells = rows[:, begin : begin + 9].reshape(-1, 3, 3)
        positions = rows[:, begin + 9 :].reshape(len(rows), len(self.numbers), 3)
        n_species = len(self.watch.species)
        volumes = np.abs(np.linalg.det(cells)) / max(1, len(self.numbers))
        reasons = [
            self.watch.new(
                closest_distances(x, cell, self.types, n_species),
                row[3],
                row[SCALARS:begin].tolist(),
                volume,
            )
            for x, cell, row, volume in zip(positions, cells, rows, volumes, strict=True)
        ]
        new = np.flatnonzero([bool(reason) for reason in reasons])
        ended: dict[str, Any] = {}
        if self.failure.is_file():
            ended = json.loads(self.failure.read_text(encoding="utf-8"))
        kept = new
        if not new.size and ended and len(rows):
            kept = np.array([len(rows) - 1])
        if len(kept) > MAX_NEW:
            kept = kept[np.linspace(0, len(kept) - 1, MAX_NEW).astype(int)]
        buffer = io.BytesIO()
        np.savez(
            buffer,
            positions=positions[kept].reshape(-1, len(self.numbers), 3),
            cell=cells[kept].reshape(-1, 3, 3),
            step=rows[kept, 0],
        )
        write_bytes(self.folder / "new.npz", buffer.getvalue())
        step = ended.get("step", self.n_steps)
        write_json(
            self.product,
            {
                "time": step * self.study.refine.timestep / units.FS_PER_PS,
                "ended_by": ended.get("message", ""),
                "n_new": int(new.size),
                "first_new": reasons[new[0]] if new.size else "",
            },
        )
        self.tidy()

    def new_frames(self) -> tuple[FloatArray, FloatArray]:
        """Return positions (F, N, 3) and cells (F, 3, 3) of the frames that it offers, Å."""
        with np.load(self.folder / "new.npz") as file:
            return file["positions"], file["cell"]
