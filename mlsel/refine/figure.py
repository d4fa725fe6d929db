"""What labels buy: stable time in MD, and the error, against the labels that were spent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlsel.cli import Parser
from mlsel.core.errors import MlselError
from mlsel.core.plotting import save
from mlsel.refine.table import Course, read
from mlsel.selection.figure import colours_of
from mlsel.study.folder import StudyFolder
from mlsel.study.seeds import family

STYLES = ("-", "--", ":", "-.")


def main(argv: Sequence[str] | None = None) -> int:
    """`mlsel figure refine DIR`."""
    parser = Parser(prog="mlsel figure refine", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="a study's folder")
    parser.add_argument("-o", "--output", type=Path, metavar="STEM", help="default: beside it")
    args = parser.parse_args(argv)
    output = args.output or StudyFolder(args.folder).refine / "labels-spent"
    for made in draw(args.folder, output):
        print(made)
    return 0


def draw(folder: Path, output: Path) -> list[Path]:
    """Draw the figure as SVG and PNG and return the files.

    Raises
    ------
    MlselError
        If nothing was refined.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    courses = read(folder)
    if not courses:
        raise MlselError(
            f"{StudyFolder(folder).refined} is not there: name models in refine.models and give "
            "`mlsel refine`."
        )
    colours = colours_of(list(dict.fromkeys(course.method for course in courses)))
    families = list(dict.fromkeys(family(course.model)[0] for course in courses))
    has_errors = any(np.isfinite(course.rmse).any() for course in courses)
    with plt.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}):
        figure, axes = plt.subplots(
            1, 1 + has_errors, figsize=(8.4, 3.8), layout="constrained", squeeze=False
        )
        told: set[str] = set()
        for course in courses:
            kind = family(course.model)[0]
            label = course.method + (f", {kind}" if len(families) > 1 else "")
            style = STYLES[families.index(kind) % len(STYLES)]
            for axis, values in zip(axes[0], (course.shortest, course.rmse), strict=False):
                axis.plot(
                    course.labels, values, "o" + style, color=colours[course.method], ms=4,
                    label=None if label in told else label,
                )  # fmt: skip
            _mark_ends(axes[0][0], course, colours[course.method])
            told.add(label)
        axes[0][0].set_ylabel("stable time of the shortest run / ps")
        axes[0][0].set_yscale("log")
        axes[0][0].yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%.3g"))
        if has_errors:
            axes[0][1].set_ylabel("RMSE of forces / eV Å$^{-1}$")
        for axis in axes[0]:
            axis.set_xlabel("labels spent")
            axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        figure.legend(
            *axes[0][0].get_legend_handles_labels(),
            loc="outside lower center", ncols=3, frameon=False,
        )  # fmt: skip
        made = save(figure, output)
        plt.close(figure)
    return made


def _mark_ends(axis: object, course: Course, colour: str) -> None:
    """A ring around the round in which MD met nothing new."""
    from mlsel.refine.outcome import STABLE

    if course.ended == STABLE:
        axis.plot(course.labels[-1:], course.shortest[-1:], "o", ms=9, mfc="none", mec=colour)  # type: ignore[attr-defined]
