"""The verdict: each criterion just below and just above its bound, what was not measured, and the
reference that is none. Runs are made up, so that the right answer is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlsel.core.errors import MlselError
from mlsel.study.sections.validation import ToleranceSection
from mlsel.validate.blocking import Mean
from mlsel.validate.criteria import SIGMAS, UNITS, WORDS, Comparison, drift
from mlsel.validate.reference import Reference
from mlsel.validate.results import Measured, Results
from mlsel.validate.verdict import AGREES, BLOWN_UP, DIFFERS, UNKNOWN, UNPHYSICAL, as_csv, judge
from tests.support import Tolerance

N_ATOMS, N_BLOCKS, N_PRODUCTION, N_NVE = 200, 64, 1024, 64
BOUNDARY = 0.03
"""Bounds are tried this share below and above; the made-up runs' noise is well below it."""
COMPRESSIBILITY = Mean.of(5e-5, 5e-6, 30.0)
LIBERAL = ToleranceSection(**dict.fromkeys(UNITS, 1e9))
R = np.arange(0.025, 9.0, 0.05)


def shape(r: Any) -> Any:
    """An RDF with a main peak of 3 at 2.7 Å and a minimum behind it, 0 below 2 Å."""
    liquid = 1 + 2 * np.exp(-(((r - 2.7) / 0.3) ** 2)) - 0.6 * np.exp(-(((r - 3.9) / 0.4) ** 2))
    return np.where(r > 2.0, liquid, 0.0)


def run_of(name: str, seed: int) -> Results:
    """A run of two species with so little noise that a share of 1 in 1000 is seen."""
    rng = np.random.default_rng(seed)

    def noise(*size: int) -> Any:
        return 1e-4 * rng.standard_normal(size)

    n = N_PRODUCTION + N_NVE
    step = 10 * np.arange(1, n + 1)
    g = shape(R) * (1 + noise(N_BLOCKS, 3, 1))
    coordination = np.cumsum(0.4 * shape(R) * R**2 * 0.05) * (1 + noise(N_BLOCKS, 3, 1))
    lag = np.linspace(0.1, 1.0, 10)
    return Results(
        name=name,
        kind="reference" if name.startswith("reference") else "potential",
        species=("Na", "Cl"),
        numbers=np.repeat([11, 17], N_ATOMS // 2),
        cell=18.0 * np.eye(3),
        temperature=1400.0,
        timestep=0.001,
        phase_ends=(0, 10 * N_PRODUCTION, 10 * n),
        ended_at=-1,
        ended_by="",
        closest=np.array([1.5, 1.2, 1.5]),
        samples=Measured(
            step,
            {
                "temperature": 1400 * (1 + noise(n)),
                "pressure": 100 + 1e4 * noise(n),
                "potential_energy": -3.6 * N_ATOMS + 0.01 * N_ATOMS * noise(n),
                "total_energy": -3.2 * N_ATOMS + 1e-4 * N_ATOMS * noise(n),
            },
            np.tile([2.5, 2.1, 2.5], (n, 1)),
        ),
        r=R,
        g=g,
        coordination=coordination,
        frame_steps=np.empty(0, np.int64),
        frames=np.empty((0, 0, 3)),
        sound_step=-1,
        sound_positions=np.empty((0, 3)),
        provenance={},
        watch=np.empty((0, 4)),
        msd_lag=lag.astype(np.float64),
        msd=6 * lag * (1 + noise(8, 2, 1)),
    )


REFERENCE = Reference(
    (run_of("reference", 1), run_of("reference-2", 2)), COMPRESSIBILITY, ToleranceSection()
)
RUN = run_of("other", 3)


def with_samples(run: Results, **changes: Any) -> Results:
    numbers = {**run.samples.numbers, **changes}
    return replace(run, samples=replace(run.samples, numbers=numbers))


def rdf(run: Results, size: float) -> Results:
    return replace(run, g=run.g + np.where((R > 5) & (R < 6), size, 0.0))


def peak_position(run: Results, size: float) -> Results:
    return replace(run, g=run.g / shape(R).clip(1e-9) * shape(R - size))


def peak_height(run: Results, size: float) -> Results:
    return replace(run, g=run.g * np.where(np.abs(R - 2.7) < 0.7, 1 + size / 100, 1.0))


def coordination(run: Results, size: float) -> Results:
    return replace(run, coordination=run.coordination * (1 + size / 100))


def short_weight(run: Results, size: float) -> Results:
    return replace(run, coordination=run.coordination + np.where(R > 1.9, size, 0.0))


def inner_weight(run: Results, size: float) -> Results:
    return replace(run, coordination=run.coordination + np.where(R > 1.5, size, 0.0))


def density(run: Results, size: float) -> Results:
    pressure = run.samples["pressure"] - size / 100 / float(COMPRESSIBILITY.value)
    return with_samples(run, pressure=pressure)


def energy(run: Results, size: float) -> Results:
    change = size / 1000 * run.n_atoms
    return with_samples(run, potential_energy=run.samples["potential_energy"] + change)


def diffusion(run: Results, size: float) -> Results:
    return replace(run, msd=run.msd * (1 + size / 100))


def nve_drift(run: Results, size: float) -> Results:
    time = run.samples.step * run.timestep
    drifting = run.samples["total_energy"] + size / 1000 * run.n_atoms * time
    return with_samples(run, total_energy=drifting)


CRITERIA: dict[str, Callable[[Results, float], Results]] = {
    "rdf": rdf,
    "peak_position": peak_position,
    "peak_height": peak_height,
    "coordination": coordination,
    "short_weight": short_weight,
    "inner_weight": inner_weight,
    "density": density,
    "energy": energy,
    "diffusion": diffusion,
    "nve_drift": nve_drift,
}


def test_every_criterion_is_in_the_table() -> None:
    assert set(CRITERIA) == set(UNITS) == set(ToleranceSection.__dataclass_fields__)


def test_a_run_of_the_same_liquid_agrees() -> None:
    verdict = judge(RUN, REFERENCE)
    assert (verdict.word, verdict.reasons, verdict.unseen) == (AGREES, (), ())
    assert set(verdict.numbers) == set(UNITS)
    assert all(one.sigmas < SIGMAS for one in verdict.numbers.values())


# There are no fewer neighbours than none: the weights only grow.
@pytest.mark.parametrize(
    ("criterion", "sign"),
    [(name, sign) for name in CRITERIA for sign in (1, -1) if sign > 0 or "weight" not in name],
)
def test_just_below_and_just_above_the_tolerance(criterion: str, sign: int) -> None:
    bound = getattr(ToleranceSection(), criterion)
    tolerances = replace(LIBERAL, **{criterion: bound})
    reference = replace(REFERENCE, tolerances=tolerances)
    below = judge(CRITERIA[criterion](RUN, sign * bound * (1 - BOUNDARY)), reference)
    above = judge(CRITERIA[criterion](RUN, sign * bound * (1 + BOUNDARY)), reference)
    assert (below.word, below.reasons) == (AGREES, ())
    assert above.word == (UNPHYSICAL if criterion == "inner_weight" else DIFFERS)
    one = above.numbers[criterion]
    assert one.differs and one.size == pytest.approx(sign * bound, rel=2 * BOUNDARY)
    assert one.sigmas > 2 * SIGMAS
    assert all(reason.startswith(WORDS[criterion]) for reason in above.reasons)
    assert f"tolerance {bound:.2g}" in above.reasons[0] and "σ)" in above.reasons[0]


@pytest.mark.parametrize(
    ("size", "sigmas", "differs"),
    [
        (1.01, 3.51, True),
        (-1.01, 3.51, True),
        (0.99, 3.51, False),
        (1.01, 3.49, False),
        (math.nan, 9.0, False),
        (9.0, math.nan, False),
    ],
)
def test_a_difference_is_both_large_and_sure(size: float, sigmas: float, differs: bool) -> None:
    one = Comparison("energy", size=size, sigmas=sigmas, tolerance=1.0, threshold=3.5)
    assert one.differs == differs
    assert (one.urgency > 1) == differs


def test_how_sure_is_students_chance() -> None:
    """Against the table of Student's t: 7 degrees of freedom, 1 % on two sides at 3.499; a normal
    distribution has it at 2.576."""
    mean = Mean.of(-3.499483, 1.0, 7.0)
    assert float(mean.sigmas()) == pytest.approx(2.575829, abs=Tolerance.FOUR_DIGITS)
    assert float(mean.resolution(2.575829)) == pytest.approx(3.499483, abs=Tolerance.FOUR_DIGITS)
    # The chance of any of ten is ten times as large: 10 % at 1.645.
    assert float(mean.sigmas(10)) == pytest.approx(1.644854, abs=Tolerance.FOUR_DIGITS)
    assert float(Mean.of(1.0, 0.0, 7.0).sigmas()) == 30
    assert float(Mean.of(0.0, 0.0, 7.0).sigmas()) == 0
    assert math.isnan(Mean.of(1.0, math.nan, math.nan).sigmas())


def test_what_the_references_own_runs_show_is_chance() -> None:
    """Repeats that are 8 meV apart: a run 6 meV off differs in nothing, one 60 off does."""
    runs = (REFERENCE.runs[0], energy(REFERENCE.runs[1], 8.0))
    reference = replace(REFERENCE, runs=runs)
    assert reference.thresholds["energy"] > SIGMAS
    assert judge(runs[1], reference).word == DIFFERS  # the repeat itself, beside the other
    assert judge(energy(RUN, 12.0), reference).word == AGREES
    far = judge(energy(RUN, 12.0), REFERENCE)
    assert far.word == DIFFERS and "mean energy +12 meV/atom" in far.reasons[0]


@pytest.mark.parametrize(
    ("changed", "word", "reason"),
    [
        (lambda r: with_closest(r, 1.201), AGREES, ""),
        (lambda r: with_closest(r, 1.199), UNPHYSICAL, "a pair Na-Cl at 1.20 Å (bound 1.20 Å)"),
        (lambda r: last(r, "temperature", 2799.0), AGREES, ""),
        (lambda r: last(r, "temperature", 2801.0), UNPHYSICAL, "temperature 2801 K"),
        (lambda r: last(r, "temperature", 701.0), AGREES, ""),
        (lambda r: last(r, "temperature", 699.0), UNPHYSICAL, "temperature 699 K"),
        (lambda r: last(r, "potential_energy", -720 + 0.60 * N_ATOMS), AGREES, ""),
        (lambda r: last(r, "potential_energy", -720 + 0.61 * N_ATOMS), UNPHYSICAL, "energy +0.61"),
        (lambda r: last(r, "potential_energy", math.nan), UNPHYSICAL, "energy +nan"),
        (lambda r: replace(r, ended_at=500, ended_by="Lost atoms"), BLOWN_UP, "Lost atoms, after"),
    ],
)
def test_stability(changed: Callable[[Results], Results], word: str, reason: str) -> None:
    """Bounds are 1.2 Å, a factor of 2 of 1400 K, 5 k_B T = 0.603 eV/atom."""
    verdict = judge(changed(RUN), replace(REFERENCE, tolerances=LIBERAL))
    assert verdict.word == word
    assert reason in "; ".join(verdict.reasons)
    assert (verdict.stable_time < 10.88) == (word != AGREES)


def with_closest(run: Results, distance: float) -> Results:
    closest = run.samples.closest.copy()
    closest[500, 1] = distance
    return replace(run, samples=replace(run.samples, closest=closest))


def last(run: Results, name: str, value: float) -> Results:
    """A run whose sample 1000, in the averaged part, has another number."""
    values = run.samples[name].copy()
    values[1000] = value
    return with_samples(run, **{name: values})


def short(run: Results, n_blocks: int) -> Results:
    return replace(run, g=run.g[:n_blocks], coordination=run.coordination[:n_blocks])


def few_samples(run: Results, n: int) -> Results:
    numbers = {name: values[:n] for name, values in run.samples.numbers.items()}
    return replace(run, samples=Measured(run.samples.step[:n], numbers, run.samples.closest[:n]))


@pytest.mark.parametrize(
    ("changed", "word", "unseen"),
    [
        (lambda r: short(r, 8), AGREES, ""),
        (lambda r: short(r, 7), UNKNOWN, "RDF Na-Na: 7 blocks in the run, 8 are needed"),
        (lambda r: short(r, 0), UNKNOWN, "RDF Na-Na: 0 blocks in the run"),
        (lambda r: replace(r, g=np.full_like(r.g, np.nan)), UNKNOWN, "of the run is no number"),
        (lambda r: few_samples(r, 8), AGREES, "energy drift in NVE: 0 samples, 8 are needed"),
        (lambda r: few_samples(r, 7), UNKNOWN, "density: 7 samples, 8 are needed"),
        (lambda r: few_samples(r, 0), UNKNOWN, "mean energy: 0 samples, 8 are needed"),
        (lambda r: few_samples(r, N_PRODUCTION + 7), AGREES, "in NVE: 7 samples, 8 are needed"),
        (lambda r: few_samples(r, N_PRODUCTION + 8), AGREES, ""),
        (lambda r: last(r, "pressure", math.nan), UNKNOWN, "density: a sample is no number"),
        (lambda r: lags(r, 3), AGREES, ""),
        (lambda r: lags(r, 1), AGREES, "1 lags of the mean-square displacement, 2 are needed"),
        (lambda r: lags(r, 0), AGREES, "0 lags of the mean-square displacement, 2 are needed"),
        (lambda r: replace(r, msd=r.msd[:1]), AGREES, "diffusion Na: too short to be divided"),
    ],
)
def test_what_was_not_measured_is_said(
    changed: Callable[[Results], Results], word: str, unseen: str
) -> None:
    verdict = judge(changed(RUN), replace(REFERENCE, tolerances=LIBERAL))
    assert (verdict.word, verdict.reasons) == (word, ())
    assert unseen in "; ".join(verdict.unseen) and bool(verdict.unseen) == bool(unseen)


def lags(run: Results, n: int) -> Results:
    return replace(run, msd_lag=run.msd_lag[:n], msd=run.msd[..., :n])


def test_what_could_not_have_been_seen_is_said() -> None:
    """A pressure that scatters by 8000 bar: its mean says little of 2 % of density."""
    rng = np.random.default_rng(5)
    n = len(RUN.samples.step)
    verdict = judge(with_samples(RUN, pressure=8000 * rng.standard_normal(n)), REFERENCE)
    assert verdict.word == AGREES
    (said,) = verdict.unseen
    assert said.startswith("density off by less than ") and said.endswith("%")
    # 8000 bar/√1024 · 5e-5/bar is 1.25 %; of that 3.5, or up to 6.2 (Student's, 7 degrees of
    # freedom), and the largest of the estimates of the error is up to half above its expectation.
    assert 3.5 * 1.25 < float(said.split()[-1].rstrip("%")) < 6.2 * 1.25 * 1.5


def test_without_compressibility_or_repeats() -> None:
    for known, words in (
        (Mean.unknown(), "density: the reference's compressibility is not known"),
        (Mean.of(5e-5, 2.6e-5, 7.0), "compressibility is not known (± 52%): make validation"),
    ):
        verdict = judge(RUN, replace(REFERENCE, compressibility=known))
        assert verdict.word == UNKNOWN and words in "; ".join(verdict.unseen)
    rough = replace(REFERENCE, compressibility=Mean.of(5e-5, 2.4e-5, 9.0))
    assert judge(RUN, rough).word == AGREES
    alone = replace(REFERENCE, runs=REFERENCE.runs[:1])
    assert judge(RUN, alone).word == AGREES
    own = judge(alone.runs[0], alone)
    assert own.word == UNKNOWN and own.unseen == ("anything: the reference has no repeat",)


def test_slow_particles_are_no_diffusion_to_compare() -> None:
    runs = tuple(replace(run, msd=0.01 * run.msd) for run in REFERENCE.runs)
    solid = replace(REFERENCE, runs=runs, expect_solid=True)
    assert solid.check() == ()
    verdict = judge(runs[1], solid)
    assert "diffusion Na: the reference does not diffuse" in verdict.unseen


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            lambda r: replace(r, msd=0.099 * r.msd),
            ("not molten: D is 0.099", "Na-Cl 2.70 Å"),
        ),
        (lambda r: replace(r, ended_at=9, ended_by="Lost atoms"), ("did not hold: Lost atoms",)),
        (lambda r: with_closest(r, 1.1), ("did not hold: a pair Na-Cl at 1.10 Å",)),
        (lambda r: halves(r, 25.2), ("not in equilibrium", "+25.2 meV/atom apart")),
    ],
)
def test_a_reference_that_is_none_is_refused(
    changed: Callable[[Results], Results], words: tuple[str, ...]
) -> None:
    bad = replace(REFERENCE, runs=(REFERENCE.runs[0], changed(REFERENCE.runs[1])))
    with pytest.raises(MlselError) as caught:
        bad.check()
    assert all(word in str(caught.value) for word in words) and len(str(caught.value)) <= 400


def halves(run: Results, size: float) -> Results:
    values = run.samples["potential_energy"].copy()
    values[N_PRODUCTION // 2 :] += size / 1000 * run.n_atoms
    return with_samples(run, potential_energy=values)


def test_a_reference_within_its_bounds_passes() -> None:
    assert REFERENCE.check() == ()
    for changed in (
        replace(RUN, name="reference", msd=0.101 * RUN.msd),
        halves(replace(RUN, name="reference"), 24.8),
    ):
        assert replace(REFERENCE, runs=(changed,)).check() == ()
    liquid = replace(REFERENCE, expect_solid=True)
    with pytest.raises(MlselError, match="no solid: D is 1 Å²/ps"):
        liquid.check()
    for n in (0, 1, 4):  # 0.4 ps: no time to tell a crystal's atoms from a liquid's
        unknown = replace(REFERENCE, runs=(lags(REFERENCE.runs[0], n),)).check()
        assert unknown == ("whether the reference is molten",)
    assert replace(REFERENCE, runs=(lags(REFERENCE.runs[0], 5),)).check() == ()


def test_the_references_own_drift_is_tolerated() -> None:
    """A reference that drifts by 0.2 meV/atom/ps, say of its time step: 0.19 is no finding."""
    runs = tuple(nve_drift(run, 0.2) for run in REFERENCE.runs)
    reference = replace(REFERENCE, runs=runs)
    assert float(drift(runs[0]).value) == pytest.approx(0.2, rel=0.01)
    assert judge(nve_drift(RUN, 0.19), reference).word == AGREES
    assert judge(nve_drift(RUN, 0.21), reference).word == DIFFERS


def test_tables_have_every_number() -> None:
    verdicts = [
        judge(run, REFERENCE) for run in (REFERENCE.runs[0], energy(RUN, 7.0), lags(RUN, 1))
    ]
    head, *rows = (line.split(",") for line in as_csv(verdicts).splitlines())
    assert len(rows) == 3 and all(len(row) >= len(head) for row in rows)
    assert float(rows[1][head.index("energy")]) == pytest.approx(7.0, abs=0.01)
    assert float(rows[1][head.index("energy_sigmas")]) == 30
    assert rows[2][head.index("diffusion")] == "nan"
    plain = verdicts[2].as_dict()
    assert plain["numbers"]["diffusion"]["size"] is None
    assert plain["numbers"]["diffusion"]["missing"].startswith("1 lags")
    assert plain["word"] == AGREES and plain["unseen"]


def test_diffusion_is_a_share() -> None:
    """A reference with D of 2 Å²/ps, and one a tenth faster."""
    runs = tuple(replace(run, msd=2 * run.msd) for run in REFERENCE.runs)
    verdict = judge(replace(RUN, msd=2.2 * RUN.msd), replace(REFERENCE, runs=runs))
    assert verdict.numbers["diffusion"].size == pytest.approx(10, abs=0.1)


def test_coordination_is_counted_up_to_the_minimum() -> None:
    """What changes behind the first minimum at 3.9 Å is no matter of the coordination number."""
    behind = replace(RUN, coordination=RUN.coordination * np.where(R > 4.0, 1.3, 1.0))
    before = replace(RUN, coordination=RUN.coordination * np.where(R > 3.8, 1.3, 1.0))
    assert abs(judge(behind, REFERENCE).numbers["coordination"].size) < 0.1
    assert judge(before, REFERENCE).numbers["coordination"].size == pytest.approx(30, abs=0.1)


def test_neighbours_are_counted_up_to_the_onset() -> None:
    """The onset is in the bin from 2 Å on: the bin before it counts, and that bin does not."""
    last = replace(RUN, coordination=RUN.coordination + np.where(R > 1.96, 0.5, 0.0))
    first = replace(RUN, coordination=RUN.coordination + np.where(R > 2.0, 0.5, 0.0))
    assert judge(last, REFERENCE).numbers["short_weight"].size == pytest.approx(
        0.5, abs=Tolerance.THREE_DIGITS
    )
    assert judge(first, REFERENCE).numbers["short_weight"].size == pytest.approx(
        0.0, abs=Tolerance.THREE_DIGITS
    )


def test_what_is_no_surer_than_the_repeats_is_chance() -> None:
    """Repeats that by themselves seem to differ by 31 σ: 30 σ, the most that is told, is none."""
    reference = replace(REFERENCE)
    reference.__dict__["thresholds"] = {"energy": 31.0}  # in place of the cached property
    off = energy(RUN, 12.0)
    assert judge(off, REFERENCE).word == DIFFERS
    assert judge(off, reference).word == AGREES
    assert judge(replace(off, name="reference"), reference).word == DIFFERS  # one of themselves
