"""SchNet: trained on data in memory, resumable after every epoch to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlsel.core import stopping
from mlsel.core.errors import Stopped
from mlsel.study.sections.training import TrainingSection
from mlsel.training.base import Trainer
from mlsel.training.frames import LEAST_SQUARES, Frames, split
from mlsel.training.schnet.metrics import METRICS
from mlsel.training.schnet.model import SchNetModel
from mlsel.training.schnet.parameters import SchNetParameters

USUAL_EPOCHS = 1000
ATOMIC_ENERGIES = "means of atomic energies"


@dataclass
class SchNetTrainer(SchNetParameters):
    """Trains one SchNet."""

    @property
    def uses_gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def references_from(self) -> str:
        # The network does not vanish for an atom alone, so its references need not be that's.
        return ATOMIC_ENERGIES if "atomic_energies" in self.labels else LEAST_SQUARES

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
        n_epochs = min(self.max_epochs, USUAL_EPOCHS)  # beyond it patience ends it
        return per_frame * n_epochs * (self.n_train or 512)

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
        from mlsel.training.schnet.run import Run

        if not validation:
            train, validation = split(train, self.validation_share, self.seed)
        run = Run(self, train, validation, out)
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


MODEL = SchNetModel
