"""The figures of the page, and what is seen in them beside what the paper saw in its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlsel.core.errors import MlselError
from mlsel.evaluate.seeds import FEWEST, plus_minus
from mlsel.report import page
from mlsel.report.findings import METHOD, Findings
from mlsel.study.folder import StudyFolder


@dataclass(frozen=True)
class Figure:
    """A figure of the paper and how it is made here."""

    name: str
    stem: str
    """Of its files."""
    module: str
    options: tuple[str, ...]
    """Where the data sets are not those of the paper's figure."""
    caption: str
    paper: str
    here: Callable[[Findings], str]
    always: tuple[str, ...] = ()
    """Options whatever the data sets."""


def figures(folder: Path, found: Findings, *wanted: Figure) -> list[str]:
    parts = []
    for figure in wanted:
        parts.append(page.heading(figure.name))
        stem = StudyFolder(folder).figures / figure.stem
        try:
            options = () if found.is_of_the_paper else figure.options
            _draw(figure, folder, stem, (*figure.always, *options))
        except (MlselError, ModuleNotFoundError) as error:
            parts.append(page.paragraph(f"This figure could not be made: {error}"))
            parts.append(_words(figure, found))
            continue
        svg, png = (stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png"))
        name = f"{figure.name}: {figure.caption}"
        parts.append(page.picture(svg, png, name, figure.caption, folder))
        parts.append(_words(figure, found))
    return parts


def _words(figure: Figure, found: Findings) -> str:
    """What is seen here; beside it what the paper says, where this is the paper's system."""
    here = figure.here(found)
    return (
        page.beside(figure.paper, here)
        if figure.paper and found.is_of_the_paper
        else page.paragraph(here)
    )


def _draw(figure: Figure, folder: Path, stem: Path, options: Sequence[str]) -> None:
    """Have the figure's module draw it, as `mlsel figure` would, its output not on the terminal."""
    import io
    from contextlib import redirect_stdout
    from importlib import import_module

    stem.parent.mkdir(exist_ok=True)
    with redirect_stdout(io.StringIO()):
        import_module(figure.module).main([str(folder), *options, "-o", str(stem)])


def _distributions_here(found: Findings) -> str:
    parts = {
        "energy spread": ("global energy per atom", "eV"),
        "atomic_energies spread": ("atomic energies", "eV"),
        "forces spread": ("force magnitude", "eV/Å"),
    }
    told = []
    for key, (what, unit) in parts.items():
        rows = [row for row in found.data if row.get(key) is not None]
        each = ", ".join(f"{row[METHOD]} {float(row[key] or 0):.3g}" for row in rows)
        told += [f"{what} {each} {unit}"] if rows else []
    if not told:
        return "No data sets were selected."
    return f"Standard deviations in these sets: {'; '.join(told)}."


def _errors_here(found: Findings) -> str:
    """Means with their errors, in the order of the data sets: what differs is said elsewhere."""
    if not found.summary:
        return "No errors were measured."
    texts = []
    for family in dict.fromkeys(row["family"] for row in found.summary):
        own = [row for row in found.summary if row["family"] == family]
        seeds = min(int(row["n"]) for row in own)
        each = ", ".join(f"{row['dataset']} {mean_of(row, 'rmse')}" for row in own)
        few = f" ({seeds} seed{'s' if seeds != 1 else ''}: no order can be told)"
        texts.append(f"{family}: {each}{few if seeds < FEWEST else ''}")
    return "Mean RMSE of force components in eV/Å: " + "; ".join(texts) + "."


def mean_of(row: Mapping[str, str], key: str) -> str:
    """A number of a table with its standard error, where it has one."""
    return plus_minus(float(row[key]), float(row.get(f"{key}_error") or "nan"))


def _rdf_here(found: Findings) -> str:
    verdicts = found.validation.get("verdicts", [])
    if not verdicts:
        return "No potential was validated."
    words: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict["kind"] != "reference":
            name = f"{verdict['name']} ({verdict['time']:.3g} ps)"
            words.setdefault(verdict["word"], []).append(name)
    if not words:
        return "The reference alone was run."
    return "; ".join(f"{word}: {', '.join(names)}" for word, names in words.items()) + "."


DISTRIBUTIONS, ERRORS, RDFS, LEARNING, REFINEMENT = (
    Figure(
        "Figure 1",
        "figure-1",
        "mlsel.selection.figure",
        ("--all",),
        "distributions of energies and force magnitude in the data sets",
        "Selecting uniformly in atomic energies gives their distribution fat tails: less probable "
        "environments are in the data. Global-energy selection gives more diverse global energies, "
        "but no such tails.",
        _distributions_here,
    ),
    Figure(
        "Figure 2",
        "figure-2",
        "mlsel.evaluate.figure",
        (),
        "force errors (maximum, root mean square, mean absolute) by selection method",
        "Models trained on data selected by forces or atomic energies have lower maximum and "
        "root-mean-square errors than those of random or global-energy selection.",
        _errors_here,
    ),
    Figure(
        "Figure 3",
        "figure-3",
        "mlsel.validate.figure",
        (),
        "radial distribution function in MD with each potential, and of the reference if there is",
        "In MD of 1000 atoms at 1400 K potentials from global-energy selection show unphysical "
        "peaks at short range; those from atomic-energy selection fit the reference.",
        _rdf_here,
    ),
    Figure(
        "Learning curves",
        "learning-curve",
        "mlsel.evaluate.learning_figure",
        (),
        "error of force components, and stable time in MD where it was run, against the number of "
        "configurations; bands are standard errors over seeds",
        "",
        lambda _: "",
    ),
    Figure(
        "Refinement",
        "labels-spent",
        "mlsel.refine.figure",
        (),
        "stable time of the shortest run of each round, and error of the round's model on the test "
        "set, against the labels spent before it; a ring: MD met nothing new",
        "",
        lambda _: "",
    ),
)
