"""The scan behind the defaults of GAP: sparse points, how they are chosen, a pair term.

    python -m benchmarks.gap_scan TRAIN … TEST [-n 128] [--points 1000] [--methods cur_points]

Every line is a fit to frames spread over TRAIN, judged on at least 200 frames of TEST: errors of
force components and of energies. Of several TRAIN, data sets of several seeds for instance, each
is fitted with sparse points of another seed, and the mean is told. The first line is the pair
potential, on the same frames: the floor. --fit gap_fit takes memory and time in proportion to the
frames: of 100 atoms 128 take 11 GB. With -n 128 or more the goals of docs/training.md are judged.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.claims import Claims
from mlsel.pool.pool import Pool
from mlsel.training.base import Trainer
from mlsel.training.frames import Frames, read_frames
from mlsel.training.gap.trainer import GapTrainer
from mlsel.training.pair.trainer import PairTrainer

FEWEST_TEST_FRAMES = 200
GOALS = {False: 0.10, True: 0.06}
"""eV/Å, of force components, without and with a pair term."""
N_OF_GOALS = 128


def choose(path: Path, n: int) -> list[Frames]:
    """Return n frames, spread over a file."""
    with Pool(path) as pool:
        if pool.n_frames < n:
            raise SystemExit(f"{path} has {pool.n_frames} frames, and {n} are needed.")
        rows = np.linspace(0, pool.n_frames - 1, n).astype(int)
        return list(read_frames(pool, rows))


def judge(trainer: Trainer, train: Sequence[Frames], test: Sequence[Frames]) -> list[float]:
    """Fit and predict; return the RMSE of forces, their largest error, eV/Å, the RMSE of energies,
    meV/atom, and the seconds that the fit took."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        model = trainer.fit(train, [], Path(folder))
        seconds = time.perf_counter() - start
        forces, energies = [], []
        for part in test:
            assert part.forces is not None and part.energy is not None
            prediction = model.predict(part)
            forces.append((prediction.forces - part.forces).ravel())
            energies.append((prediction.energy - part.energy) / part.n_atoms)
    force, energy = np.concatenate(forces), np.concatenate(energies)
    return [
        float(np.sqrt(np.mean(force**2))),
        float(np.abs(force).max()),
        1000 * float(np.sqrt(np.mean(energy**2))),
        seconds,
    ]


def words(found: Sequence[Sequence[float]]) -> str:
    """Tell what several fits came to: means, and the standard error where there are some."""
    force, largest, energy, seconds = (
        f"{np.mean(x):.{digits}f}"
        + (f" ± {np.std(x, ddof=1) / np.sqrt(len(x)):.{digits}f}" if len(x) > 1 else "")
        for x, digits in zip(np.transpose(found), (4, 2, 2, 0), strict=True)
    )
    return (
        f"forces {force} eV/Å, largest {largest}, energy {energy} meV/atom; fitted in {seconds} s"
    )


def main() -> int:
    """Scan and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("train", type=Path, nargs="+")
    parser.add_argument("test", type=Path)
    parser.add_argument("-n", type=int, default=N_OF_GOALS, help="training frames")
    parser.add_argument("--fit", default="own", choices=["own", "gap_fit"])
    parser.add_argument("--test-frames", type=int, default=FEWEST_TEST_FRAMES)
    parser.add_argument("--points", type=int, nargs="+", default=[1000])
    parser.add_argument("--methods", nargs="+", default=["random"])
    parser.add_argument("--two-body", type=int, nargs="+", default=[0, 1], choices=[0, 1])
    parser.add_argument("--deltas", type=float, nargs="+", default=[1.0])
    parser.add_argument("--two-body-deltas", type=float, nargs="+", default=[1.0])
    parser.add_argument("--energy-sigmas", type=float, nargs="+", default=[0.003])
    args = parser.parse_args()
    n_test = max(FEWEST_TEST_FRAMES, args.test_frames)
    sets, test = [choose(path, args.n) for path in args.train], choose(args.test, n_test)
    claims = Claims()
    names = ", ".join(path.name for path in args.train)
    claims.note(f"{args.n} frames of {names}, judged on {n_test} of {args.test.name}")
    claims.note(f"pair: {words([judge(PairTrainer(), train, test) for train in sets])}")
    for two_body, n, method, delta, pair_delta, sigma in product(
        args.two_body, args.points, args.methods, args.deltas, args.two_body_deltas,
        args.energy_sigmas,
    ):  # fmt: skip
        name = f"{'distance_2b + ' if two_body else ''}SOAP, {n} points, {method}"
        found = [
            judge(
                GapTrainer(
                    name="gap",
                    fitted_by=args.fit,
                    n_sparse=n,
                    sparse_method=method,
                    two_body=bool(two_body),
                    two_body_delta=pair_delta,
                    delta=delta,
                    energy_sigma=sigma,
                    seed=seed,
                ),
                train,
                test,
            )
            for seed, train in enumerate(sets, 1)
        ]
        more = f", delta {pair_delta:g}" if two_body else ""
        claims.note(f"{name}, delta {delta:g}{more}, energy sigma {sigma:g}: {words(found)}")
        if args.n >= N_OF_GOALS:
            rmse = float(np.mean([one[0] for one in found]))
            claims.at_most(f"{name}: forces, eV/Å", rmse, GOALS[bool(two_body)])
    return claims.end()


if __name__ == "__main__":
    sys.exit(main())
