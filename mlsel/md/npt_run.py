"""MdRun: one state point of a pool, from its deck to its file of frames.

A run's folder is named by its state point and holds

    in.lammps, start.data     the deck, complete, and the start structure
    run.h5                    the frames, once all are there
    log.lammps, timing.json   what LAMMPS printed, and how long it took

and while it is not finished frames.bin (rows of doubles) and <phase>-<step>.restart. The order of
writing makes a killed run resumable at any moment: frames first, then the restart file under its
final name, then the older restart file goes. Frames beyond the restart file are cut off.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core import stopping
from mlsel.core.errors import MlselError
from mlsel.core.files import partial_path, publish, write_json
from mlsel.core.provenance import derived_seed, versions
from mlsel.md import deck
from mlsel.md.row_file import BUFFER_BYTES, RowFile
from mlsel.md.session import FloatArray, Frame, LammpsError, LammpsSession
from mlsel.pool.pool import OBSERVABLE_UNITS
from mlsel.pool.writer import PoolWriter
from mlsel.study.study import Study

if TYPE_CHECKING:
    from mpi4py import MPI

PHASES = ("melt", "equilibrate", "sample")
ENSEMBLES = {"melt": "melt", "equilibrate": "equilibrate", "sample": "equilibrate"}
"""The section of the deck that sets each phase's thermostat and barostat."""
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


@dataclass(frozen=True)
class MdRun:
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
    def n_steps(self) -> int:
        return sum(self.phase_steps.values())

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
                "timestep": pool.timestep / 1000,
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
            n_atoms, numbers = self._advance(comm, report)
        except LammpsError as error:
            if comm.rank == 0:
                self.failure.write_text(f"{error}\n", encoding="utf-8")
            return str(error)
        if comm.rank == 0:
            self._write_product(n_atoms, numbers)
            seconds = time.perf_counter() - started
            write_json(
                self.folder / "timing.json",
                {"wall_seconds": seconds, "steps": self.n_steps, "ranks": comm.size},
            )
            self.failure.unlink(missing_ok=True)
        return ""

    def _advance(self, comm: MPI.Intracomm, report: Callable[[int], None]) -> tuple[int, list[int]]:
        """Bring the run to its last step; frames.bin is then whole."""
        text = (self.folder / "in.lammps").read_text(encoding="utf-8")
        lines = deck.sections(text)
        found = self._checkpoints() if comm.rank == 0 else None
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
                numbers = self._numbers(session)
                kept = self._n_sampled(phase, step)
                with RowFile(self.folder / "frames.bin", kept) as writer:
                    self._run_phases(session, lines, phase, step, writer, report)
                return session.n_atoms, numbers
        raise AssertionError("unreachable: the last candidate starts anew")

    def _run_phases(
        self,
        session: LammpsSession,
        lines: dict[str, list[str]],
        phase: str,
        step: int,
        writer: RowFile,
        report: Callable[[int], None],
    ) -> None:
        start = PHASES.index(phase) if phase else 0
        ends = np.cumsum([self.phase_steps[name] for name in PHASES])
        ensemble = ""
        for index in range(start, len(PHASES)):
            name, end = PHASES[index], int(ends[index])
            at_its_end = phase == name and step >= end
            if ENSEMBLES[name] != ensemble:
                # Also at a phase's end: the next may go on with this thermostat, whose state is
                # in the restart file.
                if ensemble:
                    session.execute(["unfix ensemble"])
                ensemble = ENSEMBLES[name]
                session.execute(lines[ensemble])
            if at_its_end:
                continue
            if name != ensemble:
                session.execute(lines[name])
            while True:
                n_steps = min(self.segment, end - session.step)
                if name == "sample":
                    self._sample(session, n_steps, writer, report)
                else:
                    session.run(0)
                    self._pass(session, n_steps, report)
                self._checkpoint(session, name, writer)
                if session.step < ends[-1]:
                    stopping.check_at_checkpoint(session.comm)
                if session.step >= end:
                    break

    def _pass(self, session: LammpsSession, n_steps: int, report: Callable[[int], None]) -> None:
        piece = self.study.pool.sampling_interval * max(
            1, 1000 // self.study.pool.sampling_interval
        )
        while n_steps > 0:
            done = min(piece, n_steps)
            session.run(done, setup=False)
            n_steps -= done
            report(done)

    def _sample(
        self,
        session: LammpsSession,
        n_steps: int,
        writer: RowFile,
        report: Callable[[int], None],
    ) -> None:
        interval = self.study.pool.sampling_interval
        unreported = 0
        told = time.monotonic()

        def keep(frame: Frame) -> None:
            nonlocal unreported, told
            atoms = frame.atoms
            scalars = (frame.step, atoms.atomic_energies.sum(), *frame.thermo)
            writer.add(scalars, frame.cell, atoms.positions, atoms.forces, atoms.atomic_energies)
            unreported += interval
            if time.monotonic() - told > 1.0:
                report(unreported)
                unreported, told = 0, time.monotonic()

        session.sample(n_steps, interval, "atomic_energy", THERMO, keep)
        report(unreported)

    def _checkpoint(self, session: LammpsSession, phase: str, writer: RowFile) -> None:
        path = self.folder / f"{phase}-{session.step}.restart"
        partial = partial_path(path)
        if session.comm.rank == 0:
            writer.flush()
        session.execute([f"write_restart {lammps_path(partial)}"])
        if session.comm.rank == 0:
            publish(partial, path)
            for _, _, old in self._checkpoints()[2:]:
                old.unlink()

    def _checkpoints(self) -> list[tuple[str, int, Path]]:
        """The restart files that can be gone on from, newest first."""
        frames = self.folder / "frames.bin"
        n_bytes = frames.stat().st_size if frames.is_file() else 0
        found = []
        for path in self.folder.glob("*.restart"):
            phase, _, step = path.stem.rpartition("-")
            if phase in PHASES and step.isdigit():
                found.append((PHASES.index(phase), int(step), path))
        newest_first = sorted(found, reverse=True)
        return [
            (PHASES[phase], step, path)
            for phase, step, path in newest_first
            if self._n_sampled(PHASES[phase], step) * self._row_bytes() <= n_bytes
        ]

    def _n_sampled(self, phase: str, step: int) -> int:
        """Frames that a run has at a checkpoint."""
        if phase != "sample":
            return 0
        before = self.phase_steps["melt"] + self.phase_steps["equilibrate"]
        return (step - before) // self.study.pool.sampling_interval

    def _row_bytes(self) -> int:
        text = (self.folder / "start.data").read_text(encoding="utf-8")
        n_atoms = next(
            int(line.split()[0]) for line in text.splitlines() if line.split()[1:2] == ["atoms"]
        )
        return 8 * row_length(n_atoms)

    def _numbers(self, session: LammpsSession) -> list[int]:
        """Atomic numbers in the order of atom ids."""
        from ase.data import atomic_numbers

        types = session.types()
        return [atomic_numbers[self.study.system.species[t - 1]] for t in types]

    def _write_product(self, n_atoms: int, numbers: list[int]) -> None:
        path = self.folder / "frames.bin"
        parts = [part[:, : len(SCALARS) + 9].copy() for part in _blocks(path, n_atoms)]
        scalars, cell = np.split(np.concatenate(parts), [len(SCALARS)], axis=1)
        off_diagonal = cell[:, [1, 2, 3, 5, 6, 7]]
        with PoolWriter(self.product, self.parameters()) as pool:
            run = pool.add_run(
                self.name,
                numbers,
                len(scalars),
                ("positions", "forces", "atomic_energies"),
                {name: OBSERVABLE_UNITS[name] for name in OBSERVABLES},
                orthogonal=not off_diagonal.any(),
                attributes=self._attributes(dict(zip(SCALARS, scalars.T, strict=True)), n_atoms),
            )
            for part in _blocks(path, n_atoms):
                scalars, cell, positions, forces, energies = split_rows(part, n_atoms)
                values = dict(zip(SCALARS, scalars.T, strict=True))
                step = values.pop("step").astype(np.int64)
                run.append(
                    step,
                    step * (self.study.pool.timestep / 1000),
                    cell=cell,
                    positions=positions,
                    forces=forces,
                    atomic_energies=energies,
                    **values,
                )
        for leftover in [path, *self.folder.glob("*.restart")]:
            leftover.unlink()

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
        time_ps = (values["step"][-1] - values["step"][0]) * self.study.pool.timestep / 1000
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


def lammps_path(path: Path) -> str:
    """Return a path as LAMMPS commands can take it: from the current folder, without blanks."""
    text = os.path.relpath(path)
    if any(character.isspace() for character in text):
        raise MlselError(
            f'the folder "{path}" has blanks in its name, which LAMMPS commands can\'t take: '
            "choose another with -o."
        )
    return text


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
