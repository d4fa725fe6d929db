"""What labels bought: the refinements, from each data set that they began from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from mlsel.evaluate.seeds import FEWEST, plus_minus
from mlsel.refine.outcome import STABLE
from mlsel.refine.table import Course, read
from mlsel.report import page
from mlsel.report.figures import REFINEMENT, figures
from mlsel.report.findings import METHOD, Findings

STABLE_MEANS = (
    "“Stable” means that all runs of a round reached their end and met nothing that the training "
    "set lacks by its bounds on distances, forces and volumes. It is no verdict: hold the last "
    "model beside the reference."
)


def refinement(folder: Path, found: Findings) -> list[str]:
    """Return the section; nothing where nothing was refined."""
    courses = read(folder)
    if not courses:
        return []
    columns = {
        METHOD: METHOD,
        "model": "model",
        "labels": "labels spent",
        "ended": "ended",
        "before": "first stable / ps",
        "after": "last stable / ps",
    }
    if any(not math.isnan(course.rmse[-1]) for course in courses):
        columns |= {"rmse before": "first RMSE / eV Å⁻¹", "rmse after": "last RMSE / eV Å⁻¹"}
    return [
        *figures(folder, found, REFINEMENT),
        page.table(columns, [_row(course) for course in courses]),
        page.paragraph(" ".join([*sentences(courses), STABLE_MEANS])),
    ]


def _row(course: Course) -> dict[str, page.Cell]:
    first, last = course.rmse[0], course.rmse[-1]
    return {
        METHOD: course.dataset,
        "model": course.model,
        "labels": course.labels[-1],
        "ended": course.ended or "goes on",
        "before": course.shortest[0],
        "after": course.shortest[-1],
        "rmse before": None if math.isnan(first) else first,
        "rmse after": None if math.isnan(last) else last,
    }


def sentences(courses: Sequence[Course]) -> list[str]:
    """Say for each method what its refinements spent, and how many held.

    >>> course = Course("random", "pair", (0, 16), (0.9, 20.0), (0.9, 20.0), (2, 0), (5, 0),
    ...                 (0.1, 0.09), (1.0, 0.9), "stable")
    >>> sentences([course])
    ['From random 1 of 1 became stable, with 16 labels (1 seed: no order of methods can be told).']
    """
    told = []
    for method in dict.fromkeys(course.method for course in courses):
        own = [course for course in courses if course.method == method and course.ended]
        if not own:
            continue
        spent = [course.labels[-1] for course in own if course.ended == STABLE]
        text = f"From {method} {len(spent)} of {len(own)} became stable"
        if spent:
            error = stdev(spent) / len(spent) ** 0.5 if len(spent) > 1 else math.nan
            text += f", with {plus_minus(mean(spent), error)} labels"
        if len(own) < FEWEST:
            few = f"{len(own)} seed{'s' if len(own) != 1 else ''}"
            text += f" ({few}: no order of methods can be told)"
        told.append(text + ".")
    return told
