"""The data sets of learning curves: several sizes by each method.

The first n frames that a method has chosen are what it gives for n (`Selector.nested`), so that a
set no larger than the study's own is the first frames of that one, and shares none with the test
set. A larger set, one of a seed that the study's own sets don't have, and one by a method that
isn't nested is chosen from the frames that are neither held out nor in the test set.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlsel.selection.registry import METHODS
from mlsel.study.folder import sized_name
from mlsel.study.seeds import seeded
from mlsel.study.study import Study


@dataclass(frozen=True)
class SizedSet:
    """A data set of a learning curve.

    Attributes
    ----------
    base : the study's own data set of the same method and seed
    method, seed : its own
    n : frames
    is_first_frames : whether it is the first frames of `base`
    """

    base: str
    method: str
    seed: int
    n: int
    is_first_frames: bool

    @property
    def name(self) -> str:
        return sized_name(self.base, self.n)


def sized_sets(study: Study) -> list[SizedSet]:
    """Return the data sets of a study's learning curves; none where it asks for none."""
    section = study.selection
    return [
        SizedSet(
            seeded(method, seed),
            method,
            seed,
            n,
            METHODS[method].nested and n <= section.n_train and seed <= section.seeds,
        )
        for seed in range(1, (study.learning.seeds or section.seeds) + 1)
        for method in study.learning.methods or section.methods
        for n in study.learning.n
    ]
