"""Learning curves: error, and stable time in MD, against the number of configurations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlsel.cli import Parser
from mlsel.core.errors import MlselError
from mlsel.core.plotting import save
from mlsel.core.record import read_json
from mlsel.evaluate.learning_curve import Curve, Point, curves, needs, read_points, sentences
from mlsel.evaluate.seeds import MEASURES
from mlsel.selection.figure import colours_of
from mlsel.study.folder import StudyFolder

STYLES = ("-", "--", ":", "-.")


def main(argv: Sequence[str] | None = None) -> int:
    """`mlsel figure learning-curve DIR`."""
    parser = Parser(prog="mlsel figure learning-curve", description=__doc__)
    parser.add_argument(
        "points", type=Path, metavar="FILE", help="learning.csv, or a study's folder"
    )
    parser.add_argument("--measure", choices=MEASURES, default="rmse", help="default: %(default)s")
    parser.add_argument(
        "--level", type=float, action="append", default=[], metavar="X",
        help="eV/Å, an error to be reached; may be repeated (default: one that all reach)",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, metavar="STEM", help="default: beside it")
    args = parser.parse_args(argv)
    if any(not level > 0 for level in args.level):
        raise MlselError(f"--level {min(args.level):g}: an error (eV/Å) must be above 0.")
    path = StudyFolder(args.points).learning if args.points.is_dir() else args.points
    output = args.output or path.with_name("learning-curve")
    for made in draw(path, output, args.level, args.measure):
        print(made)
    print("\n".join(sentences(read_points(path), args.level, args.measure)))
    return 0


def draw(
    path: Path, output: Path, levels: Sequence[float] = (), measure: str = "rmse"
) -> list[Path]:  # fmt: skip
    """Draw the figure as SVG and PNG and return the files.

    Raises
    ------
    MlselError
        If there is no such file, or only one size.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    points = read_points(path)
    found = curves(points, measure)
    if not found:
        raise MlselError(f"{path} has no family of models on two sizes: a curve takes two or more.")
    stable = stable_times(points, path)
    panels: list[tuple[list[Curve], str]] = [
        (found, f"{measure.upper()} of forces / eV Å$^{{-1}}$")
    ]
    if stable:
        panels.append((stable, "stable time in MD / ps"))
    colours = colours_of(list(dict.fromkeys(curve.method for curve in found)))
    families = list(dict.fromkeys(curve.family for curve in found))
    with plt.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}):
        size = (8.4 if len(panels) == 1 else 11, 3.8)
        figure, axes = plt.subplots(
            1, len(panels), figsize=size, layout="constrained", squeeze=False
        )
        for axis, (own, label) in zip(axes[0], panels, strict=True):
            for curve in own:
                _draw_curve(axis, curve, colours[curve.method], families)
            ticks = sorted({int(n) for curve in own for n in curve.n})
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_xticks(ticks, [str(n) for n in ticks])
            axis.minorticks_off()
            axis.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%.3g"))
            axis.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_xlabel("configurations trained on")
            axis.set_ylabel(label)
        for level in dict.fromkeys(need.level for need in needs(points, levels, measure)):
            axes[0][0].axhline(level, color="0.6", lw=0.8, zorder=0)
        figure.legend(
            *axes[0][0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=3,
            frameon=False,
        )
        made = save(figure, output)
        plt.close(figure)
    return made


def _draw_curve(axis: Any, curve: Curve, colour: str, families: Sequence[str]) -> None:
    style = STYLES[families.index(curve.family) % len(STYLES)]
    of = f", {curve.family}" if len(families) > 1 else ""
    seeds = f"{len(curve.seeds)} seed{'s' if len(curve.seeds) != 1 else ''}"
    axis.plot(
        curve.n, curve.mean, "o" + style, color=colour, ms=4,
        label=f"{curve.method}{of} ({seeds})",
    )  # fmt: skip
    if len(curve.seeds) > 1:
        low, high = curve.mean - curve.error, curve.mean + curve.error
        axis.fill_between(curve.n, low, high, color=colour, alpha=0.2, lw=0)
        axis.plot(curve.n, curve.values.T, ".", color=colour, ms=3, alpha=0.5, mew=0)


def stable_times(points: Sequence[Point], path: Path) -> list[Curve]:
    """Curves of the stable time of models that were run in MD; none where none were."""
    verdicts = StudyFolder(path.parent.parent).verdicts
    if not verdicts.is_file():
        return []
    told = read_json(verdicts).get("verdicts", [])
    times = {str(verdict["name"]): verdict.get("stable_time") or 0.0 for verdict in told}
    timed = [(point, times.get(f"{point['dataset']}/{point['model']}", 0.0)) for point in points]
    return curves([{**point, "rmse": time} for point, time in timed if time > 0])
