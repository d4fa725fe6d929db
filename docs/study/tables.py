"""The small tables of this page, from the folders of the study.

    python docs/study/tables.py FOLDER      FOLDER/bare, FOLDER/zbl, … as repeat.sh makes them

Writes docs/study/data/*.csv: errors.csv and summary.csv (force errors over all test frames, one row
a model and one a family), comparisons.csv (paired differences between methods), md.csv (what 1000
ions did), probe.csv (two ions pushed together) and rdf.csv. FOLDER/own/charges has the methods
beyond the paper's, from another pool: own-errors.csv, own-summary.csv, own-comparisons.csv.
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
from mlsel.study.seeds import family

DATA = Path(__file__).parent / "data"
POTENTIALS = ("bare", "zbl", "charges", "large")
"""What is learnt: all; all but a wide ZBL; all but it and charges; all, by a large network."""
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


def potentials(root: Path) -> Iterable[tuple[str, Path]]:
    """Yield the variants of the study that are there."""
    for name in POTENTIALS:
        if (root / name / "evaluation" / "errors.csv").is_file():
            yield name, root / name


def error_tables(root: Path, prefix: str = "") -> None:
    """Write errors.csv, summary.csv and comparisons.csv, under names with that prefix."""
    rows: list[Row] = []
    means: list[Row] = []
    differences: list[Row] = []
    for name, folder in potentials(root):
        forces = errors_of(folder, "force_component")
        atomic = {(r["dataset"], r["model"]): r["rmse"] for r in errors_of(folder, "atomic_energy")}
        energy = {
            (r["dataset"], r["model"]): r["rmse"] for r in errors_of(folder, "energy_per_atom")
        }
        for row in forces:
            key = row["dataset"], row["model"]
            rows.append(
                {"potential": name, **of_seed(row["dataset"]), "model": row["model"]}
                | {k: row[k] for k in NUMBERS}
                | {"atomic_energy_rmse": atomic.get(key, math.nan), "energy_rmse": energy[key]}
            )
        for words, one in (
            ("force", forces),
            ("force, random frames", errors_of(folder, "force_component", "random")),
            ("atomic energy", errors_of(folder, "atomic_energy")),
        ):
            means += [{"potential": name, "quantity": words, **row} for row in summary(one)]
        differences += [{"potential": name, **row} for row in comparisons(forces)]
    first = ("potential", "method", "seed", "model")
    write(f"{prefix}errors.csv", rows, (*first, *NUMBERS, "atomic_energy_rmse", "energy_rmse"))
    write(f"{prefix}summary.csv", means, ("potential", "quantity", *SUMMARIZED))
    columns = ("family", "first", "second", "measure", "n", "difference", "error", "smaller")
    write(f"{prefix}comparisons.csv", differences, ("potential", *columns))


MEASURED = ("rdf", "peak_position", "peak_height", "coordination", "short_weight", "inner_weight",
            "density", "energy", "diffusion")  # fmt: skip


def md_table(root: Path) -> None:
    """Write md.csv: what each model's run did beside the reference."""
    rows = []
    for name, folder in potentials(root):
        for row in read(folder / "validation" / "verdicts.csv"):
            dataset, _, model = row["name"].partition("/")
            numbers = {key: float(row[key]) for key in ("time", "stable_time", *MEASURED)}
            rows.append(
                {"potential": name, **of_seed(dataset), "model": model, "word": row["word"]}
                | numbers
            )
    first = ("potential", "method", "seed", "model", "word", "time", "stable_time")
    write("md.csv", rows, (*first, *MEASURED))


def probe_table(root: Path) -> None:
    """Write probe.csv: two ions pushed together, by each model."""
    columns = ("pair", "shortest", "barrier", "hole", "error")
    rows = []
    for name, folder in potentials(root):
        for row in read(folder / "evaluation" / "probe.csv"):
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
    for name, folder in potentials(root):
        for path in sorted((folder / "validation").glob("**/results.h5")):
            run = path.parent.relative_to(folder / "validation").as_posix()
            with h5py.File(path) as file:
                g = file["rdf/g"][:, 0]
                r = file["rdf/r"][:]
            if not len(g):
                continue
            dataset, _, model = run.partition("/")
            method = family(dataset)[0] if model else "reference"  # and its repeats
            curves.setdefault((name, method), []).append(g.mean(axis=0))
    rows = []
    for (name, method), each in curves.items():
        mean = np.mean(each, axis=0)
        rows += [
            {"potential": name, "method": method, "n": len(each), "r": float(x), "g": float(y)}
            for x, y in zip(r, mean, strict=True)
            if x < 8.0
        ]
    write("rdf.csv", rows, ("potential", "method", "n", "r", "g"))


def main(root: Path) -> None:
    """Write all tables."""
    DATA.mkdir(exist_ok=True)
    error_tables(root)
    error_tables(root / "own", "own-")
    md_table(root)
    probe_table(root)
    rdf_table(root)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
