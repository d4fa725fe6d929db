"""Stage 6: figures, tables and verdicts on one page.

    python -m mlsel.report [DIR]

reads what the other stages left in a study's folder and writes DIR/report.html, which needs nothing
beside it, and the figures as SVG and PNG in DIR/figures. What is missing is said in its place.
"""

from __future__ import annotations

import csv
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.cli import Parser, add_folder_argument
from mlsel.core.errors import MlselError
from mlsel.core.parallel import launched_rank, on_root
from mlsel.core.record import read_json
from mlsel.evaluate.seeds import FEWEST, RESOLVED
from mlsel.report import page
from mlsel.study.folder import MODEL, StudyFolder
from mlsel.study.seeds import family
from mlsel.study.stage import BEGUN, DONE, MISSING, Item
from mlsel.study.study import DEFAULT_STUDY, load_study, recorded_study

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.study.study import Study

log = logging.getLogger(__name__)

METHOD = "data set"
DEMO = (
    "This is a demo: its models were trained for seconds and its runs are short. It shows what "
    "each stage does, not what a selection is worth."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report."""
    parser = Parser(prog="mlsel report", description="Write report.html of a study's folder.")
    add_folder_argument(parser)
    args = parser.parse_args(argv)
    if launched_rank() == 0:
        log.info("%s", write_report(args.folder))
    return 0


def report(study: Study, folder: Path, comm: MPI.Intracomm) -> None:
    """Write the report, and print its path."""
    path = on_root(comm, lambda: write_report(folder))
    if comm.rank == 0:
        print(path, flush=True)


def items(study: Study, folder: Path) -> list[Item]:
    """Return the page and its state."""
    place = StudyFolder(folder)
    if not place.report.is_file():
        return [Item(place.report.name, MISSING)]
    sources = [path for path in (place.pool, place.errors, place.verdicts) if path.is_file()]
    written = place.report.stat().st_mtime
    newer = [path.relative_to(folder).as_posix() for path in sources
             if path.stat().st_mtime > written]  # fmt: skip
    if newer:
        return [Item(place.report.name, BEGUN, f"older than {', '.join(newer)}")]
    return [Item(place.report.name, DONE)]


def write_report(folder: Path) -> Path:
    """Write DIR/report.html and return its path.

    Raises
    ------
    MlselError
        If the folder holds nothing of a study.
    """
    from mlsel.core.files import write_text

    found = Findings.of(folder)
    title = f"mlsel: the study {found.name}"
    parts = [
        page.heading(title, 1),
        *([page.paragraph(DEMO)] if found.name == "quick" else []),
        *_answer(folder, found),
        page.paragraph(
            "Which configurations should a machine-learned interatomic potential be trained on? "
            "Data sets were selected from one pool by several methods, a potential trained on "
            "each, its force errors measured, and each put to the test in molecular dynamics."
        ),
        *_figures(folder, found, FIGURES[0], FIGURES[2]),
        *_validation(found),
        *_errors(found),
        *_data(found),
        *_what_was_run(found),
        *_files(folder),
    ]
    path = StudyFolder(folder).report
    write_text(path, page.page(title, parts))
    return path


@dataclass(frozen=True)
class Findings:
    """What the stages left in a folder; empty where a stage was not run.

    Attributes
    ----------
    name : of the study
    settings : its sections
    versions : of packages
    pool : facts of the pool
    data : a row a data set
    models : a row a model
    errors : the rows of errors.csv
    validation : verdicts.json
    no_verdicts : why it is empty, if it is
    comparisons : the rows of comparisons.csv
    summary : the rows of summary.csv
    overlaps : a row every two data sets
    """

    name: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    pool: Mapping[str, Any]
    data: Sequence[Mapping[str, page.Cell]]
    models: Sequence[Mapping[str, page.Cell]]
    errors: Sequence[Mapping[str, Any]]
    validation: Mapping[str, Any]
    no_verdicts: str
    comparisons: Sequence[Mapping[str, str]]
    summary: Sequence[Mapping[str, str]]
    overlaps: Sequence[Mapping[str, page.Cell]]

    @property
    def is_of_the_paper(self) -> bool:
        """Whether the study is of the system that the paper is about, with its potential."""
        paper = load_study(DEFAULT_STUDY).as_dict("system")["system"]
        here = self.settings.get("system", {})
        return all(here.get(key) == paper[key] for key in ("species", "potential"))

    @classmethod
    def of(cls, folder: Path) -> Findings:
        settings: dict[str, Any] = {}
        versions: dict[str, str] = {}
        pool: dict[str, Any] = {}
        place = StudyFolder(folder)
        name = folder.resolve().name
        recorded = recorded_study(folder)
        if recorded is not None:
            name = recorded.name
            settings |= recorded.as_dict("system")
        if place.pool.is_file():
            from mlsel.pool.pool import Pool

            with Pool(place.pool) as opened:
                name = str(opened.attributes.get("study", name))
                settings |= json.loads(opened.attributes.get("settings", "{}"))
                versions |= json.loads(opened.attributes.get("versions", "{}"))
                pool = {
                    "runs": len(opened.runs),
                    "frames": len(opened),
                    "digest": opened.digest,
                }
        models = []
        for title in place.finished_models():
            described = read_json(place.model(title) / MODEL)
            versions |= described.get("versions", {})
            parameters = described.get("parameters", {})
            models.append(
                {
                    METHOD: title.partition("/")[0],
                    "model": title.partition("/")[2],
                    "kind": described.get("kind"),
                    "frames": described.get("data", {}).get("n_frames"),
                    "seed": parameters.get("seed"),
                    "cutoff": parameters.get("cutoff"),
                    "epochs": described.get("result", {}).get("n_epochs"),
                }
            )
        errors = _rows(place.errors)
        validation: dict[str, Any] = {}
        no_verdicts = "No potential was validated in MD."
        if place.verdicts.is_file() and place.validation_record.is_file():
            from mlsel.validate.results import read_results
            from mlsel.validate.verdict import read_verdicts

            validation = read_verdicts(place.verdicts) or {}
            if not validation:
                no_verdicts = (
                    "The verdicts are of an earlier version of mlsel: `mlsel validate` makes them "
                    "anew."
                )
            reference = read_results(place.validation / "reference" / "results.h5")
            settings |= json.loads(reference.provenance["settings"])
            versions |= json.loads(reference.provenance["versions"])
        data = _data_sets(folder)
        if not (settings or data or models or errors):
            raise MlselError(
                f"{folder} holds nothing to report on: run the stages first, `mlsel run` for all, "
                "or name a study's folder."
            )
        return cls(
            name,
            settings,
            versions,
            pool,
            data,
            models,
            errors,
            validation,
            no_verdicts,
            _rows(place.evaluation / "comparisons.csv"),
            _rows(place.evaluation / "summary.csv"),
            _overlaps(folder, pool),
        )


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table, none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _overlaps(folder: Path, pool: Mapping[str, Any]) -> list[dict[str, page.Cell]]:
    """How many frames of the pool every two data sets share, and what chance would give."""
    from mlsel.pool.pool import Pool

    place = StudyFolder(folder)
    frames: dict[str, set[int]] = {}
    pools: dict[str, Any] = {}
    for name in place.data_sets():
        with Pool(place.data_set(name)) as data:
            if "source_frame" in data.fields:
                frames[name] = set(data.values("source_frame").tolist())
                pools[name] = data.attributes.get("pool_digest")
    return [
        {
            "first": first,
            "second": second,
            "shared": len(frames[first] & frames[second]),
            "chance": len(frames[first]) * len(frames[second]) / pool["frames"] if pool else None,
        }
        for first, second in combinations(frames, 2)
        if pools[first] == pools[second]  # else the numbers are of other frames
        and family(first)[1] == family(second)[1]
    ]


def _data_sets(folder: Path) -> list[dict[str, page.Cell]]:
    """Facts of each data set: how many frames, and how far their properties reach."""
    import numpy as np

    from mlsel.pool.pool import Pool

    rows: list[dict[str, page.Cell]] = []
    place = StudyFolder(folder)
    for name in place.data_sets():
        with Pool(place.data_set(name)) as data:
            row: dict[str, page.Cell] = {METHOD: name, "frames": len(data)}
            parts: dict[str, list[Any]] = {"energy": [], "atomic_energies": [], "forces": []}
            for block in data.blocks(*(field for field in parts if field in data.fields)):
                for field, values in parts.items():
                    if field in block.fields:
                        values.append(_property(field, block[field], block.run.n_atoms))
            for field, values in parts.items():
                if values:
                    together = np.concatenate(values)
                    row[f"{field} low"] = float(together.min())
                    row[f"{field} high"] = float(together.max())
                    row[f"{field} spread"] = float(together.std())
            rows.append(row)
    return rows


def _property(field: str, values: Any, n_atoms: int) -> Any:
    import numpy as np

    if field == "energy":
        return values / n_atoms
    return np.linalg.norm(values, axis=2).ravel() if field == "forces" else values.ravel()


@dataclass(frozen=True)
class Figure:
    """A figure of the paper and how it is made here."""

    number: int
    module: str
    options: tuple[str, ...]
    """Where the data sets are not those of the paper's figure."""
    caption: str
    paper: str
    here: Callable[[Findings], str]


def _answer(folder: Path, found: Findings) -> list[str]:
    """Which data set to train on, by how much, how sure; and the picture that shows it."""
    told = " ".join(filter(None, (_best_data(found), _others_agree(found), _in_md(found))))
    parts = [page.heading("The answer"), page.paragraph(told)]
    return parts + _figures(folder, found, FIGURES[1])


def _compared(found: Findings) -> dict[str, list[Mapping[str, str]]]:
    """RMSE comparisons of each family that has seeds enough."""
    families: dict[str, list[Mapping[str, str]]] = {}
    for row in found.comparisons:
        if row["measure"] == "rmse" and int(row["n"]) >= FEWEST:
            families.setdefault(row["family"], []).append(row)
    return families


def _ranked(found: Findings, family: str) -> list[Mapping[str, str]]:
    """The data sets that a family was compared on, the lowest mean RMSE first."""
    compared = {row[key] for row in _compared(found)[family] for key in ("first", "second")}
    own = [r for r in found.summary if r["family"] == family and r["dataset"] in compared]
    return sorted(own, key=lambda row: float(row["rmse"]))


def _best_family(found: Findings) -> str:
    """The family with the smallest errors of those that were compared, "" if none was."""
    families = [name for name in _compared(found) if _ranked(found, name)]
    return min(families, key=lambda name: float(_ranked(found, name)[0]["rmse"]), default="")


def _best_data(found: Findings) -> str:
    if not found.comparisons:
        return "Data sets were not compared: that takes the errors of models on two of them."
    family = _best_family(found)
    if not family:
        seeds = max(int(row["n"]) for row in found.comparisons)
        return (
            f"With {seeds} seed{'s' if seeds != 1 else ''} of each model no order of methods can "
            "be told: set selection.seeds = 5 and give `mlsel run` again."
        )
    lowest = _ranked(found, family)[0]
    best = lowest["dataset"]
    own = [row for row in _compared(found)[family] if best in (row["first"], row["second"])]
    beaten, equals = [], []
    for row in own:
        other = row["second"] if row["first"] == best else row["first"]
        if row["smaller"] == best:
            by = f"{abs(float(row['difference'])):.3g} ± {float(row['error']):.1g}"
            beaten.append(f"{other} (by {by})")
        else:
            equals.append(other)
    mean = f"{float(lowest['rmse']):.3g} ± {float(lowest['rmse_error']):.1g} eV/Å"
    seeds = min(int(row["n"]) for row in own)
    if not beaten:
        return (
            f"No data set can be preferred: {best} has the lowest mean RMSE of force components "
            f"({mean}, {family}, {seeds} seeds), but no difference from {', '.join(equals)} is "
            f"beyond {RESOLVED:g} standard errors."
        )
    unresolved = f"; from {', '.join(equals)} it can't be told apart" if equals else ""
    return (
        f"Train on {' or '.join([best, *equals])}: with {family} the RMSE of force components on "
        f"{best} ({mean}, {seeds} seeds) is more than {RESOLVED:g} standard errors below that on "
        f"{', '.join(beaten)}{unresolved}."
    )


def _others_agree(found: Findings) -> str:
    """Whether the other models have the same data set in front."""
    best = _best_family(found)
    others = [name for name in _compared(found) if name != best and _ranked(found, name)]
    if not others:
        return ""
    front = _ranked(found, best)[0]["dataset"]
    each = ", ".join(f"{name} {_ranked(found, name)[0]['dataset']}" for name in others)
    same = sum(_ranked(found, name)[0]["dataset"] == front for name in others)
    return (
        f"Of {len(others)} other models {same} have their lowest mean on {front} too, resolved or "
        f"not ({each})."
    )


def _in_md(found: Findings) -> str:
    judged = [v for v in found.validation.get("verdicts", []) if v["kind"] != "reference"]
    if not judged:
        return "No model was judged in MD."
    counts = Counter(verdict["word"] for verdict in judged)
    words = ", ".join(f"{n} “{word}”" for word, n in counts.items())
    return f"In MD the verdict on {len(judged)} models: {words}."


def _figures(folder: Path, found: Findings, *figures: Figure) -> list[str]:
    parts = []
    for figure in figures:
        parts.append(page.heading(f"Figure {figure.number}"))
        stem = StudyFolder(folder).figures / f"figure-{figure.number}"
        try:
            _draw(figure, folder, stem, () if found.is_of_the_paper else figure.options)
        except (MlselError, ModuleNotFoundError) as error:
            parts.append(page.paragraph(f"This figure could not be made: {error}"))
            parts.append(_words(figure, found))
            continue
        svg, png = (stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png"))
        name = f"Figure {figure.number}: {figure.caption}"
        parts.append(page.picture(svg, png, name, figure.caption, folder))
        parts.append(_words(figure, found))
    return parts


def _words(figure: Figure, found: Findings) -> str:
    """What is seen here; beside it what the paper says, where this is the paper's system."""
    here = figure.here(found)
    return page.beside(figure.paper, here) if found.is_of_the_paper else page.paragraph(here)


def _draw(figure: Figure, folder: Path, stem: Path, options: Sequence[str]) -> None:
    """Have the figure's module draw it, as `mlsel figure` would, its output not on the terminal."""
    import io
    from contextlib import redirect_stdout
    from importlib import import_module

    stem.parent.mkdir(exist_ok=True)
    with redirect_stdout(io.StringIO()):
        import_module(figure.module).main([str(folder), *options, "-o", str(stem)])


def _distributions_here(found: Findings) -> str:
    rows = [row for row in found.data if row.get("atomic_energies spread") is not None]
    if not rows:
        return "No data sets were selected."

    def widest(key: str) -> str:
        best = max(rows, key=lambda row: float(row[key] or 0))
        return f"{best[METHOD]} ({float(best[key] or 0):.3g})"

    return (
        f"Of {len(rows)} data sets, the widest in global energy is {widest('energy spread')} eV an "
        f"atom, in atomic energies {widest('atomic_energies spread')} eV, in force magnitude "
        f"{widest('forces spread')} eV/Å (standard deviations)."
    )


def _errors_here(found: Findings) -> str:
    rows = _main_errors(found)
    if not rows:
        return "No errors were measured."
    texts = []
    for kind in dict.fromkeys(str(row["kind"]) for row in rows):
        means: dict[str, float] = {}
        for method in dict.fromkeys(str(row[METHOD]) for row in rows):
            own = [float(r["rmse"] or 0) for r in rows if r["kind"] == kind and r[METHOD] == method]
            if own:
                means[method] = sum(own) / len(own)
        ranked = sorted(means, key=lambda method: means[method])
        texts.append(f"{kind}: " + ", ".join(f"{m} {means[m]:.3g}" for m in ranked))
    return "Mean RMSE of force components in eV/Å, the lowest first. " + "; ".join(texts) + "."


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


FIGURES = (
    Figure(
        1,
        "mlsel.selection.figure",
        ("--all",),
        "distributions of global energy, atomic energies and force magnitude in the data sets",
        "Selecting uniformly in atomic energies gives their distribution fat tails: less probable "
        "environments are in the data. Global-energy selection gives more diverse global energies, "
        "but no such tails.",
        _distributions_here,
    ),
    Figure(
        2,
        "mlsel.evaluate.figure",
        (),
        "force errors (maximum, root mean square, mean absolute) by selection method",
        "Models trained on data selected by forces or atomic energies have lower maximum and "
        "root-mean-square errors than those of random or global-energy selection.",
        _errors_here,
    ),
    Figure(
        3,
        "mlsel.validate.figure",
        (),
        "radial distribution function in MD with each potential, beside the reference's",
        "In MD of 1000 atoms at 1400 K potentials from global-energy selection show unphysical "
        "peaks at short range; those from atomic-energy selection fit the reference.",
        _rdf_here,
    ),
)


NUMBERS = {
    "rdf": "Δg(r)",
    "peak_position": "main peak / Å",
    "peak_height": "its height / %",
    "coordination": "neighbours / %",
    "inner_weight": "far too near",
    "density": "density / %",
    "energy": "energy / meV/atom",
    "diffusion": "diffusion / %",
    "nve_drift": "NVE drift / meV/atom/ps",
}
"""Criteria of the verdict, and their heads."""


def _validation(found: Findings) -> list[str]:
    if not found.validation:
        return [page.heading("Verdicts"), page.paragraph(found.no_verdicts)]
    speeds = found.validation["speeds"]
    rows = [
        {
            "name": verdict["name"],
            "word": verdict["word"],
            "time": verdict["time"],
            "stable_time": verdict["stable_time"],
            **{name: _number(verdict["numbers"].get(name)) for name in NUMBERS},
            "outside": verdict["outside"],
            "ns_per_day": speeds.get(verdict["name"], {}).get("ns_per_day"),
            "reasons": "; ".join(verdict["reasons"]) or "no difference was seen",
            "unseen": "; ".join(verdict["unseen"]) or "nothing",
        }
        for verdict in found.validation["verdicts"]
    ]
    columns = {
        "name": "potential",
        "word": "verdict",
        "reasons": "reasons",
        "unseen": "not measured or not seen",
        "time": "ps averaged",
        "stable_time": "stable / ps",
        **NUMBERS,
        "outside": "share unlike training",
        "ns_per_day": "ns/day",
    }
    return [
        page.heading("Verdicts"),
        page.paragraph(
            "NVT from the same snapshot of the reference. Differences from the reference, where "
            "they tell most, and in brackets how sure they are, in standard deviations: what is "
            "larger than its tolerance and surer than "
            f"{found.validation['sigmas']:g} σ differs. The longer a run, the surer: compare sizes "
            "between runs of other lengths, not σ."
        ),
        page.table(columns, rows),
        page.folded(
            "What the numbers mean", page.definitions(found.validation.get("definitions", {}))
        ),
        page.folded("Tolerances", page.definitions(found.validation["tolerances"])),
    ]


def _number(one: Mapping[str, Any] | None) -> page.Cell:
    """A difference and how sure it is."""
    if one is None or one["size"] is None:
        return None
    sigmas = "" if one["sigmas"] is None else f" ({one['sigmas']:.1f} σ)"
    return page.Shown(one["size"], f"{one['size']:+.2g}".replace("-", "−", 1) + sigmas)


def _main_errors(found: Findings) -> list[dict[str, page.Cell]]:
    """Errors of force components, all elements, on the whole test set."""
    return [
        {
            METHOD: row["dataset"],
            "model": row["model"],
            "kind": row["kind"],
            "n": int(row["n"]),
            **{key: float(row[key]) for key in ("max", "rmse", "mae")},
        }
        for row in found.errors
        if (row["part"], row["element"], row["quantity"]) == ("all", "all", "force_component")
    ]


def _other_errors(found: Findings, quantity: str) -> dict[tuple[str, str], float]:
    """RMSE of another quantity on the whole test set, by data set and model."""
    return {
        (row["dataset"], row["model"]): float(row["rmse"])
        for row in found.errors
        if (row["part"], row["element"], row["quantity"]) == ("all", "all", quantity)
    }


def _errors(found: Findings) -> list[str]:
    rows = _main_errors(found)
    floors: dict[page.Cell, float] = {}
    for row in rows:
        if row["kind"] == "pair":
            rmse = float(row["rmse"] or 0)
            floors[row[METHOD]] = min(rmse, floors.get(row[METHOD], rmse))
    for row in rows:
        floor = floors.get(row[METHOD])
        if floor is not None and row["kind"] != "pair":
            row["floor"] = "▲ loses" if float(row["rmse"] or 0) > floor else "better"
    if not rows:
        return [page.heading("Errors"), page.paragraph("No errors were measured.")]
    energies, stresses = (
        _other_errors(found, quantity) for quantity in ("energy_per_atom", "stress_component")
    )
    for row in rows:
        title = str(row[METHOD]), str(row["model"])
        row["energy"], row["stress"] = (
            1000 * energies[title] if title in energies else None,
            stresses.get(title),
        )
    columns = {
        METHOD: METHOD,
        "model": "model",
        "max": "max / eV Å⁻¹",
        "rmse": "RMSE / eV Å⁻¹",
        "mae": "MAE / eV Å⁻¹",
        "floor": "RMSE against the pair potential",
        "energy": "energy RMSE / meV/atom",
        **({"stress": "stress RMSE / GPa"} if stresses else {}),
        "n": "components",
    }
    return [
        page.heading("Errors"),
        page.paragraph(
            "Of force components, on the whole test set; beside them those of the energy"
            + (" and of the stress's components. " if stresses else ". ")
            + "A model that loses to the pair potential of the same data set is not worth its time."
        ),
        page.table(columns, rows),
    ]


def _data(found: Findings) -> list[str]:
    parts = []
    if found.data:
        columns = {
            METHOD: METHOD,
            "frames": "frames",
            "energy low": "E/N from / eV",
            "energy high": "to",
            "atomic_energies low": "ε from / eV",
            "atomic_energies high": "to",
            "forces high": "|F| to / eV Å⁻¹",
        }
        parts += [page.heading("Data sets"), page.table(columns, found.data)]
    if found.overlaps:
        columns = {
            "first": METHOD,
            "second": "and",
            "shared": "frames shared",
            "chance": "by chance",
        }
        parts += [
            page.paragraph(
                "Data sets that share more frames than chance would give (n₁·n₂/N) differ in fewer "
                "than their names say; methods with one seed draw in one random order."
            ),
            page.table(columns, found.overlaps),
        ]
    if found.models:
        columns = {
            METHOD: METHOD,
            "model": "model",
            "frames": "frames",
            "cutoff": "cutoff / Å",
            "epochs": "epochs",
            "seed": "seed",
        }
        parts += [page.heading("Models"), page.table(columns, found.models)]
    return parts


def _what_was_run(found: Findings) -> list[str]:
    parts = [page.heading("What was run")]
    if found.pool:
        parts.append(
            page.paragraph(
                f"A pool of {found.pool['frames']} frames from {found.pool['runs']} runs; its "
                f"digest is {found.pool['digest']}."
            )
        )
    for section, values in found.settings.items():
        shown = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
        parts.append(page.folded(f"[{section}]", page.definitions(shown)))
    parts.append(page.folded("Versions", page.definitions(found.versions)))
    return parts


def _files(folder: Path) -> list[str]:
    patterns = (
        "pool.h5", "data/*.h5", "models/*/*/model.json", "evaluation/*.csv", "validation/*.csv",
        "validation/**/results.h5", "validation/**/trajectory.h5", "validation/**/in.lammps",
        "figures/*",
    )  # fmt: skip
    paths = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    items = "".join(f"<li>{page.link(p.relative_to(folder).as_posix())}</li>" for p in paths)
    inner = f"<ul>{items}</ul>"
    return [page.heading("Files"), page.folded(f"{len(paths)} files beside this page", inner)]
