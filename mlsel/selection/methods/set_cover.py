"""Greedy cover of the atomic environments of a pool.

References
----------
Yu, Lordi, Schwalbe-Koda, arXiv:2511.10561 (2025), and the authors' code, github.com/dskoda/quests
(`quests.compression.fps.msc`).
Minoux, in Optimization Techniques, Springer (1978), for lazy evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlsel.core.arrays import Array, IntArray
from mlsel.selection.base import Selector, Task
from mlsel.selection.methods.entropy import by_environments, check_environments


@dataclass(frozen=True)
class SetCover(Selector):
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

    Parameters
    ----------
    descriptor : str or array
        See `mlsel.selection.descriptors.features`; an array has the shape (n_frames, n_atoms, D).
    cutoff : float
        Å, of the descriptor.
    bandwidth : float
        h, in the descriptor's unit; 0 takes a tenth of the root mean square distance of the
        environments from their mean.
    candidates : int
        Choose among so many frames, drawn at random; 0: among all. Environments of all candidates
        are held in memory.
    """

    descriptor: str | Array = "radial"
    cutoff: float = 6.0
    bandwidth: float = 0.0
    candidates: int = 0

    name = "set-cover"
    summary = "each frame the one with the environment that those chosen cover least"
    fields = ("positions",)

    def __post_init__(self) -> None:
        check_environments(self)

    def choose(self, task: Task) -> IntArray:
        return by_environments(self, task, cover=True)
