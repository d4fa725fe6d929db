"""Stage 3: models from data sets, of any kind, behind one interface.

>>> from mlsel.training import load_model  # doctest: +SKIP
>>> model = load_model("study/models/random/schnet-small-e0.01")  # doctest: +SKIP
>>> model.predict(frames).forces  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlsel.training.base import Prediction, TrainedModel, Trainer
    from mlsel.training.frames import Frames

__all__ = ["Frames", "Prediction", "TrainedModel", "Trainer", "load_model"]


def load_model(folder: str | Path) -> TrainedModel:
    """Open a trained model of any kind."""
    from mlsel.training.registry import load_model

    return load_model(folder)


if not TYPE_CHECKING:  # else mypy would take any name for one of ours

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module 'mlsel.training' has no attribute '{name}'")
        value = globals()[name] = getattr(import_module("mlsel.training.base"), name)
        return value
