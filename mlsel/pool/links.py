"""The runs that a pool shows by links: whether their files are still those that it was made of."""

from __future__ import annotations

import h5py

from mlsel.core.hdf5_file import reading_hdf5
from mlsel.pool.pool import Pool


def remade_runs(pool: Pool) -> list[str]:
    """Return the runs whose file was made anew, with other contents, since the pool was written.

    Only files that are newer than the pool are opened. Those that are gone are none of these: who
    reads them tells.
    """
    written = pool.path.stat().st_mtime_ns
    found = []
    with reading_hdf5(pool.path) as file:
        digests = file["parameters/runs/digest"].asstr()[()]
        for run, digest in zip(pool.runs, digests, strict=True):
            link = file["particles"].get(run.name, getlink=True)
            if not isinstance(link, h5py.ExternalLink):
                continue
            path = pool.path.parent / link.filename
            if not path.is_file() or path.stat().st_mtime_ns <= written:
                continue
            with reading_hdf5(path) as made:
                names = made["parameters/runs/name"].asstr()[()].tolist()
                now = dict(zip(names, made["parameters/runs/digest"].asstr()[()], strict=True))
            if now.get(link.path.rpartition("/")[2]) != digest:
                found.append(run.name)
    return found
