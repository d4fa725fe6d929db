"""refine/refine.csv: a line a model and round, of what was spent and what it bought."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.core.files import write_text
from mlsel.core.record import read_json
from mlsel.evaluate.csv_table import read_table
from mlsel.evaluate.tables import as_csv
from mlsel.study.folder import StudyFolder
from mlsel.study.seeds import family

if TYPE_CHECKING:
    from mlsel.refine.rounds import Refinement

FIRST = ("model", "round", "labels_before", "shortest_time", "mean_time", "runs_lost", "runs",
         "new", "labelled")  # fmt: skip
"""What refine.csv has had from the first version on."""
COLUMNS = (*FIRST, "rmse", "max")
"""Times in ps, errors of force components on the test set in eV/Å, nan where there is none."""


def write(path: Path, refinements: Iterable[Refinement]) -> None:
    """Write the table of these refinements, of the rounds whose MD has ended."""
    rows: list[dict[str, Any]] = []
    for refinement in refinements:
        spent = 0
        for k, found in enumerate(refinement.outcomes(), 1):
            errors = refinement.errors(k)
            rows.append(
                {
                    "model": refinement.name,
                    "round": k,
                    "labels_before": spent,
                    "shortest_time": min(found.times),
                    "mean_time": sum(found.times) / len(found.times),
                    "runs_lost": found.n_lost,
                    "runs": len(found.times),
                    "new": found.n_new,
                    "labelled": found.n_labelled,
                    "rmse": errors.rmse if errors else float("nan"),
                    "max": errors.max if errors else float("nan"),
                }
            )
            spent += found.n_labelled
    write_text(path, as_csv(COLUMNS, rows))


@dataclass(frozen=True)
class Course:
    """How a refinement went, round by round.

    Attributes
    ----------
    dataset, model : that it began from
    labels : spent before each round
    shortest, mean : ps, stable time of the round's runs
    n_lost : runs that did not reach their end
    n_new : frames that were new
    rmse, max : eV/Å, of the round's model on the test set; NaN where there is none
    ended : how it ended, "" if it goes on
    """

    dataset: str
    model: str
    labels: tuple[int, ...]
    shortest: tuple[float, ...]
    mean: tuple[float, ...]
    n_lost: tuple[int, ...]
    n_new: tuple[int, ...]
    rmse: tuple[float, ...]
    max: tuple[float, ...]
    ended: str

    @property
    def method(self) -> str:
        """The data set's name without its seed."""
        return family(self.dataset)[0]

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.model}"


def read(folder: Path) -> list[Course]:
    """Return the courses of a study's refinements, none where there are none.

    Raises
    ------
    MlselError
        If refine.csv is damaged.
    """
    place = StudyFolder(folder)
    if not place.refined.is_file():
        return []
    by_model: dict[str, list[Mapping[str, str]]] = {}
    for row in read_table(place.refined, FIRST, "mlsel refine"):
        by_model.setdefault(row["model"], []).append(row)
    courses = []
    for name, rows in by_model.items():
        outcome = place.refinement(name) / "outcome.json"
        ended = str(read_json(outcome).get("ended", "")) if outcome.is_file() else ""
        dataset, _, model = name.partition("/")
        whole = {key: tuple(int(float(row[key])) for row in rows)
                 for key in ("labels_before", "runs_lost", "new")}  # fmt: skip
        numbers = {key: tuple(float(row.get(key, "nan")) for row in rows)
                   for key in ("shortest_time", "mean_time", "rmse", "max")}  # fmt: skip
        courses.append(
            Course(
                dataset, model, whole["labels_before"], numbers["shortest_time"],
                numbers["mean_time"], whole["runs_lost"], whole["new"], numbers["rmse"],
                numbers["max"], ended,
            )
        )  # fmt: skip
    return courses
