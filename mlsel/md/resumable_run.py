"""ResumableRun: MD in phases that can be killed at any moment and goes on from its last checkpoint.

While a run is not finished its folder holds row files (doubles, a row for each frame or sample) and
<phase>-<step>.restart. Rows are on the disk before a restart file gets its name, then all but the
two newest restart files go; rows beyond the restart file that a run goes on from are cut off. So a
run that was killed is the same run to the last bit, however often. What is left when the product is
there `tidy` removes, at every start.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from mlsel.core import stopping
from mlsel.core.files import operation, partial_path, publish, remove, sweep_partials
from mlsel.md import deck
from mlsel.md.library import lammps_path
from mlsel.md.session import LammpsError, LammpsSession

if TYPE_CHECKING:
    from mpi4py import MPI


class Recording(Protocol):
    """What advances a session and keeps what it measures; the same calls on every rank."""

    def advance(self, phase: str, n_steps: int) -> None:
        """Advance a whole segment from a state as it is in a restart file."""

    def flush(self) -> None:
        """Bring all rows to the disk."""


class StepReport:
    """Tells of steps that were done, about once a second."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self._told, self._n_steps = time.monotonic(), 0

    def add(self, n_steps: int) -> None:
        """Count steps, and tell of them if it is time."""
        self._n_steps += n_steps
        if time.monotonic() - self._told > 1.0:
            self.tell()

    def tell(self) -> None:
        """Tell of the steps since the last time."""
        self._report(self._n_steps)
        self._told, self._n_steps = time.monotonic(), 0


class ResumableRun[R: Recording](ABC):
    """A run of several phases; what they are and what is measured is the subclass's.

    Attributes
    ----------
    ensembles : the deck's section that sets each phase's thermostat and barostat
    row_files : names of the files of rows that it may have
    root : the folder that the deck's paths start from
    """

    ensembles: ClassVar[Mapping[str, str]]
    row_files: ClassVar[tuple[str, ...]]
    root: Path

    @property
    @abstractmethod
    def phases(self) -> tuple[str, ...]:
        """Their names, in their order."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The run's own folder."""

    @property
    @abstractmethod
    def product(self) -> Path:
        """What is there when the run has ended."""

    @property
    @abstractmethod
    def phase_steps(self) -> dict[str, int]:
        """Steps of each phase."""

    @property
    @abstractmethod
    def segment(self) -> int:
        """Steps between checkpoints."""

    def segment_of(self, phase: str) -> int:
        """Steps between the checkpoints of a phase."""
        return self.segment

    def begin(self, phase: str, comm: MPI.Intracomm) -> None:  # noqa: B027  most have nothing to do
        """Prepare a phase before its length is asked for; collective, and harmless when repeated.

        Whoever goes on from a checkpoint of the phase itself does so without it.
        """

    @abstractmethod
    def rows(self, step: int) -> dict[str, tuple[int, int]]:
        """Rows that each row file has at a step, and how many doubles a row is."""

    @abstractmethod
    def recording(
        self, session: LammpsSession, step: int, report: Callable[[int], None]
    ) -> AbstractContextManager[R]:
        """Return what measures from a step on; collective. It may swallow a LammpsError."""

    @property
    def n_steps(self) -> int:
        return sum(self.phase_steps.values())

    def end(self, phase: str) -> int:
        """The last step of a phase."""
        return sum(self.phase_steps[name] for name in self.phases[: self.phases.index(phase) + 1])

    def advance(self, comm: MPI.Intracomm, report: Callable[[int], None]) -> R:
        """Bring the run from its last checkpoint to its last step; its rows are then whole.

        Parameters
        ----------
        report : callable
            Called with the number of steps done since the last call, negative for those that were
            done before this start.

        Raises
        ------
        LammpsError
            With LAMMPS's own message, unless the recording takes it.
        Stopped
            On all ranks, at a checkpoint, if rank 0 was asked to stop.
        """
        lines = deck.sections((self.folder / "in.lammps").read_text(encoding="utf-8"))
        found = self.checkpoints() if comm.rank == 0 else None
        for phase, step, path in [*comm.bcast(found), ("", 0, None)]:
            root = {"root": lammps_path(self.root)}
            with LammpsSession(comm, self.folder / "log.lammps", root) as session:
                try:
                    session.execute(lines[""])
                    if path is None:
                        session.execute(lines["box"])
                    else:
                        session.execute([f"read_restart {lammps_path(path)}"])
                except LammpsError:
                    if path is None:
                        raise
                    continue  # a restart file cut short by a full disk: the one before it
                session.execute(lines["model"])
                report(-step)
                with self.recording(session, step, report) as recording:
                    self._run_phases(session, lines, phase, recording)
                return recording
        raise AssertionError("unreachable: the last candidate starts anew")

    def _run_phases(
        self, session: LammpsSession, lines: dict[str, list[str]], phase: str, recording: R
    ) -> None:
        ensemble = ""
        for name in self.phases[self.phases.index(phase) if phase else 0 :]:
            if name != phase:
                self.begin(name, session.comm)
            end = self.end(name)
            if self.ensembles[name] != ensemble:
                # Also at a phase's end: the next may go on with this thermostat, whose state is
                # in the restart file.
                if ensemble:
                    session.execute(["unfix ensemble"])
                ensemble = self.ensembles[name]
                session.execute(lines[ensemble])
            if name == phase and session.step >= end:
                continue
            if name != ensemble:
                session.execute(lines[name])
            while True:  # once for a phase without steps too, as the deck does
                recording.advance(name, min(self.segment_of(name), end - session.step))
                self.checkpoint(session, name, recording)
                if session.step < self.n_steps:
                    stopping.check_at_checkpoint(session.comm)
                if session.step >= end:
                    break

    def checkpoint(self, session: LammpsSession, phase: str, recording: R) -> None:
        """Write a restart file, after the rows that belong to it; older ones go."""
        comm = session.comm
        path = self.folder / f"{phase}-{session.step}.restart"
        partial = comm.bcast(partial_path(path) if comm.rank == 0 else None)
        recording.flush()
        with operation("write_restart", path) if comm.rank == 0 else nullcontext():
            session.write_restart(partial)
        if comm.rank == 0:
            publish(partial, path)
            for _, _, old in self.checkpoints()[2:]:
                remove(old)

    def checkpoints(self) -> list[tuple[str, int, Path]]:
        """Phase, step and path of the restart files that can be gone on from, newest first."""
        found = []
        for path in self.folder.glob("*.restart"):
            phase, _, step = path.stem.rpartition("-")
            if phase in self.phases and step.isdigit() and self._has_rows(int(step)):
                found.append((int(step), self.phases.index(phase), path))
        return [(self.phases[index], step, path) for step, index, path in sorted(found)[::-1]]

    def _has_rows(self, step: int) -> bool:
        for name, (n_rows, length) in self.rows(step).items():
            path = self.folder / name
            if n_rows and (not path.is_file() or path.stat().st_size < 8 * length * n_rows):
                return False
        return True

    def tidy(self) -> None:
        """Remove what a killed job left half-written, and what a finished run needs no more.

        For every run, at every start: a kill can come between a product's naming and this.
        """
        sweep_partials(self.folder, alone=True)
        if self.product.is_file():
            names = [*self.row_files, *(path.name for path in self.folder.glob("*.restart"))]
            for name in names:
                remove(self.folder / name)
