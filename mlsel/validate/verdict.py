"""The verdict on a potential: numbers from its run beside the reference's, and one word."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.validate.diffusion import diffusion
from mlsel.validate.rdf import Curve, block_error, curve, difference
from mlsel.validate.stability import BOLTZMANN

if TYPE_CHECKING:
    from mlsel.validate.results import Results

EV_PER_A3 = 1.602176634e6  # bar
ERRORS = 3.0
RDF_SCORE = 2.0
RDF_MEAN = 0.02
SHORT_WEIGHT = 1e-3
INNER = 0.9
PRESSURE_SHARE = 0.25
DIFFUSION_SHARE = 0.1
DRIFT_SHARE = 0.01

DEFINITIONS = {
    "word": (
        "blown up: LAMMPS ended the run, or its temperature passed ten times the thermostat's. "
        "unphysical: it left the bounds of a sound run, or its RDF has weight below 0.9 of the "
        "reference's onset. deviates: sound, but RDF, pressure, diffusion or energy conservation "
        "differ by more than both the error and the bound. sound: none of these was seen."
    ),
    "time": "ps of NVT that were averaged",
    "stable_time": (
        "ps from the start of equilibration until a pair of atoms was closer than the bound "
        "(0.75 of the reference's shortest distance, unless the study says otherwise), the "
        "temperature was off by a factor of 2, the potential energy 5 k_B T an atom from the "
        "start's, or LAMMPS ended the run; the whole run if none of these happened"
    ),
    "rdf_score": (
        "∫|g − g_ref| dr over what chance alone makes of it, of the pair where it is largest: "
        "about 1 for the same liquid"
    ),
    "rdf_mean": (
        "mean |g − g_ref| from 0 to the cutoff, of the same pair; "
        f"differs: score above {RDF_SCORE:g} and mean above {RDF_MEAN:g}"
    ),
    "short_weight": (
        "neighbours an atom has nearer than the onset of the reference's RDF (its g first reaches "
        "0.01), less those of the reference there, of the pair where it is largest; differs: "
        f"above {SHORT_WEIGHT:g} and {ERRORS:g} errors"
    ),
    "inner_weight": (
        f"the same nearer than {INNER:g} of the onset, where no shift of the first peak reaches; "
        f"unphysical: above {SHORT_WEIGHT:g} and {ERRORS:g} errors"
    ),
    "pressure_difference": (
        f"bar, mean pressure less the reference's; differs: above {ERRORS:g} errors and "
        f"{PRESSURE_SHARE:g} ρ k_B T"
    ),
    "diffusion_ratio": (
        "D over the reference's, of the species where it is furthest from 1; differs: by more "
        f"than {ERRORS:g} errors and {DIFFUSION_SHARE:.0%}"
    ),
    "nve_drift": (
        "meV an atom and ps, slope of the total energy in the NVE run; differs: above "
        f"{DRIFT_SHARE:g} k_B T a ps and above the reference's"
    ),
    "outside": (
        "share of atoms and frames on which the models of the data set disagree more than anywhere "
        "on their training data; only where validation.watch is true"
    ),
}
"""What each number means, for tables and files."""


@dataclass(frozen=True)
class Verdict:
    """A verdict; the numbers are those of `DEFINITIONS`, NaN where a run gave none.

    Attributes
    ----------
    word : sound, deviates, unphysical or blown up
    reasons : why, in a few words each
    sound_step : the step of the last frame before the run left its bounds, −1 if it did not
    """

    name: str
    kind: str
    word: str
    reasons: tuple[str, ...]
    time: float
    stable_time: float
    sound_step: int
    rdf_score: float
    rdf_mean: float
    rdf_pair: str
    short_weight: float
    short_weight_error: float
    inner_weight: float
    short_pair: str
    pressure: float
    pressure_difference: float
    pressure_error: float
    diffusion_ratio: float
    diffusion_error: float
    diffusion_species: str
    nve_drift: float
    nve_fluctuation: float
    outside: float
    pairs: Mapping[str, Mapping[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values; numbers that there are not become None."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def judge(run: Results, reference: Results) -> Verdict:
    """Return the verdict on a run.

    Parameters
    ----------
    run, reference : Results
        Of the same system, temperature, volume and bins. The reference may be judged against
        itself: it then differs by nothing, and only its own soundness counts.
    """
    pairs = _compare_rdfs(run, reference)
    far = _largest(pairs, "score")
    near = _largest(pairs, "short_weight")
    pressure, pressure_error = _mean(run.production["pressure"])
    expected, expected_error = _mean(reference.production["pressure"])
    apart = math.hypot(pressure_error, expected_error)
    ratio, ratio_error, species = _diffusion_ratio(run, reference)
    drift, fluctuation = _nve(run)
    step, why = run.unsound
    end = float(run.samples.step[-1]) if len(run.samples.step) else 0.0

    unphysical: list[str] = []
    deviations: list[str] = []
    if step >= 0:
        unphysical.append(f"{why}, after {step * run.timestep:.3g} ps")
    for name, numbers in pairs.items():
        for which, reach, words in (
            ("inner_weight", INNER * numbers["onset"], unphysical),
            ("short_weight", numbers["onset"], deviations),
        ):
            weight = numbers[which]
            if weight > SHORT_WEIGHT and not weight <= ERRORS * numbers[f"{which}_error"]:
                words.append(f"{weight:.2g} neighbours {name} below {reach:.2f} Å")
                break
        if numbers["score"] > RDF_SCORE and numbers["mean"] > RDF_MEAN:
            deviations.append(f"RDF {name} (score {numbers['score']:.1f})")
    thermal = run.n_atoms / run.volume * BOLTZMANN * run.temperature * EV_PER_A3
    if _exceeds(pressure - expected, PRESSURE_SHARE * thermal, apart):
        deviations.append(f"pressure {pressure - expected:+.0f} bar")
    if _exceeds(ratio - 1, DIFFUSION_SHARE, ratio_error):
        deviations.append(f"diffusion of {species} × {ratio:.2f}")
    thermal_energy = 1000 * BOLTZMANN * run.temperature
    if abs(drift) > max(DRIFT_SHARE * thermal_energy, abs(_nve(reference)[0])):
        deviations.append(f"energy drifts in NVE, {drift:+.2g} meV an atom and ps")
    if run.ended_by:
        word = "blown up"
        if why != run.ended_by:
            unphysical.append(f"ended after {run.ended_at * run.timestep:.3g} ps: {run.ended_by}")
    else:
        word = "unphysical" if unphysical else "deviates" if deviations else "sound"
    return Verdict(
        name=run.name,
        kind=run.kind,
        word=word,
        reasons=(*unphysical, *deviations),
        time=run.averaged_time,
        stable_time=(step if step >= 0 else end) * run.timestep,
        sound_step=run.sound_step,
        rdf_score=pairs[far]["score"],
        rdf_mean=pairs[far]["mean"],
        rdf_pair=far,
        short_weight=pairs[near]["short_weight"],
        short_weight_error=pairs[near]["short_weight_error"],
        inner_weight=max((p["inner_weight"] for p in pairs.values()), default=math.nan),
        short_pair=near,
        pressure=pressure,
        pressure_difference=pressure - expected,
        pressure_error=apart,
        diffusion_ratio=ratio,
        diffusion_error=ratio_error,
        diffusion_species=species,
        nve_drift=drift,
        nve_fluctuation=fluctuation,
        outside=float(run.watch[:, -1].mean()) if len(run.watch) else math.nan,
        pairs=pairs,
    )


def _exceeds(difference: float, bound: float, error: float) -> bool:
    """Whether a difference is beyond its bound and its error, where there is one."""
    return math.isfinite(error) and abs(difference) > max(bound, ERRORS * error)


def _compare_rdfs(run: Results, reference: Results) -> dict[str, dict[str, float]]:
    found = {}
    for index, name in enumerate(run.pairs):
        one, other = curve(run, index), curve(reference, index)
        apart = difference(one, other)
        bins = other.onset()
        short, short_error = _more_within(one, other, bins)
        inner, inner_error = _more_within(one, other, int(INNER * bins))
        found[name] = {
            "area": apart.area,
            "noise": apart.noise,
            "score": 0.0 if run is reference else apart.score,
            "mean": apart.mean,
            "onset": bins * one.width,
            "short_weight": short,
            "short_weight_error": short_error,
            "inner_weight": inner,
            "inner_weight_error": inner_error,
            "first_peak": float(one.r[_peak(one.g)]),
            "first_peak_height": float(one.g[_peak(one.g)]),
        }
    return found


def _more_within(one: Curve, other: Curve, n_bins: int) -> tuple[float, float]:
    """Neighbours in the first bins beyond those of another RDF, and the error."""
    weight, error = one.within(n_bins)
    expected, expected_error = other.within(n_bins)
    known = [e for e in (error, expected_error) if math.isfinite(e)]
    return weight - expected, math.hypot(*known) if known else math.nan


def _peak(g: np.ndarray) -> int:
    return int(np.argmax(np.nan_to_num(g)))


def _largest(pairs: Mapping[str, Mapping[str, float]], number: str) -> str:
    return max(pairs, key=lambda name: np.nan_to_num(pairs[name][number], nan=-math.inf))


def _mean(values: np.ndarray) -> tuple[float, float]:
    if not len(values):
        return math.nan, math.nan
    return float(values.mean()), float(block_error(values))


def _diffusion_ratio(run: Results, reference: Results) -> tuple[float, float, str]:
    """D over the reference's, its error and the species, where it is furthest from 1."""
    found: list[tuple[float, float, str]] = []
    for index, symbol in enumerate(run.species):
        both = []
        # Over the same lags: at short ones the slope is not yet that of diffusion.
        n_lags = min(len(run.msd_lag), len(reference.msd_lag))
        for results in (run, reference):
            both.append(diffusion(results.msd_lag[:n_lags], results.msd[:, index, :n_lags]))
        one, other = both
        if math.isfinite(one.value) and math.isfinite(other.value) and other.value > 0:
            ratio = one.value / other.value
            error = math.hypot(one.error / other.value, ratio * other.error / other.value)
            found.append((ratio, error, symbol))
    if not found:
        return math.nan, math.nan, ""
    return max(found, key=lambda entry: abs(entry[0] - 1))


def _nve(run: Results) -> tuple[float, float]:
    """Slope (meV an atom and ps) and spread about it (meV an atom) of the NVE run's energy."""
    part = run.nve
    if len(part.step) < 3:
        return math.nan, math.nan
    energy = 1000 * part["total_energy"] / run.n_atoms
    time = part.step * run.timestep
    line = np.polynomial.Polynomial.fit(time, energy, 1)
    return float(line.convert().coef[1]), float((energy - line(time)).std())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return list(value) if isinstance(value, tuple) else value


COLUMNS = (
    "name", "kind", "word", "time", "stable_time", "rdf_pair", "rdf_score", "rdf_mean",
    "short_pair", "short_weight", "short_weight_error", "inner_weight",
    "pressure_difference", "pressure_error",
    "diffusion_species", "diffusion_ratio", "diffusion_error", "nve_drift", "outside",
    "reasons",
)  # fmt: skip


def as_csv(verdicts: Sequence[Verdict]) -> str:
    """Return verdicts as CSV text, a line each."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for verdict in verdicts:
        row = [getattr(verdict, column) for column in COLUMNS[:-1]]
        cells = [f"{value:.6g}" if isinstance(value, float) else value for value in row]
        writer.writerow([*cells, "; ".join(verdict.reasons)])
    return text.getvalue()
