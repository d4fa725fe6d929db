"""ValidationRun: one potential driven through NVT and a short NVE, from its deck to results.h5.

A run's folder holds

    in.lammps, potential.lmp   the deck, complete, and the pair style
    results.h5, trajectory.h5  what was measured, and the frames, once the run has ended
    log.lammps, timing.json    what LAMMPS printed, and how fast it was

and while it is not finished what `resumable_run` says. An average is made of whole blocks, each
measured once, however often the run was killed.

A run that LAMMPS ends, or that gets hopeless, has failure.json and results like any other.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mlsel.core import units
from mlsel.core.arrays import FloatArray
from mlsel.core.errors import MlselError, Stopped
from mlsel.core.files import write_json
from mlsel.core.provenance import derived_seed, versions
from mlsel.core.record import Record
from mlsel.md import deck
from mlsel.md.resumable_run import ResumableRun
from mlsel.md.session import LammpsError, LammpsSession
from mlsel.study.study import Study
from mlsel.validate.diffusion import mean_square_displacement
from mlsel.validate.recorder import SAMPLE, SOUND, Recorder
from mlsel.validate.results import (
    LARGEST_FORCE,
    WATCH,
    Measured,
    Results,
    write_results,
    write_trajectory,
)
from mlsel.validate.schedule import Schedule
from mlsel.validate.stability import FORCE_FACTOR, Bounds, pair_names
from mlsel.validate.stored_frames import StoredFrames

if TYPE_CHECKING:
    from mpi4py import MPI


TRAJECTORY = "trajectory.bin"


def species_pairs(species: Sequence[str]) -> list[tuple[int, int]]:
    """Return the pairs of species, as indices, in the order in which RDFs are kept.

    >>> species_pairs(["Na", "Cl"])
    [(0, 0), (0, 1), (1, 1)]
    """
    n = len(species)
    return [(i, j) for i in range(n) for j in range(i, n)]


def seed_of(name: str, seed: int) -> int:
    """Return a run's seed by its name and the study's: the same for all but repeats of the
    reference, so that all start alike."""
    label = name if name.startswith("reference-") else "all"
    return derived_seed(seed, "validation", label)


@dataclass(frozen=True)
class ValidationRun(ResumableRun[Recorder]):
    """A run: which potential, for how long, where.

    Attributes
    ----------
    name : reference, reference-2, <data set>/<model> or the name of a potential
    kind : "reference", "potential", or the kind of model
    potential : LAMMPS commands of the pair style
    digest : of the potential, without where it lies
    duration : ps of averaged NVT
    root : the study's folder
    """

    name: str
    kind: str
    potential: str
    digest: str
    duration: float
    root: Path
    study: Study
    committee: tuple[Path, ...] = ()
    """Folders of models that are asked how far the run leaves the training data."""
    phases = ("equilibrate", "production", "nve")
    ensembles: ClassVar = {"equilibrate": "equilibrate", "production": "equilibrate", "nve": "nve"}
    row_files = ("samples.bin", "blocks.bin", TRAJECTORY, "watch.bin", SOUND)

    @property
    def folder(self) -> Path:
        return self.root / "validation" / self.name

    @property
    def product(self) -> Path:
        return self.folder / "results.h5"

    @property
    def failure(self) -> Path:
        return self.folder / "failure.json"

    @property
    def schedule(self) -> Schedule:
        return Schedule.of(self.study, self.duration)

    @property
    def phase_steps(self) -> dict[str, int]:
        schedule = self.schedule
        return {phase: getattr(schedule, phase) for phase in self.phases}

    @property
    def segment(self) -> int:
        return self.schedule.segment

    @property
    def seed(self) -> int:
        return seed_of(self.name, self.study.validation.seed)

    def identity(self) -> dict[str, Any]:
        """Return what, beside the settings of the stage, decides the run."""
        known = {"potential": self.digest, "duration": self.duration, "seed": self.seed}
        return {**known, "watched_by": [path.name for path in self.committee], **self._files}

    @property
    def record(self) -> Record:
        """What the run was made from."""
        return Record(self.folder / "run.json", defaults={"watched_by": []})

    @property
    def _files(self) -> dict[str, Any]:
        """Of the files that an include names; a model's own are part of its digest."""
        is_include = self.kind in ("reference", "potential")
        return deck.files_since(self.potential, self.record) if is_include else {}

    def deck_text(self) -> str:
        """Return the run's deck."""
        system, section, schedule = self.study.system, self.study.validation, self.schedule
        folder = f"validation/{self.name}"
        pairs = species_pairs(system.species)
        return deck.fill(
            deck.template("in.validate"),
            {
                "data": "validation/start.data",
                "potential": f"{folder}/potential.lmp",
                "cutoff": system.cutoff,
                "kspace_accuracy": system.kspace_accuracy,
                "temperature": section.temperature,
                "timestep": section.timestep / units.FS_PER_PS,
                "thermostat_time": section.thermostat_time,
                "seed": self.seed,
                "equilibration_steps": schedule.equilibrate,
                "production_steps": schedule.production,
                "nve_steps": schedule.nve,
                "interval": schedule.sample,
                "block": schedule.block,
                "trajectory_interval": schedule.frame,
                "segment": schedule.segment,
                "pairs": " ".join(f"{i + 1} {j + 1}" for i, j in pairs),
                "bins": section.rdf_bins,
                "rdf_cutoff": section.rdf_cutoff,
            },
        )

    def perform(self, comm: MPI.Intracomm, report: Callable[[int], None]) -> None:
        """Run on the ranks of comm from the last checkpoint to the product.

        Parameters
        ----------
        report : callable
            Called with the number of steps done since the last call, negative for those that were
            done before this start; what it is told on rank 0 counts.

        Raises
        ------
        MlselError
            If one rank of several met an error of LAMMPS's: all must then be started again.
        Stopped
            On all ranks, at a checkpoint, if rank 0 was asked to stop.
        """
        if not comm.bcast(self.failure.is_file() if comm.rank == 0 else None):
            self.advance(comm, report)
        if comm.rank == 0:
            self._conclude()

    @contextmanager
    def recording(
        self, session: LammpsSession, step: int, report: Callable[[int], None]
    ) -> Iterator[Recorder]:
        """Measure; an error of LAMMPS's is the run's result."""
        started = time.perf_counter()
        stop = None
        with Recorder(self, session, step, report) as recorder:
            try:
                yield recorder
            except Stopped as error:
                stop = error
            except LammpsError as error:
                recorder.end_early()
                recorder.flush()
                self._fail(session, error)
        if session.comm.rank == 0:
            self._record_speed(session.step - step, time.perf_counter() - started, session.comm)
        if stop is not None:
            raise stop

    def rows(self, step: int) -> dict[str, tuple[int, int]]:
        """Rows that each row file has at a step, and how many doubles a row is."""
        schedule = self.schedule
        n_pairs = len(species_pairs(self.study.system.species))
        averaged = schedule.averaged(step)
        n_bins = self.study.validation.rdf_bins
        rows = {
            "samples.bin": (step // schedule.sample, len(self.columns) + n_pairs),
            "blocks.bin": (averaged // schedule.block, 2 * n_pairs * n_bins),
            TRAJECTORY: (averaged // schedule.frame, 1 + 3 * self._n_atoms()),
        }
        if self.committee:
            rows["watch.bin"] = (averaged // schedule.frame, 1 + len(WATCH))
        return rows

    @property
    def columns(self) -> tuple[str, ...]:
        """The numbers of a sample: with the largest force where there is a bound on it."""
        return (*SAMPLE, LARGEST_FORCE) if LARGEST_FORCE in self.start else SAMPLE

    def _n_atoms(self) -> int:
        return len(self.start["numbers"])

    @cached_property
    def start(self) -> dict[str, Any]:
        """start.json: what is known of the snapshot that all runs start from."""
        path = self.root / "validation" / "start.json"
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return known

    def bounds(self, first_energy: float) -> Bounds:
        """Return the bounds of the run, given the energy of the first sample after a resumption.

        The energy that counts is that of the run's first sample, if it is on the disk.
        """
        path = self.folder / "samples.bin"
        if path.is_file() and path.stat().st_size >= 8 * len(SAMPLE):
            first_energy = float(np.fromfile(path, count=len(SAMPLE))[3])
        return Bounds(
            self.closest_bound,
            self.study.validation.temperature,
            first_energy,
            self._n_atoms(),
            pair_names(self.study.system.species),
            self.force_bound,
        )

    @property
    def force_bound(self) -> float:
        """eV/Å: force components above are unphysical; infinite where nothing tells it."""
        return FORCE_FACTOR * float(self.start.get(LARGEST_FORCE, math.inf))

    @property
    def closest_bound(self) -> FloatArray:
        """Å, (n_pairs,): distances below these are unphysical."""
        return self.study.validation.short_distance * np.array(self.start["closest"])

    def _fail(self, session: LammpsSession, error: LammpsError) -> None:
        """Record how a run ended; with an error of one rank of several, end all."""
        if session.comm.rank == 0 or error.is_on_one_rank:
            write_json(self.failure, {"step": session.step, "message": str(error)})
        if error.is_on_one_rank:
            raise MlselError(
                f"{self.name} was ended by LAMMPS on one rank of {session.comm.size} ({error}). "
                "This is recorded as its result: give the same command again for the others."
            )

    def _record_speed(self, n_steps: int, seconds: float, comm: MPI.Intracomm) -> None:
        path = self.folder / "timing.json"
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            n_steps += before["steps"]
            seconds += before["wall_seconds"]
        to_ns = self.study.validation.timestep * 1e-6
        speed = n_steps * to_ns / seconds * 86400 if seconds else 0.0
        write_json(
            path,
            {
                "steps": n_steps,
                "wall_seconds": seconds,
                "ranks": comm.size,
                "ns_per_day": speed,
            },
        )

    def _conclude(self) -> None:
        """Write trajectory.h5 and results.h5 from the rows, then remove these."""
        results = self._results()
        if len(results.frames):
            write_trajectory(self.folder / "trajectory.h5", results, self.study)
        write_results(self.product, results)
        self.tidy()

    def _results(self) -> Results:
        from ase.data import atomic_masses, chemical_symbols

        study, schedule = self.study, self.schedule
        rows = {}
        for name, (_, length) in self.rows(0).items():
            if name == TRAJECTORY:  # as long as the run
                continue
            path = self.folder / name
            values = np.fromfile(path) if path.is_file() else np.empty(0)
            rows[name] = values[: len(values) // length * length].reshape(-1, length)
        species = study.system.species
        pairs = species_pairs(species)
        samples = rows["samples.bin"]
        blocks = rows["blocks.bin"].reshape(-1, study.validation.rdf_bins, len(pairs), 2)
        start = self.start
        failure: dict[str, Any] = {"step": -1, "message": ""}
        if self.failure.is_file():
            failure = json.loads(self.failure.read_text(encoding="utf-8"))
        sound = np.empty(0)
        if (self.folder / SOUND).is_file():
            sound = np.fromfile(self.folder / SOUND)
        width = study.validation.rdf_cutoff / study.validation.rdf_bins
        numbers = np.array(start["numbers"])
        frames = StoredFrames(self.folder / TRAJECTORY, len(numbers))
        types = np.array([species.index(chemical_symbols[z]) for z in numbers])
        lag, msd = mean_square_displacement(
            frames,
            types,
            schedule.frame * study.validation.timestep / units.FS_PER_PS,
            atomic_masses[numbers],
        )
        return Results(
            name=self.name,
            kind=self.kind,
            species=tuple(species),
            numbers=numbers,
            cell=np.array(start["cell"]),
            temperature=study.validation.temperature,
            timestep=study.validation.timestep / units.FS_PER_PS,
            phase_ends=tuple(self.end(phase) for phase in self.phases),
            ended_at=failure["step"],
            ended_by=failure["message"],
            closest=self.closest_bound,
            largest_force=self.force_bound,
            samples=Measured(
                samples[:, 0].astype(np.int64),
                dict(zip(self.columns[1:], samples[:, 1 : len(self.columns)].T, strict=True)),
                samples[:, len(self.columns) :],
            ),
            r=width * (np.arange(float(study.validation.rdf_bins)) + 0.5),
            g=np.moveaxis(blocks[..., 0], 2, 1),
            coordination=np.moveaxis(blocks[..., 1], 2, 1),
            frame_steps=frames.steps(),
            frames=frames,
            sound_step=int(sound[0]) if sound.size else -1,
            sound_positions=sound[1:].reshape(-1, 3),
            provenance={
                "seed": self.seed,
                "potential_digest": self.digest,
                "lammps_input": (self.folder / "in.lammps").read_text(encoding="utf-8"),
                "settings": json.dumps(study.as_dict("system", "validation")),
                "versions": json.dumps(versions("lammps", "mpich", "numpy", "h5py")),
            },
            msd_lag=lag,
            msd=msd,
            watch=rows.get("watch.bin", np.empty((0, 1 + len(WATCH)))),
        )
