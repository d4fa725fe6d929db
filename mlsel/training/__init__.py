"""Stage 3: models from data sets, of any kind, behind one interface.

>>> from mlsel.training import load_model  # doctest: +SKIP
>>> model = load_model("study/models/random/schnet-small-e0.01")  # doctest: +SKIP
>>> model.predict(frames).forces  # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path

from mlsel.training.base import Frames, Prediction, TrainedModel, Trainer

__all__ = ["Frames", "Prediction", "TrainedModel", "Trainer", "load_model"]


def load_model(folder: str | Path) -> TrainedModel:
    """Open a trained model of any kind."""
    from mlsel.training.registry import load_model

    return load_model(folder)
