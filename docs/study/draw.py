"""The figures of this page, from its tables: `python docs/study/draw.py`."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from mlsel.core.plotting import write_figure

HERE = Path(__file__).parent
METHODS = ("random", "single-md-random", "global-energy", "atomic-energy", "force")
OWN = ("random", "pair-energy", "fps", "force", "force-fps", "flat-force", "entropy", "set-cover",
       "cur", "network-distillation")  # fmt: skip
SMALL = "schnet-small-e0.01"
POTENTIALS = {"bare": "all is learnt", "zbl": "wide ZBL given", "charges": "ZBL and charges given"}


def read(name: str) -> list[dict[str, Any]]:
    """Return the rows of a table of this page."""
    with (HERE / "data" / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def save(figure: Any, name: str) -> None:
    """Write a figure beside the page; the same tables give the same file."""
    write_figure(figure, HERE / f"{name}.svg")
    plt.close(figure)


def errors(
    name: str, table: str, methods: Sequence[str], potentials: Sequence[str], log: bool
) -> None:
    """RMSE and Max by method, mean and standard error over seeds, a panel a potential."""
    rows = [r for r in read(table) if r["quantity"] == "force" and r["family"] == SMALL]
    n = len(potentials)
    figure, axes = plt.subplots(2, n, figsize=(9, 5), sharex=True, layout="constrained")
    for column, potential in enumerate(potentials):
        own = {r["dataset"]: r for r in rows if r["potential"] == potential}
        for axis, measure in zip(axes[:, column], ("rmse", "max"), strict=True):
            places = [i for i, m in enumerate(methods) if m in own]
            values = [1000 * float(own[methods[i]][measure]) for i in places]
            bars = [1000 * float(own[methods[i]][f"{measure}_error"]) for i in places]
            axis.errorbar(places, values, bars, fmt="o", capsize=3)
            if log and measure == "max":
                axis.set_yscale("log")
            else:
                axis.set_ylim(0, 1.1 * max(map(sum, zip(values, bars, strict=True))))
            axis.set_xticks(range(len(methods)), methods, rotation=35, ha="right")
        axes[0, column].set_title(POTENTIALS[potential])
    axes[0, 0].set_ylabel("RMSE of forces, meV/Å")
    axes[1, 0].set_ylabel("largest error, meV/Å")
    save(figure, name)


def learning() -> None:
    """RMSE and Max by the number of configurations, mean and standard error over seeds."""
    parts = {n: f"learn-{n}-" for n in (32, 64, 128, 256)} | {512: "own-"}
    rows = {
        (r["dataset"], n): r
        for n, part in parts.items()
        for r in read(f"{part}summary.csv")
        if (r["potential"], r["quantity"], r["family"]) == ("charges", "force", SMALL)
    }
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for axis, measure in zip(axes, ("rmse", "max"), strict=True):
        for method in ("random", "force", "cur"):
            own = [rows[method, n] for n in parts]
            values = [1000 * float(row[measure]) for row in own]
            bars = [1000 * float(row[f"{measure}_error"]) for row in own]
            axis.errorbar(list(parts), values, bars, marker="o", capsize=3, label=method)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(list(parts), [str(n) for n in parts])
        axis.set_xlabel("configurations")
    axes[0].set_ylabel("RMSE of forces, meV/Å")
    axes[1].set_ylabel("largest error, meV/Å")
    axes[0].legend()
    save(figure, "learning")


def rdf() -> None:
    """Na–Na RDFs, means over the seeds of each method, beside the reference's."""
    curves: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for row in read("rdf.csv"):
        curves[row["potential"], row["method"]].append((float(row["r"]), float(row["g"])))
    figure, axes = plt.subplots(2, 3, figsize=(9, 5), sharey="row", layout="constrained")
    for (upper, lower), (potential, title) in zip(axes.T, POTENTIALS.items(), strict=True):
        for axis in (upper, lower):
            for method in METHODS:
                if (potential, method) in curves:
                    line = curves[potential, method]
                    axis.plot(*zip(*line, strict=True), lw=1, label=method)
            line = curves["bare", "reference"]
            axis.plot(*zip(*line, strict=True), "k--", lw=1, label="reference")
            axis.set_xlim(0.5, 8 if axis is upper else 3)
        lower.set_ylim(0, 0.1)
        lower.set_xlabel("r, Å")
        upper.set_title(title)
    axes[0, 0].set_ylabel("g(r), Na–Na")
    axes[1, 0].set_ylabel("the same, near")
    axes[0, 0].legend(fontsize=7)
    save(figure, "rdf")


if __name__ == "__main__":
    errors("errors", "summary.csv", METHODS, tuple(POTENTIALS), log=False)
    errors("methods", "own-summary.csv", OWN, ("bare", "charges"), log=True)
    learning()
    rdf()
