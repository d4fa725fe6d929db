"""Figure 2: force errors (Max, RMSE, MAE) by selection method, a point a model, the mean marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlsel.cli import Parser
from mlsel.core.errors import MlselError
from mlsel.core.plotting import save
from mlsel.evaluate.csv_table import ERRORS, read_table
from mlsel.study.folder import StudyFolder, size_of
from mlsel.study.seeds import family

PANELS = {"max": "maximum error", "rmse": "root-mean-square error", "mae": "mean absolute error"}
MARKERS = "os^Dv<>Pph*"
COLOURS = {"schnet": "tab:blue", "gap": "tab:orange", "pair": "tab:green"}
QUANTITIES = ("force_component", "force_magnitude", "force_vector")


def main(argv: Sequence[str] | None = None) -> int:
    """`mlsel figure errors DIR`."""
    parser = Parser(prog="mlsel figure errors", description=__doc__)
    parser.add_argument(
        "errors", type=Path, metavar="FILE", help="an errors.csv, or a study's folder"
    )
    parser.add_argument("--quantity", choices=QUANTITIES, default=QUANTITIES[0])
    parser.add_argument("--part", default="all", help="a method's part of the test set")
    parser.add_argument("--element", default="all", help="Na, say")
    parser.add_argument("-o", "--output", type=Path, metavar="STEM", help="default: beside it")
    args = parser.parse_args(argv)
    path = StudyFolder(args.errors).errors if args.errors.is_dir() else args.errors
    output = args.output or path.with_name("figure-2")
    for made in draw(path, output, args.quantity, args.part, args.element):
        print(made)
    return 0


def read(path: Path, quantity: str, part: str, element: str) -> list[dict[str, Any]]:
    """Return the rows of errors.csv that the figure shows, numbers as numbers.

    Raises
    ------
    MlselError
        If there is no such file or no such rows in it.
    """
    if not path.is_file():
        raise MlselError(f"There is no {path}: make it with `mlsel evaluate`.")
    rows: list[dict[str, Any]] = list(read_table(path, ERRORS))
    rows = [row for row in rows if size_of(row["dataset"])[1] is None]  # they have curves
    for key, wanted in (("quantity", quantity), ("part", part), ("element", element)):
        known = list(dict.fromkeys(row[key] for row in rows))
        rows = [row for row in rows if row[key] == wanted]
        if not rows:
            raise MlselError(f"{path} has no {key} {wanted}: it has {', '.join(known)}.")
    for row in rows:
        for name in PANELS:
            row[name] = float(row[name])
    return rows


def draw(
    path: Path,
    output: Path,
    quantity: str = QUANTITIES[0],
    part: str = "all",
    element: str = "all",
) -> list[Path]:
    """Draw the figure as SVG and PNG and return the files."""
    import matplotlib as mpl

    mpl.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt

    rows = read(path, quantity, part, element)
    for row in rows:
        row["dataset"], _ = family(row["dataset"])  # all seeds of a method are at one place
    methods = list(dict.fromkeys(row["dataset"] for row in rows))
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    models = list(dict.fromkeys((row["kind"], row["model"]) for row in rows))
    places = {kind: (k - (len(kinds) - 1) / 2) * 0.3 for k, kind in enumerate(kinds)}
    with plt.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}):
        figure, axes = plt.subplots(1, 3, figsize=(11, 4.6), layout="constrained")
        for axis, (name, title) in zip(axes, PANELS.items(), strict=True):
            for kind in kinds:
                for k, method in enumerate(methods):
                    here = [r for r in rows if r["kind"] == kind and r["dataset"] == method]
                    if not here:
                        continue
                    x = k + places[kind]
                    mean = float(np.mean([row[name] for row in here]))
                    axis.plot(
                        [x - 0.13, x + 0.13], [mean, mean], color=_colour(kind, kinds), lw=2.2
                    )
            for m, (kind, model) in enumerate(models):
                own = [k for k, (other, _) in enumerate(models) if other == kind]
                spread = (own.index(m) - (len(own) - 1) / 2) * 0.2 / max(1, len(own))
                points = [r for r in rows if r["model"] == model and r["kind"] == kind]
                axis.plot(
                    [methods.index(r["dataset"]) + places[kind] + spread for r in points],
                    [r[name] for r in points],
                    MARKERS[m % len(MARKERS)],
                    color=_colour(kind, kinds),
                    ms=5,
                    alpha=0.75,
                    mew=0,
                    label=model,
                )
            axis.set_xticks(range(len(methods)), methods, rotation=30, ha="right")
            axis.set_ylabel(f"{title} / {rows[0]['unit'].replace('eV/Å', 'eV Å$^{-1}$')}")
            axis.set_ylim(bottom=0)
        axes[0].plot([], [], color="0.4", lw=2.2, label="mean over models")
        figure.legend(
            *axes[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=min(4, len(models) + 1),
            frameon=False,
        )
        what = {"force_component": "force components", "force_magnitude": "$|F|$"}
        title = f"errors of {what.get(quantity, 'force vectors')}"
        title += "" if element == "all" else f" of {element}"
        title += " on the whole test set" if part == "all" else f" on the test set's part {part}"
        figure.suptitle(title, fontsize=10)
        made = save(figure, output)
        plt.close(figure)
    return made


def _colour(kind: str, kinds: Sequence[str]) -> str:
    return COLOURS.get(kind, f"C{2 + list(kinds).index(kind)}")
