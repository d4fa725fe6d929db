"""What seeds leave of a comparison: means with standard errors, and paired differences.

Models that differ in their seed alone (`name`, `name-s2`, `name-s3`, …) are one family, and so are
data sets (`random`, `random-s2`, …). Where a data set has several seeds of the selection, each with
models of its own seeds, the mean over the models of a data set is one value: models of one data set
know of one selection only. Of two methods the same seeds are compared one by one: what a seed does
to both cancels, and the standard error is that of the differences. One method is said to give
smaller errors than another only beyond RESOLVED standard errors, from FEWEST pairs on.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core.files import write_text
from mlsel.study.seeds import family

RESOLVED = 2.0
"""Standard errors of a difference: with five pairs, 1 in 9 comparisons of equals is beyond."""
FEWEST = 3
MEASURES = ("max", "rmse", "mae")
TABLES = ("summary.csv", "comparisons.csv")
SUMMARIZED = ("dataset", "family", "n", *MEASURES, *(f"{name}_error" for name in MEASURES))
COMPARED = ("family", "first", "second", "measure", "n", "difference", "error", "smaller")
"""Columns of these."""

Row = Mapping[str, Any]


def summary(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return mean and standard error over seeds of each family on each data set.

    Parameters
    ----------
    rows : of errors.csv
        Of one quantity, part and element.

    Returns
    -------
    list of dict
        dataset (without its seed), family, n (seeds), and of each of Max, RMSE and MAE the mean
        and <name>_error, its standard error (NaN for one seed).
    """
    found = []
    for (dataset, name), by_seed in by_family(rows).items():
        row: dict[str, Any] = {"dataset": dataset, "family": name, "n": len(by_seed)}
        for measure in MEASURES:
            mean, error = _mean([by_seed[seed][measure] for seed in sorted(by_seed)])
            row |= {measure: mean, f"{measure}_error": error}
        found.append(row)
    return found


def comparisons(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the paired differences of each family between every two data sets.

    Returns
    -------
    list of dict
        family, first, second, measure, n (pairs), difference (first less second), error (its
        standard error), smaller: the data set whose errors are smaller, "" where that is not told.
    """
    groups = by_family(rows)
    names = list(dict.fromkeys(name for _, name in groups))
    found = []
    for name in names:
        own = {dataset: group for (dataset, other), group in groups.items() if other == name}
        for first, second in combinations(own, 2):
            seeds = sorted(own[first].keys() & own[second].keys())
            for measure in MEASURES:
                each = [own[first][s][measure] - own[second][s][measure] for s in seeds]
                mean, error = _mean(each)
                is_told = len(each) >= FEWEST and abs(mean) > RESOLVED * error
                smaller = (first if mean < 0 else second) if is_told else ""
                found.append(
                    {
                        "family": name,
                        "first": first,
                        "second": second,
                        "measure": measure,
                        "n": len(each),
                        "difference": mean,
                        "error": error,
                        "smaller": smaller,
                    }
                )
    return found


def sentences(found: Sequence[Row], measure: str = "rmse") -> list[str]:
    """Return what the comparisons of one measure allow to say, a sentence a family."""
    told = []
    for name in dict.fromkeys(row["family"] for row in found):
        own = [row for row in found if row["family"] == name and row["measure"] == measure]
        pairs = max((row["n"] for row in own), default=0)
        if pairs < FEWEST:
            told.append(
                f"{name}: {pairs} seed{'s' if pairs != 1 else ''} of each data set: no order of "
                "methods can be told (selection.seeds = 5)."
            )
            continue
        clear = [row for row in own if row["smaller"]]
        each = "; ".join(_difference(row) for row in clear)
        told.append(
            f"{name}: {measure.upper()} differs beyond {RESOLVED:g} standard errors in "
            f"{len(clear)} of {len(own)} pairs of data sets{f': {each}' if each else ''}."
        )
    return told


def _difference(row: Row) -> str:
    larger = row["second"] if row["smaller"] == row["first"] else row["first"]
    size = plus_minus(abs(row["difference"]), row["error"])
    return f"{row['smaller']} below {larger} by {size}"


def plus_minus(value: float, error: float) -> str:
    """Return a number with its standard error, to the error's first digit (two if that is 1); to
    three digits where there is none.

    >>> plus_minus(0.10134, 0.00008), plus_minus(1.239, 0.0123), plus_minus(0.123456, math.nan)
    ('0.10134 ± 0.00008', '1.239 ± 0.012', '0.123')
    """
    if not 0 < error < math.inf:
        return f"{value:.3g}"
    first = math.floor(math.log10(error))
    digits = max(0, -first + (error / 10.0**first < 1.95))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def write_tables(
    rows: Sequence[Row], folder: Path, more: Mapping[str, Sequence[Row]] | None = None
) -> list[Path]:
    """Write summary.csv and comparisons.csv; return them.

    Parameters
    ----------
    rows : of errors.csv
        Of one quantity, part and element.
    more : by name
        Rows of other quantities: summary.csv has their RMSE as <name>_rmse, where there are any.
    """
    made, summed = [], summary(rows)
    for name, others in (more or {}).items():
        known = {(row["dataset"], row["family"]): row for row in summary(others)}
        for row in summed if known else ():
            found = known.get((row["dataset"], row["family"]), {})
            for key in ("rmse", "rmse_error"):
                row[f"{name}_{key}"] = found.get(key, math.nan)
    for name, table in zip(TABLES, (summed, comparisons(rows)), strict=True):
        text = io.StringIO()
        if table:
            writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(
                {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
                for row in table
            )
        made.append(folder / name)
        write_text(made[-1], text.getvalue())
    return made


def by_family(rows: Iterable[Row]) -> dict[tuple[str, str], dict[int, dict[str, float]]]:
    """Return each measure by data set and family (both without seeds), and by seed.

    The seed is the data set's where it has several, else the model's.
    """
    groups: dict[tuple[str, str], dict[tuple[int, int], dict[str, float]]] = {}
    selections: dict[str, set[int]] = {}
    for row in rows:
        dataset, selection = family(str(row["dataset"]))
        name, seed = family(str(row["model"]))
        values = {measure: float(row[measure]) for measure in MEASURES}
        groups.setdefault((dataset, name), {})[selection, seed] = values
        selections.setdefault(name, set()).add(selection)
    found: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for (dataset, name), each in groups.items():
        by_selection = len(selections[name]) > 1
        own = found.setdefault((dataset, name), {})
        for number in sorted({pair[not by_selection] for pair in each}):
            same = [values for pair, values in each.items() if pair[not by_selection] == number]
            own[number] = {m: float(np.mean([values[m] for values in same])) for m in MEASURES}
    return found


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and its standard error, NaN where there is none."""
    if not values:
        return math.nan, math.nan
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return float(np.mean(values)), error
