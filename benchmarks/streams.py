"""Whether methods should draw from one random order or from one each: which needs fewer seeds.

    python -m benchmarks.streams POOL [-n 64] [--seeds 40]

From each seed every method selects n frames, once all from the same stream of random numbers
(`selection.streams = "common"`) and once each from its own; a pair potential is fitted to each set
and its force RMSE measured on 200 frames that none may take. The standard error of the difference
between two methods after S seeds is the scatter of their paired differences over √S; so the seeds
that reach a given error go with the variance of the differences, and the ratio of the two variances
says how many seeds of own streams are worth one of a common stream. Its error is by jackknife.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claims import Claims
from mlsel.core.arrays import FloatArray
from mlsel.core.provenance import derived_seed
from mlsel.pool.pool import Pool
from mlsel.selection import make_selector
from mlsel.study.sections.selection import SelectionSection
from mlsel.study.seeds import seeded
from mlsel.training.frames import Frames, read_frames
from mlsel.training.pair.trainer import PairTrainer

METHODS = ("random", "global-energy", "atomic-energy", "force")
STREAMS = ("own", "common")
N_TEST = 200


def rmse(train: Sequence[Frames], test: Sequence[Frames]) -> float:
    """Return the force components' RMSE of a pair potential, eV/Å."""
    with tempfile.TemporaryDirectory() as folder:
        model = PairTrainer().fit(train, [], Path(folder))
    squares = [
        np.square(model.predict(part).forces - part.forces)
        for part in test
        if part.forces is not None
    ]
    return float(np.sqrt(sum(s.sum() for s in squares) / sum(s.size for s in squares)))


def measure(pool: Pool, n: int, n_seeds: int) -> dict[str, FloatArray]:
    """Return the RMSE by stream, (seeds, methods)."""
    held_out = np.sort(np.random.default_rng(1).permutation(len(pool))[:N_TEST])
    test = list(read_frames(pool, held_out))
    found = {}
    for stream in STREAMS:
        errors = np.empty((n_seeds, len(METHODS)))
        for k in range(n_seeds):
            for m, method in enumerate(METHODS):
                label = seeded(method if stream == "own" else "common", k + 1)
                selector = make_selector(method)
                chosen = selector.select(pool, n, derived_seed(1, label), held_out).frame_ids
                errors[k, m] = rmse(list(read_frames(pool, chosen)), test)
        found[stream] = errors
    return found


def variance_ratio(own: FloatArray, common: FloatArray) -> float:
    """Return the geometric mean over pairs of methods of Var(own) / Var(common)."""
    logs = [
        np.log(np.var(own[:, a] - own[:, b], ddof=1))
        - np.log(np.var(common[:, a] - common[:, b], ddof=1))
        for a, b in combinations(range(own.shape[1]), 2)
    ]
    return float(np.exp(np.mean(logs)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pool", type=Path)
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=40)
    args = parser.parse_args(argv)
    claims = Claims()
    with Pool(args.pool) as pool:
        found = measure(pool, args.n, args.seeds)
    for stream, errors in found.items():
        means = ", ".join(
            f"{m} {1000 * e.mean():.2f} ± {1000 * e.std(ddof=1) / len(e) ** 0.5:.2f}"
            for m, e in zip(METHODS, errors.T, strict=True)
        )
        claims.note(f"{stream}: RMSE, meV/Å: {means}")
        for a, b in combinations(range(len(METHODS)), 2):
            scatter = 1000 * np.std(errors[:, a] - errors[:, b], ddof=1)
            claims.note(f"{stream}: {METHODS[a]} − {METHODS[b]}: scatter {scatter:.3f} meV/Å")
    own, common = (found[stream] for stream in STREAMS)
    ratio = variance_ratio(own, common)
    rows: Any = np.arange(len(own))
    left_out = [np.log(variance_ratio(own[rows != k], common[rows != k])) for k in rows]
    error = float(np.sqrt((len(rows) - 1) * np.var(left_out)))
    claims.note(f"Var(own) / Var(common) = {ratio:.2f}, × or / {np.exp(error):.2f}")
    default = SelectionSection().streams
    saved = ratio if default == "common" else 1 / ratio
    claims.at_least(
        f"seeds of the other stream for one of the default ({default}), + 2 errors",
        float(saved * np.exp(2 * error)),
        1.0,
    )
    return claims.end()


if __name__ == "__main__":
    raise SystemExit(main())
