"""metrics.csv: what each epoch of a training came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core.files import write_text

METRICS = "metrics.csv"
COLUMNS = {
    "epoch": "",
    "learning_rate": "",
    "train_loss": "",
    "train_force_rmse": "eV/Å",
    "validation_loss": "",
    "validation_energy_rmse": "eV/atom",
    "validation_force_rmse": "eV/Å",
    "validation_force_mae": "eV/Å",
    "rate": "configurations/s",
}


def write_metrics(
    path: Path, history: Sequence[Sequence[float]], columns: Mapping[str, str] = COLUMNS
) -> None:
    """Write the history as CSV: a row of names, a row of units, a row an epoch."""
    lines = [",".join(columns), ",".join(columns.values())]
    lines += [",".join([f"{row[0]:.0f}", *(f"{x:.8g}" for x in row[1:])]) for row in history]
    write_text(path, "\n".join(lines) + "\n")


def read_metrics(path: Path) -> dict[str, Any]:
    """Return the columns of a metrics file, float64 (n_epochs)."""
    lines = path.read_text(encoding="utf-8").splitlines()
    values = np.array([[float(x) for x in line.split(",")] for line in lines[2:]])
    return dict(zip(lines[0].split(","), values.reshape(len(lines) - 2, -1).T, strict=True))
