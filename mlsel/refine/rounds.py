"""A model's refinement: rounds of MD, harvest, labels and training, each a folder.

refine/<data set>/<model>/
    settings.json      what it was begun from
    base.h5            the frames that the model was trained on
    round-1/md/…       runs with the model
    round-1/found.h5   the frames chosen among the new ones of all runs
    round-1/labelled.h5, data.h5, model/
    round-1/round.json what the round found; written when its runs have ended
    round-1/errors.json of the model that it sent out, on the study's test set
    outcome.json       how it ended; the last model is <last round>/model
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core import stopping
from mlsel.core.errors import MlselError, StageIncomplete, Stopped
from mlsel.core.files import sweep, take_away, write_json, write_text
from mlsel.core.parallel import on_root, share
from mlsel.core.provenance import derived_seed
from mlsel.core.record import Record, read_json
from mlsel.evaluate.measurement import Against, labelled_frames, measure
from mlsel.md.structures import lammps_data
from mlsel.pool.pool import Pool
from mlsel.pool.subset import write_subset
from mlsel.pool.teacher import stamp_of
from mlsel.pool.writer import PoolWriter
from mlsel.refine.agreement import other_zero
from mlsel.refine.bounds import Held, Watch
from mlsel.refine.errors import ERRORS, Errors, digest_of
from mlsel.refine.exploration import ExplorationRun
from mlsel.refine.harvest import harvest
from mlsel.refine.label import content_of, label_pool
from mlsel.refine.outcome import ENDED, NO_FRAME, SPENT, STABLE, Outcome
from mlsel.refine.starts import drawn_starts, periodic_frames
from mlsel.study.folder import MODEL, StudyFolder
from mlsel.study.parts import measured_on
from mlsel.study.study import defaults
from mlsel.training.description import model_digest
from mlsel.training.registry import load_model
from mlsel.training.stage import baseline_of, held_out_of, trainers_of
from mlsel.training.task import Task

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.refine.labeller import Labeller
    from mlsel.study.study import Study

log = logging.getLogger(__name__)

TEMPERATURES = "md_temperatures"
N_TESTED = 1000
"""Frames of the test set that each round's model is measured on, at most."""
N_CHECKED = 5
"""Training frames that are labelled anew first, to see that the labels are of the same units."""


@dataclass(frozen=True)
class Refinement:
    """The rounds of one model, <data set>/<model>."""

    study: Study
    root: Path
    name: str

    @property
    def folder(self) -> Path:
        return StudyFolder(self.root).refinement(self.name)

    @property
    def outcome(self) -> Path:
        return self.folder / "outcome.json"

    @property
    def base(self) -> Path:
        return self.folder / "base.h5"

    def round_folder(self, k: int) -> Path:
        return self.folder / f"round-{k}"

    def model(self, k: int) -> Path:
        """The model that round k sends out."""
        if k == 1:
            return StudyFolder(self.root).model(self.name)
        return self.round_folder(k - 1) / "model"

    @property
    def test(self) -> Path:
        """The test set that the rounds' models are measured on, there or not."""
        return measured_on(self.study, self.root)

    def errors_file(self, k: int) -> Path:
        """The errors of that model on the test set."""
        return self.round_folder(k) / ERRORS

    def errors(self, k: int) -> Errors | None:
        """Return these errors, None where they were not measured on the test set that there is."""
        return Errors.read(self.errors_file(k), self.test)

    @property
    def lacks_errors(self) -> bool:
        """Whether there is a test set, and a round whose model was not measured on it."""
        rounds = range(1, len(self.outcomes()) + 1)
        has_test = bool(digest_of(self.test))
        return has_test and any(self.errors(k) is None for k in rounds)

    def data(self, k: int) -> Path:
        """The training set of that model."""
        return self.base if k == 1 else self.round_folder(k - 1) / "data.h5"

    def made_from(self) -> dict[str, Any]:
        return {
            "model": model_digest(self.model(1)),
            **self.study.as_dict("refine"),
            **content_of(self.study),
            TEMPERATURES: list(self._temperatures),
        }

    @property
    def _temperatures(self) -> tuple[float, ...]:
        return self.study.refine.temperatures or (self.study.validation.temperature,)

    @property
    def record(self) -> Record:
        # what an earlier mlsel did not write
        now = {**content_of(self.study), TEMPERATURES: list(self._temperatures)}
        return Record(self.folder / "settings.json", defaults={**defaults(), **now})

    def outcomes(self) -> list[Outcome]:
        """Return what the rounds found that have ended their MD."""
        found = []
        for k in range(1, self.study.refine.rounds + 2):
            path = self.round_folder(k) / "round.json"
            if not path.is_file():
                break
            found.append(Outcome.read(path))
        return found

    def perform(self, labeller: Labeller, comm: MPI.Intracomm, *, again: bool = False) -> str:
        """Do what is missing; return how it ended: stable, budget spent, rounds done, or lost
        before a frame was kept.

        Raises
        ------
        MlselError
            If what is there was made from something else, the data set does not fit, or labels
            are in other units.
        Stopped
            If a signal asked for it.
        """
        section = self.study.refine

        def begin() -> bool:
            sweep(self.folder)
            if not self.record.settle(self.made_from(), again=again):
                take_away(self.folder)
            if self.outcome.is_file():
                return True
            self._write_base()
            with Pool(self.base) as pool:
                periodic_frames(pool)
            self.record.write(self.made_from())
            return False

        if on_root(comm, begin):
            n_rounds = on_root(comm, lambda: len(self.outcomes()))
            if on_root(comm, lambda: self.lacks_errors):
                on_root(comm, lambda: take_away(StudyFolder(self.root).refined))
            for k in range(1, n_rounds + 1):
                self._measure(k, comm)
            return str(on_root(comm, lambda: read_json(self.outcome)["ended"]))
        self._check_labels(labeller, comm)
        ended, spent, k = "", 0, 0
        while not ended:
            k += 1
            # after the last round the model is tried, and nothing more is chosen
            budget = section.labels - spent if k <= section.rounds else 0
            found = self._explore(k, budget, comm)
            spent += found.n_labelled
            self._measure(k, comm)
            if comm.rank == 0:
                log.info("%s round %d: %s", self.name, k, found.told(section.duration))
            if found.is_stable:
                ended = STABLE
            elif not found.n_labelled:
                ended = NO_FRAME if budget else SPENT if spent >= section.labels else ENDED
            else:
                self._learn(k, labeller, comm)
        if comm.rank == 0:
            write_json(self.outcome, {"ended": ended, "rounds": k, "labels": spent})
        comm.Barrier()
        return ended

    # The steps of a round

    def _write_base(self) -> None:
        if self.base.is_file():
            return
        dataset = self.name.split("/")[0]
        n = read_json(self.model(1) / MODEL)["data"]["n_frames"]
        with Pool(StudyFolder(self.root).data_set(dataset)) as pool:
            write_subset(pool, np.arange(n), self.base, {"made_by": "mlsel.refine"})

    def _check_labels(self, labeller: Labeller, comm: MPI.Intracomm) -> None:
        """Label some training frames anew: other units and another zero are refused."""
        some = self.folder / "known.h5"

        def write() -> None:
            if not some.is_file():
                with Pool(self.base) as pool:
                    write_subset(pool, np.arange(min(N_CHECKED, len(pool))), some, {})

        on_root(comm, write)
        labelled = self.folder / "known-labelled.h5"
        self._label(some, labelled, labeller, comm)

        def compare() -> None:
            with Pool(some) as known, Pool(labelled) as now:
                problem = other_zero(known, now, labeller.name)
            if problem:
                take_away(labelled)  # a calculator that was mended has the same name
                raise MlselError(problem)

        on_root(comm, compare)

    def _label(self, frames: Path, output: Path, labeller: Labeller, comm: MPI.Intracomm) -> None:
        """Label frames; what can't be labelled is told and left out, unless it is all of them."""
        with Pool(frames) as pool:
            try:
                label_pool(pool, output, labeller, comm)
            except StageIncomplete as error:
                if not on_root(comm, output.is_file):
                    raise
                if comm.rank == 0:
                    log.warning("%s: %s", self.name, error)

    def _explore(self, k: int, budget: int, comm: MPI.Intracomm) -> Outcome:
        """Do the MD of a round and choose among its new frames."""
        done = self.round_folder(k) / "round.json"
        if on_root(comm, done.is_file):
            return on_root(comm, lambda: self.outcomes()[k - 1])
        runs = on_root(comm, lambda: list(self._prepare(k)))

        def work(index: int, group: MPI.Intracomm, report: Any) -> None:
            if stopping.asked():
                raise Stopped("", has_progress=False)
            runs[index].perform(group, report)

        missing = [i for i, run in enumerate(runs) if not run.product.is_file()]
        missing = on_root(comm, lambda: missing)
        share(comm, missing, work)
        return on_root(comm, lambda: self._harvest(k, runs, budget))

    def _measure(self, k: int, comm: MPI.Intracomm) -> None:
        """Measure the model that a round sends out, where the study has a test set."""

        def work() -> None:
            if not digest_of(self.test) or self.errors(k) is not None:
                return
            with Pool(self.test) as pool:
                ids = range(0, len(pool), -(-len(pool) // N_TESTED))
                against = Against.of(pool, {})
                frames = labelled_frames(pool, ids, against)
                found = measure(load_model(self.model(k)), frames, against)
                forces = found.errors.forces("force_component")
                errors = Errors(forces.rmse, forces.max, len(ids), pool.digest)
            write_json(self.errors_file(k), asdict(errors))

        on_root(comm, work)

    def _prepare(self, k: int) -> Iterator[ExplorationRun]:
        """Write the inputs of a round's runs."""
        section, species = self.study.refine, self.study.system.species
        model = load_model(self.model(k))
        watch = Watch(Held.of(self.data(k), species), species, section.near, section.force,
                      section.lost, section.volume, section.lost_volume, section.watch)  # fmt: skip
        lines = [*model.lammps_commands(species),
                 *watch.commands(model.pair_style, section.sampling_interval)]  # fmt: skip
        potential = "\n".join([f"# {self.name}, round {k}", *lines]) + "\n"
        pressures: Sequence[float | None] = section.pressures or (None,)
        n = len(self._temperatures) * len(pressures) * section.replicas
        starts = iter(drawn_starts(self.base, species, n, section.seed, self.name, "start", k))
        for t in self._temperatures:
            for p in pressures:
                for replica in range(1, section.replicas + 1):
                    label = f"{t:.6g}K-" + ("nvt" if p is None else f"{p:.6g}bar") + f"-{replica}"
                    atoms = next(starts)
                    run = ExplorationRun(
                        self.root,
                        self.round_folder(k) / "md" / label,
                        self.study,
                        watch,
                        t,
                        p,
                        derived_seed(section.seed, "refine", self.name, k, label),
                        tuple(atoms.numbers.tolist()),
                    )
                    run.tidy()
                    if not run.product.is_file():
                        write_text(run.folder / "start.data", lammps_data(atoms, species))
                        write_text(run.folder / "potential.lmp", potential)
                        write_text(run.folder / "in.lammps", run.deck_text())
                    yield run

    def _harvest(self, k: int, runs: Sequence[ExplorationRun], budget: int) -> Outcome:
        """Choose among the new frames, given the training set; write found.h5 and round.json."""
        folder, section = self.round_folder(k), self.study.refine
        outcomes = [read_json(run.product) for run in runs]
        offers = [(run, *run.new_frames()) for run in runs]
        n = min(sum(len(cells) for _, _, cells in offers), section.labels_per_round, budget)
        if n > 0:
            seed = derived_seed(section.seed, "harvest", self.name, k)
            found = folder / "found.h5"
            harvest(offers, n, section.method, seed, self.data(k), self.model(k), found)
        result = Outcome(
            tuple(outcome["time"] for outcome in outcomes),
            tuple(outcome["ended_by"] for outcome in outcomes),
            sum(outcome["n_new"] for outcome in outcomes),
            max(n, 0),
        )
        write_json(
            folder / "round.json",
            {
                "runs": [run.folder.name for run in runs],
                "first_new": [outcome["first_new"] for outcome in outcomes],
                **result.as_dict(),
            },
        )
        return result

    def _learn(self, k: int, labeller: Labeller, comm: MPI.Intracomm) -> None:
        """Label what was found, add it to the training set and train the next model."""
        folder = self.round_folder(k)
        labelled, data = folder / "labelled.h5", folder / "data.h5"
        if not on_root(comm, data.is_file):
            self._label(folder / "found.h5", labelled, labeller, comm)

        def train() -> None:
            if not data.is_file():
                with Pool(self.base) as base:
                    stamp = {"made_by": "mlsel.refine", **stamp_of(base)}
                with PoolWriter(data, stamp) as writer:
                    writer.link_run(self.data(k), copy=True)
                    writer.link_run(labelled, copy=True, prefix=f"round-{k}-")
            task = self._task(k)
            if not task.is_done(again=True):
                task.perform(lambda report: None)
            task.settle_added()

        on_root(comm, train)

    def _task(self, k: int) -> Task:
        dataset, model = self.name.split("/")
        trainer = next(t for t in trainers_of(self.study, dataset) if t.name == model)
        return Task(
            f"{self.name}-round-{k}",
            self.round_folder(k) / "data.h5",
            held_out_of(StudyFolder(self.root), dataset),
            trainer,
            None,
            self.round_folder(k) / "model",
            baseline_of(self.study, trainer),
            has_core=bool(self.study.training.core),
            start=self.model(k),
        )

    @cached_property
    def trainer_is_known(self) -> bool:
        dataset, _, model = self.name.partition("/")
        return model in [t.name for t in trainers_of(self.study, dataset)]
