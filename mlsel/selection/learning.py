"""The data sets of learning curves: several sizes by each method.

The first n frames that a method has chosen are what it gives for n (`Selector.nested`), so that a
set no larger than the study's own is the first frames of that one, and shares none with the test
set. A larger set, or one by a method that isn't nested, is chosen anew from the frames that are
neither held out nor in the test set.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlsel.selection import METHODS
from mlsel.study.folder import sized_name
from mlsel.study.seeds import family
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
    wanted = study.learning.methods or study.selection.methods
    return [
        SizedSet(base, method, seed, n, METHODS[method].nested and n <= study.selection.n_train)
        for base in study.selection.data_sets()
        for method, seed in [family(base)]
        if method in wanted
        for n in study.learning.n
    ]
