"""Generation and selection on more ranks than there are here: parts measured, the rest simulated.

    python -m benchmarks.scale [--runs DIR] [--metadata-rate N] [--bandwidth GB]

What a rank or a run costs is measured here: imports, inputs, messages, the master file, reading.
The times of runs are those that a finished study (--runs) recorded, else those of a small one made
here. From these a study of 16 runs a rank is simulated on 1 to 4096 ranks, and what it loses is
named. Two numbers are assumptions about the cluster's file system, and said to be: how many files
it opens a second for all ranks together, and its bandwidth. Exit code 1 when a claim falls short.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claims import Claims
from benchmarks.generate import recorded_times, sixty_four_ranks

RANKS = (1, 8, 64, 512, 4096)
RUNS_A_RANK = 16
N_ATOMS = 100
LARGE_POOL = 10**8
STACKS = {
    "generate": ("mlsel.generate", "mpi4py.MPI", "mlsel.md.npt_run", "lammps", "ase.data"),
    "selection": ("mlsel.selection.stage", "mpi4py.MPI", "mlsel.selection"),
    "training": ("mlsel.training.stage", "mlsel.training.schnet.network"),
}
"""What a rank of each stage imports."""


@dataclass(frozen=True)
class Parts:
    """What was measured, seconds each.

    Attributes
    ----------
    start_up : imports of a rank, processor time
    files : that Python and the linker open for them
    inputs : of a run, written and synced
    message : that rank 0 answers
    link : of a run's file in the master file
    """

    start_up: float
    files: int
    inputs: float
    message: float
    link: float


def main() -> int:
    """Measure, simulate, print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__)
    parser.add_argument("--runs", type=Path, help="folder of a finished study")
    parser.add_argument("--metadata-rate", type=float, default=2e4, help="files opened a second")
    parser.add_argument("--bandwidth", type=float, default=10.0, help="of the file system, GB/s")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        CHILDREN[args.child[0]](*args.child[1:])
        return 0
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    claims = Claims()
    stacks = imports(claims)
    with tempfile.TemporaryDirectory() as folder:
        rows = recorded_times(args.runs)
        inputs, link = files_of_runs(Path(folder))
        found = stacks["generate"]
        parts = Parts(found["cpu"], found["files"], inputs, seconds_a_message(), link)
        generation(claims, rows, parts, args.metadata_rate)
        selection(claims, Path(folder), args.bandwidth)
    return claims.end()


def child(*words: str, ranks: int = 0) -> Any:
    """Run a part of this script in a process of its own; return what it printed as JSON."""
    launcher = [str(Path(sys.executable).with_name("mpirun")), "-n", str(ranks)] if ranks else []
    done = subprocess.run(
        [*launcher, sys.executable, "-m", "benchmarks.scale", "--child", *words],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


# --- start-up ------------------------------------------------------------------------------------


def imports(claims: Claims) -> dict[str, Any]:
    """What a rank of each stage opens before it works, and how long 64 of them take here."""
    found = {stage: child("import", stage) for stage in STACKS}
    for stage, known in found.items():
        claims.note(
            f"{stage}: {known['files']} files opened, {known['modules']} modules, "
            f"{known['cpu']:.2f} s of processor time a rank"
        )
    limit = found["training"]["files"] / 2
    for stage in ("generate", "selection"):
        claims.at_most(
            f"files that a rank of {stage} opens to import", found[stage]["files"], limit
        )
    start = time.perf_counter()
    child("import", "generate", ranks=64)
    seconds = time.perf_counter() - start
    claims.note(f"64 ranks of generate on {os.cpu_count()} cores: imported after {seconds:.1f} s")
    return found


def import_stack(stage: str) -> None:
    opened: set[str] = set()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str):
            opened.add(arguments[0])

    before = {*sys.modules}
    sys.addaudithook(hook)
    start = time.process_time()
    for name in STACKS[stage]:
        __import__(name)
    cpu = time.process_time() - start
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    libraries = {line.split()[-1] for line in maps if ".so" in line}
    files = len(opened | libraries)
    print(json.dumps({"files": files, "modules": len({*sys.modules} - before), "cpu": cpu}))


# --- generation ----------------------------------------------------------------------------------


def files_of_runs(folder: Path, n_runs: int = 200) -> tuple[float, float]:
    """Seconds a run for its inputs, and for its place in the master file."""
    from mlsel.generate import _write_inputs
    from mlsel.md.npt_run import MdRun
    from mlsel.md.structures import lammps_data, start_structure
    from mlsel.pool.writer import PoolWriter
    from mlsel.study.study import load_study

    study = load_study("paper")
    data = lammps_data(start_structure(study.system), study.system.species)
    runs = [MdRun(900.0 + i, 1.0, folder / "paper", study) for i in range(n_runs)]
    start = time.perf_counter()
    for run in runs:
        _write_inputs(run, data)
    inputs = (time.perf_counter() - start) / n_runs
    paths = [folder / "runs" / f"{i}.h5" for i in range(n_runs)]
    paths[0].parent.mkdir()
    for path in paths:
        with PoolWriter(path, {}) as writer:
            made = writer.add_run(path.stem, [11, 17], 1, ("positions",), {})
            made.append([0], [0.0], cell=np.eye(3)[None], positions=np.zeros((1, 2, 3)))
    start = time.perf_counter()
    with PoolWriter(folder / "pool.h5", {}) as writer:
        for path in paths:
            writer.link_run(path)
    return inputs, (time.perf_counter() - start) / n_runs


def seconds_a_message() -> float:
    """Seconds that rank 0 takes for a message of another rank."""
    return float(child("messages", ranks=2)["seconds"])


def messages(n: int = 5000) -> None:
    """Report n times from rank 1 and time it on rank 0."""
    from mlsel.core.parallel import share, world

    comm = world()
    got: list[float] = []

    def work(task: int, _: Any, report: Any) -> None:
        if comm.rank == 0:
            time.sleep(0.5)
        else:
            for i in range(n):
                report(i)

    share(comm, [0, 1], work, on_report=lambda *_: got.append(time.perf_counter()))
    if comm.rank == 0:
        told = np.diff(np.sort(got))
        print(json.dumps({"seconds": float(np.median(told))}))


def generation(
    claims: Claims, rows: list[tuple[float, float, float]], parts: Parts, metadata_rate: float
) -> None:
    """Simulate generation and name what it loses."""
    all_done, seconds = sixty_four_ranks()
    claims.at_least(f"64 runs on 64 ranks to the end ({seconds:.0f} s)", float(all_done), 1.0)
    times = np.array([row[2] for row in rows])
    claims.note(
        f"{len(rows)} recorded runs of {times.min():.0f} to {times.max():.0f} s, mean "
        f"{times.mean():.0f} s; inputs {1e3 * parts.inputs:.1f} ms a run, message "
        f"{1e6 * parts.message:.0f} µs, master file {1e3 * parts.link:.1f} ms a run; assumed "
        f"{metadata_rate:.0f} files opened a second by all ranks together"
    )
    for n_ranks in RANKS:
        losses = simulate(rows, n_ranks, RUNS_A_RANK * n_ranks, parts, metadata_rate)
        efficiency = 1 - sum(share for _, share in losses)
        bound = 0.9 if n_ranks <= 512 else 0.8
        claims.at_least(f"efficiency on {n_ranks} ranks, 16 runs a rank", efficiency, bound)
        claims.note("lost to " + ", ".join(f"{name} {share:.2%}" for name, share in losses))
    n = len(rows)
    for n_ranks in (n, n // 2, n // 4):
        ours = [seconds for _, _, seconds in _in_order(rows)]
        efficiency = times.sum() / n_ranks / makespan(ours, n_ranks, 0.0)
        claims.note(f"the recorded {n} runs on {n_ranks} ranks: efficiency {efficiency:.2f}")


def _in_order(rows: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """The order in which generation hands out runs."""
    return sorted(rows, key=lambda row: (-row[0], row[1]))


def makespan(times: list[float], n_ranks: int, message: float) -> float:
    """Time until the last rank is free; requests are answered one after the other."""
    free = [0.0] * n_ranks
    dispatcher = 0.0
    for seconds in times:
        dispatcher = max(dispatcher, free[0]) + message
        heapq.heapreplace(free, dispatcher + seconds)
    return max(free)


def simulate(
    rows: list[tuple[float, float, float]],
    n_ranks: int,
    n_runs: int,
    parts: Parts,
    metadata_rate: float,
) -> list[tuple[str, float]]:
    """Return each loss as a share of the whole time, the largest first."""
    rng = np.random.default_rng(n_ranks)
    drawn = _in_order([rows[i] for i in rng.integers(len(rows), size=n_runs)])
    times = [seconds for _, _, seconds in drawn]
    # A run reports once a second and asks twice.
    asked = (sum(times) + 2 * n_runs) * parts.message
    ideal = sum(times) / n_ranks
    lost = {
        "start-up": parts.start_up + n_ranks * parts.files / metadata_rate,
        "inputs": parts.inputs * n_runs / min(n_ranks, n_runs),
        "stragglers": makespan(times, n_ranks, 2 * parts.message) - ideal,
        "master file": parts.link * n_runs,
    }
    whole = ideal + sum(lost.values())
    shares = {name: seconds / whole for name, seconds in lost.items()}
    shares["rank 0's messages"] = asked / whole / n_ranks  # of one rank's time
    return sorted(shares.items(), key=lambda item: -item[1])


# --- selection -----------------------------------------------------------------------------------


def selection(claims: Claims, folder: Path, bandwidth: float) -> None:
    """The same frames on 64 ranks; which files a rank opens; a pool of 1e8 frames on paper."""
    from benchmarks.synthetic import write_synthetic_pool

    pool = folder / "synthetic.h5"
    write_synthetic_pool(pool, 12800, N_ATOMS, frames_per_run=200)
    chosen = {n: child("select", str(pool), "force", ranks=n) for n in (1, 64)}
    same = chosen[1]["frames"] == chosen[64]["frames"]
    claims.at_least("64 ranks select the frames of one", float(same), 1.0)
    claims.at_most("runs' files that the busiest of 64 ranks opens of 64", chosen[64]["runs"], 2)
    small, large = (folder / f"{n}.h5" for n in (100_000, 1_000_000))
    for path in (small, large):
        write_synthetic_pool(path, int(path.stem), 2, frames_per_run=100_000)
    peaks = [child("select", str(path), "force", ranks=1)["peak"] for path in (small, large)]
    growth = (peaks[1] - peaks[0]) / 900_000
    claims.at_most("memory of a rank / bytes a frame of the pool", growth, 128)
    for method, per_atom in (("atomic-energy", 8), ("force", 24)):
        found = child("select", str(pool), method, ranks=1)
        rate = 12800 * N_ATOMS * per_atom / found["seconds"]
        size = LARGE_POOL * N_ATOMS * per_atom
        told = []
        for n_ranks in (64, 512, 4096):
            reading, computing = size / (bandwidth * 1e9), size / (rate * n_ranks)
            told.append(
                f"{n_ranks} ranks {max(reading, computing):.0f} s "
                f"({'reading' if reading > computing else 'computing'})"
            )
        claims.note(
            f"{method} of 1e8 frames ({size / 1e9:.0f} GB) at {rate / 1e9:.2f} GB/s a rank and "
            f"{bandwidth:g} GB/s of the file system, assumed: {', '.join(told)}; "
            f"{growth * LARGE_POOL / 1e9:.0f} GB of memory a rank"
        )


def select(path: str, method: str) -> None:
    import resource

    from mpi4py import MPI

    from mlsel.pool.pool import Pool
    from mlsel.selection import make_selector
    from mlsel.selection.base import Task

    comm = MPI.COMM_WORLD
    with Pool(path) as pool:
        task = Task(pool, 1, np.ones(len(pool), bool), np.random.default_rng(1), comm)
        share = task.share()
        touched = sum(
            run.first_frame < share[-1] + 1 and run.first_frame + run.n_frames > share[0]
            for run in pool.runs
        )
        start = time.perf_counter()
        frames = make_selector(method).select(pool, 64, 1, comm=comm).frame_ids
        seconds = time.perf_counter() - start
    touched = comm.allreduce(touched, MPI.MAX)
    if comm.rank == 0:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        known = {"frames": frames.tolist(), "runs": touched, "seconds": seconds, "peak": peak}
        print(json.dumps(known))


CHILDREN: dict[str, Callable[..., None]] = {
    "import": import_stack,
    "messages": messages,
    "select": select,
}

if __name__ == "__main__":
    sys.exit(main())
