"""MdRun: one state point of a pool, from its deck to its file of frames.

A run's folder is named by its state point and holds

    in.lammps, start.data     the deck, complete, and the start structure
    run.h5                    the frames, once all are there
    log.lammps, timing.json   what LAMMPS printed, and how long it took

and while it is not finished what `resumable_run` says, with frames.bin as its row file.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mlsel.core import units
from mlsel.core.arrays import FloatArray
from mlsel.core.files import remove, write_json, write_text
from mlsel.core.provenance import derived_seed, versions
from mlsel.md import deck
from mlsel.md.include import IncludePotential, without_charges
from mlsel.md.resumable_run import ResumableRun, StepReport
from mlsel.md.row_file import BUFFER_BYTES, RowFile
from mlsel.md.session import Frame, LammpsError, LammpsSession
from mlsel.pool.layout import OBSERVABLE_UNITS, PAIR_ENERGIES, PAIR_ENERGY
from mlsel.pool.writer import PoolWriter
from mlsel.study.study import Study

if TYPE_CHECKING:
    from mpi4py import MPI

FRAMES = "frames.bin"
# A frame's row: these numbers, the cell (9), then positions, forces and atomic energies.
SCALARS = ("step", "energy", "temperature", "pressure", "volume", "mean_square_displacement")
OBSERVABLES = SCALARS[1:]
THERMO = ("Temp", "Press", "Volume", "c_msd[4]")
"""LAMMPS's keywords for the scalars that come from its thermo output."""

LEAST_DIFFUSION = 0.1
"""Å²/ps, or 1e-5 cm²/s: liquids near melting have more, crystals with vacancies have less."""
MOLTEN = (
    "over the second half of the sampled frames the atoms' mean-square displacement rises by "
    f"6 D t with D of at least {LEAST_DIFFUSION} Angstrom+2 ps-1, and over all of them it reaches "
    "(V/N)^(2/3)"
)


class FrameRecorder:
    """Advances a run of the pool and writes the frames of its last phase."""

    def __init__(
        self, session: LammpsSession, rows: RowFile, study: Study, report: Callable[[int], None]
    ) -> None:
        from ase.data import atomic_numbers

        self._session, self._rows, self._report = session, rows, report
        self._interval = study.pool.sampling_interval
        species = study.system.species
        self.numbers = [atomic_numbers[species[t - 1]] for t in session.types()]
        """Atomic numbers in the order of atom ids."""
        self._steps = StepReport(report)

    def advance(self, phase: str, n_steps: int) -> None:
        """Advance a segment."""
        if phase == "sample":
            self._session.sample(n_steps, self._interval, "atomic_energy", THERMO, self._keep)
            self._steps.tell()
            return
        self._session.run(0)
        piece = self._interval * max(1, 1000 // self._interval)
        while n_steps > 0:
            done = min(piece, n_steps)
            self._session.run(done, setup=False)
            n_steps -= done
            self._report(done)

    def flush(self) -> None:
        """Bring all rows to the disk."""
        if self._session.comm.rank == 0:
            self._rows.flush()

    def _keep(self, frame: Frame) -> None:
        atoms = frame.atoms
        scalars = (frame.step, atoms.atomic_energies.sum(), *frame.thermo)
        self._rows.add(scalars, frame.cell, atoms.positions, atoms.forces, atoms.atomic_energies)
        self._steps.add(self._interval)


@dataclass(frozen=True)
class MdRun(ResumableRun[FrameRecorder]):
    """A run: its state point and its place.

    Attributes
    ----------
    temperature : K
    pressure : bar
    root : the study's folder
    name : the run's id, unique in the study
    """

    temperature: float
    pressure: float
    root: Path
    study: Study
    phases = ("melt", "equilibrate", "sample")
    ensembles: ClassVar = {"melt": "melt", "equilibrate": "equilibrate", "sample": "equilibrate"}
    row_files = (FRAMES,)

    @property
    def name(self) -> str:
        return f"{self.temperature:.6g}K-{self.pressure:.6g}bar"

    @property
    def folder(self) -> Path:
        return self.root / "runs" / self.name

    @property
    def product(self) -> Path:
        return self.folder / "run.h5"

    @property
    def failure(self) -> Path:
        return self.folder / "error.txt"

    @property
    def phase_steps(self) -> dict[str, int]:
        """Steps of each phase; sampling starts at a multiple of the sampling interval."""
        pool = self.study.pool
        interval = pool.sampling_interval
        hot = pool.melt if pool.melt_temperature > self.temperature else 0.0

        def steps(duration: float) -> int:
            whole = round(duration * 1000 / pool.timestep)
            return -(-whole // interval) * interval

        return {
            "melt": steps(hot),
            "equilibrate": steps(pool.equilibration),
            "sample": pool.frames_per_run * interval,
        }

    @property
    def segment(self) -> int:
        """Steps between checkpoints, a multiple of the sampling interval."""
        interval = self.study.pool.sampling_interval
        return max(1, self.study.pool.checkpoint_interval // interval) * interval

    @property
    def seed(self) -> int:
        return derived_seed(self.study.pool.seed, "run", self.name)

    def deck_text(self) -> str:
        """Return the run's deck."""
        system, pool, steps = self.study.system, self.study.pool, self.phase_steps
        return deck.fill(
            deck.template("in.generate"),
            {
                "data": f"runs/{self.name}/start.data",
                "cutoff": system.cutoff,
                "kspace_accuracy": system.kspace_accuracy,
                "temperature": self.temperature,
                "pressure": self.pressure,
                "timestep": pool.timestep / units.FS_PER_PS,
                "thermostat_time": pool.thermostat_time,
                "barostat_time": pool.barostat_time,
                "start_temperature": max(pool.melt_temperature, self.temperature),
                "seed": self.seed,
                "melt_steps": steps["melt"],
                "equilibration_steps": steps["equilibrate"],
                "sampling_steps": steps["sample"],
                "interval": pool.sampling_interval,
                "segment": self.segment,
            },
        )

    def rows(self, step: int) -> dict[str, tuple[int, int]]:
        """Rows that frames.bin has at a step, and how many doubles a row is."""
        sampled = max(0, step - self.end("equilibrate"))
        return {FRAMES: (sampled // self.study.pool.sampling_interval, row_length(self._n_atoms))}

    @cached_property
    def _n_atoms(self) -> int:
        text = (self.folder / "start.data").read_text(encoding="utf-8")
        return next(
            int(line.split()[0]) for line in text.splitlines() if line.split()[1:2] == ["atoms"]
        )

    @contextmanager
    def recording(
        self, session: LammpsSession, step: int, report: Callable[[int], None]
    ) -> Iterator[FrameRecorder]:
        with RowFile(self.folder / FRAMES, self.rows(step)[FRAMES][0]) as frames:
            yield FrameRecorder(session, frames, self.study, report)

    def perform(self, comm: MPI.Intracomm, report: Callable[[int], None]) -> str:
        """Run on the ranks of comm from the last checkpoint to the product.

        Parameters
        ----------
        report : callable
            Called on each rank with the number of steps done since the last call; negative
            for those that were done before this start.

        Returns
        -------
        str
            LAMMPS's error message if it ended the run, else "". The message is also recorded in
            the run's folder.

        Raises
        ------
        Stopped
            On all ranks, at a checkpoint, if rank 0 was asked to stop.
        """
        started = time.perf_counter()
        try:
            recorded = self.advance(comm, report)
        except LammpsError as error:
            if comm.rank == 0:
                write_text(self.failure, f"{error}\n")
            return str(error)
        if comm.rank == 0:
            seconds = time.perf_counter() - started
            write_json(
                self.folder / "timing.json",
                {"wall_seconds": seconds, "steps": self.n_steps, "ranks": comm.size},
            )
            self._write_product(recorded.numbers)
            self.tidy()
        return ""

    def tidy(self) -> None:
        super().tidy()
        if self.product.is_file():
            remove(self.failure)

    def _write_product(self, numbers: list[int]) -> None:
        path, n_atoms = self.folder / FRAMES, len(numbers)
        parts = [part[:, : len(SCALARS) + 9].copy() for part in _blocks(path, n_atoms)]
        scalars, cell = np.split(np.concatenate(parts), [len(SCALARS)], axis=1)
        off_diagonal = cell[:, [1, 2, 3, 5, 6, 7]]
        is_wanted = self.study.pool.pair_energies
        with self._short_ranged() as potential, PoolWriter(self.product, self.parameters()) as pool:
            run = pool.add_run(
                self.name,
                numbers,
                len(scalars),
                ("positions", "forces", "atomic_energies"),
                {name: OBSERVABLE_UNITS[name] for name in OBSERVABLES},
                orthogonal=not off_diagonal.any(),
                attributes=self._attributes(dict(zip(SCALARS, scalars.T, strict=True)), n_atoms),
                extras={PAIR_ENERGIES: PAIR_ENERGY} if is_wanted else {},
            )
            for part in _blocks(path, n_atoms):
                scalars, cell, positions, forces, energies = split_rows(part, n_atoms)
                values = dict(zip(SCALARS, scalars.T, strict=True))
                step = values.pop("step").astype(np.int64)
                if is_wanted:
                    found = potential.evaluate(numbers, positions, cell)
                    values[PAIR_ENERGIES] = found.atomic_energies
                run.append(
                    step,
                    step * (self.study.pool.timestep / units.FS_PER_PS),
                    cell=cell,
                    positions=positions,
                    forces=forces,
                    atomic_energies=energies,
                    **values,
                )

    def _short_ranged(self) -> IncludePotential:
        """Return the run's potential without charges."""
        system = self.study.system
        text = (self.root / "potential.lmp").read_text(encoding="utf-8")
        variables = {"cutoff": system.cutoff, "kspace_accuracy": system.kspace_accuracy}
        return IncludePotential(without_charges(text, variables), system.species)

    def parameters(self) -> dict[str, Any]:
        """Return what makes the run: study, deck, versions (attributes of its file)."""
        return {
            "study": self.study.name,
            "settings": json.dumps(self.study.as_dict("system", "pool")),
            "lammps_input": (self.folder / "in.lammps").read_text(encoding="utf-8"),
            "versions": json.dumps(versions("lammps", "mpich", "numpy", "h5py")),
            "ensemble": "NPT",
        }

    def _attributes(self, values: dict[str, FloatArray], n_atoms: int) -> dict[str, Any]:
        msd = values["mean_square_displacement"]
        n = len(msd)
        time_ps = (
            (values["step"][-1] - values["step"][0]) * self.study.pool.timestep / units.FS_PER_PS
        )
        half = n // 2
        rise = float(msd[-1] - msd[half])
        distance = (values["volume"].mean() / n_atoms) ** (2 / 3)
        slope = rise / (time_ps * (n - 1 - half) / (n - 1)) if n - 1 > half else math.nan
        molten = msd[-1] >= distance and slope / 6 >= LEAST_DIFFUSION
        return {
            "temperature_set": self.temperature,
            "pressure_set": self.pressure,
            "seed": self.seed,
            "molten": bool(molten),
            "molten_means": MOLTEN,
            "diffusion_coefficient": slope / 6,
            "diffusion_coefficient_unit": "Angstrom+2 ps-1",
        }


def row_length(n_atoms: int) -> int:
    """Doubles in a frame's row."""
    return len(SCALARS) + 9 + 7 * n_atoms


def _blocks(path: Path, n_atoms: int) -> Iterator[FloatArray]:
    """Read the rows of a file, a few at a time."""
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
