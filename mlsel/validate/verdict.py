"""The verdict on a potential: what its run did beside the reference's, and one word."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.core.record import read_json
from mlsel.validate.criteria import (
    INNER,
    REQUIRED,
    SIGMAS,
    UNITS,
    Averages,
    Comparison,
    compare,
    gravest,
)
from mlsel.validate.rdf import ONSET, SMOOTHING

if TYPE_CHECKING:
    from mlsel.study.folder import StudyFolder
    from mlsel.validate.reference import Reference
    from mlsel.validate.results import Results

VERSION = 2
"""Of what verdicts.json says; the first had other words, other bounds and no sigmas."""

BLOWN_UP, UNPHYSICAL, DIFFERS = "blown up", "unphysical", "differs"
AGREES, UNKNOWN = "agrees within what was run", "not judged"
STABLE = "stable within what was run"
WORDS = (BLOWN_UP, UNPHYSICAL, DIFFERS, AGREES, STABLE, UNKNOWN)

DEFINITIONS = {
    "word": (
        f"{BLOWN_UP}: LAMMPS ended the run, or its temperature passed ten times the thermostat's. "
        f"{UNPHYSICAL}: it left the bounds of a stable run, or atoms are nearer to each other than "
        f"{INNER:g} of the reference's onset. {DIFFERS}: stable, but one quantity or more is off "
        f"by more than its tolerance and by more than chance. {AGREES}: no such difference was "
        f"seen; what would not have been seen stands beside it. {UNKNOWN}: too short for "
        f"{', '.join(REQUIRED)}."
    ),
    "sigmas": (
        "how sure it is that there is a difference: Student's chance of one as large between runs "
        "of one liquid, given as the standard deviations of a normal distribution; for the largest "
        f"of several pairs, species or distances the chance of any. Above {SIGMAS:g}, and above "
        "what the reference's own repeats show, it is not chance. It grows with the time that was "
        "run: not to be compared between runs of other lengths"
    ),
    "time": "ps of NVT that were averaged",
    "stable_time": (
        "ps from the start of equilibration until a pair of atoms was closer than the bound "
        "(0.75 of the reference's shortest distance, unless the study says otherwise), the "
        "temperature was off by a factor of 2, the potential energy 5 k_B T an atom from the "
        "start's, or LAMMPS ended the run; the whole run if none of these happened"
    ),
    "rdf": f"g − g_ref, both averaged over {SMOOTHING:g} Å, where it tells most",
    "peak_position": "Å, of the highest maximum of g(r), less the reference's",
    "peak_height": "% more than the reference's",
    "coordination": "% more neighbours up to the reference's first minimum of g(r)",
    "short_weight": (
        "neighbours an atom has nearer than the onset of the reference's RDF (its g first reaches "
        f"{ONSET:g}), less those of the reference there"
    ),
    "inner_weight": (
        f"the same nearer than {INNER:g} of the onset, where no shift of the first peak reaches"
    ),
    "density": (
        "% by which the density at the reference's pressure differs: −κ ΔP, from the difference in "
        "pressure at the same volume and the reference's compressibility (volume fluctuations of "
        "its NPT run)"
    ),
    "energy": "meV/atom, mean potential energy less the reference's",
    "diffusion": "% more than the reference's diffusion coefficient",
    "nve_drift": (
        "meV/atom/ps, slope of the total energy in the NVE run; differs also only if above the "
        "reference's own"
    ),
    "outside": (
        "share of atoms and frames on which the models of the data set disagree more than anywhere "
        "on their training data; only where validation.watch is true"
    ),
}
"""What each number means, for tables and files."""


@dataclass(frozen=True)
class Verdict:
    """A verdict.

    Attributes
    ----------
    word : blown up, unphysical, differs, agrees or stable within what was run, or not judged
    reasons : in what, by how much, how sure
    unseen : what was not measured, or could not have been seen in what was run
    sound_step : the step of the last frame before the run left its bounds, −1 if it did not
    comparisons : all quantities of all pairs and species
    outside : NaN where it was not asked for
    held_against : the reference, in a few words
    """

    name: str
    kind: str
    word: str
    reasons: tuple[str, ...]
    unseen: tuple[str, ...]
    time: float
    stable_time: float
    sound_step: int
    outside: float
    comparisons: tuple[Comparison, ...]
    held_against: str = "reference"

    @property
    def numbers(self) -> dict[str, Comparison]:
        """Of each criterion the comparison that tells most."""
        return gravest(self.comparisons)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values; numbers that there are not become None."""
        numbers = {
            name: asdict(one) | {"differs": one.differs} for name, one in self.numbers.items()
        }
        found: dict[str, Any] = _plain(asdict(self) | {"numbers": numbers})
        return found


def judge(run: Results, reference: Reference) -> Verdict:
    """Return the verdict on a run.

    Parameters
    ----------
    run : Results
        Of the same system, temperature, volume and bins as the reference's. A run of the reference
        is judged beside its other runs.
    reference : Reference
    """
    others = reference.others(run)
    comparisons: tuple[Comparison, ...] = ()
    if others:
        # What the reference's own runs show by chance says nothing about one of themselves.
        is_own = len(others) < len(reference.runs)
        comparisons = compare(
            Averages((run,)),
            Averages(others),
            reference.tolerances,
            reference.compressibility,
            None if is_own else reference.thresholds,
        )
    numbers = gravest(comparisons)
    step, why = run.unsound
    unphysical: list[str] = []
    differs: list[str] = []
    if step >= 0:
        unphysical.append(f"{why}, after {step * run.timestep:.3g} ps")
    for one in comparisons:
        if one.differs:
            (unphysical if one.criterion == "inner_weight" else differs).append(one.sentence)
    if run.ended_by:
        word = BLOWN_UP
        if why != run.ended_by:
            unphysical.append(f"ended after {run.ended_at * run.timestep:.3g} ps: {run.ended_by}")
    elif unphysical:
        word = UNPHYSICAL
    elif differs:
        word = DIFFERS
    else:
        lacks = [
            name for name in reference.required if name not in numbers or numbers[name].missing
        ]
        word = UNKNOWN if lacks else AGREES
    end = float(run.samples.step[-1]) if len(run.samples.step) else 0.0
    return Verdict(
        name=run.name,
        kind=run.kind,
        word=word,
        reasons=(*unphysical, *differs),
        unseen=_unseen(comparisons) if others else ("anything: the reference has no repeat",),
        time=run.averaged_time,
        stable_time=(step if step >= 0 else end) * run.timestep,
        sound_step=run.sound_step,
        outside=float(run.watch[:, -1].mean()) if len(run.watch) else math.nan,
        comparisons=comparisons,
        held_against=reference.title,
    )


def _unseen(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """What was not measured, and what could be off by more than its tolerance unseen."""
    found: dict[str, str] = {}
    for one in comparisons:
        if one.missing:
            found.setdefault(f"{one.criterion}{one.missing}", f"{one.title}: {one.missing}")
        elif one.criterion in ("density", "energy", "diffusion") and not one.differs:
            unit = UNITS[one.criterion]
            unit = unit if unit == "%" else f" {unit}"
            if one.resolution > one.tolerance:
                found[one.title] = f"{one.title} off by less than {one.resolution:.2g}{unit}"
    return tuple(found.values())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [_plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def read_verdicts(path: Path) -> dict[str, Any] | None:
    """Return verdicts.json, None if it is of an earlier version: `mlsel validate` makes it anew.

    Raises
    ------
    MlselError
        If it is damaged, or of a later version.
    """
    from mlsel.core.record import read_json

    found = read_json(path)
    return found if found.get("verdict_version") == VERSION else None


def as_csv(verdicts: Sequence[Verdict]) -> str:
    """Return verdicts as CSV text, a line each: of every criterion the size and its error, how
    sure, and of what."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [name + end for name in UNITS for end in ("", "_error", "_sigmas", "_of")]
    first = ["name", "kind", "word", "time", "stable_time"]
    last = ["outside", "reasons", "unseen", "held_against"]
    writer.writerow([*first, *columns, *last])
    for verdict in verdicts:
        cells = [getattr(verdict, column) for column in first]
        for name in UNITS:
            one = verdict.numbers.get(name, Comparison(name))
            cells += [one.size, one.error, one.sigmas, f"{one.of} {one.where}".strip()]
        cells += [
            verdict.outside,
            "; ".join(verdict.reasons),
            "; ".join(verdict.unseen),
            verdict.held_against,
        ]
        writer.writerow([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in cells])
    return text.getvalue()


def changed_models(place: StudyFolder) -> list[str]:
    """Return the models that have changed since their runs were made, <data set>/<model>."""
    from mlsel.training.description import model_digest

    return [
        name
        for name in place.finished_models()
        if (record := place.validation / name / "run.json").is_file()
        and read_json(record).get("potential") != model_digest(place.model(name))
    ]
