"""How far a run leaves the training data: where the models of a data set disagree.

References
----------
C. Schran, K. Brezina, O. Marsalek, J. Chem. Phys. 153, 104105 (2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core.arrays import FloatArray
from mlsel.core.record import read_json
from mlsel.study.folder import MODEL

if TYPE_CHECKING:
    from mlsel.training import Frames, TrainedModel

N_KNOWN = 64
"""Training frames on which the committee's usual disagreement is measured."""


@dataclass(frozen=True)
class Committee:
    """Models of one kind that were trained on the same data set.

    The disagreement on atom i is √((1/M) Σ_m |F_mi − F̄_i|²), F̄_i the mean over the M models. An
    atom's environment counts as outside of the training data if it is above `limit`, the largest
    disagreement on the first 64 frames of the training set.
    """

    models: Sequence[TrainedModel]
    limit: float

    @classmethod
    def of(cls, folders: Sequence[Path], data: Path) -> Committee:
        """Open the models and measure the limit."""
        from mlsel.pool.pool import Pool
        from mlsel.training import load_model
        from mlsel.training.frames import read_frames

        models = [load_model(folder) for folder in folders]
        with Pool(data) as pool:
            known = list(read_frames(pool, range(min(N_KNOWN, len(pool)))))
        return cls(models, max(float(disagreement(models, frames).max()) for frames in known))

    def summary(self, frames: Frames) -> FloatArray:
        """Return mean and largest disagreement (eV/Å) and the share outside, (n_frames, 3)."""
        apart = disagreement(self.models, frames)
        # NaN, where a model can't say anything any more, is outside.
        outside = (~(apart <= self.limit)).mean(axis=1)
        return np.column_stack([apart.mean(axis=1), apart.max(axis=1), outside])


def disagreement(models: Sequence[TrainedModel], frames: Frames) -> FloatArray:
    """Return the disagreement of models' forces on each atom, (n_frames, N), eV/Å."""
    forces = np.stack([model.predict(frames).forces for model in models]).astype(np.float64)
    apart = forces - forces.mean(axis=0)
    result: FloatArray = np.sqrt(np.einsum("mfnd,mfnd->fn", apart, apart) / len(models))
    return result


def committee_of(model: Path) -> tuple[Path, ...]:
    """Return the folders of all models of a model's kind and data set, its own among them; none
    where there is no other."""
    others = sorted(path.parent for path in model.parent.glob("*/model.json"))
    kind = read_json(model / MODEL)["kind"]
    found = tuple(folder for folder in others if read_json(folder / MODEL)["kind"] == kind)
    return found if len(found) > 1 else ()


def not_watched(model: Path, kind: str) -> str:
    """Say why a model has no committee."""
    return (
        f"validation.watch: {model.parent.name}/{model.name} is the only {kind} trained on "
        f"{model.parent.name}, and a committee needs two or more: how far its run leaves the "
        "training data is not told (another size, weight or sigma makes others)"
    )
