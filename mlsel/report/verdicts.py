"""The verdicts: a row each, and under it why, in numbers, and what was not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsel.report import page
from mlsel.report.findings import Findings

NUMBERS = {
    "rdf": "Δg(r)",
    "peak_position": "main peak / Å",
    "peak_height": "its height / %",
    "coordination": "neighbours / %",
    "inner_weight": "far too near",
    "density": "density / %",
    "energy": "energy / meV/atom",
    "diffusion": "diffusion / %",
}
"""Criteria of the verdict, and their heads."""


def verdicts(found: Findings) -> list[str]:
    """Return the section."""
    if not found.validation:
        return [page.heading("Verdicts"), page.paragraph(found.no_verdicts)]
    columns = {
        "name": "potential",
        "word": "verdict",
        "stable_time": "stable / ps",
        "nve_drift": "NVE drift",
    }
    rows = [_row(verdict, found.validation["speeds"]) for verdict in found.validation["verdicts"]]
    return [
        page.heading("Verdicts"),
        page.paragraph(
            "NVT from the same snapshot of the reference; NVE drift in meV/atom/ps. Under each "
            "potential why; then its differences from the reference, where they tell most, and in "
            "brackets how sure they are, in standard deviations: what is larger than its tolerance "
            f"and surer than {found.validation['sigmas']:g} σ differs. The longer a run, the "
            "surer: compare sizes between runs of other lengths, not σ."
        ),
        page.table_with_details(columns, rows),
        page.folded(
            "What the numbers mean", page.definitions(found.validation.get("definitions", {}))
        ),
        page.folded("Tolerances", page.definitions(found.validation["tolerances"])),
    ]


def _row(
    verdict: Mapping[str, Any], speeds: Mapping[str, Any]
) -> tuple[Mapping[str, page.Cell], str]:
    """A potential's row, and what stands under it."""
    numbers = verdict["numbers"]
    row: dict[str, page.Cell] = {
        "name": verdict["name"],
        "word": verdict["word"],
        "stable_time": verdict["stable_time"],
        "nve_drift": _number(numbers.get("nve_drift")),
    }
    shown: dict[str, page.Cell] = {
        head: _number(numbers.get(name)) for name, head in NUMBERS.items()
    }
    shown["ps averaged"] = verdict["time"]
    if verdict["outside"] is not None:
        shown["share unlike training"] = verdict["outside"]
    speed = speeds.get(verdict["name"], {}).get("ns_per_day")
    if speed is not None:
        shown["ns/day"] = float(speed)
    details = [
        page.listed(verdict["reasons"] or ["no difference was seen"]),
        page.chips(shown),
    ]
    if verdict["unseen"]:
        what = f"{len(verdict['unseen'])} not measured or not seen"
        details.append(page.folded(what, page.listed(verdict["unseen"])))
    return row, "".join(details)


def _number(one: Mapping[str, Any] | None) -> page.Cell:
    """A difference and how sure it is."""
    if one is None or one["size"] is None:
        return None
    sigmas = "" if one["sigmas"] is None else f" ({one['sigmas']:.1f} σ)"
    return page.Shown(one["size"], f"{one['size']:+.2g}".replace("-", "−", 1) + sigmas)
