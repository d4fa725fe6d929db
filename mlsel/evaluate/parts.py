"""The parts of a test set that errors are split by: methods, melt and crystal, state points."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mlsel.core.arrays import IntArray
from mlsel.pool.pool import Pool

log = logging.getLogger(__name__)

MELT, CRYSTAL, RUN = "melt", "crystal", "run "
MOST_RUNS = 128
"""More runs than these (a trajectory of single points, say) are no parts worth a row each."""


def methods_of(test: Pool) -> dict[str, IntArray]:
    """Return the frames of each method's part of a test set (none if it says nothing of parts)."""
    text = test.attributes.get("parts")
    if text is None:
        return {}
    parts, start = {}, 0
    for part in json.loads(text):
        end = start + int(part["n"])
        parts[str(part["method"])] = np.arange(start, end)
        start = end
    return parts


def runs_of(test: Pool, pool_path: Path) -> dict[str, IntArray]:
    """Return the test set's frames that were melt and crystal, and those of each run.

    Parameters
    ----------
    test : Pool
    pool_path : path
        The pool that it was selected from, which says what stayed molten; if it is another, or not
        there, nobody does.
    """
    names = [str(name) for name in test.attributes.get("source_runs", ())]
    if "source_run" not in test.fields or not names:
        return {}
    of = np.asarray(test.values("source_run"), np.int64)
    parts = {}
    molten = _molten(test, pool_path)
    for part, wanted in ((MELT, True), (CRYSTAL, False)):
        frames = np.flatnonzero([molten.get(names[run]) is wanted for run in of])
        if 0 < len(frames) < len(of):
            parts[part] = frames
    runs = np.unique(of)
    if len(runs) > MOST_RUNS:
        log.info("errors are not split by run: the test set has frames of %d", len(runs))
    elif len(runs) > 1:
        parts |= {f"{RUN}{names[run]}": np.flatnonzero(of == run) for run in runs}
    return parts


def _molten(test: Pool, pool_path: Path) -> Mapping[str, bool]:
    """Whether runs of the pool stayed molten, of those that say so."""
    if not pool_path.is_file():
        return {}
    with Pool(pool_path) as pool:
        if pool.digest != test.attributes.get("pool_digest"):
            return {}
        told = {run.name: pool.run_attributes(run).get("molten") for run in pool.runs}
    return {name: bool(value) for name, value in told.items() if value is not None}
