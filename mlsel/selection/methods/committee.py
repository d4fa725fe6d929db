"""Query by committee: the frames on which several models disagree most.

References
----------
Seung, Opper, Sompolinsky, COLT 1992.
Schran, Brezina, Marsalek, J. Chem. Phys. 153, 104105 (2020), for committees of potentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.selection.base import Selector, Task, refuse


@dataclass(frozen=True)
class Committee(Selector):
    """Highest disagreement of M models' forces.

    A frame's disagreement is max_i √( (1/M) Σ_m |F_mi − F̄_i|² ), over its atoms i, with F̄_i the
    mean over the models; of frames with the same the one with the smallest random number.

    Parameters
    ----------
    predictions : str or array
        Forces in eV/Å of M ≥ 2 models, or the path of an .npy file that holds them:
        (M, n_frames, n_atoms, 3) or, where frames differ in size, (M, atoms of all frames in the
        order of frame ids, 3).
    """

    predictions: str | Array = ""

    name = "committee"
    summary = "highest disagreement of several models' forces"

    def choose(self, task: Task) -> IntArray:
        keys = task.keys()
        models, starts = self._models(task)
        ids = np.asarray(task.share(np.arange(task.pool.n_frames)))
        row_bytes = 24 * len(models) * max(1, int(np.diff(starts).max()))
        n = max(1, task.block_bytes // row_bytes)
        parts = [np.empty(0)]
        for at in range(0, len(ids), n):
            first, last = ids[at], ids[min(at + n, len(ids)) - 1]
            some = models[:, starts[first] : starts[last + 1]]
            parts.append(_disagreement(some, starts[first : last + 1] - starts[first]))
        value = task.join(np.concatenate(parts))
        bad = task.eligible & ~np.isfinite(value)
        if bad.any():
            raise self._refuse(task, models, starts, int(np.argmax(bad)))
        allowed = task.frame_ids
        return allowed[np.lexsort((keys[allowed], -value[allowed]))][: task.n]

    def _models(self, task: Task) -> tuple[Array, IntArray]:
        """Return the predictions as (M, atoms, 3), and where each frame's atoms start."""
        given = self.predictions
        if isinstance(given, str):
            if not given:
                raise refuse(
                    "committee needs predictions=FILE.npy, the forces of two models or more: "
                    "`mlsel predict POOL MODEL MODEL -o FILE.npy` writes them."
                )
            if not Path(given).is_file():
                raise refuse(f"there is no file of predictions {given}.")
            given = np.load(given, mmap_mode="r")
        pool = task.pool
        starts = pool.atom_starts()
        flat = given.reshape(len(given), -1, 3) if given.size % (3 * len(given)) == 0 else given
        if given.ndim not in (3, 4) or flat.shape[1:] != (starts[-1], 3) or len(given) < 2:
            raise refuse(
                f"predictions have the shape {given.shape}: for {pool.path} it must be "
                f"(M, {pool.n_frames}, n_atoms, 3) or (M, {starts[-1]}, 3), with M at least 2."
            )
        return flat, starts

    @staticmethod
    def _refuse(task: Task, models: Array, starts: IntArray, frame: int) -> Exception:
        run, row = (int(index[0]) for index in task.pool.locate([frame]))
        atoms = np.isfinite(models[:, starts[frame] : starts[frame + 1]]).all(axis=(0, 2))
        return refuse(
            f"predictions of frame {frame} (run {task.pool.runs[run].name}, its frame {row}, atom "
            f"{int(np.argmin(atoms))}) is NaN or infinite: exclude the frame, or predict it again."
        )


def _disagreement(forces: Array, starts: IntArray) -> FloatArray:
    """Return the disagreement of each frame, whose atoms begin at `starts`."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = forces - forces.mean(axis=0)
        per_atom = np.square(difference).sum(axis=2).mean(axis=0)
        found: FloatArray = np.sqrt(np.maximum.reduceat(per_atom, starts))
    return found
