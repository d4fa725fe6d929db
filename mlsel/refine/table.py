"""refine/refine.csv: a line a model and round, of what was spent and what it bought."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlsel.core.record import read_json
from mlsel.evaluate.csv_table import read_table
from mlsel.refine.errors import ERRORS, Errors
from mlsel.study.folder import StudyFolder
from mlsel.study.parts import measured_on
from mlsel.study.seeds import family
from mlsel.study.study import recorded_study

FIRST = ("model", "round", "labels_before", "shortest_time", "mean_time", "runs_lost", "runs",
         "new", "labelled")  # fmt: skip
"""What refine.csv has had from the first version on."""
COLUMNS = (*FIRST, "rmse", "max")
"""Times in ps, errors of force components on the test set in eV/Å, nan where there is none."""


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

    Errors on another test set than is here are none.

    Raises
    ------
    MlselError
        If refine.csv is damaged.
    """
    place = StudyFolder(folder)
    if not place.refined.is_file():
        return []
    test = measured_on(recorded_study(folder), folder)
    by_model: dict[str, list[dict[str, str]]] = {}
    for row in read_table(place.refined, FIRST, "mlsel refine"):
        by_model.setdefault(row["model"], []).append(dict(row))
    courses = []
    for name, rows in by_model.items():
        outcome = place.refinement(name) / "outcome.json"
        ended = str(read_json(outcome).get("ended", "")) if outcome.is_file() else ""
        dataset, _, model = name.partition("/")
        whole = {key: tuple(int(float(row[key])) for row in rows)
                 for key in ("labels_before", "runs_lost", "new")}  # fmt: skip
        for row in rows:
            errors = place.refinement(name) / f"round-{row['round']}" / ERRORS
            if errors.is_file():
                known = Errors.read(errors, test)
                row["rmse"], row["max"] = (
                    ("nan", "nan") if known is None else (str(known.rmse), str(known.max))
                )
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
