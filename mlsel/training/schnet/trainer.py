"""SchNet: trained on data in memory, resumable after every epoch to the last bit."""

from __future__ import annotations

import io
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mlsel.core import stopping
from mlsel.core.errors import MlselError, Stopped
from mlsel.core.files import write_bytes, write_json
from mlsel.core.provenance import differing_keys, digest
from mlsel.study.study import TrainingSection
from mlsel.training.base import (
    Frames,
    Trainer,
    hear_nothing,
    reference_energies,
    split,
)
from mlsel.training.schnet.metrics import COLUMNS, METRICS, write_metrics
from mlsel.training.schnet.model import NETWORK, PREDICTION_BATCH, WEIGHTS, SchNetModel

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"


@dataclass
class SchNetTrainer(Trainer):
    """Trains one SchNet; see `mlsel.study.study.SchNetSection` for the parameters.

    The loss is schnetpack's: w (E − E′)² + (1 − w) |F − F′|²/3, means over configurations and
    over force components, E in eV of the whole configuration less the elements' references, or of
    an atom with `energy_per_atom`.
    """

    kind: ClassVar[str] = "schnet"
    packages: ClassVar[tuple[str, ...]] = ("torch", "schnetpack", "vesin", "numpy")
    name: str
    n_train: int | None = None
    size: str = "small"
    n_gaussians: int | None = None
    """None: as in Table 1."""
    energy_weight: float = 0.01
    validation_share: float = 0.1
    cutoff: float = 6.0
    batch_size: int = 8
    learning_rate: float = 5e-4
    max_epochs: int = 500
    patience: int = 50
    decay_factor: float = 1.0
    decay_patience: int = 20
    decay_to: float = 0.0
    activation: str = "silu"
    energy_per_atom: bool = False
    average: float = 0.0
    dtype: str = "float32"
    tf32: bool = False
    seed: int = 1
    device: str = "auto"
    tabulate: bool = True
    on_report: Callable[[float, str], None] = field(default=hear_nothing, repr=False)
    stop_after: int | None = field(default=None, repr=False)
    """End after this epoch as if killed (tests of resuming)."""

    @property
    def parameters(self) -> dict[str, Any]:
        outside = {"name", "n_train", "device", "on_report", "stop_after", "tabulate"}
        outside.add("n_gaussians")  # the architecture tells
        plain = {k: v for k, v in self.__dict__.items() if k not in outside}
        architecture = _plain(asdict(self.architecture))
        del architecture["activation"]  # it stands by itself
        return {**plain, "architecture": architecture}

    @property
    def uses_gpu(self) -> bool:
        return self.device != "cpu"

    def progress(self, out: Path) -> str:
        """Tell the epochs that are done."""
        path = out / METRICS
        if not path.is_file():
            return super().progress(out)
        n_epochs = len(path.read_text(encoding="utf-8").splitlines()) - 2
        return f"epoch {n_epochs} of at most {self.max_epochs}"

    def illustrate(self, out: Path) -> None:
        """Draw the learning curves."""
        from mlsel.training.schnet import figure as learning

        learning.draw(out, out / "learning")

    @property
    def cost(self) -> float:
        """Seconds, roughly, of one core."""
        per_frame = {"small": 0.002, "medium": 0.006, "large": 0.012}[self.size]
        return per_frame * self.max_epochs * (self.n_train or 512)

    @property
    def architecture(self) -> Any:
        from dataclasses import replace

        from mlsel.training.schnet.architecture import SIZES

        if self.size not in SIZES:
            raise MlselError(f"There is no SchNet size {self.size}: take {', '.join(SIZES)}.")
        table = SIZES[self.size]
        return replace(
            table,
            cutoff=self.cutoff,
            n_gaussians=self.n_gaussians or table.n_gaussians,
            activation=self.activation,
        )

    def fit(self, train: Sequence[Frames], validation: Sequence[Frames], out: Path) -> SchNetModel:
        """Train; an interrupted training goes on from its last epoch.

        Parameters
        ----------
        train, validation : sequences of Frames
            With energies and forces. Without held-out ones a share of `train` is taken.
        out : path
            Folder of the product.

        Raises
        ------
        MlselError
            If there are too few frames, CUDA is asked for and absent, the folder holds the
            checkpoint of another training, or the loss is no longer a number.
        Stopped
            After an epoch, if the process was asked to stop.
        """
        if not validation:
            train, validation = split(train, self.validation_share, self.seed)
        run = _Run(self, train, validation, out)
        run.resume()
        while not run.is_over:
            run.do_epoch()
            if self.stop_after is not None and run.epoch >= self.stop_after:
                break
            if stopping.asked() and not run.is_over:
                raise Stopped
        return run.finish()


def trainers(section: TrainingSection) -> list[Trainer]:
    """Return the SchNets of a study: sizes × energy weights."""
    chosen = section.schnet
    shared = {
        name: getattr(chosen, name)
        for name in SchNetTrainer.__dataclass_fields__
        if hasattr(chosen, name) and name != "n_gaussians"
    }
    return [
        SchNetTrainer(
            name=f"schnet-{size}-e{weight:g}",
            size=size,
            n_gaussians=chosen.n_gaussians.get(size),
            energy_weight=weight,
            **shared,
        )
        for size in chosen.sizes
        for weight in chosen.energy_weights
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return list(value) if isinstance(value, tuple) else value


def local_rank() -> int:
    """Return this process's number among those that the launcher started on this machine."""
    from mlsel.core.parallel import launched_rank

    for name in ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return launched_rank()


def choose_device(wanted: str, tf32: bool = False, place: int = 0) -> str:
    """Return the device to use: the GPU of this place, modulo their number, or the CPU.

    Raises
    ------
    MlselError
        If CUDA is asked for and torch sees none.
    """
    import torch

    if wanted == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        if wanted == "cuda":
            raise MlselError(
                "training.schnet.device is cuda, but torch sees no CUDA device here: "
                'set it to "cpu" or "auto", or start on a machine with a GPU and its driver.'
            )
        return "cpu"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    return f"cuda:{place % torch.cuda.device_count()}"


class _Run:
    """A training under way: network, optimiser, and what a checkpoint holds of them."""

    def __init__(
        self,
        trainer: SchNetTrainer,
        train: Sequence[Frames],
        validation: Sequence[Frames],
        out: Path,
    ) -> None:
        import torch

        from mlsel.training.schnet.graphs import Graphs
        from mlsel.training.schnet.network import Network, potential

        self.trainer, self.out = trainer, out
        self.device = choose_device(trainer.device, trainer.tf32, local_rank())
        dtype = torch.float64 if trainer.dtype == "float64" else torch.float32
        self.numbers = sorted({int(z) for part in train for z in part.numbers})
        unseen = sorted({int(z) for part in validation for z in part.numbers} - set(self.numbers))
        if unseen:
            raise MlselError(
                f"The held-out frames hold elements {unseen} (atomic numbers) that no training "
                "frame holds."
            )
        self.references = reference_energies(train)
        graphs = [
            Graphs(part, self.numbers, trainer.cutoff, dtype, self.references)
            for part in (train, validation)
        ]
        self.train, self.validation = graphs
        if not self.train.n_pairs.any():
            raise MlselError(
                f"No two atoms of the training frames are within the cutoff of {trainer.cutoff} Å."
            )
        self.identity = {
            "parameters": trainer.parameters,
            "n_train": len(self.train),
            "n_validation": len(self.validation),
            "labels": digest([_fingerprint(train), _fingerprint(validation)]),
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(trainer.seed)
            model = potential(trainer.architecture).to(dtype)
        model.to(self.device)
        tabulate = trainer.tabulate and self.device == "cpu"
        self.network = Network(model, self.numbers, tabulate=tabulate)
        self.network.adopt(*graphs)
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=trainer.learning_rate, fused=True
        )
        self.averaged = [p.detach().clone() for p in self.network.parameters()]
        self.best = self._weights()
        self.epoch, self.best_epoch, self.last_decay = 0, 0, 0
        self.best_loss = float("inf")
        self.history: list[list[float]] = []

    def _weights(self) -> dict[str, Any]:
        return {k: v.detach().clone() for k, v in self.network.model.state_dict().items()}

    @property
    def is_over(self) -> bool:
        waited = self.epoch - self.best_epoch >= self.trainer.patience
        return self.epoch >= self.trainer.max_epochs or waited

    def resume(self) -> None:
        """Go on from the checkpoint, where there is one."""
        import torch

        path = self.out / CHECKPOINT
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:
            raise MlselError(
                f"{path} is damaged ({type(error).__name__}): remove it, the training then starts "
                "anew."
            ) from None
        changed = differing_keys(state["identity"], self.identity)
        if changed:
            raise MlselError(
                f"{path} belongs to another training: {'; '.join(changed)}. Choose another folder "
                "with -o, or remove this one."
            )
        self.network.model.load_state_dict(state["weights"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.averaged = state["averaged"]
        self.best = state["best"]
        for name in ("epoch", "best_epoch", "last_decay", "best_loss", "history"):
            setattr(self, name, state[name])
        write_metrics(self.out / METRICS, self.history)  # a kill came between checkpoint and this
        if state["threads"] != torch.get_num_threads() and not self.is_over:
            log.info(
                "%s: goes on with %d threads where it had %d; sums are then rounded differently.",
                self.trainer.name,
                torch.get_num_threads(),
                state["threads"],
            )

    def do_epoch(self) -> None:
        """Train for an epoch, validate, and write the checkpoint."""
        import torch

        trainer = self.trainer
        self.epoch += 1
        order = np.random.default_rng([trainer.seed, self.epoch]).permutation(len(self.train))
        start = time.perf_counter()
        parameters = self.network.parameters()
        loss_sum = force_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        n_components = 0
        for first in range(0, len(order), trainer.batch_size):
            rows = order[first : first + trainer.batch_size]
            batch = self.train.batch(rows, self.device)
            loss, errors = self._loss(batch)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            if trainer.average:
                torch._foreach_lerp_(
                    self.averaged, [p.detach() for p in parameters], 1 - trainer.average
                )
            loss_sum = loss_sum + len(rows) * loss.detach()
            force_sum = force_sum + errors["force_squares"]
            n_components += 3 * len(batch.species)
        rate = len(order) / (time.perf_counter() - start)
        train_loss = float(loss_sum) / len(order)
        if not np.isfinite(train_loss):
            raise MlselError(
                f"{trainer.name}: the loss is no longer a number in epoch {self.epoch}: lower "
                f"training.schnet.learning_rate ({trainer.learning_rate:g} now) or look for wrong "
                "energies and forces in the data."
            )
        validation = self._validate()
        row = {
            "epoch": self.epoch,
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "train_loss": train_loss,
            "train_force_rmse": float(force_sum / n_components) ** 0.5,
            **validation,
            "rate": rate,
        }
        self.history.append([float(row[name]) for name in COLUMNS])
        if validation["validation_loss"] < self.best_loss:
            self.best_loss, self.best_epoch = validation["validation_loss"], self.epoch
            self.best = self._validated_weights()
        elif (
            trainer.decay_factor < 1
            and self.epoch - max(self.best_epoch, self.last_decay) >= trainer.decay_patience
        ):
            self.last_decay = self.epoch
            for group in self.optimiser.param_groups:
                lowered = max(trainer.decay_to, group["lr"] * trainer.decay_factor)
                group["lr"] = min(group["lr"], lowered)
        self._save()
        trainer.on_report(
            self.epoch / trainer.max_epochs,
            f"{trainer.name}: epoch {self.epoch}, "
            f"forces {1000 * validation['validation_force_rmse']:.1f} meV/Å, "
            f"energy {1000 * validation['validation_energy_rmse']:.2f} meV/atom, "
            f"{rate:.0f} configurations/s",
        )

    def _loss(self, batch: Any) -> tuple[Any, dict[str, Any]]:
        import torch

        output = self.network(batch)
        energy = torch.zeros(batch.n_frames, dtype=output.atomic.dtype, device=self.device)
        difference = energy.index_add(0, batch.frame, output.atomic) - batch.energy.to(energy)
        wrong = output.forces - batch.forces
        w = self.trainer.energy_weight
        n_atoms = torch.as_tensor(np.diff(batch.atom_start), device=self.device)
        counted = difference / n_atoms if self.trainer.energy_per_atom else difference
        loss = w * (counted**2).mean() + (1 - w) * (wrong**2).mean()
        with torch.no_grad():
            errors = {
                "energy_squares": ((difference.double() / n_atoms) ** 2).sum(),
                "energy_loss": (counted.double() ** 2).sum(),
                "force_squares": (wrong.double() ** 2).sum(),
                "force_sizes": wrong.double().abs().sum(),
            }
        return loss, errors

    def _validated_weights(self) -> dict[str, Any]:
        weights = self._weights()
        if self.trainer.average:
            names = [name for name, _ in self.network.model.named_parameters()]
            weights |= {n: a.clone() for n, a in zip(names, self.averaged, strict=True)}
        return weights

    def _validate(self) -> dict[str, float]:
        import torch

        kept = self._weights() if self.trainer.average else None
        if kept is not None:
            self.network.model.load_state_dict(self._validated_weights())
        sums: dict[str, float] = {}
        n_components = 0
        with torch.no_grad():
            self.network.freeze()
            for batch in self.validation.batches(PREDICTION_BATCH, self.device):
                for name, value in self._loss(batch)[1].items():
                    sums[name] = sums.get(name, 0.0) + float(value)
                n_components += 3 * len(batch.species)
            self.network.thaw()
        if kept is not None:
            self.network.model.load_state_dict(kept)
        n = len(self.validation)
        w = self.trainer.energy_weight
        force_loss = sums["force_squares"] / n_components
        return {
            "validation_loss": w * sums["energy_loss"] / n + (1 - w) * force_loss,
            "validation_energy_rmse": (sums["energy_squares"] / n) ** 0.5,
            "validation_force_rmse": force_loss**0.5,
            "validation_force_mae": sums["force_sizes"] / n_components,
        }

    def _save(self) -> None:
        import torch

        state = {
            "identity": self.identity,
            "weights": self.network.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "averaged": self.averaged,
            "best": self.best,
            "threads": torch.get_num_threads(),
            **{
                name: getattr(self, name)
                for name in ("epoch", "best_epoch", "last_decay", "best_loss", "history")
            },
        }
        _write(self.out / CHECKPOINT, state)
        write_metrics(self.out / METRICS, self.history)

    def finish(self) -> SchNetModel:
        """Write the weights of the best epoch, what goes with them, and the file for LAMMPS."""

        self.network.model.load_state_dict(self.best)
        error = self.network.interpolation_error(self.validation)
        write_metrics(self.out / METRICS, self.history)  # a kill may have come before the last row
        _write(self.out / WEIGHTS, {k: v.cpu() for k, v in self.best.items()})
        write_json(
            self.out / NETWORK,
            {
                "numbers": self.numbers,
                "reference_energies": {str(z): e for z, e in self.references.items()},
                "architecture": _plain(asdict(self.trainer.architecture)),
                "dtype": self.trainer.dtype,
                "best_epoch": self.best_epoch,
                "n_epochs": self.epoch,
                "interpolation_error": error,
            },
        )
        model = SchNetModel.load(self.out)
        model.export()
        return model


def _write(path: Path, state: dict[str, Any]) -> None:
    """Write what torch.save makes; made in memory, since torch crashes on a full disk."""
    import torch

    image = io.BytesIO()
    torch.save(state, image)
    write_bytes(path, image.getvalue())


def _fingerprint(frames: Sequence[Frames]) -> list[str]:
    """A hash of what is trained on."""
    return [
        digest(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))
        for arrays in ((f.numbers, f.positions, f.cell, f.energy, f.forces) for f in frames)
    ]


MODEL = SchNetModel
