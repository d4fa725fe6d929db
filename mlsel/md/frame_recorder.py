"""FrameRecorder: it advances a run of the pool and writes its frames, as rows of doubles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mlsel.core.arrays import FloatArray
from mlsel.md.resumable_run import StepReport
from mlsel.md.row_file import BUFFER_BYTES, RowFile
from mlsel.md.session import Frame, LammpsSession

FRAMES, MEASURED = "frames.bin", "measured.bin"
# A frame's row: these numbers, the cell (9), then positions, forces and atomic energies.
SCALARS = ("step", "energy", "temperature", "pressure", "volume", "mean_square_displacement")
OBSERVABLES = SCALARS[1:]
THERMO = ("Temp", "Press", "Volume", "c_msd[4]")
"""LAMMPS's keywords for the scalars that come from its thermo output."""


class FrameRecorder:
    """Advances a run of the pool and writes the frames of its last phase.

    Parameters
    ----------
    session : LammpsSession
    species : names in the order of types
    rows, measured : RowFile
        Of the frames; of energy and volume in the phase `measure`.
    clock : int
        Steps of which the phases before the frames are multiples, and between what is measured.
    interval : callable
        Gives the steps between frames, which a run may not know before it has measured.
    report : callable
        Told the steps that were done.
    """

    def __init__(
        self,
        session: LammpsSession,
        species: Sequence[str],
        rows: RowFile,
        measured: RowFile,
        clock: int,
        interval: Callable[[], int],
        report: Callable[[int], None],
    ) -> None:
        from ase.data import atomic_numbers

        self._session, self._rows, self._measured = session, rows, measured
        self._clock, self._interval = clock, interval
        self.numbers = [atomic_numbers[species[t - 1]] for t in session.types()]
        """Atomic numbers in the order of atom ids."""
        self._steps = StepReport(report)

    def advance(self, phase: str, n_steps: int) -> None:
        """Advance a segment."""
        if phase == "sample":
            interval = self._interval()
            self._session.execute([f"thermo {interval}"])
            self._session.sample(n_steps, interval, "atomic_energy", THERMO, self._keep)
            self._steps.tell()
            return
        is_measured = phase == "measure"
        self._session.run(0)
        step = self._clock
        piece = step if is_measured else step * max(1, 1000 // step)
        while n_steps > 0:
            done = min(piece, n_steps)
            self._session.run(done, setup=False)
            n_steps -= done
            self._steps.add(done)
            if is_measured and self._session.comm.rank == 0:
                thermo = self._session.thermo()
                self._measured.add([thermo["PotEng"], thermo["Volume"]])
        self._steps.tell()

    def flush(self) -> None:
        """Bring all rows to the disk."""
        if self._session.comm.rank == 0:
            self._rows.flush()
            self._measured.flush()

    def _keep(self, frame: Frame) -> None:
        atoms = frame.atoms
        scalars = (frame.step, atoms.atomic_energies.sum(), *frame.thermo)
        self._rows.add(scalars, frame.cell, atoms.positions, atoms.forces, atoms.atomic_energies)
        self._steps.add(self._interval())


def row_length(n_atoms: int) -> int:
    """Doubles in a frame's row."""
    return len(SCALARS) + 9 + 7 * n_atoms


def row_blocks(path: Path, n_atoms: int) -> Iterator[FloatArray]:
    """Read the rows of a file, (F, row_length), a few at a time."""
    length = row_length(n_atoms)
    n_rows = max(1, BUFFER_BYTES // (8 * length))
    with path.open("rb") as file:
        while True:
            part = np.fromfile(file, np.float64, n_rows * length)
            if not len(part):
                return
            yield part.reshape(-1, length)


def split_rows(
    rows: FloatArray, n_atoms: int
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return scalars (F, 6), cell (F, 3, 3), positions, forces (F, N, 3), energies (F, N)."""
    bounds = np.cumsum([len(SCALARS), 9, 3 * n_atoms, 3 * n_atoms])
    scalars, cell, positions, forces, energies = np.split(rows, bounds, axis=1)
    n = len(rows)
    return (
        scalars,
        cell.reshape(n, 3, 3),
        positions.reshape(n, n_atoms, 3),
        forces.reshape(n, n_atoms, 3),
        energies,
    )
