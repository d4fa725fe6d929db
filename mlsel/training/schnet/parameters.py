"""What decides a SchNet beside its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

from mlsel.core.errors import MlselError
from mlsel.study.schema import plain
from mlsel.training.base import Trainer, hear_nothing
from mlsel.training.schnet.architecture import SIZES, Architecture
from mlsel.training.schnet.loss import Loss


@dataclass
class SchNetParameters(Trainer):
    """A SchNet to be trained; see `mlsel.study.sections.training.SchNetSection` for the parameters.

    The loss is schnetpack's: w (E − E′)² + (1 − w) |F − F′|²/3, means over configurations and
    over force components, E in eV of the whole configuration less the elements' references;
    `mlsel.training.schnet.loss` has what else it can be.
    """

    kind: ClassVar[str] = "schnet"
    has_weights: ClassVar[bool] = True
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
    output_per_element: bool = False
    energy_per_atom: bool = False
    atomic_energy_weight: float = 0.0
    stress_weight: float = 0.0
    loss: str = "squared"
    huber_delta: float = 0.1
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
        outside = {"name", "n_train", "device", "on_report", "stop_after", "tabulate", "start"}
        outside.add("n_gaussians")  # the architecture tells
        own = {k: v for k, v in self.__dict__.items() if k not in outside}
        architecture = plain(asdict(self.architecture))
        for name in ("activation", "output_per_element"):  # they stand by themselves
            del architecture[name]
        return {**own, "architecture": architecture}

    @property
    def labels(self) -> Mapping[str, str]:
        keys = {"atomic_energies": "atomic_energy_weight", "virial": "stress_weight"}
        return {
            label: f"training.schnet.{key}" for label, key in keys.items() if getattr(self, key)
        }

    @property
    def objective(self) -> Loss:
        return Loss(
            self.energy_weight,
            self.energy_per_atom,
            self.atomic_energy_weight,
            self.stress_weight,
            self.huber_delta if self.loss == "huber" else None,
        )

    @property
    def architecture(self) -> Architecture:
        if self.size not in SIZES:
            raise MlselError(f"There is no SchNet size {self.size}: take {', '.join(SIZES)}.")
        table = SIZES[self.size]
        return replace(
            table,
            cutoff=self.cutoff,
            n_gaussians=self.n_gaussians or table.n_gaussians,
            activation=self.activation,
            output_per_element=self.output_per_element,
        )
