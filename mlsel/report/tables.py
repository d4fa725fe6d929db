"""Tables of the page: errors with their errors, data sets, models."""

from __future__ import annotations

import math

from mlsel.evaluate.statistics import ALL, ATOMIC_QUANTITY, ENERGY_QUANTITY, STRESS_QUANTITY
from mlsel.evaluate.tables import of_components
from mlsel.report import page
from mlsel.report.answer import comparisons_made
from mlsel.report.figures import mean_of
from mlsel.report.findings import METHOD, Findings

TEST_SET = (
    "The test set shares no frame with any training or held-out set: the rarest frames, which a "
    "method that looks for them took first, are not in it, so that errors there are those on what "
    "was left."
)
ATOMIC = (
    "Errors of atomic energies are told but for a constant of each element, which neither forces "
    "nor the total energy of one composition show."
)


def errors(found: Findings) -> list[str]:
    """Return the section of errors."""
    rows = _models(found)
    if not rows:
        return [page.heading("Errors"), page.paragraph("No errors were measured.")]
    columns = {METHOD: METHOD, "model": "model", "rmse": "RMSE / eV Å⁻¹"}
    heads = {
        "q9999": "99.99 % / eV Å⁻¹",
        "max": "max / eV Å⁻¹",
        "mae": "MAE / eV Å⁻¹",
        "energy": "energy / meV/atom",
        "atomic": "atomic energies / meV",
        "stress": "stress / GPa",
        "floor": "against the pair potential",
        "ended": "training",
    }
    columns |= {k: head for k, head in heads.items() if any(r.get(k) is not None for r in rows)}
    has_atomic = "atomic" in columns
    said = (
        "Of force components, on the whole test set: RMSE, what one error in 10,000 exceeds, "
        "largest and mean error; of the other quantities the RMSE. A model that loses to the pair "
        "potential of the same data set is not worth its time. "
    )
    parts = [page.heading("Errors"), page.paragraph(said + comparisons_made(found))]
    if any(int(row["n"]) > 1 for row in found.summary):
        parts += [_means(found), page.folded("Each model", page.table(columns, rows))]
    else:
        parts.append(page.table(columns, rows))
    by_part = _by_part(found)
    if by_part:
        parts.append(by_part)
    told = [*found.doubts] or [TEST_SET]
    return [*parts, page.paragraph(" ".join([*told, *([ATOMIC] if has_atomic else [])]))]


def _means(found: Findings) -> str:
    """Means over seeds with their standard errors."""
    rows: list[dict[str, page.Cell]] = [
        {
            METHOD: row["dataset"],
            "model": row["family"],
            **{
                key: page.Shown(float(row[key]), mean_of(row, key))
                for key in ("rmse", "max", "mae")
            },
            "n": int(row["n"]),
        }
        for row in found.summary
    ]
    columns = {
        METHOD: METHOD, "model": "model", "rmse": "mean RMSE / eV Å⁻¹", "max": "mean max",
        "mae": "mean MAE", "n": "seeds",
    }  # fmt: skip
    return page.table(columns, rows)


def _models(found: Findings) -> list[dict[str, page.Cell]]:
    """A row a model: errors of force components, all elements, on the whole test set."""
    rows: list[dict[str, page.Cell]] = []
    others = {
        key: _rmse(found, quantity, factor)
        for key, quantity, factor in (
            ("energy", ENERGY_QUANTITY, 1000.0),
            ("atomic", ATOMIC_QUANTITY, 1000.0),
            ("stress", STRESS_QUANTITY, 1.0),
        )
    }
    components = of_components(found.errors)
    floors: dict[str, float] = {}
    for row in components:
        if row["kind"] == "pair":
            rmse = float(row["rmse"])
            floors[row["dataset"]] = min(rmse, floors.get(row["dataset"], rmse))
    for row in components:
        title = row["dataset"], row["model"]
        made: dict[str, page.Cell] = {METHOD: row["dataset"], "model": row["model"]}
        made |= {key: float(row[key]) for key in ("rmse", "max", "mae")}
        high = float(row.get("q9999") or "nan")
        if not math.isnan(high):
            made["q9999"] = page.Shown(high, mean_of(row, "q9999"))
        made |= {key: known.get(title) for key, known in others.items()}
        floor = floors.get(row["dataset"])
        if floor is not None and row["kind"] != "pair":
            made["floor"] = "▲ loses" if float(row["rmse"]) > floor else "better"
        if title in found.not_converged:
            made["ended"] = f"▲ {found.not_converged[title]}: not converged"
        rows.append(made)
    return rows


def _rmse(found: Findings, quantity: str, factor: float) -> dict[tuple[str, str], float]:
    """RMSE of a quantity on the whole test set, by data set and model."""
    return {
        (row["dataset"], row["model"]): factor * float(row["rmse"])
        for row in found.errors
        if (row["part"], row["element"], row["quantity"]) == (ALL, ALL, quantity)
    }


def _by_part(found: Findings) -> str:
    """Errors of each part of the test set and each element: means over models, folded."""
    own: dict[tuple[str, str], dict[str, list[float]]] = {}
    of_all = of_components(found.errors)
    if not of_all:
        return ""
    quantity = of_all[0]["quantity"]
    kinds = list(dict.fromkeys(row["kind"] for row in of_all))
    for row in found.errors:
        if row["quantity"] == quantity and ALL in (row["part"], row["element"]):
            value = float(row["rmse"])
            if not math.isnan(value):
                key = row["part"], row["element"]
                own.setdefault(key, {}).setdefault(row["kind"], []).append(value)
    if len(own) < 2:
        return ""
    rows: list[dict[str, page.Cell]] = [
        {
            "part": part if part != ALL else "whole test set",
            "element": element,
            **{kind: sum(v) / len(v) for kind, v in by_kind.items()},
        }
        for (part, element), by_kind in own.items()
    ]
    columns = {"part": "part of the test set", "element": "element"}
    columns |= {kind: f"{kind} / eV Å⁻¹" for kind in kinds}
    said = page.paragraph(
        "RMSE of force components, the mean over all data sets and models of a kind: where errors "
        "are made, not which data set is better."
    )
    return page.folded(
        "By melt and crystal, state point and element", said + page.table(columns, rows)
    )


def data_sets(found: Findings) -> list[str]:
    """Return the sections of data sets and models."""
    parts: list[str] = []
    if found.data:
        columns = {
            METHOD: METHOD,
            "frames": "frames",
            "energy low": "E/N from / eV",
            "energy high": "to",
            "atomic_energies low": "ε from / eV",
            "atomic_energies high": "to",
            "forces high": "|F| to / eV Å⁻¹",
        }
        parts += [page.heading("Data sets"), page.table(columns, found.data)]
    if found.overlaps:
        columns = {
            "first": METHOD,
            "second": "and",
            "shared": "frames shared",
            "chance": "by chance",
        }
        parts += [
            page.paragraph(
                "Data sets that share more frames than chance would give (n₁·n₂/N) differ in fewer "
                "than their names say; with selection.streams = “common” methods draw in one "
                "random order."
            ),
            page.table(columns, found.overlaps),
        ]
    if found.models:
        columns = {
            METHOD: METHOD,
            "model": "model",
            "frames": "frames",
            "cutoff": "cutoff / Å",
            "epochs": "epochs",
            "ended": "training",
            "seed": "seed",
        }
        parts += [page.heading("Models"), page.table(columns, found.models)]
    return parts
