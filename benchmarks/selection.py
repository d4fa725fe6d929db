"""How fast selection is: the claims of docs/selection.md, measured.

    python -m benchmarks.selection SCRATCH [--frames N] [--peers DIR]

SCRATCH is a folder with 8 GiB to spare; the pool of N frames x 100 atoms is made there once. With
--peers, DIR holds one environment for each peer (peer-skmatter, peer-wfl, …; docs/selection.md
tells how they are made), and mlsel is compared with them on 100 000 frames.

All times are ratios of what was measured side by side in this run, A B A B. A line says
`claim  value  bound  holds|falls short`; the exit code is 1 if one falls short.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claims import Claims

N_ATOMS = 100
N_CHOSEN = 512
NEEDED = {
    "random": "observables/{}/energy/value",
    "global-energy": "observables/{}/energy/value",
    "atomic-energy": "particles/{}/potential_energy/value",
    "force": "particles/{}/force/value",
}
"""The dataset of a run that a method has to read; random, which reads none, is held against the
smallest."""
MEBIBYTE = 2**20

Seconds = float


def main(argv: Sequence[str] | None = None) -> int:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.selection", description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=["reading", "ranks", "growth", "fps", "entropy", "peers"])
    parser.add_argument("--child", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        CHILDREN[args.child[0]](args.scratch, *args.child[1:])
        return 0
    claims = Claims()
    args.scratch.mkdir(parents=True, exist_ok=True)
    pool = made_pool(args.scratch, args.frames)
    wanted = [args.only] if args.only else ["reading", "ranks", "growth", "fps", "entropy", "peers"]
    if "reading" in wanted:
        reading(claims, pool, args.repeats)
    if "ranks" in wanted:
        ranks(claims, args.scratch, args.repeats)
    if "growth" in wanted:
        growth(claims, args.scratch)
    if "fps" in wanted:
        farthest(claims, args.scratch, args.repeats)
    if "entropy" in wanted:
        entropy(claims, args.scratch)
    if "peers" in wanted and args.peers:
        peers(claims, args.scratch, args.peers)
    return claims.end()


def made_pool(scratch: Path, n_frames: int) -> Path:
    """Make the synthetic pool unless it is there."""
    from benchmarks.synthetic import write_synthetic_pool

    path = scratch / f"pool-{n_frames}.h5"
    if not path.exists():
        write_synthetic_pool(path, n_frames, N_ATOMS)
    return path


def child(pool: Path, *words: str, ranks: int = 0) -> Any:
    """Run a part of this script in a process of its own; return what it printed as JSON."""
    command = [sys.executable, "-m", "benchmarks.selection", str(pool), "--child", *words]
    if ranks:
        command = [str(Path(sys.executable).with_name("mpirun")), "-n", str(ranks), *command]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def timed(function: Callable[[], object]) -> Seconds:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


# --- one pass over the pool ----------------------------------------------------------------------


def reading(claims: Claims, pool: Path, repeats: int) -> None:
    """Uniform methods and random against one read of the dataset they need."""
    for method in NEEDED:
        for parameters in ("{}", '{"species": "Na"}'):
            if parameters != "{}" and method not in ("atomic-energy", "force"):
                continue
            found = child(pool, "against-reading", method, parameters, str(repeats))
            name = method + (" of one species" if parameters != "{}" else "")
            claims.note(
                f"{name}: h5py {found['read']:.3f} s, selection {found['select']:.3f} s "
                f"(processor time {found['read_cpu']:.3f} and {found['select_cpu']:.3f} s)"
            )
            claims.at_most(f"{name}: processor time / one h5py read", found["ratio"], 1.2)
            claims.at_most(f"{name}: peak memory / MiB", found["peak"] / MEBIBYTE, 1024)


def read_once(path: Path, element: str) -> None:
    """Read one dataset of every run with h5py alone."""
    import h5py

    with h5py.File(path, "r") as file:
        for run in list(file["particles"]):
            file[element.format(run)][()]


def against_reading(path: Path, method: str, parameters: str, repeats: str) -> None:
    from mlsel.pool.pool import Pool
    from mlsel.selection import make_selector

    selector = make_selector(method, json.loads(parameters))

    def select() -> None:
        with Pool(path) as pool:
            selector.select(pool, N_CHOSEN, 1)

    times: dict[str, list[float]] = {"read": [], "select": [], "read_cpu": [], "select_cpu": []}
    read_once(path, NEEDED[method])  # warms the cache
    select()
    functions = {"read": lambda: read_once(path, NEEDED[method]), "select": select}
    for _ in range(int(repeats)):
        for name, function in functions.items():
            busy = time.process_time()
            times[name].append(timed(function))
            times[f"{name}_cpu"].append(time.process_time() - busy)
    found = {name: min(values) for name, values in times.items()}  # others use the machine too
    found["ratio"] = found["select_cpu"] / found["read_cpu"]
    found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(found))


# --- ranks ---------------------------------------------------------------------------------------


RANKED = {
    **dict.fromkeys(("global-energy", "atomic-energy", "force", "fps", "direct", "cur"), 1_000_000),
    "flat-atomic-energy": 1_000_000,
    **dict.fromkeys(("entropy", "set-cover"), 10_000),
}
"""Methods that read or compute, and frames of the pool that they choose from."""


def ranks(claims: Claims, scratch: Path, repeats: int) -> None:
    """Two ranks against one: processor time of the busiest without what it waits for the other,
    in a circle that would count. Others use the machine too, so that waiting is long."""
    for method, n_frames in RANKED.items():
        pool = made_pool(scratch, n_frames)
        found: dict[int, list[Any]] = {1: [], 2: []}
        for _ in range(max(2, repeats // 2)):
            for n in found:
                found[n].append(child(pool, "on-ranks", method, ranks=n))
        alone, together = (min(each["busiest"] for each in found[n]) for n in (1, 2))
        with ThreadPoolExecutor(2) as two:  # what memory and caches leave two of anything
            both = list(two.map(child, [pool] * 2, ["on-ranks"] * 2, [method] * 2))
        at_most = 2 * alone / max(each["busiest"] for each in both)
        frames = {each["frames"] for n in found for each in found[n]}
        n_calls, mebibytes = found[2][0]["calls"], found[2][0]["told"] / MEBIBYTE
        claims.note(
            f"{method}: 1 rank {alone:.3f} s, the busier of 2 {together:.3f} s, "
            f"{n_calls} messages, {mebibytes:.1f} MiB; two that know nothing of each other: "
            f"{at_most:.2f} times one's work"
        )
        claims.at_least(f"{method}: time of 1 rank over the busier of 2", alone / together, 1.8)
        claims.at_most(f"{method}: different sets of 1 and 2 ranks", len(frames), 1)


class Watched:
    """A communicator that takes the processor time spent in it, which is mostly waiting."""

    def __init__(self, comm: Any) -> None:
        self._comm, self.rank, self.size = comm, comm.rank, comm.size
        self.seconds, self.calls, self.told = 0.0, 0, 0

    def _watched(self, name: str, *values: Any) -> Any:
        start = time.process_time()
        found = getattr(self._comm, name)(*values)
        self.seconds += time.process_time() - start
        self.calls += 1
        self.told += getattr(values[0], "nbytes", 0)
        return found

    def allgather(self, value: Any) -> Any:
        return self._watched("allgather", value)

    def Allgatherv(self, part: Any, whole: Any) -> None:
        self._watched("Allgatherv", part, whole)

    def bcast(self, value: Any) -> Any:
        return self._watched("bcast", value)


def on_ranks(path: Path, method: str) -> None:
    from mpi4py import MPI

    from mlsel.core.provenance import digest
    from mlsel.pool.pool import Pool
    from mlsel.selection import make_selector

    comm = MPI.COMM_WORLD
    n = N_CHOSEN if method in (*NEEDED, "fps") else 64
    busiest = []
    for _ in range(5 if method in NEEDED else 2):
        with Pool(path) as pool:
            selector = make_selector(method, descriptors(method, len(pool), n_atoms=N_ATOMS))
            watched: Any = Watched(comm)
            start = time.process_time()
            chosen = selector.select(pool, n, 1, comm=watched)
            own = time.process_time() - start - watched.seconds
            busiest.append(comm.allreduce(own, MPI.MAX))
    if comm.rank == 0:
        frames = digest(chosen.frame_ids.tobytes())
        known = {"busiest": min(busiest), "frames": frames}
        print(json.dumps({**known, "calls": watched.calls, "told": watched.told}))


# --- growth of the greedy methods ----------------------------------------------------------------


def growth(claims: Claims, scratch: Path) -> None:
    """Time of the greedy methods for 1e4, 1e5 and 1e6 frames; at worst it grows as n N."""
    sizes = (10_000, 100_000, 1_000_000)
    for method in ("flat-atomic-energy", "fps", "direct", "entropy"):
        seconds, peaks = [], []
        for n_frames in sizes:
            found = child(made_pool(scratch, n_frames), "grow", method)
            seconds.append(found["seconds"])
            peaks.append(found["peak"] / MEBIBYTE)
        rows = zip(sizes, seconds, peaks, strict=True)
        told = ", ".join(f"N={n:.0e} {s:.2f} s {p:.0f} MiB" for n, s, p in rows)
        claims.note(f"{method}, n=64: {told}")
        power = np.log10(seconds[2] / seconds[1])
        claims.at_most(f"{method}: power of N from 1e5 to 1e6", float(power), 1.1)


def descriptors(
    method: str, n_frames: int, n_features: int = 0, n_atoms: int = 0
) -> dict[str, Any]:
    """Return a method's parameters: its descriptor's own time, a constant a frame, is left out."""
    rng = np.random.default_rng(1)
    if method == "fps" and n_features:
        return {"descriptor": rng.standard_normal((n_frames, n_features), dtype=np.float32)}
    if method in ("fps", "direct", "cur"):
        centres = rng.standard_normal((200, 16)) * 3
        points = centres[rng.integers(200, size=n_frames)]
        return {"descriptor": points + rng.standard_normal((n_frames, 16))}
    if method in ("entropy", "set-cover"):
        shape = (n_frames, n_atoms, 16) if n_atoms else (n_frames, 2, 4)
        return {"descriptor": rng.standard_normal(shape, dtype=np.float32), "bandwidth": 0.5}
    return {}


def grow(path: Path, method: str) -> None:
    from mlsel.pool.pool import Pool
    from mlsel.selection import make_selector

    with Pool(path) as pool:
        selector = make_selector(method, descriptors(method, len(pool)))
        seconds = timed(lambda: selector.select(pool, 64, 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak": peak}))


# --- farthest points against a matrix-vector product for each ------------------------------------

CLOUDS = ("500 clusters, 32 features", "normal, 32 features", "normal, 100 features")


def farthest(claims: Claims, scratch: Path, repeats: int) -> None:
    """FPS of 512 from 100,000 points against the plain algorithm by single precision's sgemv."""
    for cloud in CLOUDS:
        found = child(scratch, "fps", cloud, str(repeats))
        claims.note(
            f"fps, {cloud}: NumPy {found['numpy']:.3f} s, mlsel {found['mlsel']:.3f} s "
            "(processor time, the least of all repeats)"
        )
        claims.at_least(f"fps, {cloud}: times faster than NumPy", found["ratio"], 2.0)
        claims.at_least(f"fps, {cloud}: share of identical picks", found["same"], 1.0)


def numpy_fps(points: np.ndarray, n: int) -> list[int]:
    """Return n farthest points by |x|² − 2 x·y + |y|² in single precision."""
    points = points.astype(np.float32)
    squares = np.einsum("ij,ij->i", points, points)
    nearest, picks = np.full(len(points), np.inf, np.float32), [0]
    for _ in range(n - 1):
        k = picks[-1]
        np.minimum(nearest, squares - 2 * (points @ points[k]) + squares[k], out=nearest)
        picks.append(int(nearest.argmax()))
    return picks


def fps_and_numpy(_: Path, cloud: str, repeats: str) -> None:
    from mlsel.selection.methods import distances, fps

    rng = np.random.default_rng(1)
    n_features = 100 if "100" in cloud else 32
    points = rng.standard_normal((100_000, n_features))
    if "clusters" in cloud:
        points += 3.0 * rng.standard_normal((500, n_features))[rng.integers(500, size=100_000)]
    distances._library()  # compiles
    times: dict[str, list[float]] = {"mlsel": [], "numpy": []}
    for _repeat in range(int(repeats)):
        for name in times:
            busy = time.process_time()
            if name == "mlsel":
                ours = fps.farthest_points(points, N_CHOSEN, 0).tolist()
            else:
                theirs = numpy_fps(points, N_CHOSEN)
            times[name].append(time.process_time() - busy)
    found: dict[str, float] = {name: min(values) for name, values in times.items()}
    found["ratio"] = found["numpy"] / found["mlsel"]
    found["same"] = float(np.mean(np.array(ours) == np.array(theirs)))
    print(json.dumps(found))


# --- entropy over a million environments ---------------------------------------------------------


def entropy(claims: Claims, scratch: Path) -> None:
    """Choose 512 of 10,000 frames x 100 atoms, 16 features: no structure that would help."""
    found = child(scratch, "entropy")
    claims.note(f"entropy of 1e6 environments, n=512: {found['seconds']:.1f} s of one core's time")
    claims.at_most("entropy of 1e6 environments, n=512: a core's time / s", found["seconds"], 120.0)


def million_environments(_: Path) -> None:
    from mlsel.selection.methods.entropy import greedy_entropy

    rng = np.random.default_rng(1)
    environments = list(rng.standard_normal((10_000, 100, 16), dtype=np.float32))
    greedy_entropy(environments[:10], 2, 0.5, rng.random(10))  # compiles
    busy = time.process_time()
    greedy_entropy(environments, 512, 0.5, rng.random(10_000))
    print(json.dumps({"seconds": time.process_time() - busy}))


def peers(claims: Claims, scratch: Path, environments: Path) -> None:
    """Compare with peers, each in its own environment."""
    from benchmarks.selection_peers import compare

    compare(claims, made_pool(scratch, 100_000), scratch, environments)


CHILDREN: dict[str, Callable[..., None]] = {
    "against-reading": against_reading,
    "on-ranks": on_ranks,
    "grow": grow,
    "fps": fps_and_numpy,
    "entropy": million_environments,
}

if __name__ == "__main__":
    sys.exit(main())
