"""Random network distillation: each new frame is the one that a trained network knows least.

References
----------
arXiv:2305.00995 (2023), for choosing training data of molten salts so, and its authors' code,
github.com/zincware/ZnNL (`znrnd.agents.rnd`).
Burda, Edwards, Storkey, Klimov, arXiv:1810.12894 (2018).
Kingma and Ba, ICLR 2015, for Adam.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.selection.base import Task, refuse
from mlsel.selection.descriptors.features import Floats, OfFrames

ROWS = 4096
"""Frames of which a network is asked at once."""
HIDDEN, OUTPUTS = 64, 32
STEP = 3e-3
"""Adam's step."""
DECAY = 0.9, 0.999


@dataclass(frozen=True)
class NetworkDistillation(OfFrames):
    """A network of random weights (the target) is learnt by another (the predictor).

    Of a frame with the descriptor x the novelty is the mean square of f(x) − g(x), with the fixed
    target f and the predictor g. The frame with the greatest is chosen (of several the one with the
    smallest random number), and g is trained on f's values of all frames chosen so far: it comes to
    know what is like them. What is ours, where the letter leaves it open or differs: both networks
    are x → W tanh(V x + a) + b with 64 hidden units and 32 outputs, weights drawn from
    N(0, 1 / width); x is a frame's descriptor, each of its numbers brought to zero mean and unit
    variance over the frames that may be chosen; the distance is Euclidean; g goes on from what it
    has learnt, by `epochs` steps of Adam (step 3e-3, all frames chosen in each) for every frame.

    Its other parameters are those of `OfFrames`.

    Parameters
    ----------
    epochs : int
        Steps of training for each frame chosen.
    """

    epochs: int = 50

    name = "network-distillation"
    summary = "each frame the one that a network trained on those chosen knows least (RND)"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise refuse(f"epochs is {self.epochs}: it must be at least 1.")

    def choose(self, task: Task) -> IntArray:
        keys = task.keys()
        weights = np.random.default_rng(task.rng.integers(2**63))
        frames = task.frame_ids
        features = self.features(task)
        mean = features.mean(axis=0, dtype=np.float64)
        spread = features.std(axis=0, dtype=np.float64)
        scale = np.where(spread > 1e-9 * (np.abs(mean) + 1e-300), spread, np.inf)
        target = Network.drawn(features.shape[1], weights)
        predictor = Network.drawn(features.shape[1], weights)
        known = np.empty((0, features.shape[1]))
        if task.given is not None:
            known = (self.features(task.given) - mean) / scale
            predictor = self._taught(task, predictor, known, target)
        # The same blocks whatever the ranks: how products are rounded may depend on how many rows.
        stretches = task.stretches(len(frames), ROWS)
        free = np.ones(len(frames), dtype=bool)
        chosen: list[int] = []
        for _ in range(task.n):
            best = [(np.inf, np.inf, -1)]
            for some in stretches:
                x = (features[some] - mean) / scale
                novelty = np.square(target(x) - predictor(x)).mean(axis=1)
                novelty[~free[some]] = -np.inf
                tied = np.flatnonzero(novelty == novelty.max())
                at = some.start + int(tied[np.argmin(keys[frames[some]][tied])])
                if free[at]:
                    best.append((-float(novelty.max()), float(keys[frames[at]]), at))
            pick = min(task.every([min(best)]))[2]
            chosen.append(pick)
            free[pick] = False
            known = np.concatenate([known, (features[pick : pick + 1] - mean) / scale])
            predictor = self._taught(task, predictor, known, target)
        return frames[chosen]

    def _taught(
        self, task: Task, predictor: Network, known: FloatArray, target: Network
    ) -> Network:
        """Return the predictor after it was trained, by rank 0 for all."""
        if task.comm is None or task.comm.rank == 0:
            predictor.train(known, target(known), self.epochs)
        return task.from_root(predictor)


@dataclass
class Network:
    """x → W tanh(V x + a) + b, and Adam's moments of its weights.

    Examples
    --------
    >>> network = Network.drawn(2, np.random.default_rng(1))
    >>> x, y = np.eye(2), np.zeros((2, OUTPUTS))
    >>> before = np.square(network(x) - y).mean()
    >>> network.train(x, y, 50)
    >>> bool(np.square(network(x) - y).mean() < 0.1 * before)
    True
    """

    weights: list[FloatArray]
    moments: list[tuple[FloatArray, FloatArray]]
    n_steps: int = 0

    @classmethod
    def drawn(cls, width: int, rng: np.random.Generator) -> Network:
        """Return a network of random weights for inputs of some width."""
        made = [
            rng.standard_normal((width, HIDDEN)) / np.sqrt(width),
            rng.standard_normal(HIDDEN),
            rng.standard_normal((HIDDEN, OUTPUTS)) / np.sqrt(HIDDEN),
            rng.standard_normal(OUTPUTS),
        ]
        return cls(made, [(np.zeros_like(w), np.zeros_like(w)) for w in made])

    def __call__(self, x: Floats) -> FloatArray:
        v, a, w, b = self.weights
        out: FloatArray = np.tanh(x @ v + a) @ w + b
        return out

    def gradients(self, x: FloatArray, y: FloatArray) -> list[FloatArray]:
        """Return those of the mean square of g(x) − y, as the weights."""
        v, a, w, b = self.weights
        hidden = np.tanh(x @ v + a)
        slope = (hidden @ w + b - y) * (2.0 / y.size)
        inner = (slope @ w.T) * (1.0 - hidden * hidden)
        return [x.T @ inner, inner.sum(axis=0), hidden.T @ slope, slope.sum(axis=0)]

    def train(self, x: FloatArray, y: FloatArray, n_steps: int) -> None:
        """Go on learning y(x), all rows in each step."""
        for _ in range(n_steps):
            self.n_steps += 1
            first, second = (1.0 - decay**self.n_steps for decay in DECAY)
            for weight, (mean, square), slope in zip(
                self.weights, self.moments, self.gradients(x, y), strict=True
            ):
                mean += (1.0 - DECAY[0]) * (slope - mean)
                square += (1.0 - DECAY[1]) * (slope * slope - square)
                weight -= STEP * (mean / first) / (np.sqrt(square / second) + 1e-8)
