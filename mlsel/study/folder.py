"""The folder of a study: where each product of each stage lies in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

POOL = "pool.h5"
MODEL = "model.json"
TEST = "test"
HELD_OUT = "-validation"
"""Suffix of the data sets that are held out of training to judge it."""


@dataclass(frozen=True)
class StudyFolder:
    """Paths of a study's products.

    >>> StudyFolder(Path("mine")).data_set("random").as_posix()
    'mine/data/random.h5'
    """

    root: Path

    @property
    def study(self) -> Path:
        """What was asked for when its first stage began."""
        return self.root / "study.json"

    @property
    def pool(self) -> Path:
        return self.root / POOL

    @property
    def runs(self) -> Path:
        """Of the MD runs that make the pool."""
        return self.root / "runs"

    @property
    def runs_record(self) -> Path:
        return self.runs / "settings.json"

    @property
    def data(self) -> Path:
        return self.root / "data"

    def data_set(self, name: str) -> Path:
        return self.data / f"{name}.h5"

    def held_out(self, name: str) -> Path:
        """The frames that a training on a data set is judged with."""
        return self.data_set(f"{name}{HELD_OUT}")

    @property
    def test_set(self) -> Path:
        return self.data_set(TEST)

    def data_sets(self) -> list[str]:
        """Return the names of the data sets to train on that are there."""
        names = sorted(path.stem for path in self.data.glob("*.h5"))
        return [name for name in names if name != TEST and not name.endswith(HELD_OUT)]

    @property
    def models(self) -> Path:
        return self.root / "models"

    def model(self, name: str) -> Path:
        """The folder of a model, <data set>/<model>."""
        return self.models / name

    def finished_models(self) -> list[str]:
        """Return <data set>/<model> of the models that are whole."""
        found = self.models.glob(f"*/*/{MODEL}")
        return sorted(f"{path.parts[-3]}/{path.parts[-2]}" for path in found)

    @property
    def evaluation(self) -> Path:
        return self.root / "evaluation"

    @property
    def errors(self) -> Path:
        return self.evaluation / "errors.csv"

    @property
    def worst(self) -> Path:
        return self.evaluation / "worst.csv"

    @property
    def validation(self) -> Path:
        return self.root / "validation"

    @property
    def validation_record(self) -> Path:
        return self.validation / "settings.json"

    @property
    def start(self) -> Path:
        """What is known of the snapshot that all runs of the validation start from."""
        return self.validation / "start.json"

    @property
    def verdicts(self) -> Path:
        return self.validation / "verdicts.json"

    @property
    def figures(self) -> Path:
        return self.root / "figures"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    def contents(self) -> list[str]:
        """Return the pool, data sets and models that are there, in words."""
        found = [POOL] if self.pool.is_file() else []
        found += [f"data/{path.name}" for path in sorted(self.data.glob("*.h5"))]
        return found + [f"models/{name}" for name in self.finished_models()]
