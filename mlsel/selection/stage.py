"""Stage 2: data sets from the pool.

All data sets of a study, in DIR/data, and only what is missing of them: <method>.h5 to train on,
<method>-validation.h5 (with selection.seeds also <method>-s2.h5 and <method>-s2-validation.h5, …),
and test.h5. With any number of ranks the frames are the same.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.core import stopping
from mlsel.core.errors import MlselError, nearest, shortened
from mlsel.core.parallel import on_root
from mlsel.selection.learning import sized_sets
from mlsel.study.folder import HELD_OUT, TEST, UNSEEN, StudyFolder
from mlsel.study.seeds import seeded
from mlsel.study.stage import DONE, MISSING, STALE, Item

if TYPE_CHECKING:
    import numpy as np
    from mpi4py import MPI

    from mlsel.core.arrays import IntArray
    from mlsel.pool.pool import Pool
    from mlsel.study.study import Study

log = logging.getLogger(__name__)


def opened(path: Path, comm: MPI.Intracomm) -> Pool:
    """Open a pool on every rank; a mistake is found by rank 0 for all."""
    from mlsel.pool.pool import Pool

    on_root(comm, lambda: Pool(path).close())
    return Pool(path)


def select_study(study: Study, folder: Path, comm: MPI.Intracomm, *, again: bool = False) -> None:
    """Make every data set of a study that is missing.

    Raises
    ------
    MlselError
        If a data set that is there was made otherwise than the study now says, and `again` is
        false.
    Stopped
        After a data set, if a signal asked for it.
    """
    from mlsel.core.lock import FolderLock

    with opened(StudyFolder(folder).pool, comm) as pool:
        lock = FolderLock(folder)
        on_root(comm, lock.acquire)
        try:
            _Sets(study, pool, StudyFolder(folder), comm, again).make()
        finally:
            if comm.rank == 0:
                lock.release()


class _Sets:
    """The data sets of a study, in the order in which they must be made."""

    def __init__(
        self,
        study: Study,
        pool: Pool,
        folder: StudyFolder,
        comm: MPI.Intracomm,
        again: bool,
    ) -> None:
        self._section, self._sized = study.selection, sized_sets(study)
        self._pool, self._folder, self._comm = pool, folder, comm
        self._again = again

    def make(self) -> None:
        import numpy as np

        section = self._section
        left_out = np.empty(0, dtype=np.int64)
        if section.molten_only:
            left_out = self._solid
            if self._comm.rank == 0:
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
            frames = np.sort(test[: section.n_test])
            n_double = int((np.diff(frames) == 0).sum()) + len(np.intersect1d(frames, taken))
            if n_double or len(frames) != section.n_test:
                raise AssertionError(f"{n_double} frames of the test set are not its own")
        for sized in self._sized:
            judged = held_out.get(sized.seed, held_out.get(1, left_out))
            exclude = left_out if sized.is_first_frames else _union([left_out, judged, test])
            self._one(sized.method, sized.seed, "", sized.n, exclude, sized.name)

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

    def _tell_left_out(self) -> None:
        log.info(
            "%d of %d frames are left out: their runs did not stay molten (selection.molten_only)",
            len(self._solid),
            len(self._pool),
        )
        untold = self._molten.count(None)
        if untold:
            log.warning(
                "%d of %d runs of %s don't say whether they stayed molten: their frames stay in",
                untold,
                len(self._molten),
                self._pool.path,
            )

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
        """Make the data set of a method and a seed unless it is there; return its frames."""
        from mlsel.core.provenance import derived_seed
        from mlsel.selection.registry import make_selector

        selector = make_selector(method, self._parameters(method))
        name = seeded(method, number) + suffix
        stream = name if self._section.streams == "own" else seeded("common", number) + suffix
        seed = derived_seed(self._section.seed, stream)
        path = self._folder.data_set(called or name)
        expected = selector.asked(self._pool, n, seed, exclude).record()
        frames = on_root(self._comm, lambda: self._there(path, expected))
        if frames is None:
            stopping.check(self._comm)
            selection = selector.select(self._pool, n, seed, exclude, self._comm)
            on_root(self._comm, lambda: selection.write(self._pool, path))
            frames = selection.frame_ids
            stopping.count_unit()
            self._tell(path, frames, method)
        return frames

    def _test(self, taken: IntArray) -> IntArray:
        """Make test.h5 unless it is there; return its frames."""
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
        frames = on_root(self._comm, lambda: self._there(path, expected))
        if frames is not None:
            return frames
        stopping.check(self._comm)
        parts: list[IntArray] = []
        # The single run has the fewest frames to choose from, random has all: the rarer first.
        order = sorted(section.test_methods, key=lambda m: (m == "random", m != "single-md-random"))
        made: dict[str, IntArray] = {}
        for method in order:
            seed = derived_seed(section.seed, method, "test")
            exclude = _union([taken, *made.values()])
            made[method] = selectors[method].select(pool, each, seed, exclude, self._comm).frame_ids
        parts = [made[method] for method in section.test_methods]
        frames = np.concatenate([*parts, unseen])

        def write() -> None:
            stamp = {"made_by": "mlsel.selection", **expected}
            stamp["parts"] = json.dumps(expected["parts"])
            write_subset(pool, frames, path, stamp)

        on_root(self._comm, write)
        self._tell(path, frames, f"{len(parts)} methods, {each} each")
        return frames

    def _runs_at_lowest_pressure(self) -> int:
        known = [self._pool.run_attributes(run) for run in self._pool.runs]
        pressures = [float(of["pressure_set"]) for of in known if "pressure_set" in of]
        return pressures.count(min(pressures)) if len(pressures) == len(known) else 1

    def _there(self, path: Path, expected: Mapping[str, Any]) -> IntArray | None:
        """Return the frames of a data set that is there; raise if it was made otherwise."""
        from mlsel.core.files import take_away
        from mlsel.core.record import settle
        from mlsel.pool.pool import Pool

        if path.is_file():
            with Pool(path) as data:
                recorded = {key: _plain(data.attributes.get(key)) for key in expected}
                made_from = {key: _plain(value) for key, value in expected.items()}
                if settle(path, recorded, made_from, again=self._again):
                    frames: np.ndarray = data.values("source_frame")
                    return frames
        take_away(path)
        return None

    def _tell(self, path: Path, frames: IntArray, method: str) -> None:
        import numpy as np

        if self._comm.rank == 0:
            share = float(np.isin(frames, self._solid).mean())
            solid = f", {share:.0%} of runs that did not stay molten" if share else ""
            log.info("%s: %d frames, %s%s", path, len(frames), method, solid)


def _plain(value: Any) -> Any:
    """Return an attribute as the value that was written, JSON text parsed."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, str) and value.startswith(("[", "{")):
        return json.loads(value)
    return value


def _union(frames: Sequence[Any]) -> IntArray:
    import numpy as np

    return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *frames]))


def items(study: Study, folder: Path) -> list[Item]:
    """Return the data sets and their states."""
    from mlsel.pool.pool import Pool

    section, place = study.selection, StudyFolder(folder)
    wanted = dict.fromkeys(section.data_sets(), section.n_train)
    if section.n_validation:
        wanted |= {name + HELD_OUT: section.n_validation for name in section.data_sets()}
    if section.n_test:
        wanted[TEST] = section.n_test + (section.n_unseen if section.unseen_runs else 0)
    wanted |= {sized.name: sized.n for sized in sized_sets(study)}
    digest = None
    if place.pool.is_file():
        with Pool(place.pool) as pool:
            digest = pool.digest
    found = []
    for name, n_wanted in wanted.items():
        path = place.data_set(name)
        if not path.is_file():
            found.append(Item(name, MISSING))
            continue
        with Pool(path) as data:
            n, made_from = len(data), data.attributes.get("pool_digest")
        if n != n_wanted:
            found.append(Item(name, STALE, f"{n} frames, and the study wants {n_wanted}"))
        elif digest is not None and made_from != digest:
            found.append(Item(name, STALE, "selected from another pool than pool.h5 now is"))
        else:
            found.append(Item(name, DONE, f"{n} frames"))
    for path in sorted(place.data.glob("*.h5")):
        if path.stem not in wanted:
            with Pool(path) as data:
                found.append(Item(path.stem, DONE, f"{len(data)} frames, not of the study"))
    return found
