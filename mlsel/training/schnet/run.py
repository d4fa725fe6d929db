"""A training under way, epoch after epoch, each kept: a killed one goes on to the last bit."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import MISSING, asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlsel.core.errors import MlselError
from mlsel.core.files import write_json
from mlsel.core.provenance import digest
from mlsel.study.schema import plain
from mlsel.training.ending import CONVERGED, ending
from mlsel.training.frames import Frames
from mlsel.training.schnet import checkpoint
from mlsel.training.schnet.device import choose_device, local_rank
from mlsel.training.schnet.graphs import Graphs
from mlsel.training.schnet.labels import check, fingerprint, references
from mlsel.training.schnet.loss import Errors
from mlsel.training.schnet.metrics import COLUMNS, METRICS, write_metrics
from mlsel.training.schnet.model import NETWORK, PREDICTION_BATCH, WEIGHTS, SchNetModel
from mlsel.training.schnet.network import Network, potential
from mlsel.training.schnet.parameters import SchNetParameters
from mlsel.training.schnet.rigidity import Rigidity

log = logging.getLogger(__name__)

KEPT = ("averaged", "best", "epoch", "best_epoch", "last_decay", "best_loss", "history")
"""What a checkpoint holds of a run, beside weights and optimiser."""


class Run:
    """A training under way: network, optimiser, and what a checkpoint holds of them."""

    def __init__(
        self,
        trainer: SchNetParameters,
        train: Sequence[Frames],
        validation: Sequence[Frames],
        out: Path,
    ) -> None:
        self.trainer, self.out = trainer, out
        self.loss = trainer.objective
        self.device = choose_device(trainer.device, trainer.tf32, local_rank())
        dtype = torch.float64 if trainer.dtype == "float64" else torch.float32
        self.numbers = sorted({int(z) for part in train for z in part.numbers})
        unseen = sorted({int(z) for part in validation for z in part.numbers} - set(self.numbers))
        if unseen:
            raise MlselError(
                f"The held-out frames hold elements {unseen} (atomic numbers) that no training "
                "frame holds."
            )
        check([*train, *validation], trainer.labels)
        self.references = references(train, "atomic_energies" in trainer.labels)
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
            "labels": digest([fingerprint(part, trainer.labels) for part in (train, validation)]),
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(trainer.seed)
            model = potential(trainer.architecture, self.numbers).to(dtype)
        if trainer.start is not None:
            self._begin_from(trainer.start, model)
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

    def _begin_from(self, folder: Path, model: torch.nn.Module) -> None:
        """Take another model's weights.

        Raises
        ------
        MlselError
            If it is of another architecture or other elements.
        """
        other = SchNetModel.load(folder)
        mine = plain(asdict(self.trainer.architecture))
        if list(other.numbers) != self.numbers or plain(other.facts["architecture"]) != mine:
            raise MlselError(
                f"{self.trainer.name} can't go on from the weights of {folder}, which is of "
                "another architecture or of other elements."
            )
        model.load_state_dict(other.model.state_dict())

    def _weights(self) -> dict[str, Any]:
        return {k: v.detach().clone() for k, v in self.network.model.state_dict().items()}

    @property
    def is_over(self) -> bool:
        waited = self.epoch - self.best_epoch >= self.trainer.patience
        return self.epoch >= self.trainer.max_epochs or waited

    def resume(self) -> None:
        """Go on from the checkpoint, where there is one."""
        path = self.out / checkpoint.NAME
        added = {
            key: field.default
            for key, field in type(self.trainer).__dataclass_fields__.items()
            if field.default is not MISSING
        }
        state = checkpoint.read(path, self.identity, {"parameters": added}, self.device)
        if state is None:
            return
        self.network.model.load_state_dict(state["weights"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name in KEPT:
            setattr(self, name, state[name])
        self._write_metrics()  # a kill came between checkpoint and this
        if state["threads"] != torch.get_num_threads() and not self.is_over:
            log.info(
                "%s: goes on with %d threads where it had %d; sums are then rounded differently.",
                self.trainer.name,
                torch.get_num_threads(),
                state["threads"],
            )

    def do_epoch(self) -> None:
        """Train for an epoch, validate, and write the checkpoint."""
        trainer = self.trainer
        self.epoch += 1
        order = np.random.default_rng([trainer.seed, self.epoch]).permutation(len(self.train))
        start = time.perf_counter()
        parameters = self.network.parameters()
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        errors = Errors()
        for first in range(0, len(order), trainer.batch_size):
            rows = order[first : first + trainer.batch_size]
            batch = self.train.batch(rows, self.device)
            loss, own = self.loss(self.network, batch)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            if trainer.average:
                torch._foreach_lerp_(
                    self.averaged, [p.detach() for p in parameters], 1 - trainer.average
                )
            loss_sum = loss_sum + len(rows) * loss.detach()
            errors += own
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
            "train_force_rmse": errors.mean("force_square") ** 0.5,
            **validation,
            "rate": rate,
        }
        self.history.append([float(row[name]) for name in self.columns])
        if validation["validation_loss"] < self.best_loss:
            self.best_loss, self.best_epoch = validation["validation_loss"], self.epoch
            self.best = self._validated_weights()
        elif self.epoch - max(self.best_epoch, self.last_decay) >= trainer.decay_patience:
            self._decay()
        self._save()
        trainer.on_report(
            self.epoch / trainer.max_epochs,
            f"{trainer.name}: epoch {self.epoch}, "
            f"forces {1000 * validation['validation_force_rmse']:.1f} meV/Å, "
            f"energy {1000 * validation['validation_energy_rmse']:.2f} meV/atom, "
            f"{rate:.0f} configurations/s",
        )

    def _decay(self) -> None:
        """Lower the learning rate."""
        if self.trainer.decay_factor == 1:
            return
        self.last_decay = self.epoch
        for group in self.optimiser.param_groups:
            lowered = max(self.trainer.decay_to, group["lr"] * self.trainer.decay_factor)
            group["lr"] = min(group["lr"], lowered)

    def _validated_weights(self) -> dict[str, Any]:
        weights = self._weights()
        if self.trainer.average:
            names = [name for name, _ in self.network.model.named_parameters()]
            weights |= {n: a.clone() for n, a in zip(names, self.averaged, strict=True)}
        return weights

    def _validate(self) -> dict[str, float]:
        kept = self._weights() if self.trainer.average else None
        if kept is not None:
            self.network.model.load_state_dict(self._validated_weights())
        errors = Errors()
        with torch.no_grad():
            self.network.freeze()
            for batch in self.validation.batches(PREDICTION_BATCH, self.device):
                errors += self.loss(self.network, batch)[1]
            self.network.thaw()
        if kept is not None:
            self.network.model.load_state_dict(kept)
        return {
            "validation_loss": self.loss.of(errors),
            "validation_force_mae": errors.mean("force_size"),
            **{
                f"validation_{name}_rmse": errors.mean(f"{name}_square") ** 0.5
                for name in self.loss.weights
            },
        }

    @property
    def columns(self) -> dict[str, str]:
        """Those of metrics.csv, with their units."""
        more = {
            f"validation_{name}_rmse": unit
            for name, unit in (("atomic_energy", "eV"), ("virial", "eV/atom"))
            if name in self.loss.weights
        }
        return {**COLUMNS, **more}

    def _write_metrics(self) -> None:
        write_metrics(self.out / METRICS, self.history, self.columns)

    def _save(self) -> None:
        state = {
            "identity": self.identity,
            "weights": self.network.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "threads": torch.get_num_threads(),
            **{name: getattr(self, name) for name in KEPT},
        }
        checkpoint.write(self.out / checkpoint.NAME, state)
        self._write_metrics()

    def finish(self) -> SchNetModel:
        """Write the weights of the best epoch, what goes with them, and the file for LAMMPS."""
        self.network.model.load_state_dict(self.best)
        error = self.network.interpolation_error(self.validation)
        self.network.freeze()
        rigidity = Rigidity.of(self.network, self.train, self.validation, self.device)
        self.network.thaw()
        self._write_metrics()  # a kill may have come before the last row
        checkpoint.write(self.out / WEIGHTS, {k: v.cpu() for k, v in self.best.items()})
        rigidity.write(self.out)
        write_json(
            self.out / NETWORK,
            {
                "numbers": self.numbers,
                "reference_energies": {str(z): e for z, e in self.references.items()},
                "architecture": plain(asdict(self.trainer.architecture)),
                "dtype": self.trainer.dtype,
                "best_epoch": self.best_epoch,
                "n_epochs": self.epoch,
                "interpolation_error": error,
            },
        )
        model = SchNetModel.load(self.out)
        model.export()
        ended = ending(self.trainer.parameters, model.facts)
        if ended != CONVERGED:
            log.warning(
                "%s: %s, %d epochs after its smallest held-out loss (patience: %d): it is not "
                "converged, raise training.schnet.max_epochs.",
                self.out,
                ended,
                self.epoch - self.best_epoch,
                self.trainer.patience,
            )
        return model
