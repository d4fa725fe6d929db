"""errors.csv and worst.csv: rows of one model, and all as a table for a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlsel.core.arrays import IntArray
from mlsel.evaluate.measurement import read_errors, read_quantiles
from mlsel.evaluate.models import Entry
from mlsel.evaluate.statistics import (
    ALL,
    ATOMIC_QUANTITY,
    ENERGY_QUANTITY,
    FORCE_QUANTITIES,
    STRESS_QUANTITY,
    FrameErrors,
    Summary,
)
from mlsel.study.folder import UNSEEN

N_WORST = 10
UNITS = {
    **dict.fromkeys(FORCE_QUANTITIES, "eV/Å"),
    ENERGY_QUANTITY: "eV/atom",
    ATOMIC_QUANTITY: "eV",
    STRESS_QUANTITY: "GPa",
}
COLUMNS = ("dataset", "model", "kind", "part", "element", "quantity", "unit", "n", "max", "rmse",
           "mae", "q9999", "q9999_error")  # fmt: skip
COMPONENT = next(iter(FORCE_QUANTITIES))


def rows_of(entry: Entry, kind: str, parts: Mapping[str, IntArray]) -> list[dict[str, Any]]:
    """Return the rows of errors.csv for one model: all frames but unseen runs', then each part."""
    from ase.data import chemical_symbols

    errors, elements = read_errors(entry.product)
    quantiles = read_quantiles(entry.product)
    seen = ~np.isin(errors.frame_id, parts.get(UNSEEN, np.empty(0, np.int64)))
    whole = errors.take(seen)
    shifts = whole.atomic_shifts
    made = []

    def add(part: str, element: str, quantity: str, summary: Summary) -> None:
        key = (entry.dataset, entry.name, kind, part, element, quantity, UNITS[quantity])
        values = (summary.n, summary.max, summary.rmse, summary.mae)
        high = quantiles.get((part, element)) if quantity == COMPONENT else None
        made.append(
            dict(zip(COLUMNS, (*key, *values, *(high or (np.nan, np.nan))), strict=True))
        )  # fmt: skip

    for part, frames in {ALL: None, **parts}.items():
        chosen = whole if frames is None else errors.take(np.isin(errors.frame_id, frames))
        for quantity in FORCE_QUANTITIES:
            add(part, ALL, quantity, chosen.forces(quantity))
            for s, z in enumerate(elements):
                add(part, chemical_symbols[z], quantity, chosen.forces(quantity, s))
        add(part, ALL, ENERGY_QUANTITY, chosen.energies())
        stresses = chosen.stresses()
        if stresses.n:
            add(part, ALL, STRESS_QUANTITY, stresses)
        if not np.isnan(shifts).all():
            add(part, ALL, ATOMIC_QUANTITY, chosen.atomic(shifts))
            for s, z in enumerate(elements):
                add(part, chemical_symbols[z], ATOMIC_QUANTITY, chosen.atomic(shifts, s))
    return made


def worst_of(
    entry: Entry, methods: Mapping[str, IntArray], sources: Sequence[Any]
) -> list[dict[str, Any]]:
    """Return the rows of worst.csv for one model.

    Parameters
    ----------
    methods : frames of each method's part
    sources : source_run and source_frame of every frame of the test set, None where not known
    """
    errors: FrameErrors = read_errors(entry.product)[0]
    made = []
    for rank, row in enumerate(errors.worst(N_WORST), 1):
        frame = int(errors.frame_id[row])
        part = next((name for name, frames in methods.items() if frame in frames), "")
        run, source = (None if s is None else int(s[frame]) for s in sources)
        made.append(
            {
                "dataset": entry.dataset,
                "model": entry.name,
                "rank": rank,
                "frame_id": frame,
                "part": part,
                "source_run": run,
                "source_frame": source,
                "atom": int(errors.worst_atom[row]),
                "force_vector_error_eV_per_A": float(errors.largest[row, :, 2].max()),
                "energy_error_eV_per_atom": float(errors.energy[row]),
            }
        )
    return made


def of_components(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of force components, all elements, on the whole test set."""
    wanted = (ALL, ALL, COMPONENT)
    return [row for row in rows if (row["part"], row["element"], row["quantity"]) == wanted]


def as_csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV text; what is not known is nan."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = [row[column] for column in columns]
        writer.writerow([f"{cell:.8g}" if isinstance(cell, float) else cell for cell in cells])
    return out.getvalue()


_FURTHER = (
    (ENERGY_QUANTITY, "energy", "meV/atom", 1000, ".2f"),
    (ATOMIC_QUANTITY, "atomic", "meV", 1000, ".1f"),
    (STRESS_QUANTITY, "stress", "GPa", 1, ".3f"),
)
"""Quantities whose RMSE stands beside the forces': head, unit, factor and digits."""


def table(
    rows: Sequence[Mapping[str, Any]], notes: Mapping[tuple[str, str], str] | None = None
) -> str:
    """Return the errors on the whole test set as a table for a terminal, with a note on models."""
    whole = [row for row in rows if row["part"] == ALL and row["element"] == ALL]
    further = [f for f in _FURTHER if any(row["quantity"] == f[0] for row in whole)]
    known = {(row["dataset"], row["model"], row["quantity"]): row["rmse"] for row in whole}
    head = f"{'data set':18} {'model':22} {'Max':>8} {'99.99 %':>13} {'RMSE':>8} {'MAE':>8}"
    units = f"{'':18} {'':22} {'force components, meV/Å':>40}"
    lines = [head + "".join(f" {f[1]:>9}" for f in further)]
    lines.append(units + "".join(f" {f[2]:>9}" for f in further))
    components = of_components(rows)
    floors = {row["dataset"]: row["rmse"] for row in components if row["kind"] == "pair"}
    for row in components:
        loses = row["rmse"] > floors.get(row["dataset"], float("inf"))
        line = f"{row['dataset']:18} {row['model']:22} {1000 * row['max']:8.1f}"
        high, error = 1000 * row["q9999"], 1000 * row["q9999_error"]
        line += f" {'–' if np.isnan(high) else f'{high:.0f} ± {error:.0f}':>13}"
        line += f" {1000 * row['rmse']:8.1f} {1000 * row['mae']:8.1f}"
        for quantity, _, _, factor, digits in further:
            value = known.get((row["dataset"], row["model"], quantity))
            line += f" {'–' if value is None else format(factor * value, digits):>9}"
        said = ["loses to the pair potential"] if loses else []
        said += [text for text in [(notes or {}).get((row["dataset"], row["model"]), "")] if text]
        lines.append("  ".join([line, "; ".join(said)]).rstrip())
    return "\n".join(lines)
