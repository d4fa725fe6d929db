"""mlsel's selection against peers, each run by the Python of an environment of its own.

A peer gets what it needs in the form it likes best: arrays for those that take arrays; for those
that take ASE Atoms, frames built straight from HDF5, which is several times faster than reading
them from extended XYZ. Reading counts on both sides; times are processor time, all on one thread,
since others use the machine too. Where the peer ends with an error, or its
environment is missing, a line says so and nothing is compared.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from benchmarks.claims import Claims

MEBIBYTE = 2**20

ATOMS = """
import json, resource, sys, time
import h5py
import numpy as np
pool, n, scratch = sys.argv[1], int(sys.argv[2]), sys.argv[3]

def end(start, picks):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    picks = [int(i) for i in picks]
    print(json.dumps({"seconds": time.process_time() - start, "peak": peak, "picks": picks}))

def read():
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    frames = []
    with h5py.File(pool, "r") as file:
        for run in file["particles"]:
            group = file["particles"][run]
            numbers = group["species"][()]
            arrays = [group[name]["value"][()] for name in ("position", "force", "box/edges")]
            energy = file["observables"][run]["energy"]["value"][()]
            for position, force, edges, e in zip(*arrays, energy):
                atoms = Atoms(numbers, position, cell=edges, pbc=True)
                atoms.info["energy"] = float(e)
                atoms.calc = SinglePointCalculator(atoms, energy=float(e), forces=force)
                frames.append(atoms)
    return frames
"""
PEERS = {
    "wfl": ATOMS
    + """
from wfl.configset import ConfigSet, OutputSpec
from wfl.select.flat_histogram import biased_select_conf
start = time.process_time()
frames = read()
for i, atoms in enumerate(frames):
    atoms.info["place"] = i
rng = np.random.default_rng(1)
# by_bin=True, its default, ends with an AssertionError: it counts what it takes off too late
how = {"bins": 512, "by_bin": False}
chosen = biased_select_conf(ConfigSet(frames), OutputSpec(), n, "energy", rng, **how)
end(start, [atoms.info["place"] for atoms in chosen])
""",
    "ipsuite": ATOMS
    + """
import numpy as np
start = time.process_time()
frames = read()
from ipsuite import UniformEnergeticSelection
node = UniformEnergeticSelection(data=frames, n_configurations=n)
end(start, node.select_atoms(frames))
""",
    "skmatter": ATOMS
    + """
from skmatter.sample_selection import FPS
features = np.load(scratch + "/features.npy")
start = time.process_time()
chosen = FPS(n_to_select=n, initialize=0).fit(features).selected_idx_
end(start, chosen)
""",
    "fpsample": ATOMS
    + """
from fpsample import fps_sampling
features = np.load(scratch + "/features.npy").astype(np.float32)
start = time.process_time()
end(start, fps_sampling(features, n, start_idx=0))
""",
    "quickfps": ATOMS
    + """
import torch
from torch_quickfps import sample_idx, sample_idx_baseline
torch.set_num_threads(1)
features = torch.from_numpy(np.load(scratch + "/features.npy").astype(np.float32))[None]
found = []
for sample in (sample_idx, sample_idx_baseline):
    sample(features[:, :100], 4)
    start = time.process_time()
    chosen = sample(features, n, start_idx=0)[0]
    found.append((time.process_time() - start, chosen))
seconds, chosen = min(found, key=lambda pair: pair[0])
end(time.process_time() - seconds, chosen)
""",
    "quests": ATOMS
    + """
from quests.compression.fps import msc
from quests.entropy import entropy
environments = list(np.load(scratch + "/environments.npy"))
h = 0.5
msc(environments[:4], np.arange(4.0), 2, h=h)  # compiles
entropy(environments[0], h=h)
start = time.process_time()
own = np.array([entropy(x, h=h) for x in environments])
end(start, msc(environments, own, n, h=h))
""",
}


def compare(claims: Claims, pool: Path, scratch: Path, environments: Path) -> None:
    """Print a line for each peer."""
    rng = np.random.default_rng(1)
    centres = 3.0 * rng.standard_normal((500, 32))
    features = centres[rng.integers(500, size=100_000)] + rng.standard_normal((100_000, 32))
    np.save(scratch / "features.npy", features)
    np.save(scratch / "environments.npy", rng.standard_normal((2000, 100, 16)))
    cases: tuple[tuple[str, str, dict[str, Any], int, str, float], ...] = (
        ("ipsuite", "global-energy", {}, 512, "uniform energetic selection, 1e5 frames", 20.0),
        ("wfl", "global-energy", {}, 512, "flat histogram, 1e5 frames", 20.0),
        ("skmatter", "fps", {"start": 0}, 512, "FPS, 1e5 frames, 32 features", 3.0),
        ("fpsample", "fps", {"start": 0}, 512, "FPS, the same points", 2.0),
        ("quickfps", "fps", {"start": 0}, 512, "FPS, the same points", 2.0),
        ("quests", "entropy", {"bandwidth": 0.5}, 64, "entropy, 2000 frames x 100 atoms", 20.0),
        ("quests", "set-cover", {"bandwidth": 0.5}, 64, "set cover, the same frames", 20.0),
    )
    for peer, method, parameters, n, what, goal in cases:
        python = environments / f"peer-{peer}" / "bin" / "python"
        if not python.exists():
            claims.note(f"{peer}: there is no environment peer-{peer}; not compared")
            continue
        theirs, error = _run([str(python), "-c", PEERS[peer], str(pool), str(n), str(scratch)])
        if theirs is None:
            claims.note(f"{peer}: ended with {error}")
            continue
        words = ["-m", "benchmarks.selection_peers", str(pool), str(scratch), method, str(n)]
        ours, error = _run([sys.executable, *words, json.dumps(parameters)])
        if ours is None:
            raise RuntimeError(error)
        claims.note(
            f"{peer}, {what}, n={n}: {theirs['seconds']:.2f} s, {theirs['peak'] / MEBIBYTE:.0f} "
            f"MiB, {len(set(theirs['picks']))} unique of {n}; mlsel {ours['seconds']:.3f} s, "
            f"{ours['peak'] / MEBIBYTE:.0f} MiB, {len(set(ours['picks']))} unique"
        )
        ratio = theirs["seconds"] / ours["seconds"]
        claims.at_least(f"{peer}: times faster, {what}", ratio, goal)
        if method in ("fps", "set-cover"):
            same = np.mean(np.array(theirs["picks"]) == np.array(ours["picks"]))
            claims.at_least(f"{peer}: share of identical picks", float(same), 1.0)


def _run(command: list[str]) -> tuple[dict[str, Any] | None, str]:
    one_thread = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
    )
    environment = {**os.environ, **one_thread}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or ["no message"])[-1]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found, ""


def main(pool: str, scratch: str, method: str, n: str, parameters: str) -> None:
    """Do mlsel's side of one comparison."""
    from mlsel.pool.pool import Pool
    from mlsel.selection import make_selector
    from mlsel.selection.methods import distances, entropy, entropy_bounds
    from mlsel.selection.methods.entropy import greedy_entropy
    from mlsel.selection.methods.fps import farthest_points

    given = json.loads(parameters)
    entropy._library(), entropy_bounds._library(), distances._library()  # compiles
    if method in ("entropy", "set-cover"):
        environments = list(np.load(Path(scratch) / "environments.npy"))
        start = time.process_time()
        keys = np.random.default_rng(1).random(len(environments))
        cover = method == "set-cover"
        picks = greedy_entropy(environments, int(n), given["bandwidth"], keys, cover=cover)
    elif method == "fps":
        features = np.load(Path(scratch) / "features.npy")
        start = time.process_time()
        picks = farthest_points(features, int(n), given["start"])
    else:
        start = time.process_time()
        with Pool(pool) as opened:
            picks = make_selector(method, given).select(opened, int(n), 1).frame_ids
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak": peak, "picks": picks.tolist()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
