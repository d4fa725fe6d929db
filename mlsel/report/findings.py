"""What the stages left in a study's folder, gathered for the page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from mlsel.core.errors import MlselError
from mlsel.evaluate.csv_table import ERRORS, read_table
from mlsel.evaluate.doubts import doubts
from mlsel.evaluate.seeds import COMPARED, SUMMARIZED
from mlsel.report.page import Cell
from mlsel.study.choice import kept_study
from mlsel.study.folder import StudyFolder, size_of
from mlsel.study.preset import DEFAULT_STUDY
from mlsel.study.seeds import family
from mlsel.study.study import Study, load_study
from mlsel.training.description import read_description
from mlsel.training.ending import CONVERGED, ending

METHOD = "data set"


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
    learning : what the learning curves say
    levels : eV/Å, errors whose price in frames they were asked for
    doubts : why the errors are not what they seem
    md_doubts : why the verdicts are not
    """

    name: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    pool: Mapping[str, Any]
    data: Sequence[Mapping[str, Cell]]
    models: Sequence[Mapping[str, Cell]]
    errors: Sequence[Mapping[str, Any]]
    validation: Mapping[str, Any]
    no_verdicts: str
    comparisons: Sequence[Mapping[str, str]]
    summary: Sequence[Mapping[str, str]]
    overlaps: Sequence[Mapping[str, Cell]]
    learning: Sequence[str]
    levels: Sequence[float]
    doubts: Sequence[str]
    md_doubts: Sequence[str]

    @property
    def is_of_the_paper(self) -> bool:
        """Whether the study is of the system that the paper is about, with its potential."""
        paper = load_study(DEFAULT_STUDY).as_dict("system")["system"]
        here = self.settings.get("system", {})
        return all(here.get(key) == paper[key] for key in ("species", "potential"))

    @property
    def not_converged(self) -> dict[tuple[str, str], str]:
        """How trainings ended that patience didn't end, by data set and model."""
        return {
            (str(row[METHOD]), str(row["model"])): str(row["ended"])
            for row in self.models
            if row["ended"] not in (None, CONVERGED)
        }

    @classmethod
    def of(cls, folder: Path, study: Study | None = None) -> Findings:
        """Gather them; of a study, or the one that the folder is of."""
        settings: dict[str, Any] = {}
        versions: dict[str, str] = {}
        pool: dict[str, Any] = {}
        place = StudyFolder(folder)
        name = folder.resolve().name
        recorded = kept_study(folder) if study is None or study.is_of_contents else study
        levels = () if recorded is None else recorded.learning.levels
        if recorded is not None:
            name = recorded.name
            settings |= recorded.as_dict("system")
        if place.pool.is_file():
            from mlsel.pool.pool import Pool

            with Pool(place.pool) as opened:
                if recorded is None or not recorded.part:  # a part's may be that of the study
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
            if size_of(title.partition("/")[0])[1] is not None:
                continue  # learning curves' models are told of by their curves
            described = read_description(place.model(title))
            versions |= described.get("versions", {})
            parameters, result = (described.get(key, {}) for key in ("parameters", "result"))
            models.append(
                {
                    METHOD: title.partition("/")[0],
                    "model": title.partition("/")[2],
                    "kind": described.get("kind"),
                    "frames": described.get("data", {}).get("n_frames"),
                    "seed": parameters.get("seed"),
                    "cutoff": parameters.get("cutoff"),
                    "epochs": result.get("n_epochs"),
                    "ended": ending(parameters, result) or None,
                }
            )
        errors = [r for r in rows_of(place.errors, ERRORS) if size_of(r["dataset"])[1] is None]
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
            for path in sorted(place.validation.rglob("results.h5"))[:1]:
                of_run = read_results(path).provenance
                settings |= json.loads(of_run["settings"])
                versions |= json.loads(of_run["versions"])
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
            rows_of(place.evaluation / "comparisons.csv", COMPARED),
            rows_of(place.evaluation / "summary.csv", SUMMARIZED),
            _overlaps(folder, pool),
            _learning(place, levels),
            levels,
            doubts(recorded, folder) if errors else (),
            _md_doubts(place) if validation else (),
        )


def _md_doubts(place: StudyFolder) -> list[str]:
    from mlsel.validate.verdict import changed_models

    changed = changed_models(place)
    if not changed:
        return []
    few = ", ".join(changed[:3]) + (", …" if len(changed) > 3 else "")
    return [
        f"The verdicts on {few} are of MD with models that have changed since: `mlsel validate "
        "--again` drives them anew."
    ]


def rows_of(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a table that must have some columns, none where there is no file."""
    return read_table(path, needed) if path.is_file() else []


def _overlaps(folder: Path, pool: Mapping[str, Any]) -> list[dict[str, Cell]]:
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


def _data_sets(folder: Path) -> list[dict[str, Cell]]:
    """Facts of each data set: how many frames, and how far their properties reach."""

    from mlsel.pool.block import SMALL_BLOCK
    from mlsel.pool.pool import Pool

    rows: list[dict[str, Cell]] = []
    place = StudyFolder(folder)
    for name in place.data_sets():
        with Pool(place.data_set(name)) as data:
            row: dict[str, Cell] = {METHOD: name, "frames": len(data)}
            reach = {
                f: Reach() for f in ("energy", "atomic_energies", "forces") if f in data.fields
            }
            for block in data.blocks(*reach, max_bytes=SMALL_BLOCK):
                for field, so_far in reach.items():
                    so_far.add(_property(field, block[field], block.run.n_atoms))
            for field, so_far in reach.items():
                row[f"{field} low"] = so_far.low
                row[f"{field} high"] = so_far.high
                row[f"{field} spread"] = so_far.spread
            rows.append(row)
    return rows


@dataclass
class Reach:
    """How far values reach, added block by block, so that they need not fit into memory.

    >>> import numpy as np; reach = Reach()
    >>> reach.add(np.array([1.0, 2.0])); reach.add(np.array([6.0]))
    >>> reach.low, reach.high, round(reach.spread, 6)  # √(14/3)
    (1.0, 6.0, 2.160247)

    References
    ----------
    Chan, Golub, LeVeque, The American Statistician 37, 242 (1983): sums of squares of parts.
    """

    n: int = 0
    low: float = math.inf
    high: float = -math.inf
    _mean: float = 0.0
    _squares: float = 0.0

    def add(self, values: Any) -> None:
        """Take more values."""
        mean, n = float(values.mean()), values.size
        apart, total = mean - self._mean, self.n + n
        self._squares += float(((values - mean) ** 2).sum()) + apart**2 * self.n * n / total
        self._mean += apart * n / total
        self.n = total
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))

    @property
    def spread(self) -> float:
        """The standard deviation."""
        return math.sqrt(self._squares / self.n)


def _property(field: str, values: Any, n_atoms: int) -> Any:
    import numpy as np

    if field == "energy":
        return values / n_atoms
    return np.linalg.norm(values, axis=2).ravel() if field == "forces" else values.ravel()


def _learning(place: StudyFolder, levels: Sequence[float]) -> list[str]:
    """What the learning curves say."""
    from mlsel.evaluate.learning_curve import read_points, sentences

    if not place.learning.is_file():
        return []
    return sentences(read_points(place.learning), levels)
