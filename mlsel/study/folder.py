"""The folder of a study: where each product of each stage lies in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

POOL = "pool.h5"
MODEL = "model.json"
TEST = "test"
UNSEEN = "unseen runs"
"""The part of the test set whose runs no other data set has frames of."""
HELD_OUT = "-validation"
"""Suffix of the data sets that are held out of training to judge it."""
_SIZED = re.compile(r"^(.+)-n([1-9]\d*)$")
_PART = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,59}")


def sized_name(name: str, n: int) -> str:
    """Return the name of a learning curve's data set: n frames of those that `name` would hold.

    >>> sized_name("force", 64)
    'force-n64'
    """
    return f"{name}-n{n}"


def size_of(name: str) -> tuple[str, int | None]:
    """Return a data set's name without the size that a learning curve gave it, and the size.

    >>> size_of("force-n64"), size_of("force")
    (('force', 64), ('force', None))
    """
    found = _SIZED.match(name)
    return (found[1], int(found[2])) if found else (name, None)


class _At:
    """A path below a study's folder, as an attribute of `StudyFolder`."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __get__(self, folder: StudyFolder, _: object = None) -> Path:
        return folder.root / self._place


@dataclass(frozen=True)
class StudyFolder:
    """Paths of a study's products.

    >>> StudyFolder(Path("mine")).data_set("random").as_posix()
    'mine/data/random.h5'
    >>> StudyFolder(Path("mine")).errors.as_posix()
    'mine/evaluation/errors.csv'
    """

    root: Path

    study = _At("study.json")
    """What was asked for when its first stage began."""
    pool = _At(POOL)
    runs = _At("runs")
    """Of the MD runs that make the pool."""
    runs_record = _At("runs/settings.json")
    import_record = _At("imported.json")
    """Hash, size and time of the files that the pool was imported from."""
    data = _At("data")
    test_set = _At(f"data/{TEST}.h5")
    models = _At("models")
    evaluation = _At("evaluation")
    errors = _At("evaluation/errors.csv")
    worst = _At("evaluation/worst.csv")
    learning = _At("evaluation/learning.csv")
    """Errors of each model beside the number of frames it was trained on."""
    probe = _At("evaluation/probe.csv")
    """What each model says of two atoms that are pushed together."""
    probe_record = _At("evaluation/probe.json")
    """The models, test set and reference that it is of."""
    validation = _At("validation")
    validation_record = _At("validation/settings.json")
    start = _At("validation/start.json")
    """What is known of the snapshot that all runs of the validation start from."""
    verdicts = _At("validation/verdicts.json")
    refine = _At("refine")
    refined = _At("refine/refine.csv")
    """What the rounds of each refinement found."""
    figures = _At("figures")
    report = _At("report.html")

    def data_set(self, name: str) -> Path:
        return self.data / f"{name}.h5"

    def held_out(self, name: str) -> Path:
        """The frames that a training on a data set is judged with."""
        return self.data_set(f"{name}{HELD_OUT}")

    def data_sets(self) -> list[str]:
        """Return the names of the data sets there are to train on, without learning curves'."""
        names = sorted(path.stem for path in self.data.glob("*.h5"))
        names = [name for name in names if name != TEST and not name.endswith(HELD_OUT)]
        return [name for name in names if size_of(name)[1] is None]

    def model(self, name: str) -> Path:
        """The folder of a model, <data set>/<model>."""
        return self.models / name

    def refinement(self, name: str) -> Path:
        """The rounds of a model, <data set>/<model>."""
        return self.refine / name

    def finished_models(self) -> list[str]:
        """Return <data set>/<model> of the models that are whole."""
        found = self.models.glob(f"*/*/{MODEL}")
        return sorted(f"{path.parts[-3]}/{path.parts[-2]}" for path in found)

    def part(self, name: str) -> Path:
        """The folder of a part of the study."""
        return self.root / name

    def contents(self) -> list[str]:
        """Return the pool, data sets and models that are there, in words."""
        found = [POOL] if self.pool.is_file() else []
        found += [f"data/{path.name}" for path in sorted(self.data.glob("*.h5"))]
        return found + [f"models/{name}" for name in self.finished_models()]


OWN = frozenset(
    place._place.partition("/")[0] for place in vars(StudyFolder).values() if isinstance(place, _At)
) | {"logs", "slurm"}
"""What stages, jobs and their scripts are called in a study's folder."""


def can_be_part(name: str) -> bool:
    """Whether a part of a study may have this name, which is that of its folder in the study's.

    >>> can_be_part("learn-32"), can_be_part("models"), can_be_part("../other")
    (True, False, False)
    """
    return bool(_PART.fullmatch(name)) and name.lower() not in OWN
