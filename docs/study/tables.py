"""The small tables of this page, from the folders of the study.

    python docs/study/tables.py FOLDER      of `mlsel run docs/study/study.toml -o FOLDER`

Writes docs/study/data/*.csv: errors.csv and summary.csv (force errors over all test frames, one row
a model and one a family), comparisons.csv (paired differences between methods), md.csv (what 1000
ions did), probe.csv (two ions pushed together) and rdf.csv of FOLDER. The study's parts, in folders
of their names in it, have tables of the same names with the part's before them: own-errors.csv.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.evaluate.seeds import MEASURES, SUMMARIZED, comparisons, summary
from mlsel.study.parts import members
from mlsel.study.seeds import family
from mlsel.study.study import load_study

DATA = Path(__file__).parent / "data"
BASELINES = ("zbl", "charges")
"""Names in study.toml's training.baselines; a model without one is called bare."""
ERRORS, VERDICTS = "evaluation/errors.csv", "validation/verdicts.csv"
NUMBERS = ("n", *MEASURES, "q9999", "q9999_error")
Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Return the rows of a CSV file; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write a table into data/, numbers to five digits."""
    with (DATA / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            cells = [row.get(column, "") for column in columns]
            writer.writerow([f"{c:.5g}" if isinstance(c, float) else c for c in cells])


def errors_of(folder: Path, quantity: str, part: str = "all") -> list[Row]:
    """Return the rows of errors.csv of one quantity, over a part of the test frames."""
    found = []
    for row in read(folder / "evaluation" / "errors.csv"):
        if (row["part"], row["element"], row["quantity"]) == (part, "all", quantity):
            found.append(row | {name: float(row[name]) for name in NUMBERS})
    return found


def of_seed(name: str) -> Row:
    base, seed = family(name)
    return {"method": base, "seed": seed}


def split(model: str) -> tuple[str, str]:
    """Return a model's name without seed and baseline, and its baseline."""
    base, _ = family(model)
    label = next((label for label in BASELINES if base.endswith(f"-{label}")), "")
    return base.removesuffix(f"-{label}"), label or "bare"


def by_potential(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return rows by what their models were given; models under their names without it."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        model, potential = split(row["model"])
        found.setdefault(potential, []).append(row | {"model": model})
    return found


def error_tables(root: Path, prefix: str = "") -> None:
    """Write errors.csv, summary.csv and comparisons.csv, under names with that prefix."""
    rows: list[Row] = []
    means: list[Row] = []
    differences: list[Row] = []
    quantities = {
        "force": by_potential(errors_of(root, "force_component")),
        "force, random frames": by_potential(errors_of(root, "force_component", "random")),
        "atomic energy": by_potential(errors_of(root, "atomic_energy")),
        "energy": by_potential(errors_of(root, "energy_per_atom")),
    }
    for name, forces in quantities["force"].items():
        atomic, energy = (
            {(r["dataset"], r["model"]): r["rmse"] for r in quantities[which].get(name, [])}
            for which in ("atomic energy", "energy")
        )
        for row in forces:
            key = row["dataset"], row["model"]
            rows.append(
                {"potential": name, **of_seed(row["dataset"]), "model": row["model"]}
                | {k: row[k] for k in NUMBERS}
                | {"atomic_energy_rmse": atomic.get(key, math.nan), "energy_rmse": energy[key]}
            )
        for words in ("force", "force, random frames", "atomic energy"):
            one = summary(quantities[words].get(name, []))
            means += [{"potential": name, "quantity": words, **row} for row in one]
        differences += [{"potential": name, **row} for row in comparisons(forces)]
    first = ("potential", "method", "seed", "model")
    write(f"{prefix}errors.csv", rows, (*first, *NUMBERS, "atomic_energy_rmse", "energy_rmse"))
    write(f"{prefix}summary.csv", means, ("potential", "quantity", *SUMMARIZED))
    columns = ("family", "first", "second", "measure", "n", "difference", "error", "smaller")
    write(f"{prefix}comparisons.csv", differences, ("potential", *columns))


MEASURED = ("rdf", "peak_position", "peak_height", "coordination", "short_weight", "inner_weight",
            "density", "energy", "diffusion")  # fmt: skip


def md_table(root: Path, prefix: str = "") -> None:
    """Write md.csv: what each model's run did beside the reference."""
    rows = []
    for row in read(root / VERDICTS):
        dataset, _, name = row["name"].partition("/")
        model, potential = split(name)
        numbers = {key: float(row[key]) for key in ("time", "stable_time", *MEASURED)}
        rows.append(
            {"potential": potential, **of_seed(dataset), "model": model, "word": row["word"]}
            | numbers
        )
    first = ("potential", "method", "seed", "model", "word", "time", "stable_time")
    write(f"{prefix}md.csv", rows, (*first, *MEASURED))


def probe_table(root: Path) -> None:
    """Write probe.csv: two ions pushed together, by each model."""
    columns = ("pair", "shortest", "barrier", "hole", "error")
    rows = []
    for name, own in by_potential(read(root / "evaluation" / "probe.csv")).items():
        for row in own:
            rows.append(
                {"potential": name, **of_seed(row["dataset"]), "model": row["model"]}
                | {"pair": row["pair"]}
                | {c: float(row[c]) for c in columns[1:]}
            )
    write("probe.csv", rows, ("potential", "method", "seed", "model", *columns))


def rdf_table(root: Path) -> None:
    """Write rdf.csv: Na–Na RDFs, the reference's and means over the seeds of each method."""
    import h5py

    curves: dict[tuple[str, str], list[np.ndarray]] = {}
    r = np.empty(0)
    for path in sorted((root / "validation").glob("**/results.h5")):
        dataset, _, name = path.parent.relative_to(root / "validation").as_posix().partition("/")
        with h5py.File(path) as file:
            g = file["rdf/g"][:, 0]
            r = file["rdf/r"][:]
        if not len(g):
            continue
        method = family(dataset)[0] if name else "reference"  # and its repeats
        curves.setdefault((split(name)[1], method), []).append(g.mean(axis=0))
    rows = []
    for (potential, method), each in curves.items():
        mean = np.mean(each, axis=0)
        rows += [
            {"potential": potential, "method": method, "n": len(each), "r": float(x), "g": float(y)}
            for x, y in zip(r, mean, strict=True)
            if x < 8.0
        ]
    write("rdf.csv", rows, ("potential", "method", "n", "r", "g"))


def main(root: Path) -> None:
    """Write all tables."""
    DATA.mkdir(exist_ok=True)
    for one in members(load_study(str(Path(__file__).with_name("study.toml"))), root):
        prefix = f"{one.study.part}-" if one.study.part else ""
        if (one.folder / ERRORS).is_file():
            error_tables(one.folder, prefix)
        if (one.folder / VERDICTS).is_file():
            md_table(one.folder, prefix)
    probe_table(root)
    rdf_table(root)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
