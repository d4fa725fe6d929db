"""A model to be trained: which trainer, on which frames, into which folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.core.errors import MlselError, Stopped
from mlsel.core.files import remove, sweep, sweep_partials, take_away, write_json, write_text
from mlsel.core.parallel import on_root
from mlsel.core.provenance import digest
from mlsel.core.record import Record
from mlsel.core.user_code import code_digest
from mlsel.pool.teacher import teacher_of
from mlsel.training.base import TrainedModel, Trainer
from mlsel.training.baseline import Baseline, read_baseline
from mlsel.training.core import FILE as CORE
from mlsel.training.core import Core, read_core
from mlsel.training.description import (
    MODEL_FILE,
    describe,
    file_digests,
    is_users,
    read_description,
)
from mlsel.training.frames import ISOLATED_ATOMS, Frames, read_frames

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.pool.pool import Pool

BEGUN = "begun.json"
"""What a training that is not finished was begun from."""


@dataclass(frozen=True)
class Report:
    """How far a task is: share 0 … 1, and a few words."""

    share: float
    text: str


@dataclass(frozen=True)
class Task:
    """A model to be trained: which trainer, on which frames, into which folder."""

    dataset: str
    data: Path
    validation: Path | None
    trainer: Trainer
    n: int | None
    out: Path
    baseline: Baseline | None = None
    has_core: bool = False
    start: Path | None = None
    """The folder of a model of the same kind and size whose weights it begins from."""

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.trainer.name}"

    @property
    def failure(self) -> Path:
        """Holds the message where the last training of this model failed."""
        return self.out / "error.txt"

    @property
    def is_begun(self) -> bool:
        """Whether its folder is that of a model, finished, begun or failed, by any version."""
        marks = (MODEL_FILE, BEGUN, self.failure.name, "checkpoint.pt")
        return any((self.out / name).is_file() for name in marks)

    def made_from(self) -> dict[str, Any]:
        """What decides the product: parameters, data and how many frames of it.

        Raises
        ------
        MlselError
            If there is no data set or it has too few frames.
        """
        from mlsel.pool.pool import Pool

        with Pool(self.data) as pool:
            n = pool.n_frames if self.n is None else self.n
            if pool.n_frames == 0:
                raise MlselError(f"{self.data} holds no frames: there is nothing to train on.")
            if not 1 <= n <= pool.n_frames:
                raise MlselError(
                    f"{self.trainer.name} wants {n} frames and {self.data} has {pool.n_frames}: "
                    f"ask for 1 to {pool.n_frames}, or select more."
                )
            data = {"name": self.dataset, "digest": pool.digest, "n_frames": n}
            references = self._references(pool)
        if self.validation is not None and self.trainer.uses_validation:
            with Pool(self.validation) as pool:
                data["validation_digest"] = pool.digest
        baseline = {} if self.baseline is None else self.baseline.identity
        made: dict[str, Any] = {
            "parameters": self.trainer.parameters,
            "data": data,
            "baseline": baseline,
            "references": references,
        }
        if self.start is not None and self.trainer.has_weights:
            made["start"] = digest((self.start / MODEL_FILE).read_bytes())
        return made | self._code

    @property
    def _code(self) -> dict[str, Any]:
        """A hash of a kind's code where that is a user's own: nobody gave it a version."""
        module = type(self.trainer).__module__
        return {"code": {module: code_digest(module)}} if is_users(self.trainer) else {}

    def _references(self, pool: Pool) -> dict[str, Any]:
        """What the energies of elements are from, and those of isolated atoms if it is these.

        They are those of the potential without a baseline, which adds nothing to an atom alone.
        """
        known = pool.element_references
        elements = {int(z) for run in pool.runs for z in pool.numbers(run)}
        if not self.trainer.uses_isolated_atoms or not elements <= known.keys():
            return {"from": self.trainer.references_from}
        return {"from": ISOLATED_ATOMS, "energies": {str(z): known[z] for z in sorted(elements)}}

    def is_done(self, *, again: bool = False) -> bool:
        """Whether the model is there, made from the same; what is stale is taken away.

        Raises
        ------
        MlselError
            If it, or what was begun of it, is made from something else, and `again` is false.
        """
        sweep(self.out)
        sweep_partials(self.out, alone=True)
        made_from = self.made_from()
        model = self._record(MODEL_FILE)
        if model.settle({**made_from, **self._files}, again=again):
            take_away(self.out / BEGUN)
            return True
        begun = self._record(BEGUN)
        # Without a record an earlier mlsel began it: its checkpoint says of what it is.
        is_mine = begun.settle(made_from, again=again) if begun.path.is_file() else not again
        if model.path.is_file() or not is_mine:
            take_away(self.out)
        return False

    def _record(self, name: str) -> Record:
        """What is there was made from; a parameter that was added since had its default."""
        known = vars(type(self.trainer)).get("__dataclass_fields__", {})
        added = {key: field.default for key, field in known.items() if field.default is not MISSING}
        defaults = {
            "baseline": {} if self.baseline is None else {"files": dict(self.baseline.files)},
            "parameters": {"beside": "", **added},
            "references": {"from": self.trainer.references_from},
            **self._code,
        }
        return Record(self.out / name, defaults=defaults)

    def differences(self) -> list[str]:
        """Return how what is there, finished or begun, was made otherwise than is asked for now."""
        for name in (MODEL_FILE, BEGUN):
            record = self._record(name)
            if record.path.is_file():
                files = self._files if name == MODEL_FILE else {}
                return record.differences({**self.made_from(), **files})
        return []

    @property
    def _files(self) -> dict[str, dict[str, str]]:
        """What the finished model's files are, where it says what they were."""
        if not (self.out / MODEL_FILE).is_file():
            return {}
        try:
            recorded = read_description(self.out).get("files")
        except MlselError:  # whoever reads the record tells
            return {}
        return {} if recorded is None else {"files": file_digests(self.out, recorded)}

    def added_differences(self) -> list[str]:
        """Return how what is added to the finished model in use is otherwise than the study says:
        `settle_added` mends it, nothing is trained for it."""
        if not (self.out / MODEL_FILE).is_file():
            return []
        found = []
        there, now = ("zbl" if has else "" for has in (read_core(self.out), self.has_core))
        if there != now:
            found.append(f'training.core ("{there}" there, "{now}" now)')
        known = read_baseline(self.out)
        if known is not None and self.baseline is not None:
            there, now = known.kspace_style, self.baseline.kspace_style
            if there != now:
                found.append(f'the baseline\'s kspace_style ("{there}" there, "{now}" now)')
        return found

    def perform(
        self, report: Callable[[Report], None], ranks: MPI.Intracomm | None = None
    ) -> TrainedModel:
        """Train, or go on training, and finish with model.json.

        Parameters
        ----------
        ranks : communicator, optional
            Those that do it together, each of which must call this; for a trainer that
            `shares_ranks`.
        """
        made_from, frames, validation = _first(ranks, self._begin)
        if self.trainer.has_weights:
            self.trainer.start = self.start
        if self.trainer.uses_isolated_atoms:
            energies = made_from["references"].get("energies", {})
            self.trainer.isolated_atoms = {int(z): e for z, e in energies.items()}
        self.trainer.on_report = lambda share, text: report(Report(share, text))
        self.trainer.ranks = ranks
        try:
            with self._failure_kept(ranks):
                model = self.trainer.fit(frames, validation, self.out)
        finally:
            self.trainer.ranks = None
        _first(ranks, lambda: self._finish(model, made_from))
        return model

    def _begin(self) -> tuple[dict[str, Any], list[Frames], list[Frames]]:
        """Return what decides the product, and the frames with the labels that are learnt."""
        from mlsel.pool.pool import Pool

        made_from = self.made_from()
        with Pool(self.data) as pool:
            frames = self._read(pool, range(made_from["data"]["n_frames"]))
        validation = []
        if self.validation is not None and self.trainer.uses_validation:
            with Pool(self.validation) as pool:
                validation = self._read(pool)
        self.out.mkdir(parents=True, exist_ok=True)
        remove(self.failure)
        if not any(self.out.glob("[!.]*")):  # else it goes on, with what an earlier mlsel left too
            Record(self.out / BEGUN).write(made_from)
        if self.baseline is not None:
            with self._failure_kept():
                self.baseline.write(self.out)
                frames, validation = (
                    [self.baseline.taken_from(part, path) for part in parts]
                    for parts, path in ((frames, self.data), (validation, self.validation))
                )
        return made_from, frames, validation

    @contextmanager
    def _failure_kept(self, ranks: MPI.Intracomm | None = None) -> Iterator[None]:
        try:
            yield
        except Stopped:
            raise
        except MlselError as error:
            if ranks is None or ranks.rank == 0:
                write_text(self.failure, f"{error}\n")
            raise

    def _finish(self, model: TrainedModel, made_from: dict[str, Any]) -> None:
        self.trainer.illustrate(self.out)
        description = describe(self.trainer, made_from["data"])
        whole: dict[str, Any] = {
            **description,
            **{key: made_from[key] for key in ("start", "code") if key in made_from},
            "baseline": made_from["baseline"],
            "references": made_from["references"],
            "result": model.facts,
            "files": file_digests(self.out, model.files),
        }
        write_json(self.out / MODEL_FILE, whole)
        take_away(self.out / BEGUN)

    def settle_added(self) -> None:
        """Write beside a finished model what is added to it in use and not learnt: the guard rail,
        or none, and the sum by which MD has the baseline's charges."""
        from mlsel.pool.pool import Pool

        if not (self.out / MODEL_FILE).is_file():
            return
        # never beside a model that was trained on what another baseline leaves
        if self.baseline is not None and (
            read_description(self.out).get("baseline") == self.baseline.identity
            and read_baseline(self.out) != self.baseline
        ):
            self.baseline.write(self.out)
        if not self.has_core:
            remove(self.out / CORE)
        elif read_core(self.out) is None:
            with Pool(self.data) as pool:
                Core.of_frames(self._read(pool, range(self.made_from()["data"]["n_frames"]))).write(
                    self.out
                )

    def _read(self, pool: Pool, frame_ids: range | None = None) -> list[Frames]:
        for label, key in self.trainer.labels.items():
            if label not in pool.fields:
                raise MlselError(
                    f"{self.trainer.name} learns the {label}, which not every frame of {pool.path} "
                    f"has (all have {', '.join(pool.fields)}): set {key} to 0, or label the frames."
                )
            if label == "atomic_energies" and teacher_of(pool):
                raise MlselError(
                    f"the atomic energies of {pool.path} are those of the model "
                    f"{teacher_of(pool)}, to be selected by and no labels: set {key} to 0."
                )
        more = [label for label in self.trainer.labels if label != "virial"]  # comes anyway
        return list(read_frames(pool, frame_ids, more=more))


def _first[T](ranks: MPI.Intracomm | None, function: Callable[[], T]) -> T:
    """Call a function on the first of some ranks, or in this process alone."""
    return function() if ranks is None else on_root(ranks, function)
