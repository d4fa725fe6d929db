"""Our own GAP fit against gap_fit: the same predictions, time, memory, ranks.

    python -m benchmarks.gap_fit [--data POOL] [-n 16] [--points 200] [--shared 64 500]
    python -m benchmarks.gap_fit --large 2000 [--data POOL]

Frames of 100 atoms and the paper's SOAP (Table 3). Time is that of processors, so that other work
on the machine counts less; of two ranks it is that of the busier one. Each fit runs in a process of
its own. --large N fits N frames (the pool's, as often as it takes) with 1000 points of each
element. Without --data a small pool is generated first (about a minute). Exit code 1 when a claim
falls short.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before any library counts the cores

import numpy as np

from benchmarks.claims import Claims
from benchmarks.training_frames import choose, make_data, merged
from mlsel.training.frames import Frames

N_TEST = 8
TIMES = 8
FEW_POINTS = 100
LARGE_POINTS = 1000
MOST_MEMORY = 1024.0
"""MiB."""


@dataclass(frozen=True)
class Measured:
    """What a fit took.

    Attributes
    ----------
    seconds, wall : float
        Of the processor of the busiest rank, and by the clock.
    memory : float
        MiB, the peak of rank 0, or of gap_fit.
    folder : Path
        The model's.
    """

    seconds: float
    wall: float
    memory: float
    folder: Path


def frames_of(path: Path, n: int, n_held_out: int = 0) -> Frames:
    """Return n frames of a pool, each as often as it takes, or those that are held out of them."""
    frames = merged(choose(path, 320))
    order = np.random.default_rng(1).permutation(len(frames))
    if n_held_out:
        return frames.take(order[-n_held_out:])
    return frames.take(order[np.arange(n) % (len(order) - N_TEST)])


def work(arguments: argparse.Namespace) -> None:
    """Fit, and print what it took: in a process of its own, or on ranks."""
    from mpi4py import MPI

    from mlsel.training.gap import own_fit
    from mlsel.training.gap.trainer import GapTrainer
    from tests.support.gap_files import sparse_points_of

    comm = MPI.COMM_WORLD
    frames = frames_of(arguments.data, arguments.n)
    if arguments.sparse is not None:
        points = sparse_points_of(arguments.sparse)
        vars(own_fit)["choose"] = lambda *_: points
    trainer = GapTrainer(
        name="gap",
        fitted_by=arguments.work,
        n_sparse=arguments.points,
        two_body=arguments.two_body,
        sparse_method=arguments.method,
    )
    trainer.ranks = comm if comm.size > 1 else None
    start, own = time.perf_counter(), time.process_time()
    trainer.fit([frames], [], arguments.out)
    child = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() - own + child.ru_utime + child.ru_stime
    memory = max(child.ru_maxrss, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024
    all_seconds = comm.gather(seconds)
    if all_seconds is not None:
        print(json.dumps([max(all_seconds), time.perf_counter() - start, memory]))


def fit(
    who: str,
    data: Path,
    out: Path,
    n: int,
    points: int,
    *,
    ranks: int = 1,
    sparse: Path | None = None,
    two_body: bool = False,
    method: str = "random",
) -> Measured:
    """Fit in a process of its own."""
    command = [
        sys.executable, "-m", "benchmarks.gap_fit", "--work", who, "--data", data, "--out", out,
        "-n", n, "--points", points, "--method", method,
        *(["--sparse", sparse] if sparse else []), *(["--two-body"] if two_body else []),
    ]  # fmt: skip
    if ranks > 1:
        command = [Path(sys.executable).with_name("mpirun"), "-n", ranks, *command]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    seconds, wall, memory = json.loads(done.stdout.splitlines()[-1])
    return Measured(seconds, wall, memory, out)


def largest_difference(one: Measured, two: Measured, frames: Frames) -> dict[str, float]:
    """Return the largest differences of predictions, eV/Å and eV/atom."""
    from mlsel.training.gap.model import GapModel

    a, b = (GapModel.load(m.folder).predict(frames) for m in (one, two))
    return {
        "forces": float(np.abs(a.forces - b.forces).max()),
        "energies": float(np.abs(a.energy - b.energy).max() / frames.n_atoms),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a pool of 100-atom frames, 320 or more")
    parser.add_argument("-n", type=int, default=16, help="frames of the fits side by side")
    parser.add_argument("--points", type=int, default=200, help="of each element")
    parser.add_argument(
        "--shared", type=int, nargs=2, default=[64, 500], metavar=("N", "POINTS"),
        help="frames and points of the fit that two ranks share",
    )  # fmt: skip
    parser.add_argument("--large", type=int, metavar="N", help="a fit of N frames")
    parser.add_argument("--method", default="random", choices=["random", "cur_points"])
    hidden = parser.add_argument_group("of the processes it starts")
    hidden.add_argument("--work", choices=["own", "gap_fit"])
    hidden.add_argument("--out", type=Path)
    hidden.add_argument("--sparse", type=Path)
    hidden.add_argument("--two-body", action="store_true")
    arguments = parser.parse_args(argv)
    if arguments.work:
        work(arguments)
        return 0
    claims = Claims()
    with tempfile.TemporaryDirectory(prefix="mlsel-gap-fit-") as name:
        folder = Path(name)
        data = arguments.data.resolve() if arguments.data else make_data(folder)
        if arguments.large:
            measure_large(claims, data, folder, arguments)
        else:
            side_by_side(claims, data, folder, arguments)
    return claims.end()


def side_by_side(claims: Claims, data: Path, folder: Path, arguments: argparse.Namespace) -> None:
    """gap_fit and ours on the same frames with the same sparse points."""
    n, points, test = arguments.n, arguments.points, frames_of(data, 0, N_TEST)
    for two_body in (False, True):
        what = f"{'distance_2b + ' if two_body else ''}SOAP"
        place = folder / what.replace(" ", "")
        theirs = fit("gap_fit", data, place / "gap_fit", n, points, two_body=two_body)
        xml = theirs.folder / "gap.xml"
        same, ours = (
            fit("own", data, place / key, n, points, two_body=two_body, sparse=sparse)
            for key, sparse in (("same", xml), ("own", None))
        )
        claims.note(
            f"{what}, {n} frames, {points} points an element, seconds of a processor and MiB: "
            f"gap_fit {theirs.seconds:.1f} and {theirs.memory:.0f}, ours {ours.seconds:.1f} and "
            f"{ours.memory:.0f}"
        )
        found = largest_difference(theirs, same, test)
        claims.at_most(
            f"{what}: forces against gap_fit's, same points, eV/Å", found["forces"], 1e-6
        )
        claims.note(f"energies {found['energies']:.1e} eV/atom")
        claims.at_least(
            f"{what}: fit over gap_fit, one core, speed", theirs.seconds / ours.seconds, 8
        )
    n_shared, shared_points = arguments.shared
    one, two = (
        fit("own", data, folder / f"on-{ranks}", n_shared, shared_points, ranks=ranks)
        for ranks in (1, 2)
    )
    what = f"{n_shared} frames, {shared_points} points"
    claims.note(
        f"{what}: {one.seconds:.1f} s of a processor, {two.seconds:.1f} of the busier of two ranks "
        f"(by the clock {one.wall:.1f} and {two.wall:.1f})"
    )
    claims.at_least(f"{what}: fit on two ranks over one, speed", one.seconds / two.seconds, 1.8)
    files = [(m.folder / "gap.xml").read_bytes() for m in (one, two)]
    claims.at_least(f"{what}: the same file on one rank and two", files[0] == files[1], 1)
    few, many = (
        fit("own", data, folder / f"memory-{k}", k * n, FEW_POINTS, method="cur_points")
        for k in (1, TIMES)
    )
    claims.note(f"{n} and {TIMES * n} frames, {FEW_POINTS} points: {few.memory:.0f} and "
                f"{many.memory:.0f} MiB")  # fmt: skip
    claims.at_most(f"peak memory, {TIMES} times the frames", many.memory / few.memory, 1.25)


def measure_large(claims: Claims, data: Path, folder: Path, arguments: argparse.Namespace) -> None:
    """The size that gap_fit has no room for."""
    n = arguments.large
    for ranks in (1, 2):
        one = fit("own", data, folder / f"{ranks}", n, LARGE_POINTS, ranks=ranks,
                  method=arguments.method)  # fmt: skip
        claims.note(
            f"{n} frames, {LARGE_POINTS} points an element, {ranks} ranks: {one.seconds:.0f} s of "
            f"a processor ({one.seconds / n:.2f} a frame), {one.wall:.0f} s by the clock"
        )
        claims.at_most(f"{n} frames: peak memory of a rank, MiB", one.memory, MOST_MEMORY)


if __name__ == "__main__":
    raise SystemExit(main())
