"""Verdicts on all runs of a study: verdicts.json and verdicts.csv."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.core.errors import MlselError
from mlsel.core.files import take_away
from mlsel.core.record import read_json
from mlsel.study.folder import StudyFolder
from mlsel.validate.criteria import INNER, SIGMAS
from mlsel.validate.held_against import LAMMPS, NONE, POOL, reference_kind
from mlsel.validate.rdf import main_peak
from mlsel.validate.reference import Reference
from mlsel.validate.results import Results, read_results, write_results
from mlsel.validate.stability import FORCE_FACTOR
from mlsel.validate.start import read_start
from mlsel.validate.verdict import (
    BLOWN_UP,
    DEFINITIONS,
    STABLE,
    UNKNOWN,
    UNPHYSICAL,
    VERSION,
    Verdict,
    as_csv,
    judge,
)

if TYPE_CHECKING:
    from mlsel.study.sections.validation import ToleranceSection
    from mlsel.study.study import Study
    from mlsel.validate.nvt_run import ValidationRun

log = logging.getLogger(__name__)


IN_BOUNDS = (
    "ps from the start of equilibration until a pair of atoms was closer than the bound (0.75 of "
    "the shortest distance in the training data, unless the study says otherwise), a force "
    f"component above {FORCE_FACTOR:g} times the largest there, the temperature was off by a "
    "factor of 2, the potential energy 5 k_B T an atom from the start's, or LAMMPS ended the run; "
    "the whole run if none of these happened"
)


def definitions_of(kind: str) -> dict[str, str]:
    """Return what each number means, by what it was held against."""
    if kind == LAMMPS:
        return DEFINITIONS
    if kind == POOL:
        return {
            **DEFINITIONS,
            "stable_time": IN_BOUNDS,
            "density": (
                "% by which the density at the trajectories' pressure differs: −κ ΔP, from the "
                "difference in pressure at the same volume (theirs from the virials and the "
                "temperature) and their compressibility (fluctuations of their volume); not known "
                "where the pool has no virials or the volume is constant"
            ),
            "energy": "meV/atom, mean potential energy less the labels'",
            "nve_drift": "meV/atom/ps, slope of the total energy in the NVE run",
        }
    return {
        "word": (
            f"{BLOWN_UP}: LAMMPS ended the run, or its temperature passed ten times the "
            f"thermostat's. {UNPHYSICAL}: it left the bounds of a stable run, atoms are nearer to "
            f"each other than {INNER:g} of the shortest distance in the training data, or the "
            f"energy drifts in NVE. {STABLE}: none of these was seen, and nothing else was looked "
            f"at. {UNKNOWN}: too short for any."
        ),
        "sigmas": DEFINITIONS["sigmas"].partition(";")[0] + ", here from none",
        "time": DEFINITIONS["time"],
        "stable_time": IN_BOUNDS,
        "inner_weight": (
            f"neighbours an atom has nearer than {INNER:g} of the shortest distance of the pair in "
            "the training data, where there is none"
        ),
        "nve_drift": "meV/atom/ps, slope of the total energy in the NVE run",
        "outside": DEFINITIONS["outside"],
    }


@dataclass(frozen=True)
class Judged:
    """Verdicts, and what they were held against.

    Attributes
    ----------
    verdicts : of all runs
    text : what they were held against, a sentence
    thresholds : sigmas that chance does, by criterion
    unknown : what could not be found out about the reference
    """

    verdicts: list[Verdict]
    text: str
    thresholds: dict[str, float]
    unknown: Sequence[str]


def conclude(study: Study, runs: Sequence[ValidationRun], folder: Path) -> list[Verdict]:
    """Judge all runs; write verdicts.json and verdicts.csv.

    Raises
    ------
    MlselError
        If the reference is none.
    """
    from mlsel.core.files import write_json, write_text

    place, kind = StudyFolder(folder), reference_kind(study)
    target, section = place.verdicts, study.validation
    try:
        if kind == LAMMPS:
            judged = _beside_potential(study, runs, place)
        elif kind == POOL:
            judged = _beside_pool(study, runs, place)
        else:
            judged = _alone(study, runs, place)
    except MlselError:
        # Verdicts of an earlier version, or of fewer runs, do not outlive it.
        take_away(target, target.with_suffix(".csv"))
        raise
    write_json(
        target,
        {
            "verdict_version": VERSION,
            "held_against": {"kind": kind or NONE, "text": judged.text},
            "definitions": definitions_of(kind),
            "tolerances": _tolerances(section.tolerances, kind),
            "judged_by": judged_by(study, kind),
            "sigmas": SIGMAS,
            "reference": {"thresholds": judged.thresholds, "unknown": list(judged.unknown)},
            "speeds": {run.name: _speed(run) for run in runs},
            "structure": {run.name: main_peaks(read_results(run.product)) for run in runs},
            "verdicts": [verdict.as_dict() for verdict in judged.verdicts],
        },
    )
    write_text(target.with_suffix(".csv"), as_csv(judged.verdicts))
    log.info("held against %s", judged.text)
    for verdict in judged.verdicts:
        said = "; ".join(verdict.reasons or verdict.unseen)
        log.info("%-34s %-27s %s", verdict.name, verdict.word, said)
    for text in judged.unknown:
        log.warning("too short to tell %s", text)
    log.info("%s", target.with_suffix(".csv"))
    return judged.verdicts


def _beside_potential(study: Study, runs: Sequence[ValidationRun], place: StudyFolder) -> Judged:
    from mlsel.validate.start import compressibility

    section = study.validation
    own = tuple(read_results(run.product) for run in runs if run.kind == "reference")
    reference = Reference(
        own, compressibility(study, place.root), section.tolerances, section.expect_solid
    )
    unknown = reference.check()
    verdicts = [judge(read_results(run.product), reference) for run in runs]
    text = f"the potential {study.system.potential} in LAMMPS, {len(own)} runs"
    return Judged(verdicts, text, reference.thresholds, unknown)


def _beside_pool(study: Study, runs: Sequence[ValidationRun], place: StudyFolder) -> Judged:
    """Hold runs against the pool's trajectories; their averages are kept as a run's are."""
    from mlsel.pool.pool import Pool
    from mlsel.validate.pool_reference import at_lags_of, frame_time, measure
    from mlsel.validate.runs import of_start
    from mlsel.validate.trajectories import at_state

    section = study.validation
    with Pool(place.pool) as pool:
        state = at_state(pool, study)
        found, compressibility = measure(pool, state, of_start(study, place))
    write_results(place.validation / "reference" / "results.h5", found)
    title = f"{state.n_frames} frames of the pool"
    reference = Reference(
        (found,), compressibility, section.tolerances, title=title, required=("rdf", "energy")
    )
    verdicts = [judge(at_lags_of(read_results(run.product), found), reference) for run in runs]
    text = f"the pool's own trajectories: {state}"
    if frame_time(study):
        text += f", {frame_time(study):g} ps apart"
    else:
        text += ". The time between frames is not known (validation.frame_time)"
    return Judged(verdicts, text, {}, ())


def _alone(study: Study, runs: Sequence[ValidationRun], place: StudyFolder) -> Judged:
    from mlsel.validate.alone import judge_alone

    start = read_start(place.root) if place.start.is_file() else {"closest": []}
    closest, tolerances = start["closest"], study.validation.tolerances
    title = "no reference: bounds from the training data"
    verdicts = [judge_alone(read_results(run.product), closest, tolerances, title) for run in runs]
    text = (
        "no reference: stability, energy conservation, and distances and forces beside those of "
        "the training data. Whether structure, density and energies are right was not asked"
    )
    return Judged(verdicts, text, {}, ())


def main_peaks(results: Results) -> dict[str, list[float | None]]:
    """Return position (Å) and height of the main peak of each pair's RDF; None if not known."""
    found: dict[str, list[float | None]] = {}
    for place, pair in enumerate(results.pairs):
        peak = main_peak(results.r, results.g[:, place])
        values = (float(peak.position.value), float(peak.height.value))
        found[pair] = [value if value == value else None for value in values]  # NaN is no JSON
    return found


def _tolerances(section: ToleranceSection, kind: str) -> dict[str, float]:
    """Those that something was held to."""
    every: dict[str, float] = asdict(section)
    if kind in (LAMMPS, POOL):
        return every
    return {name: every[name] for name in ("inner_weight", "nve_drift")}


def judged_by(study: Study, kind: str) -> dict[str, Any]:
    """Return the keys of [validation] that decide verdicts and no run."""
    section = study.validation
    more = {"frame_time": section.frame_time} if kind == POOL else {}
    return {"tolerances": _tolerances(section.tolerances, kind), **more}


def _speed(run: ValidationRun) -> dict[str, Any]:
    path = run.folder / "timing.json"
    return read_json(path) if path.is_file() else {}
