"""What `mlsel label` leaves: frames with labels, who made these, and what they lack."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.pool.teacher import ATTRIBUTE

if TYPE_CHECKING:
    from mlsel.core.arrays import FloatArray, IntArray
    from mlsel.pool.pool import Pool

log = logging.getLogger("mlsel.refine.label")

LEFT_OUT = "label_left_out"
"""Attribute of a product: which labels it lacks, and why."""
AGREEMENT = "atomic_energies_agreement"
"""Attribute of a product: how far sums of a model's atomic energies are from the energies."""
OWN = "their own labels"


def label_file(folder: Path, frame: int) -> Path:
    """Where the labels of a frame are kept until all are there."""
    return folder / f"{frame}.npz"


def write_labelled(
    pool: Pool, done: list[int], folder: Path, output: Path, made_from: Mapping[str, Any]
) -> None:
    """Write the frames that are labelled, from the files of each."""
    import numpy as np

    from mlsel.pool.subset import write_subset
    from mlsel.pool.writer import LABELS
    from mlsel.refine.labeller import FIELDS

    replaced = tuple(LABELS) if made_from["labeller"] != OWN else ("atomic_energies",)
    sums: list[tuple[int, float, float]] = []
    names: list[tuple[str, ...]] = []
    left_out: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for frame in done:
        with np.load(label_file(folder, frame)) as file:
            names.append(tuple(name for name in FIELDS if name in file.files))
            reasons = json.loads(str(file["left_out"])) if "left_out" in file.files else {}
            if made_from[ATTRIBUTE]:
                sums.append((frame, float(file["label_energy"]), file["atomic_energies"].sum()))
        for name, (reason, found) in reasons.items():
            left_out.setdefault((name, reason), []).append((frame, found))

    def labels(frames: IntArray, names: Sequence[str]) -> dict[str, FloatArray]:
        found: dict[str, list[FloatArray]] = {name: [] for name in names}
        for frame in frames.tolist():
            with np.load(label_file(folder, frame)) as file:
                for name in names:
                    found[name].append(file[name])
        return {name: np.array(values) for name, values in found.items()}

    stamp = {"made_by": "mlsel.label", **{f"label_{k}": v for k, v in made_from.items()}}
    told = [
        f"{name} left out of {len(frames)} of {len(done)} frames: {reason}"
        + (f" (frame {frames[0][0]}: {frames[0][1]})" if frames[0][1] else "")
        for (name, reason), frames in sorted(left_out.items())
    ]
    if told:
        stamp[LEFT_OUT] = "; ".join(told)
    if made_from[ATTRIBUTE]:
        stamp |= {ATTRIBUTE: made_from[ATTRIBUTE], AGREEMENT: _agreement(pool, sums)}
    write_subset(pool, done, output, stamp, labels=labels, label_names=names, replaced=replaced)


def _agreement(pool: Pool, sums: Sequence[tuple[int, float, float]]) -> str:
    """Say how far the sums of a teacher's atomic energies, of frames, are from the energies."""
    import numpy as np

    from mlsel.refine.teacher import disagreement

    known = [(frame, energy, total) for frame, energy, total in sums if np.isfinite(energy)]
    if not known:
        return "the frames have no energies that their sums could be compared with"
    frames, energies, totals = zip(*known, strict=True)
    elements = sorted({int(z) for run in pool.runs for z in pool.numbers(run)})
    counts = [
        [int(np.count_nonzero(pool.numbers(run) == z)) for z in elements] for run in pool.runs
    ]
    runs, _ = pool.locate(np.array(frames))
    return disagreement(energies, totals, [counts[run] for run in runs])


def tell_left_out(output: Path) -> None:
    """Say which labels a product lacks, and of whom its atomic energies are, as it records it."""
    from mlsel.pool.pool import Pool

    with Pool(output) as pool:
        told = pool.attributes.get(LEFT_OUT)
        teacher, agreement = (pool.attributes.get(key) for key in (ATTRIBUTE, AGREEMENT))
    if told:
        log.warning("%s: %s", output, told)
    if teacher:
        log.warning(
            "%s: its atomic energies are those of %s, to be selected by and no labels: %s",
            output, teacher, agreement,
        )  # fmt: skip
