"""In what a run differs from the reference: each quantity's size and significance.

A difference counts if it is larger than the quantity's tolerance *and* surer than chance. How sure
grows with the time that was run, so it is not to be compared between runs of other lengths; how
large does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core.arrays import FloatArray
from mlsel.validate.blocking import FEWEST_BLOCKS, Mean, blocked
from mlsel.validate.diffusion import diffusion
from mlsel.validate.rdf import Curve, curve_of, first_minimum, main_peak, smoothed

if TYPE_CHECKING:
    from mlsel.study.sections.validation import ToleranceSection
    from mlsel.validate.results import Results


SIGMAS = 3.5
"""A difference this sure is not chance: 1 in 2,000 for each criterion, so that with nine criteria
fewer than 1 in 100 pairs of runs of one liquid differ in any, whatever the tolerances."""
INNER = 0.9
"""Of the reference's onset: nearer than this no shift of the first peak reaches."""
LEAST_DIFFUSION = 0.1
"""Å²/ps, or 1e-5 cm²/s: what liquids have at the least, and crystals never."""

UNITS = {
    "rdf": "",
    "peak_position": "Å",
    "peak_height": "%",
    "coordination": "%",
    "short_weight": "neighbours",
    "inner_weight": "neighbours",
    "density": "%",
    "energy": "meV/atom",
    "diffusion": "%",
    "nve_drift": "meV/atom/ps",
}
WORDS = {
    "rdf": "RDF",
    "peak_position": "main peak's position",
    "peak_height": "main peak's height",
    "coordination": "coordination number",
    "short_weight": "neighbours below the onset",
    "inner_weight": "neighbours far below the onset",
    "density": "density",
    "energy": "mean energy",
    "diffusion": "diffusion",
    "nve_drift": "energy drift in NVE",
}
"""What criteria are called in sentences."""
MOST_UNCERTAIN = 0.5
"""Relative error of a compressibility that still says something."""
REQUIRED = ("rdf", "density", "energy")
"""Without these nobody can say that a run agrees."""


@dataclass(frozen=True)
class Comparison:
    """One quantity of a run beside the reference's.

    Attributes
    ----------
    criterion : a key of UNITS
    of : the pair of species or the species, "" for the whole
    size : of the difference (run less reference), in the criterion's unit; NaN if not measured
    error : standard error of `size`
    sigmas : how sure it is that there is a difference; see `Mean.sigmas`
    tolerance : the largest size that counts as agreement
    threshold : the sigmas above which a difference is not chance
    resolution : the least size that would have been seen in what was run
    where : more words on it, "at 2.6 Å"
    missing : why it was not measured, "" if it was
    """

    criterion: str
    of: str = ""
    size: float = math.nan
    error: float = math.nan
    sigmas: float = math.nan
    tolerance: float = math.nan
    threshold: float = SIGMAS
    resolution: float = math.nan
    where: str = ""
    missing: str = ""

    @property
    def differs(self) -> bool:
        """Whether the difference is larger than the tolerance and surer than chance."""
        return abs(self.size) > self.tolerance and self.sigmas > self.threshold

    @property
    def urgency(self) -> float:
        """How near it is to a difference that counts: above 1 it is one."""
        shares = (
            abs(self.size) / self.tolerance if self.tolerance else math.inf,
            self.sigmas / self.threshold,
        )
        return -1.0 if any(map(math.isnan, shares)) else min(shares)

    @property
    def title(self) -> str:
        """What was compared: "RDF Na-Cl"."""
        return f"{WORDS[self.criterion]} {self.of}".rstrip()

    @property
    def sentence(self) -> str:
        """In what, by how much, how sure."""
        unit = UNITS[self.criterion]
        unit = unit if unit in ("", "%") else f" {unit}"
        place = f" {self.where}" if self.where else ""
        return (
            f"{self.title} {self.size:+.2g}{unit}{place} (tolerance {self.tolerance:.2g}{unit}, "
            f"{self.sigmas:.1f} σ)"
        )


@dataclass(frozen=True)
class Averages:
    """What runs of one potential measured, put together.

    Attributes
    ----------
    runs : of equal system, temperature, volume and bins
    """

    runs: tuple[Results, ...]

    @cached_property
    def g(self) -> FloatArray:
        """(n_blocks, n_pairs, n_bins)"""
        return np.concatenate([run.g for run in self.runs])

    @cached_property
    def coordination(self) -> FloatArray:
        """(n_blocks, n_pairs, n_bins)"""
        return np.concatenate([run.coordination for run in self.runs])

    def curve(self, pair: int) -> Curve:
        return curve_of(self.runs[0].r, self.g[:, pair], self.coordination[:, pair])

    @cached_property
    def pressure(self) -> FloatArray:
        """bar, (n_samples,)"""
        return np.concatenate([run.production["pressure"] for run in self.runs])

    @cached_property
    def energy(self) -> FloatArray:
        """meV/atom, (n_samples,), potential energy"""
        parts = [1000 * run.production["potential_energy"] / run.n_atoms for run in self.runs]
        return np.concatenate(parts)

    def diffusion(self, species: int, n_lags: int) -> Mean:
        """Å²/ps, from the first lags."""
        lag = self.runs[0].msd_lag[:n_lags]
        return diffusion(lag, np.concatenate([run.msd[:, species, :n_lags] for run in self.runs]))

    @property
    def n_lags(self) -> int:
        return min(len(run.msd_lag) for run in self.runs)


def compare(
    run: Averages,
    reference: Averages,
    tolerances: ToleranceSection,
    compressibility: Mean,
    thresholds: Mapping[str, float] | None = None,
) -> tuple[Comparison, ...]:
    """Return one or more comparisons for each criterion.

    Parameters
    ----------
    run, reference : Averages
    tolerances : section of the study
    compressibility : Mean
        Of the reference, 1/bar; NaN where it is not known.
    thresholds : mapping
        Of sigmas, where chance does more than SIGMAS.
    """
    found = [
        *_structure(run, reference),
        *_density(run, reference, compressibility),
        *_energy(run, reference),
        *_diffusion(run, reference),
        nve_comparison(run.runs[0], reference.runs[0]),
    ]
    complete = []
    for one in found:
        tolerance = max(getattr(tolerances, one.criterion), _at_least(one.tolerance))
        limit = max(SIGMAS, (thresholds or {}).get(one.criterion, 0.0))
        complete.append(_replace(one, tolerance=tolerance, threshold=limit))
    return tuple(_gravest_windows(complete))


def _replace(one: Comparison, **values: float) -> Comparison:
    from dataclasses import replace

    return replace(one, **values)  # type: ignore[arg-type]


def _at_least(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _gravest_windows(comparisons: Sequence[Comparison]) -> Iterator[Comparison]:
    """Of all windows of an RDF keep the one nearest to a difference that counts."""
    kept: dict[tuple[str, str], Comparison] = {}
    for one in comparisons:
        key = one.criterion, one.of
        if key not in kept or one.urgency > kept[key].urgency:
            kept[key] = one
    yield from kept.values()


def gravest(comparisons: Sequence[Comparison]) -> dict[str, Comparison]:
    """Return of each criterion the comparison that is nearest to a difference that counts."""
    found: dict[str, Comparison] = {}
    for one in comparisons:
        if one.criterion not in found or one.urgency > found[one.criterion].urgency:
            found[one.criterion] = one
    return found


def _made(
    criterion: str, of: str, mean: Mean, n_tests: int = 1, *, size: Mean | None = None,
    where: str = "",
) -> Comparison:  # fmt: skip
    """A comparison: `mean` says how sure, `size` (default: the same) how large."""
    shown = size or mean
    with np.errstate(invalid="ignore", divide="ignore"):
        share = float(np.abs(shown.error / mean.error)) if mean.error else 1.0
    if not math.isfinite(float(shown.value)) or not math.isfinite(float(mean.error)):
        return Comparison(criterion, of, missing="no number came out of what was run")
    return Comparison(
        criterion,
        of,
        float(shown.value),
        float(shown.error),
        float(mean.sigmas(n_tests)),
        resolution=share * float(mean.resolution(SIGMAS, n_tests)),
        where=where,
    )


def _structure(run: Averages, reference: Averages) -> Iterator[Comparison]:
    pairs, r = run.runs[0].pairs, run.runs[0].r
    width = float(r[1] - r[0])
    for pair, name in enumerate(pairs):
        missing = _lacks_blocks(run, "the run") or _lacks_blocks(reference, "the reference")
        if missing:
            for criterion in list(UNITS)[:6]:
                yield Comparison(criterion, name, missing=missing)
            continue
        one, other = run.g[:, pair], reference.g[:, pair]
        windows = blocked(smoothed(one, width)) - blocked(smoothed(other, width))
        middles = smoothed(r, width)
        for place, middle in enumerate(middles):
            n_tests = len(middles) * len(pairs)
            yield _made("rdf", name, windows.at(place), n_tests, where=f"at {middle:.1f} Å")
        yield from _peaks(run, reference, pair, name)
        yield from _below_the_onset(run, reference, pair, name)


def _lacks_blocks(averages: Averages, whose: str) -> str:
    if len(averages.g) < FEWEST_BLOCKS:
        return f"{len(averages.g)} blocks in {whose}, {FEWEST_BLOCKS} are needed"
    if not np.isfinite(averages.g).all():
        return f"an RDF of {whose} is no number"
    return ""


def _peaks(run: Averages, reference: Averages, pair: int, name: str) -> Iterator[Comparison]:
    r, n_tests = run.runs[0].r, len(run.runs[0].pairs)
    here, there = (main_peak(r, averages.g[:, pair]) for averages in (run, reference))
    yield _made("peak_position", name, here.position - there.position, n_tests)
    height = (here.height - there.height).scaled(100 / float(there.height.value))
    yield _made("peak_height", name, height, n_tests)
    end = first_minimum(r, reference.g[:, pair].mean(axis=0))
    if end < 0:
        yield Comparison(
            "coordination", name, missing=f"the reference's RDF has no minimum below {r[-1]:.3g} Å"
        )
        return
    numbers = [blocked(averages.coordination[:, pair, end]) for averages in (run, reference)]
    more = (numbers[0] - numbers[1]).scaled(100 / float(numbers[1].value))
    yield _made("coordination", name, more, n_tests, where=f"within {r[end]:.2f} Å")


def _below_the_onset(
    run: Averages, reference: Averages, pair: int, name: str
) -> Iterator[Comparison]:
    """Neighbours nearer than the reference has any, and nearer than a shift of its peak reaches."""
    onset, n_tests = reference.curve(pair).onset(), len(run.runs[0].pairs)
    width = float(run.runs[0].r[1] - run.runs[0].r[0])
    for criterion, n_bins in (("short_weight", onset), ("inner_weight", int(INNER * onset))):
        if n_bins == 0:
            yield Comparison(criterion, name, missing="the reference's RDF starts at 0")
            continue
        numbers = [blocked(a.coordination[:, pair, n_bins - 1]) for a in (run, reference)]
        where = f"below {n_bins * width:.2f} Å"
        yield _made(criterion, name, numbers[0] - numbers[1], n_tests, where=where)


def _density(run: Averages, reference: Averages, compressibility: Mean) -> Iterator[Comparison]:
    """What the difference in pressure at the same volume is in density at the same pressure."""
    missing = _lacks_samples(run.pressure, reference.pressure)
    known, uncertain = float(compressibility.value), float(compressibility.error)
    if not missing and not uncertain <= MOST_UNCERTAIN * known:
        missing = "the reference's compressibility is not known"
        if math.isfinite(uncertain):
            missing += f" (± {uncertain / known:.0%}): make validation.density_time longer"
    if missing:
        yield Comparison("density", missing=missing)
        return
    apart = blocked(run.pressure) - blocked(reference.pressure)
    size = apart.scaled(-100 * known)
    yield _made("density", "", apart, size=size, where=f"(ΔP {float(apart.value):+.0f} bar)")


def _energy(run: Averages, reference: Averages) -> Iterator[Comparison]:
    missing = _lacks_samples(run.energy, reference.energy)
    if missing:
        yield Comparison("energy", missing=missing)
        return
    yield _made("energy", "", blocked(run.energy) - blocked(reference.energy))


def _lacks_samples(*series: FloatArray) -> str:
    for values in series:
        if len(values) < FEWEST_BLOCKS:
            return f"{len(values)} samples, {FEWEST_BLOCKS} are needed"
        if not np.isfinite(values).all():
            return "a sample is no number"
    return ""


def _diffusion(run: Averages, reference: Averages) -> Iterator[Comparison]:
    # Over the same lags: at short ones the slope is not yet that of diffusion.
    n_lags = min(run.n_lags, reference.n_lags)
    species = run.runs[0].species
    for index, symbol in enumerate(species):
        one, other = run.diffusion(index, n_lags), reference.diffusion(index, n_lags)
        missing = ""
        if not (np.isfinite(one.value) and np.isfinite(other.value)):
            missing = f"{n_lags} lags of the mean-square displacement, 2 are needed"
        elif not (np.isfinite(one.error) and np.isfinite(other.error)):
            missing = "too short to be divided into parts"
        elif other.value < LEAST_DIFFUSION:
            missing = "the reference does not diffuse"
        if missing:
            yield Comparison("diffusion", symbol, missing=missing)
            continue
        apart = (one - other).scaled(100 / float(other.value))
        yield _made("diffusion", symbol, apart, len(species))


def drift(results: Results) -> Mean:
    """Return the slope of the total energy in the NVE run, meV/atom/ps.

    A straight line through the means of 8 parts; the error is that of the fit.
    """
    part = results.nve
    if len(part.step) < FEWEST_BLOCKS or not np.isfinite(part["total_energy"]).all():
        return Mean.unknown()
    energy = 1000 * part["total_energy"] / results.n_atoms
    time = part.step * results.timestep
    edges = np.linspace(0, len(time), FEWEST_BLOCKS + 1).astype(int)[:-1]
    sizes = np.diff([*edges, len(time)])
    x, y = (np.add.reduceat(values, edges) / sizes for values in (time, energy))
    x = x - x.mean()
    slope = float((x * y).sum() / (x * x).sum())
    rest = y - y.mean() - slope * x
    freedom = FEWEST_BLOCKS - 2.0
    error = math.sqrt(float((rest**2).sum()) / freedom / float((x * x).sum()))
    return Mean.of(slope, error, freedom)


def nve_comparison(run: Results, reference: Results) -> Comparison:
    """A run's drift in NVE, beside 0; the reference's own is tolerated."""
    slope, known = drift(run), drift(reference)
    if not np.isfinite(slope.value):
        n = len(run.nve.step)
        missing = f"{n} samples, {FEWEST_BLOCKS} are needed"
        return Comparison("nve_drift", missing=missing if n < FEWEST_BLOCKS else "no number")
    made = _made("nve_drift", "", slope)
    return _replace(made, tolerance=abs(float(known.value)))
