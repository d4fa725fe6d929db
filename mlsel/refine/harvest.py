"""The choice among new frames: which of them are worth a label, given the training set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core.errors import MlselError
from mlsel.core.files import sweep, take_away
from mlsel.pool.pool import Pool
from mlsel.pool.subset import write_subset
from mlsel.pool.writer import PoolWriter
from mlsel.selection import make_selector

if TYPE_CHECKING:
    from mlsel.core.arrays import FloatArray
    from mlsel.refine.exploration import ExplorationRun

    Offer = tuple[ExplorationRun, FloatArray, FloatArray]
    """A run, and the positions and cells of the frames that it offers."""

SAID = ("energy", "forces", "atomic_energies")
"""What the model itself says of a new frame, for methods that choose by it."""
NOT_OF_NEW = ("single-md-random", "committee")
"""Methods that ask for more than that, which their `fields` don't tell."""
STAMP = {"made_by": "mlsel.refine"}


def check_method(method: str, given: Pool) -> None:
    """Refuse a method that can't choose among new frames, before any MD.

    Raises
    ------
    MlselError
        If there is no such method, or new frames or the training set lack what it looks at.
    """
    from mlsel.selection.registry import METHODS

    make_selector(method)
    usable = [
        name
        for name, kind in METHODS.items()
        if name not in NOT_OF_NEW and set(kind.fields) <= {"positions", *SAID} & set(given.fields)
    ]
    if method not in usable:
        raise MlselError(
            f'refine.method is "{method}", which looks at more than new frames and {given.path} '
            f"hold: take one of {', '.join(usable)}."
        )


def harvest(
    offers: Sequence[Offer], n: int, method: str, seed: int, given: Path, model: Path, found: Path
) -> None:
    """Choose n of the frames on offer and write them without labels.

    Parameters
    ----------
    offers : of runs
    n : from 1 to all that are on offer
    method : str
    seed : int
    given : path
        The training set, which they shall go with.
    model : path
        Folder of the model that drove the runs.
    found : path
        What is written.
    """
    everything = found.with_name("new.h5")
    sweep(everything)
    n_offered = sum(len(cells) for _, _, cells in offers)
    fields = make_selector(method).fields if n < n_offered else ()
    said = tuple(field for field in SAID if field in fields)
    with PoolWriter(everything, STAMP) as writer:
        for run, positions, cells in offers:
            if not len(cells):
                continue
            part = writer.add_run(
                run.folder.name,
                np.array(run.numbers),
                len(cells),
                ["positions", *(field for field in said if field != "energy")],
                {"energy": "eV"} if "energy" in said else {},
                orthogonal=False,
            )
            frames = np.arange(len(cells))
            labels = _predicted(model, run, positions, cells, said)
            part.append(frames, frames.astype(float), positions=positions, cell=cells, **labels)
    with Pool(everything) as pool, Pool(given) as there:
        chosen = np.arange(n_offered)
        if n < n_offered:
            rng = np.random.default_rng(seed)
            chosen = make_selector(method).select(pool, n, rng, given=there).frame_ids
        # what the model says is for the choice alone
        write_subset(pool, chosen, found, STAMP, labels=lambda *_: {}, label_names=[()] * n)
    take_away(everything)


def _predicted(
    model: Path, run: ExplorationRun, positions: FloatArray, cells: FloatArray, names: Sequence[str]
) -> dict[str, FloatArray]:
    """Return some of what a model says of frames."""
    if not names:
        return {}
    from mlsel.training.frames import Frames
    from mlsel.training.registry import load_model

    said = load_model(model).predict(Frames(np.array(run.numbers), positions, cells))
    return {name: getattr(said, name) for name in names}
