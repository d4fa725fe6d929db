"""The verdicts: a row each, and under it why, in numbers, and what was not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlsel.report import page
from mlsel.report.findings import Findings
from mlsel.validate.verdict import STABLE

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
_NOTHING = {False: "no difference was seen", True: "it stayed within its bounds"}


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
        *(page.paragraph(f"▲ {sentence}") for sentence in found.md_doubts),
        page.paragraph(_held_against(found.validation)),
        page.table_with_details(columns, rows),
        *_main_peaks(found.validation),
        page.folded(
            "What the numbers mean", page.definitions(found.validation.get("definitions", {}))
        ),
        page.folded("Tolerances", page.definitions(found.validation["tolerances"])),
    ]


def _held_against(validation: Mapping[str, Any]) -> str:
    """What the verdicts were held against, and how to read them."""
    held = validation.get("held_against", {"kind": "lammps", "text": ""})
    start = "the same snapshot of the reference"
    if held["kind"] != "lammps":
        start = "the same snapshot"
    against = f" Held against {held['text']}." if held["text"] else ""
    how = (
        f"NVT from {start}, then NVE; its drift in meV/atom/ps.{against} Under each potential why; "
        "then "
    )
    sure = (
        "and in brackets how sure it is, in standard deviations: what is larger than its tolerance "
        f"and surer than {validation['sigmas']:g} σ counts. "
    )
    if held["kind"] == "none":
        return f"{how}what was measured, {sure}"
    return (
        f"{how}its differences from the reference, where they tell most, {sure}The longer a run, "
        "the surer: compare sizes between runs of other lengths, not σ."
    )


def _main_peaks(validation: Mapping[str, Any]) -> list[str]:
    """Where the RDFs have their main peaks, where nothing else says what the structure is like."""
    if validation.get("held_against", {}).get("kind") != "none":
        return []
    rows: list[dict[str, page.Cell]] = []
    for name, pairs in validation.get("structure", {}).items():
        row: dict[str, page.Cell] = {"name": name}
        for pair, (position, height) in pairs.items():
            if position is not None and height is not None:
                row[pair] = page.Shown(position, f"{position:.2f} Å, {height:.2f}")
        rows.append(row)
    heads = list(dict.fromkeys(key for row in rows for key in row if key != "name"))
    if not heads:
        return []
    columns = {"name": "potential", **{pair: f"g(r) {pair}" for pair in heads}}
    return [
        page.paragraph("Main peaks of the radial distribution functions: position and height."),
        page.table(columns, rows),
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
        head: _number(numbers[name]) for name, head in NUMBERS.items() if name in numbers
    }
    shown["ps averaged"] = verdict["time"]
    if verdict["outside"] is not None:
        shown["share unlike training"] = verdict["outside"]
    speed = speeds.get(verdict["name"], {}).get("ns_per_day")
    if speed is not None:
        shown["ns/day"] = float(speed)
    details = [
        page.listed(verdict["reasons"] or [_NOTHING[verdict["word"] == STABLE]]),
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
