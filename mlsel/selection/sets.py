"""The data sets that a study asks for: their order, and what decides each."""

from __future__ import annotations

import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.core.errors import MlselError, nearest, shortened
from mlsel.core.parallel import on_root
from mlsel.selection.learning import sized_sets
from mlsel.study.folder import HELD_OUT, UNSEEN, StudyFolder
from mlsel.study.seeds import seeded

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.core.arrays import IntArray
    from mlsel.pool.pool import Pool
    from mlsel.study.study import Study

    type Choose = Callable[[MPI.Intracomm], IntArray]


class StudySets(ABC):
    """The data sets of a study in the order in which they must be made, and what is asked of each.

    What becomes of them, making or looking, is a subclass's.
    """

    def __init__(self, study: Study, pool: Pool, folder: StudyFolder) -> None:
        self._section, self._sized = study.selection, sized_sets(study)
        self._pool, self._folder = pool, folder

    @abstractmethod
    def _settled(
        self, path: Path, expected: Mapping[str, Any], choose: Choose, how: str
    ) -> IntArray:
        """Return the frames of a data set that is to be as `expected`; `choose` makes it."""

    @abstractmethod
    def _tell_left_out(self) -> None:
        """Say that runs are left out."""

    def go_through(self) -> None:
        """Settle one after the other."""
        import numpy as np

        section = self._section
        left_out = np.empty(0, dtype=np.int64)
        if section.molten_only:
            left_out = self._solid
            self._tell_left_out()
        left_out = _union([left_out, self._unseen])
        chosen: list[IntArray] = []
        held_out: dict[int, IntArray] = {}
        for k in range(1, section.seeds + 1):
            training = [self._one(m, k, "", section.n_train, left_out) for m in section.methods]
            chosen += training
            if section.n_validation:
                # What another seed trains on may be held out here: so a seed's data sets stay as
                # they are when more are asked for.
                taken = _union([left_out, *training])
                validation = [
                    self._one(m, k, HELD_OUT, section.n_validation, taken) for m in section.methods
                ]
                chosen += validation
                held_out[k] = _union(validation)
        taken = _union([left_out, *chosen])
        test = left_out
        if section.n_test:
            test = self._test(taken)
            self._check(np.sort(test[: section.n_test]), taken)
        for sized in self._sized:
            judged = held_out.get(sized.seed, held_out.get(1, left_out))
            exclude = left_out if sized.is_first_frames else _union([left_out, judged, test])
            self._one(sized.method, sized.seed, "", sized.n, exclude, sized.name)

    @abstractmethod
    def _check(self, test: IntArray, taken: IntArray) -> None:
        """Look at the test frames, sorted, and those that they must not be."""

    @functools.cached_property
    def _molten(self) -> list[bool | None]:
        """Whether each run of the pool stayed molten, None where it does not say."""
        told = (self._pool.run_attributes(run).get("molten") for run in self._pool.runs)
        return [None if value is None else bool(value) for value in told]

    @functools.cached_property
    def _solid(self) -> IntArray:
        """The frames of runs that did not stay molten."""
        import numpy as np

        run_of, _ = self._pool.locate(np.arange(len(self._pool)))
        solid = [index for index, molten in enumerate(self._molten) if molten is False]
        frames: IntArray = np.flatnonzero(np.isin(run_of, solid))
        return frames

    @functools.cached_property
    def _unseen(self) -> IntArray:
        """The frames of the runs that no data set is chosen from, sorted.

        Raises
        ------
        MlselError
            If the pool has no such run, or they have too few frames.
        """
        import numpy as np

        section, known = self._section, {run.name: run for run in self._pool.runs}
        for name in section.unseen_runs:
            if name not in known:
                few = ", ".join(list(known)[:6]) + (", …" if len(known) > 6 else "")
                raise MlselError(
                    f"selection.unseen_runs names {shortened(name, 60)}{nearest(name, known)}, and "
                    f"{self._pool.path} has the runs {few}.",
                    everywhere=True,
                )
        run_of, _ = self._pool.locate(np.arange(len(self._pool)))
        wanted = [known[name].index for name in section.unseen_runs]
        frames: IntArray = np.flatnonzero(np.isin(run_of, wanted))
        if section.unseen_runs and len(frames) < section.n_unseen:
            raise MlselError(
                f"selection.n_unseen is {section.n_unseen}, and the unseen runs have {len(frames)} "
                f"frames together: give 1 to {len(frames)}.",
                everywhere=True,
            )
        return frames

    def _parameters(self, method: str) -> dict[str, Any]:
        from mlsel.selection.registry import METHODS

        section = self._section
        if method == "single-md-random":
            return {"run": section.run, "temperature": section.run_temperature}
        has_bins = method in METHODS and "bins" in METHODS[method].defaults()
        return {"bins": section.bins} if has_bins else {}

    def _one(
        self, method: str, number: int, suffix: str, n: int, exclude: IntArray, called: str = ""
    ) -> IntArray:
        """Settle the data set of a method and a seed; return its frames."""
        from mlsel.core.provenance import derived_seed
        from mlsel.selection.registry import make_selector

        selector = make_selector(method, self._parameters(method))
        name = seeded(method, number) + suffix
        stream = name if self._section.streams == "own" else seeded("common", number) + suffix
        seed = derived_seed(self._section.seed, stream)
        path = self._folder.data_set(called or name)
        expected = selector.asked(self._pool, n, seed, exclude).record()

        def choose(comm: MPI.Intracomm) -> IntArray:
            selection = selector.select(self._pool, n, seed, exclude, comm)
            on_root(comm, lambda: selection.write(self._pool, path))
            return selection.frame_ids

        return self._settled(path, expected, choose, method)

    def _test(self, taken: IntArray) -> IntArray:
        """Settle test.h5; return its frames."""
        import numpy as np

        from mlsel.core.provenance import derived_seed, digest
        from mlsel.pool.subset import write_subset
        from mlsel.selection.registry import make_selector

        section, pool = self._section, self._pool
        each = section.n_test // len(section.test_methods)
        selectors = {}
        for method in section.test_methods:
            parameters = self._parameters(method)
            if method == "single-md-random" and not section.run:
                # One run has too few frames for its part: the runs of the lowest pressure
                # together have enough, and span the temperatures.
                parameters["runs"] = self._runs_at_lowest_pressure()
            selectors[method] = make_selector(method, parameters)
        asked: list[dict[str, Any]] = [
            {"method": method, "n": each, "parameters": selector.parameters()}
            for method, selector in selectors.items()
        ]
        unseen = self._unseen
        if len(unseen):
            places = np.linspace(0, len(unseen) - 1, section.n_unseen).astype(np.int64)
            unseen = unseen[places]
            asked.append({"method": UNSEEN, "n": len(unseen), "runs": list(section.unseen_runs)})
        expected = {
            "method": "test",
            "parts": asked,
            "seed": section.seed,
            "pool_digest": pool.digest,
            "n_excluded": len(taken),
            "excluded": digest(taken.tobytes()),
        }
        path = self._folder.test_set

        def choose(comm: MPI.Intracomm) -> IntArray:
            # The single run has the fewest frames to choose from, random has all: the rarer first.
            order = sorted(
                section.test_methods, key=lambda m: (m == "random", m != "single-md-random")
            )
            made: dict[str, IntArray] = {}
            for method in order:
                seed = derived_seed(section.seed, method, "test")
                exclude = _union([taken, *made.values()])
                found = selectors[method].select(pool, each, seed, exclude, comm)
                made[method] = found.frame_ids
            frames = np.concatenate([*(made[m] for m in section.test_methods), unseen])

            def write() -> None:
                stamp = {"made_by": "mlsel.selection", **expected}
                stamp["parts"] = json.dumps(expected["parts"])
                write_subset(pool, frames, path, stamp)

            on_root(comm, write)
            return frames

        told = f"{len(section.test_methods)} methods, {each} each"
        return self._settled(path, expected, choose, told)

    def _runs_at_lowest_pressure(self) -> int:
        known = [self._pool.run_attributes(run) for run in self._pool.runs]
        pressures = [float(of["pressure_set"]) for of in known if "pressure_set" in of]
        return pressures.count(min(pressures)) if len(pressures) == len(known) else 1


def compared(data: Pool, expected: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a data set says of what was asked, and what is, as plain values."""
    recorded = {key: _plain(data.attributes.get(key)) for key in expected}
    return recorded, {key: _plain(value) for key, value in expected.items()}


def _plain(value: Any) -> Any:
    """Return an attribute as the value that was written, JSON text parsed."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, str) and value.startswith(("[", "{")):
        return json.loads(value)
    return value


def _union(frames: Sequence[Any]) -> IntArray:
    import numpy as np

    return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *frames]))
