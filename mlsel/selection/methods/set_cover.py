"""Greedy cover of the atomic environments of a pool.

References
----------
Yu, Lordi, Schwalbe-Koda, arXiv:2511.10561 (2025), and the authors' code, github.com/dskoda/quests
(`quests.compression.fps.msc`).
Minoux, in Optimization Techniques, Springer (1978), for lazy evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlsel.core.arrays import IntArray
from mlsel.selection.base import Task
from mlsel.selection.methods.entropy import OfEnvironments, by_environments


@dataclass(frozen=True)
class SetCover(OfEnvironments):
    """Each new frame is the one that holds the environment least covered by those chosen.

    With the environments x_j of the atoms in the frames chosen so far, the next frame is the one
    with the greatest

        max_i ( − ln Σ_j exp(− |y_i − x_j|² / (2 h²)) ) + H,

    over its environments y_1 … y_N, with its own entropy
    H = − (1 / N) Σ_i ln (1 / N) Σ_j exp(− |y_i − y_j|² / (2 h²)); the first frame, where none is
    given, is the one with the greatest H; of several the one with the smallest random number. That
    is the authors' greedy solution of the minimum set cover of all environments. What is ours: the
    descriptor and the bandwidth, logarithms in place of sums that underflow, and that only frames
    whose earlier value reaches the best are computed again, which gives the same frames.

    Its parameters are those of `OfEnvironments`.
    """

    name = "set-cover"
    summary = "each frame the one with the environment that those chosen cover least"

    def choose(self, task: Task) -> IntArray:
        return by_environments(self, task, cover=True)
