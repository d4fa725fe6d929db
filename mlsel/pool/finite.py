"""Values that are NaN or infinite: refused, and told by frame, run and atom."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mlsel.core.arrays import Array, IntArray
from mlsel.core.errors import MlselError
from mlsel.pool.layout import ATOM_FIELDS
from mlsel.pool.pool import Pool


def not_finite(pool: Pool, field: str, frame: int) -> MlselError:
    """Return the error that names the first NaN or infinity of a field in a frame."""
    run, row = (int(index[0]) for index in pool.locate([frame]))
    atom = ""
    if field in ATOM_FIELDS:
        (block,) = pool.blocks(field, frame_ids=np.array([frame]))
        values = block[field][0].reshape(len(block[field][0]), -1)
        atom = f", atom {int(np.argmin(np.isfinite(values).all(axis=1)))}"
    return MlselError(
        f"{field} of frame {frame} (run {pool.runs[run].name}, its frame {row}{atom}) is NaN or "
        f"infinite in {pool.path}: exclude the frame, or repair the run."
    )


def require_finite(pool: Pool, frame_ids: IntArray, arrays: Mapping[str, Array]) -> None:
    """Raise if a value of these frames, fields as (F, …), is NaN or infinite."""
    bad = []
    for field, values in arrays.items():
        if values.dtype.kind != "f":
            continue
        good = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        bad += [(int(frame), field) for frame in frame_ids[~good]]
    if bad:
        frame, field = min(bad)
        raise not_finite(pool, field, frame)
