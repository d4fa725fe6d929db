"""Farthest-point sampling guided by forces (GGFPS).

References
----------
Trestman, Gugler, Faber, von Lilienfeld, arXiv:2510.08906 (2025), and the authors' code,
github.com/mosstrestman/GGFPS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.selection.base import Task, not_finite, refuse
from mlsel.selection.descriptors.features import OfFrames
from mlsel.selection.methods.distances import Distances

FLOOR = 1e-8
"""eV/Å, added to each norm, so that a frame without forces can be weighted."""


@dataclass(frozen=True)
class ForceFarthestPoint(OfFrames):
    """Farthest-point sampling in which a frame's force norm weights its distance.

    With g_f = |F_f| the norm of all force components of a frame and d_f its distance from the
    nearest frame chosen, the k-th of n frames is the one with the greatest

        (g_f + 1e-8 eV/Å)^β_k · d_f,    β_k = −β … β in equal steps from the first to the last;

    of several the first. So a set begins with frames of small forces and ends with those of large
    ones; it depends on n, and the first 100 of 400 are not the 100-selection. The first frame is
    drawn with a probability that goes as (g_f + 1e-8 eV/Å)^β_1. The schedule is the authors'
    ascending one; what is ours: the descriptor, a frame's mean and spread of its atoms', and that
    with a data set given the first frame too is the one with the greatest score.

    Norms grow with the root of the number of atoms: in a pool of several sizes, large frames are
    taken later.

    Its other parameters are those of `OfFrames`.

    Parameters
    ----------
    beta : float
        The last exponent; the first is −beta. 0 is plain farthest-point sampling.
    """

    beta: float = 1.0

    name = "force-fps"
    summary = "farthest points, distances weighted by forces: from small ones to large (GGFPS)"
    fields = ("positions", "forces")
    nested = False

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 10:
            raise refuse(f"beta is {self.beta:g}: it must be from 0 to 10.")

    def choose(self, task: Task) -> IntArray:
        keys = task.keys()
        frames = task.frame_ids
        norms = force_norms(task)
        features = self.features(task)
        given = features[:0] if task.given is None else self.features(task.given)
        distances = Distances(features, task, len(given) + task.n)
        for row in given:
            distances.add(row)
        logs = np.log(norms + FLOOR)
        own = logs[distances.begin : distances.end]
        betas = self.beta * (np.linspace(-1.0, 1.0, task.n) if task.n > 1 else np.ones(1))
        minus = np.full(len(own), -np.inf)  # of those chosen
        chosen: list[int] = []
        for beta in betas:
            if not chosen and task.given is None:
                # The smallest of exponential variables with rates g^β.
                waits = -np.log1p(-keys[frames]) / np.exp(beta * (logs - logs.max()))
                place = int(np.argmin(waits))
            else:
                distances.refresh()
                d = np.sqrt(distances.nearest, where=distances.nearest >= 0, out=minus.copy())
                score = np.exp(beta * own) * d
                best = int(np.argmax(score)) if len(score) else -1
                parts = [(-float(score[best]), distances.begin + best)] if len(score) else []
                place = min(task.every(parts))[1]
            chosen.append(place)
            distances.add(features[place], place)
        return frames[chosen]


def force_norms(task: Task) -> FloatArray:
    """Return |F| of every eligible frame, eV/Å, (n_eligible,), the same on all ranks.

    Raises
    ------
    MlselError
        If a force of an eligible frame is not finite.
    """
    ids, parts = [np.empty(0, dtype=np.int64)], [np.empty(0)]
    for block in task.blocks("forces", frame_ids=np.asarray(task.share(task.frame_ids))):
        ids.append(block.frame_ids)
        with np.errstate(over="ignore", invalid="ignore"):
            parts.append(np.square(block["forces"]).reshape(len(block), -1).sum(axis=1))
    order = np.argsort(np.concatenate(ids))
    squares: FloatArray = task.join(np.concatenate(parts)[order])
    bad = ~np.isfinite(squares)
    if bad.any():
        raise not_finite(task.pool, "forces", int(task.frame_ids[np.argmax(bad)]))
    return np.sqrt(squares)
