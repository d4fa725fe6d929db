"""MdRun: one state point of a pool, from its deck to its file of frames.

A run's folder is named by its state point and holds

    in.lammps, start.data     the deck, complete, and the start structure
    run.h5                    the frames, once all are there
    log.lammps, timing.json   what LAMMPS printed, and how long it took

    spacing.json              what it measured of its correlation times, if the study asks for it

and while it is not finished what `resumable_run` says, with frames.bin as its row file, and
measured.bin where it measures correlation times.
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
from mlsel.md.frame_recorder import (
    FRAMES,
    MEASURED,
    OBSERVABLES,
    SCALARS,
    FrameRecorder,
    row_blocks,
    row_length,
    split_rows,
)
from mlsel.md.include import IncludePotential, without_charges
from mlsel.md.resumable_run import ResumableRun
from mlsel.md.row_file import RowFile
from mlsel.md.session import LammpsError, LammpsSession
from mlsel.md.spacing import Spacing
from mlsel.pool.layout import OBSERVABLE_UNITS, PAIR_ENERGIES, PAIR_ENERGY
from mlsel.pool.writer import PoolWriter
from mlsel.study.sections.pool import BY_CORRELATION
from mlsel.study.study import Study

if TYPE_CHECKING:
    from mpi4py import MPI

LEAST_DIFFUSION = 0.1
"""Å²/ps, or 1e-5 cm²/s: liquids near melting have more, crystals with vacancies have less."""
MOLTEN = (
    "over the second half of the sampled frames the atoms' mean-square displacement rises by "
    f"6 D t with D of at least {LEAST_DIFFUSION} Angstrom+2 ps-1, and over all of them it reaches "
    "(V/N)^(2/3)"
)


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
    ensembles: ClassVar = {
        "melt": "melt",
        **dict.fromkeys(("equilibrate", "measure", "align", "sample"), "equilibrate"),
    }
    row_files = (FRAMES, MEASURED)

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
    def measures(self) -> bool:
        """Whether the run's frames are as far apart as it measures that they are correlated."""
        return self.study.pool.sampling == BY_CORRELATION

    @property
    def phases(self) -> tuple[str, ...]:
        measuring = ("measure", "align") if self.measures else ()
        return ("melt", "equilibrate", *measuring, "sample")

    @property
    def clock(self) -> int:
        """Steps of which the phases before the frames are multiples."""
        pool = self.study.pool
        return pool.correlation.record_interval if self.measures else pool.sampling_interval

    @property
    def interval(self) -> int:
        """Steps between frames; the greatest allowed as long as a run has not measured them."""
        if not self.measures:
            return self.study.pool.sampling_interval
        spacing = self.spacing
        return spacing.interval if spacing else self.study.pool.correlation.greatest_interval

    @property
    def spacing(self) -> Spacing | None:
        """What the run measured, None before that and where it doesn't."""
        known: Spacing | None = self.__dict__.get("_spacing")
        if known is None and self.measures and self._spacing_file.is_file():
            known = self.__dict__["_spacing"] = Spacing.read(self._spacing_file)
        return known

    @property
    def _spacing_file(self) -> Path:
        return self.folder / "spacing.json"

    @property
    def phase_steps(self) -> dict[str, int]:
        """Steps of each phase; sampling starts at a multiple of the interval between frames."""
        pool, interval = self.study.pool, self.interval
        hot = pool.melt if pool.melt_temperature > self.temperature else 0.0

        def steps(duration: float) -> int:
            whole = round(duration * 1000 / pool.timestep)
            return -(-whole // self.clock) * self.clock

        before = {"melt": steps(hot), "equilibrate": steps(pool.equilibration)}
        if self.measures:
            before["measure"] = steps(pool.correlation.stretch)
            before["align"] = -sum(before.values()) % interval if self.spacing else 0
        return {**before, "sample": pool.frames_per_run * interval}

    @property
    def segment(self) -> int:
        """Steps between checkpoints, a multiple of `clock`."""
        return _multiple(self.study.pool.checkpoint_interval, self.clock)

    def segment_of(self, phase: str) -> int:
        """Steps between the checkpoints of a phase: of the frames' a multiple of their interval."""
        if phase == "align":
            return max(1, self.phase_steps[phase])
        return self.segment if phase != "sample" else self._sampling_segment

    @property
    def _sampling_segment(self) -> int:
        return _multiple(self.study.pool.checkpoint_interval, self.interval)

    def begin(self, phase: str, comm: MPI.Intracomm) -> None:
        """Choose the interval between frames when all is measured; the deck says it from then on.

        It depends on nothing but the rows that the checkpoint before counts.
        """
        if phase != "align":
            return
        if comm.rank == 0:
            n = self.phase_steps["measure"] // self.clock
            values = np.fromfile(self.folder / MEASURED, np.float64, n * 2).reshape(n, 2)
            self.__dict__["_spacing"] = Spacing.of(values, self.study.pool)
            write_text(self.folder / "in.lammps", self.deck_text())
            write_json(self._spacing_file, self.__dict__["_spacing"].as_json())
        self.__dict__["_spacing"] = comm.bcast(self.__dict__.get("_spacing"))

    @property
    def seed(self) -> int:
        return derived_seed(self.study.pool.seed, "run", self.name)

    def deck_text(self) -> str:
        """Return the run's deck."""
        system, pool, steps = self.study.system, self.study.pool, self.phase_steps
        measuring = {
            "measure_steps": steps["measure"],
            "align_steps": steps["align"],
            "sampling_segment": self._sampling_segment,
        } if self.measures else {}  # fmt: skip
        return deck.fill(
            deck_template(self.study),
            {
                **measuring,
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
                "interval": self.interval,
                "segment": self.segment,
            },
        )

    def rows(self, step: int) -> dict[str, tuple[int, int]]:
        """Rows that frames.bin and measured.bin have at a step, and how many doubles a row is."""
        sampled = max(0, step - self.end(self.phases[-2]))
        rows = {FRAMES: (sampled // self.interval, row_length(self._n_atoms))}
        if self.measures:
            measured = min(max(0, step - self.end("equilibrate")), self.phase_steps["measure"])
            rows[MEASURED] = measured // self.clock, 2
        return rows

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
        rows = self.rows(step)
        n_measured = rows[MEASURED][0] if self.measures else 0
        with (
            RowFile(self.folder / FRAMES, rows[FRAMES][0]) as frames,
            RowFile(self.folder / MEASURED, n_measured) as measured,
        ):
            yield FrameRecorder(
                session, self.study.system.species, frames, measured, self.clock,
                lambda: self.interval, report,
            )  # fmt: skip

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
        parts = [part[:, : len(SCALARS) + 9].copy() for part in row_blocks(path, n_atoms)]
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
            for part in row_blocks(path, n_atoms):
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
            **(self.spacing.attributes(self.study.pool) if self.spacing else {}),
        }


def deck_template(study: Study) -> str:
    """Return the deck of a study's runs, before it is filled in."""
    text = deck.template("in.generate")
    if study.pool.sampling != BY_CORRELATION:
        return text
    before, sample, after = text.partition("# [sample]\n")
    return before + deck.template("in.generate.measure") + sample + after


def _multiple(steps: int, unit: int) -> int:
    """The greatest multiple of a unit that is not above so many steps, one unit at least."""
    return max(1, steps // unit) * unit
