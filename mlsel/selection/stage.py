"""Stage 2: data sets from the pool.

All data sets of a study, in DIR/data, and only what is missing of them: <method>.h5 to train on,
<method>-validation.h5 (with selection.seeds also <method>-s2.h5 and <method>-s2-validation.h5, …),
and test.h5. With any number of ranks the frames are the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.core import stopping
from mlsel.core.parallel import on_root
from mlsel.selection.sets import StudySets, compared
from mlsel.study.folder import StudyFolder

if TYPE_CHECKING:
    import numpy as np
    from mpi4py import MPI

    from mlsel.core.arrays import IntArray
    from mlsel.pool.pool import Pool
    from mlsel.selection.sets import Choose
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
        false; or the pool was.
    Stopped
        After a data set, if a signal asked for it.
    """
    from mlsel.core.lock import FolderLock
    from mlsel.md.pool_record import require_pool

    on_root(comm, lambda: require_pool(study, folder))
    with opened(StudyFolder(folder).pool, comm) as pool:
        lock = FolderLock(folder)
        on_root(comm, lock.acquire)
        try:
            _Made(study, pool, StudyFolder(folder), comm, again).go_through()
        finally:
            if comm.rank == 0:
                lock.release()


class _Made(StudySets):
    """The data sets of a study, each made unless it is there."""

    def __init__(
        self, study: Study, pool: Pool, folder: StudyFolder, comm: MPI.Intracomm, again: bool
    ) -> None:
        super().__init__(study, pool, folder)
        self._comm, self._again = comm, again

    def _settled(
        self, path: Path, expected: Mapping[str, Any], choose: Choose, how: str
    ) -> IntArray:
        """Return the frames of a data set, which is made unless it is there.

        Raises
        ------
        MlselError
            If it is there and was made otherwise.
        """
        frames = on_root(self._comm, lambda: self._there(path, expected))
        if frames is None:
            stopping.check(self._comm)
            frames = choose(self._comm)
            stopping.count_unit()
            self._tell(path, frames, how)
        return frames

    def _there(self, path: Path, expected: Mapping[str, Any]) -> IntArray | None:
        """Return the frames of a data set that is there; raise if it was made otherwise."""
        from mlsel.core.files import take_away
        from mlsel.core.record import settle
        from mlsel.pool.pool import Pool

        if path.is_file():
            with Pool(path) as data:
                if settle(path, *compared(data, expected), again=self._again):
                    frames: np.ndarray = data.values("source_frame")
                    return frames
        take_away(path)
        return None

    def _check(self, test: IntArray, taken: IntArray) -> None:
        import numpy as np

        n_double = int((np.diff(test) == 0).sum()) + len(np.intersect1d(test, taken))
        if n_double or len(test) != self._section.n_test:
            raise AssertionError(f"{n_double} frames of the test set are not its own")

    def _tell_left_out(self) -> None:
        if self._comm.rank:
            return
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

    def _tell(self, path: Path, frames: IntArray, method: str) -> None:
        import numpy as np

        if self._comm.rank == 0:
            share = float(np.isin(frames, self._solid).mean())
            solid = f", {share:.0%} of runs that did not stay molten" if share else ""
            log.info("%s: %d frames, %s%s", path, len(frames), method, solid)
