"""Figure 3: RDFs of MD with trained potentials, beside the reference's where there is one, a panel
a kind of model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.cli import Parser
from mlsel.core.errors import MlselError
from mlsel.core.plotting import save

if TYPE_CHECKING:
    from mlsel.validate.rdf import Curve

STYLES = {
    "random": ("tab:green", "-"),
    "global-energy": ("tab:blue", "-."),
    "atomic-energy": ("tab:orange", "--"),
    "force": ("tab:red", (0, (4, 1, 1, 1, 1, 1))),
    "single-md-random": ("tab:purple", ":"),
}
"""Colours and lines of the selection methods, as in Figure 1."""
TITLES = {"schnet": "SchNet (NN)", "gap": "GAP (GPR)", "potential": "other potentials"}


@dataclass(frozen=True)
class Line:
    """An RDF to be drawn."""

    name: str
    kind: str
    curve: Curve

    @property
    def method(self) -> str:
        return self.name.partition("/")[0]


def main(argv: Sequence[str] | None = None) -> int:
    """`mlsel figure rdf DIR`."""
    parser = Parser(prog="mlsel figure rdf", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="a study's folder")
    parser.add_argument(
        "--pair", default="", metavar="A-B", help="species (default: the first with itself)"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATTERN", help="of <data set>/<model>"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="STEM", help="default: figure-3 there")
    args = parser.parse_args(argv)
    output = args.output or args.folder / "validation" / "figure-3"
    for made in draw(args.folder, output, args.pair, args.only):
        print(made)
    return 0


def read(
    folder: Path, pair: str = "", only: Sequence[str] = ()
) -> tuple[Line | None, list[Line], str]:
    """Return the reference's RDF if there is one, those of all other runs that have one, the pair.

    Raises
    ------
    MlselError
        If there is no run, or no such pair.
    """
    from fnmatch import fnmatch

    from mlsel.validate.rdf import curve
    from mlsel.validate.results import read_results

    validation = folder / "validation"
    path = validation / "reference" / "results.h5"
    paths = sorted(validation.rglob("results.h5"))
    first = read_results(path if path in paths or not paths else paths[0])
    pair = pair or first.pairs[0]
    if pair not in first.pairs:
        raise MlselError(f"{folder} has no pair {pair}: it has {', '.join(first.pairs)}.")
    index = first.pairs.index(pair)
    reference = Line("reference", "reference", curve(first, index)) if path in paths else None
    lines = []
    for path in paths:
        results = read_results(path)
        chosen = not only or any(fnmatch(results.name, pattern) for pattern in only)
        if results.kind != "reference" and chosen and len(results.g):
            lines.append(Line(results.name, results.kind, curve(results, index)))
    return reference, lines, pair


def draw(folder: Path, output: Path, pair: str = "", only: Sequence[str] = ()) -> list[Path]:
    """Draw the figure as SVG and PNG and return the files."""
    import matplotlib as mpl

    mpl.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt

    reference, lines, pair = read(folder, pair, only)
    known = [kind for kind in TITLES if any(line.kind == kind for line in lines)]
    kinds = known + sorted({line.kind for line in lines} - set(known)) or [""]
    shown = [reference, *lines] if reference else lines
    if not shown:
        raise MlselError(f"no run in {folder}/validation was long enough for an RDF.")
    r = shown[0].curve.r
    tops = [float(np.nanmax(line.curve.g)) for line in shown]
    # A collapsed liquid has peaks that would flatten all others.
    usual = tops[0] if reference else float(np.median(tops))
    top = min(max(tops), 2.2 * usual)
    with plt.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}):
        figure, axes = plt.subplots(
            2 if reference else 1,
            len(kinds),
            figsize=(max(5.0, 4.4 * len(kinds)), 4.6 if reference else 3.6),
            sharex=True,
            sharey="row",
            squeeze=False,
            height_ratios=[3, 1] if reference else [1],
            layout="constrained",
        )
        for column, kind in enumerate(kinds):
            upper, lower = axes[0, column], axes[-1, column]
            if reference:
                g, error = reference.curve.g, reference.curve.g_error
                _band(upper, r, g, error, "black", "-", "reference")
            for place, line in enumerate(line for line in lines if line.kind == kind):
                colour, dashes = STYLES.get(line.method, (f"C{5 + place % 5}", "-"))
                label = line.name if line.kind == "potential" else line.method
                labels = upper.get_legend_handles_labels()[1]
                g, error = line.curve.g, line.curve.g_error
                _band(upper, r, g, error, colour, dashes, "" if label in labels else label)
                if reference:
                    apart = np.hypot(error, reference.curve.g_error)
                    _band(lower, r, g - reference.curve.g, apart, colour, dashes, "")
            upper.set_title(TITLES.get(kind, kind), fontsize=10)
            upper.set_ylim(0, 1.05 * top)
            if reference:
                lower.axhline(0, color="black", lw=0.8)
            lower.set_xlabel("$r$ / Å")
            lower.set_xlim(0, r[-1])
        axes[0, 0].set_ylabel(f"$g(r)$ {pair}")
        if reference:
            axes[1, 0].set_ylabel("$g - g_\\mathrm{ref}$")
            limit = min(float(np.abs(axes[1, 0].get_ylim()).max()), 0.6 * tops[0])
            axes[1, 0].set_ylim(-limit, limit)
        entries = {
            label: handle
            for axis in axes[0]
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        figure.legend(entries.values(), entries, loc="outside lower center", ncols=4, frameon=False)
        made = save(figure, output)
        plt.close(figure)
    return made


def _band(axis: Any, r: Any, g: Any, error: Any, colour: str, dashes: Any, label: str) -> None:
    axis.plot(r, g, color=colour, ls=dashes, lw=1.4, label=label or None)
    axis.fill_between(r, g - error, g + error, color=colour, alpha=0.25, lw=0)
