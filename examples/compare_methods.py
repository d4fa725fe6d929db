"""What do the methods choose from a pool? Ranges covered, and how many frames two of them share.

python compare_methods.py POOL N
"""

import sys

import numpy as np

from mlsel import Pool, make_selector
from mlsel.selection import METHODS


def largest_forces(pool: Pool) -> np.ndarray:
    """Return the largest |F| in each frame, eV/Å, (n_frames,)."""
    largest = np.empty(len(pool))
    for block in pool.blocks("forces"):
        largest[block.frame_ids] = np.linalg.norm(block["forces"], axis=-1).max(axis=-1)
    return largest


with Pool(sys.argv[1]) as pool:
    n = int(sys.argv[2])
    properties = {"energy": pool.values("energy"), "largest force": largest_forces(pool)}
    known = ("random", "global-energy", "atomic-energy", "force")
    possible = [name for name in known if set(METHODS[name].fields) <= set(pool.fields)]
    chosen = {name: make_selector(name).select(pool, n, rng=1).frame_ids for name in possible}
    for name, frames in chosen.items():
        ranges = {
            key: np.ptp(values[frames]) / np.ptp(values) for key, values in properties.items()
        }
        covered = ", ".join(f"{share:.0%} of the range of {key}" for key, share in ranges.items())
        shared = ", ".join(
            f"{len(np.intersect1d(frames, others))} with {other}"
            for other, others in chosen.items()
            if other != name
        )
        print(f"{name}: {covered}; shares {shared}")
