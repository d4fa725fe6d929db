"""Figures: `mlsel figure NAME …`, one module each."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from mlsel.core.errors import MlselError, nearest

FIGURES = {
    "pool": ("mlsel.pool.figure", "state points and distributions of a pool"),
    "distributions": ("mlsel.selection.figure", "what data sets hold: figure 1 and its table"),
    "errors": ("mlsel.evaluate.figure", "Figure 2: force errors by selection method"),
    "parity": ("mlsel.evaluate.parity", "predicted against reference forces of a model"),
    "learning": ("mlsel.training.schnet.figure", "a model's errors against the epoch"),
    "learning-curve": (
        "mlsel.evaluate.learning_figure",
        "errors and stable time against the number of configurations",
    ),
    "refine": ("mlsel.refine.figure", "stable time and error against the labels spent"),
    "rdf": ("mlsel.validate.figure", "Figure 3: RDFs of MD with trained potentials"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Pass the arguments on to the figure's module."""
    words = list(argv or [])
    if not words or words[0] in ("--help", "-h"):
        print("usage: mlsel figure NAME …\n")
        print("\n".join(f"  {name:14} {text}" for name, (_, text) in FIGURES.items()))
        return 0
    name, *rest = words
    if name not in FIGURES:
        raise MlselError(
            f"there is no figure {name}{nearest(name, FIGURES)}: the figures are "
            f"{', '.join(FIGURES)}."
        )
    code: int = import_module(FIGURES[name][0]).main(rest)
    return code
