"""The sections [selection] and [learning]: which data sets there are."""

from __future__ import annotations

from dataclasses import dataclass

from mlsel.study.schema import quantity
from mlsel.study.seeds import MOST, family, seeded


@dataclass(frozen=True)
class SelectionSection:
    """The data sets that are selected from the pool: one for each method, and a test set.

    Of each method there is a training set and a held-out set; the test set has equal parts from
    `test_methods`, and shares no frame with any of them.
    """

    methods: tuple[str, ...] = quantity(
        ("random", "single-md-random", "global-energy", "atomic-energy", "force"), one_or_more=True
    )
    n_train: int = quantity(512, at_least=1)
    n_validation: int = quantity(128, at_least=0, doc="held out of training to judge it")
    n_test: int = quantity(20480, at_least=0)
    test_methods: tuple[str, ...] = quantity(
        ("random", "single-md-random", "global-energy", "atomic-energy", "force")
    )
    unseen_runs: tuple[str, ...] = quantity(
        (), doc="runs of the pool that no data set is chosen from, to test on what was never seen"
    )
    n_unseen: int = quantity(
        200, at_least=1, doc="frames of these together, evenly spaced, at the end of the test set"
    )
    molten_only: bool = quantity(
        False, doc="leave out the runs that the pool says did not stay molten"
    )
    bins: int = quantity(512, at_least=1, doc="of the methods that are uniform in a property")
    run: str = quantity("", doc="of single-md-random; empty: at the lowest pressure and nearest to")
    run_temperature: float = quantity(1400.0, unit="K", above=0, doc="of single-md-random's run")
    seed: int = quantity(1, at_least=0)
    seeds: int = quantity(
        1,
        at_least=1,
        at_most=MOST,
        doc="data sets of each method that differ in their seed alone, and so their models do",
    )
    streams: str = quantity(
        "own", choices=("own", "common"), doc="of random numbers: one a method, or one for all"
    )

    def data_sets(self) -> list[str]:
        """Return the names of the data sets to train on: all methods with one seed, then another's.

        >>> SelectionSection(methods=("random", "force"), seeds=2).data_sets()
        ['random', 'force', 'random-s2', 'force-s2']
        """
        return [seeded(m, k) for k in range(1, self.seeds + 1) for m in self.methods]

    def seed_of(self, data_set: str) -> int:
        """Return which seed, from 1 on, a data set has; 1 for one that is not of the study."""
        return family(data_set)[1] if data_set in self.data_sets() else 1

    def check(self) -> str | None:
        for name in ("methods", "test_methods"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                return f"selection.{name} names one method twice: {', '.join(values)}"
        if self.unseen_runs and not self.n_test:
            return "selection.unseen_runs are to test on, and selection.n_test is 0: give it frames"
        n_parts = len(self.test_methods)
        if self.n_test and not n_parts:
            return "selection.test_methods is empty: name methods, or set selection.n_test = 0"
        if self.n_test and self.n_test % n_parts:
            below = self.n_test // n_parts * n_parts
            return (
                f"selection.n_test is {self.n_test}, which is not {n_parts} equal parts: "
                f"take {below} or {below + n_parts}"
            )
        return None


@dataclass(frozen=True)
class LearningSection:
    """Learning curves: models trained on data sets of several sizes, by each method."""

    n: tuple[int, ...] = quantity((), at_least=1, doc="frames of each data set; none: no curves")
    methods: tuple[str, ...] = quantity((), doc="of selection.methods; none: all of them")
    models: tuple[str, ...] = quantity(
        ("*",), doc="patterns of the models that are trained on them"
    )
    seeds: int = quantity(
        0, at_least=0, at_most=MOST, doc="data sets of each size and method; 0: selection.seeds"
    )
    levels: tuple[float, ...] = quantity(
        (), unit="eV/Å", above=0, doc="errors that are to be reached; none: one that all reach"
    )

    def check(self) -> str | None:
        if len(set(self.n)) != len(self.n):
            return f"learning.n names one size twice: {', '.join(map(str, self.n))}"
        return None
