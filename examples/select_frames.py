"""Choose the N frames of a labelled trajectory that are worth training on.

    python select_frames.py TRAJECTORY N

TRAJECTORY: anything that ASE reads, with energies and forces. Makes pool.h5, train.h5 (for
`mlsel training`) and train.extxyz (for other programs), frames in the order chosen.
"""

import sys
from pathlib import Path

from mlsel import Pool, make_selector
from mlsel.pool.export_command import export_main
from mlsel.pool.importing import import_trajectories

trajectory, n = Path(sys.argv[1]), int(sys.argv[2])
import_trajectories([trajectory], Path("pool.h5"))
with Pool("pool.h5") as pool:
    chosen = make_selector("force").select(pool, n, rng=1)
    chosen.write(pool, Path("train.h5"))
    print(f"{n} of {len(pool)} frames, the first of them {chosen.frame_ids[:5].tolist()}")
export_main(["train.h5", "train.extxyz", "--force"])
