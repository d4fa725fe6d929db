"""The reference first: is there anything that other runs could be compared with?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core.errors import MlselError
from mlsel.validate.blocking import Mean, blocked
from mlsel.validate.criteria import LEAST_DIFFUSION, REQUIRED, Averages, compare, gravest
from mlsel.validate.rdf import main_peak

if TYPE_CHECKING:
    from mlsel.study.sections.validation import ToleranceSection
    from mlsel.validate.results import Results

LEAST_LAG = 0.5
"""ps: before, the atoms of a crystal move as far as those of a liquid."""
ASTRAY = 5.0
"""σ and tolerances by which the halves of a reference's run must differ to be called no
equilibrium: it is refused for it, and a slow drift is seen by the repeats."""


@dataclass(frozen=True)
class Reference:
    """The reference's runs, and by what others are judged beside them.

    Attributes
    ----------
    runs : the reference and its repeats
    compressibility : 1/bar, of its NPT run; NaN if it is not known
    tolerances : section of the study
    expect_solid : bool
        Whether it is meant to be a solid.
    title : str
        What it is, in a few words.
    required : tuple of str
        Criteria without which nobody can say that a run agrees.
    """

    runs: tuple[Results, ...]
    compressibility: Mean
    tolerances: ToleranceSection
    expect_solid: bool = False
    title: str = "the reference in LAMMPS"
    required: tuple[str, ...] = REQUIRED

    def others(self, run: Results) -> tuple[Results, ...]:
        """The reference's runs without one."""
        return tuple(one for one in self.runs if one.name != run.name)

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """How sure, of each criterion, its own runs seem to differ from each other."""
        found: dict[str, float] = {}
        for run in self.runs:
            others = self.others(run)
            if not others:
                continue
            made = compare(
                Averages((run,)), Averages(others), self.tolerances, self.compressibility
            )
            for name, one in gravest(made).items():
                if name == "nve_drift":
                    continue  # beside 0, not beside the others
                found[name] = np.fmax(found.get(name, 0.0), one.sigmas)
        return {name: float(sigmas) for name, sigmas in found.items()}

    def check(self) -> tuple[str, ...]:
        """Return what could not be found out about the reference.

        Raises
        ------
        MlselError
            If it was ended or left its bounds, is not of the state that is expected, or is not
            in equilibrium.
        """
        unknown: list[str] = []
        for run in self.runs:
            _check_stability(run)
            unknown += _check_state(run, self.expect_solid)
            unknown += _check_equilibrium(run, self.tolerances)
        return tuple(dict.fromkeys(unknown))


def _check_stability(run: Results) -> None:
    step, why = run.unsound
    if step < 0:
        return
    raise MlselError(
        f"The {run.name} itself did not hold: {why}, after {step * run.timestep:.3g} ps. There is "
        "nothing to compare with: look at validation/start and at the potential, take a smaller "
        "validation.timestep, or equilibrate longer (pool.equilibration)."
    )


def _check_state(run: Results, expect_solid: bool) -> list[str]:
    """Whether it is liquid, or solid where that is expected."""
    averages = Averages((run,))
    found = [averages.diffusion(k, averages.n_lags) for k in range(len(run.species))]
    slowest = min(found, key=lambda mean: float(np.nan_to_num(mean.value, nan=np.inf)))
    value, error = float(slowest.value), float(np.nan_to_num(slowest.error))
    longest = run.msd_lag[-1] if len(run.msd_lag) else 0.0
    if not np.isfinite(value) or longest < LEAST_LAG:
        return ["whether the reference is " + ("solid" if expect_solid else "molten")]
    peaks = ", ".join(
        f"{name} {float(peak.position.value):.2f} Å high {float(peak.height.value):.1f}"
        for name, peak in zip(
            run.pairs,
            (main_peak(run.r, run.g[:, k]) for k in range(len(run.pairs))),
            strict=True,
        )
    )
    if expect_solid and value - 3 * error > LEAST_DIFFUSION:
        raise MlselError(
            f"The {run.name} is no solid: D is {value:.2g} Å²/ps (a solid has less than "
            f"{LEAST_DIFFUSION:g}), main peaks {peaks}. Start below its melting point, or set "
            "validation.expect_solid = false."
        )
    if not expect_solid and value + 3 * error < LEAST_DIFFUSION:
        raise MlselError(
            f"The {run.name} is not molten: D is {value:.2g} Å²/ps (a liquid has "
            f"{LEAST_DIFFUSION:g} or more), main peaks {peaks}. Set pool.melt_temperature and "
            "pool.melt so that it melts, or validation.expect_solid = true if it is meant to be "
            "solid."
        )
    return []


def _check_equilibrium(run: Results, tolerances: ToleranceSection) -> list[str]:
    """Whether the halves of the averaged time are alike in energy."""
    energy = Averages((run,)).energy
    half = len(energy) // 2
    apart = blocked(energy[half:]) - blocked(energy[:half])
    sigmas = float(apart.sigmas())
    if not np.isfinite(sigmas):
        return ["whether the reference is in equilibrium"]
    if sigmas > ASTRAY and abs(float(apart.value)) > ASTRAY * tolerances.energy:
        raise MlselError(
            f"The {run.name} is not in equilibrium: the mean energies of its halves are "
            f"{float(apart.value):+.3g} meV/atom apart ({sigmas:.1f} σ). Make "
            "validation.equilibration and pool.equilibration longer, and give --again."
        )
    return []
