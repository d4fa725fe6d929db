"""The verdict on a run beside which there is no reference: did it hold, and conserve energy?

Nothing here says that structure, density or energies are right. What is seen: the run left the
bounds that the training data give, atoms come nearer to each other than anywhere in them, or the
energy drifts where it should be constant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlsel.validate.blocking import FEWEST_BLOCKS, blocked
from mlsel.validate.criteria import INNER, SIGMAS, Comparison, drift
from mlsel.validate.verdict import BLOWN_UP, STABLE, UNKNOWN, UNPHYSICAL, Verdict

if TYPE_CHECKING:
    from mlsel.core.arrays import FloatArray
    from mlsel.study.sections.validation import ToleranceSection
    from mlsel.validate.results import Results

NOT_COMPARED = "whether structure, density and energies are right: there is no reference"


def judge_alone(
    run: Results, closest: Sequence[float], tolerances: ToleranceSection, held_against: str
) -> Verdict:
    """Return the verdict on a run.

    Parameters
    ----------
    run : Results
    closest : (n_pairs,), Å
        The shortest distance of each pair in the training data; 0 where it is not known.
    tolerances : section of the study
        Of `inner_weight` and `nve_drift`.
    held_against : str
        What the verdict will say of it.
    """
    comparisons = (*_inner_weight(run, np.asarray(closest), tolerances), _drift(run, tolerances))
    step, why = run.unsound
    reasons = [f"{why}, after {step * run.timestep:.3g} ps"] if step >= 0 else []
    reasons += [one.sentence for one in comparisons if one.differs]
    if run.ended_by and why != run.ended_by:
        reasons.append(f"ended after {run.ended_at * run.timestep:.3g} ps: {run.ended_by}")
    unseen = [f"{one.title}: {one.missing}" for one in comparisons if one.missing]
    if run.ended_by:
        word = BLOWN_UP
    elif reasons:
        word = UNPHYSICAL
    else:
        word = STABLE if run.averaged_time else UNKNOWN
    end = float(run.samples.step[-1]) if len(run.samples.step) else 0.0
    return Verdict(
        name=run.name,
        kind=run.kind,
        word=word,
        reasons=tuple(reasons),
        unseen=(NOT_COMPARED, *unseen),
        time=run.averaged_time,
        stable_time=(step if step >= 0 else end) * run.timestep,
        sound_step=run.sound_step,
        outside=float(run.watch[:, -1].mean()) if len(run.watch) else math.nan,
        comparisons=comparisons,
        held_against=held_against,
    )


def _inner_weight(
    run: Results, closest: FloatArray, tolerances: ToleranceSection
) -> Iterator[Comparison]:
    """Neighbours nearer than 0.9 of the shortest distance in the training data, where there is
    none."""
    width = float(run.r[1] - run.r[0])
    for pair, name in enumerate(run.pairs):
        n_bins = min(int(INNER * closest[pair] / width), len(run.r))
        if not n_bins:
            missing = "no two such atoms are in one frame of the training data"
            yield Comparison("inner_weight", name, missing=missing)
            continue
        if len(run.coordination) < FEWEST_BLOCKS:
            missing = f"{len(run.coordination)} blocks in the run, {FEWEST_BLOCKS} are needed"
            yield Comparison("inner_weight", name, missing=missing)
            continue
        mean = blocked(run.coordination[:, pair, n_bins - 1])
        yield Comparison(
            "inner_weight",
            name,
            float(mean.value),
            float(mean.error),
            float(mean.sigmas(len(run.pairs))),
            tolerances.inner_weight,
            SIGMAS,
            where=f"below {n_bins * width:.2f} Å, {INNER:g} of the shortest distance in the data",
        )


def _drift(run: Results, tolerances: ToleranceSection) -> Comparison:
    slope = drift(run)
    if not np.isfinite(slope.value):
        n = len(run.nve.step)
        missing = f"{n} samples, {FEWEST_BLOCKS} are needed" if n < FEWEST_BLOCKS else "no number"
        return Comparison("nve_drift", missing=missing)
    return Comparison(
        "nve_drift",
        "",
        float(slope.value),
        float(slope.error),
        float(slope.sigmas()),
        tolerances.nve_drift,
        SIGMAS,
    )
