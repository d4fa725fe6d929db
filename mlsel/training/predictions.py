"""Forces of several models on all frames of a pool: what the selection method `committee` reads.

The file is an array of NumPy's, float32, in eV/Å: (models, atoms of all frames in the order of
frame ids, 3), or, where all frames are of one size, (models, frames, atoms, 3). The pool needs no
labels. Frames are shared over ranks.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core.errors import MlselError, shortened
from mlsel.core.files import finishing
from mlsel.core.parallel import on_root, share, wait_for_all
from mlsel.core.progress import Progress, duration

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.core.arrays import Array, IntArray
    from mlsel.pool.pool import Pool
    from mlsel.training.base import TrainedModel

log = logging.getLogger(__name__)

ATOMS = 20_000
"""Of a task; the neighbours of its frames are kept for all models, and take 2 kB an atom."""
FORCE = np.dtype("<f4")


def write_predictions(
    pool_file: Path, folders: Sequence[Path], path: Path, comm: MPI.Intracomm
) -> None:
    """Write the forces of models on all frames of a pool. Collective.

    Raises
    ------
    MlselError
        If a model is none or does not know an element of the pool, or if a force is not finite.
    Stopped
        If a signal asked for it; nothing is left then.
    """
    from mlsel.pool.pool import Pool
    from mlsel.training.registry import load_model
    from mlsel.training.stage import use_threads

    use_threads()
    try:
        models = [load_model(folder) for folder in folders]
    except MlselError as error:
        error.is_everywhere = True  # all ranks open the same
        raise
    with Pool(pool_file) as pool, ExitStack() as stack:
        starts = pool.atom_starts()
        shape: tuple[int, ...] = (len(models), int(starts[-1]), 3)
        sizes = set(np.diff(starts).tolist())
        if len(sizes) == 1:
            shape = (len(models), pool.n_frames, sizes.pop(), 3)
        partial = on_root(comm, lambda: stack.enter_context(finishing(path)))
        offset = on_root(comm, lambda: _begin(partial, shape))
        progress = Progress(pool.n_frames, lambda _, rate: f"{rate:.0f} frames/s")
        file = stack.enter_context(partial.open("r+b", buffering=0))

        def work(ids: range, *_: object) -> int:
            for part, rows in _forces(pool, ids, starts, models, folders):
                for m, forces in enumerate(part):
                    for row, one in zip(rows, forces, strict=True):
                        at = offset + FORCE.itemsize * 3 * (m * int(starts[-1]) + row)
                        _write(file.fileno(), np.ascontiguousarray(one, FORCE).tobytes(), at)
            return len(ids)

        tasks = _tasks(starts)
        share(comm, tasks, work, on_report=lambda i, _: progress.advance(len(tasks[i])))
        progress.end()
        os.fsync(file.fileno())
        wait_for_all(comm)  # all have written before rank 0 gives the file its name
    if comm.rank == 0:
        log.info(
            "%s: forces of %d models on %d frames, in %s",
            path, len(models), len(starts) - 1, duration(progress.elapsed),
        )  # fmt: skip


def _begin(partial: Path, shape: tuple[int, ...]) -> int:
    """Write the array's header and make room, and return where the numbers begin."""
    array = np.lib.format.open_memmap(partial, mode="w+", dtype=FORCE, shape=shape)
    return int(array.offset)


def _tasks(starts: IntArray) -> list[range]:
    """Cut the frames into ranges of about as many atoms."""
    tasks, first = [], 0
    while first < len(starts) - 1:
        last = int(np.searchsorted(starts, starts[first] + ATOMS, "right")) - 1
        tasks.append(range(first, max(last, first + 1)))
        first = tasks[-1].stop
    return tasks


def _forces(
    pool: Pool,
    ids: range,
    starts: IntArray,
    models: Sequence[TrainedModel],
    folders: Sequence[Path],
) -> Iterator[tuple[list[Array], list[int]]]:
    """Yield the models' forces on frames of one run, and the row of each frame's first atom."""
    from mlsel.training.frames import Frames

    for block in pool.blocks("positions", "cell", frame_ids=ids):
        frame_ids = np.asarray(block.frame_ids, np.int64)
        frames = Frames(
            pool.numbers(block.run), block["positions"], block["cell"],
            pool.periodic(block.run), frame_ids=frame_ids, kept={},
        )  # fmt: skip
        part = []
        for folder, model in zip(folders, models, strict=True):
            forces: Array = model.predict(frames).forces
            bad = ~np.isfinite(forces).all(axis=(1, 2))
            if bad.any():
                raise MlselError(
                    f"{shortened(str(folder), 100)} gives a force that is not finite in frame "
                    f"{frame_ids[bad][0]} of {shortened(str(pool.path), 100)}: leave this model "
                    "out, or the frame."
                )
            part.append(forces)
        yield part, starts[frame_ids].tolist()


def _write(file: int, data: bytes, at: int) -> None:
    """Write all of it at this place."""
    view = memoryview(data)
    while view:
        n = os.pwrite(file, view, at)
        view, at = view[n:], at + n
