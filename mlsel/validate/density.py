"""The density of the reference, from the volumes of its NPT run, and whether that run is fit to be
one: molten, or solid where that is expected, and in equilibrium."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core import units
from mlsel.core.arrays import FloatArray
from mlsel.core.units import BAR, DENSITY
from mlsel.pool.pool import Pool
from mlsel.validate.blocking import Mean, blocked
from mlsel.validate.criteria import LEAST_DIFFUSION
from mlsel.validate.distances import main_peaks
from mlsel.validate.stability import BOLTZMANN

if TYPE_CHECKING:
    from mlsel.md.npt_run import MdRun
    from mlsel.study.study import Study

LEAST_TIME = 1.0
"""ps, over which displacements must have been followed to tell a crystal from a liquid."""
ASTRAY = 5.0
"""σ by which the volumes of two halves must differ to be called no equilibrium."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Density:
    """What the parts of the NPT run tell of the density.

    Attributes
    ----------
    parts : those that count: from the first on without a drift
    volumes : (n_frames,), Å³
    mass : g/mol
    time : ps, of all parts
    diffusion : Å²/ps, mean over atoms and parts, from the second half of each part; NaN if these
        are shorter than a picosecond together
    """

    parts: Sequence[MdRun]
    volumes: FloatArray
    mass: float
    time: float
    diffusion: float

    @classmethod
    def of(cls, parts: Sequence[MdRun]) -> Density:
        from ase.data import atomic_masses

        volumes, slopes, time = [], [], 0.0
        for run in parts:
            with Pool(run.product) as pool:
                volumes.append(np.asarray(pool.values("volume"), np.float64))
                msd = np.asarray(pool.values("mean_square_displacement"), np.float64)
                mass = float(atomic_masses[pool.numbers(pool.runs[0])].sum())
            interval = run.study.pool.sampling_interval * run.study.pool.timestep / units.FS_PER_PS
            time += interval * len(msd)
            half = msd[len(msd) // 2 :]
            if len(half) > 1:
                slopes.append(np.polyfit(interval * np.arange(len(half)), half, 1)[0] / 6)
        first = 0
        while first < len(parts) - 1 and _drift(np.concatenate(volumes[first:])).sigmas() > ASTRAY:
            first += 1
        diffusion = float(np.mean(slopes)) if slopes and time / 2 >= LEAST_TIME else math.nan
        return cls(parts[first:], np.concatenate(volumes[first:]), mass, time, diffusion)

    def __str__(self) -> str:
        return f"{self.density:.4f} g/cm³ ± {self.relative_error:.2g} %"

    @property
    def volume(self) -> Mean:
        return blocked(self.volumes)

    @property
    def density(self) -> float:
        """g/cm³"""
        return self.mass * DENSITY / float(self.volume.value)

    @property
    def relative_error(self) -> float:
        """%, standard error of the density."""
        return 100 * float(self.volume.error) / float(self.volume.value)

    @property
    def compressibility(self) -> Mean:
        """1/bar."""
        return compressibility_of(self.volumes, self.parts[0].temperature)

    def is_known(self, study: Study) -> bool:
        """Whether the density is known as well as the study wants it."""
        is_steady = not _drift(self.volumes).sigmas() > ASTRAY
        return is_steady and self.relative_error <= study.validation.density_error

    def problem(self, study: Study, last: MdRun) -> str:
        """Why this can't be a reference, "" if it can."""
        section = study.validation
        drift = _drift(self.volumes)
        share = 100 * float(drift.value) / float(self.volume.value)
        if drift.sigmas() > ASTRAY and abs(share) > section.density_error:
            return (
                f"{study.source}: the reference is not in equilibrium after {self.time:.4g} ps of "
                f"NPT: the volumes of two halves are {share:+.2g} % apart "
                f"({float(drift.sigmas()):.1f} σ). Make pool.equilibration or "
                "validation.density_time longer, and give --again."
            )
        if self.relative_error > section.density_error:
            log.warning(
                "the density is known to %.2g %% only, not to validation.density_error (%g %%): "
                "validation.density_time or density_parts is too small for it",
                self.relative_error,
                section.density_error,
            )
        if math.isnan(self.diffusion):
            log.warning("%.3g ps of NPT are too short to tell whether it is molten", self.time)
            return ""
        if (self.diffusion >= LEAST_DIFFUSION) != section.expect_solid:
            return ""
        peaks = main_peaks(last.product, study)
        if section.expect_solid:
            return (
                f"{study.source}: the reference is no solid at {section.temperature:g} K: D is "
                f"{self.diffusion:.2g} Å²/ps (a solid has less than {LEAST_DIFFUSION:g}), main "
                f"peaks {peaks}, {self.density:.3f} g/cm³. Lower validation.temperature, or set "
                "validation.expect_solid = false."
            )
        return (
            f"{study.source}: the reference never melted: D is {self.diffusion:.2g} Å²/ps at "
            f"{section.temperature:g} K (a liquid has {LEAST_DIFFUSION:g} or more), main peaks "
            f"{peaks}, {self.density:.3f} g/cm³. Set pool.melt_temperature and pool.melt so that "
            "it melts, or validation.expect_solid = true if it is meant to be solid."
        )


def compressibility_of(volumes: FloatArray, temperature: float) -> Mean:
    """Return the compressibility, 1/bar, from the fluctuations of the volume: ⟨δV²⟩/(⟨V⟩ k_B T).

    The error is that of a variance of as many independent values as the volume's error tells;
    unknown where the volume is constant.
    """
    mean, variance = blocked(volumes), float(volumes.var())
    if not variance > 1e-12 * float(mean.value) ** 2:
        return Mean.unknown()
    value = variance / (float(mean.value) * BOLTZMANN * temperature) / BAR
    n = variance / float(mean.error) ** 2 if mean.error > 0 else math.nan
    return Mean.of(value, value * math.sqrt(2 / max(n, 1.0)), n)


def _drift(volumes: FloatArray) -> Mean:
    half = len(volumes) // 2
    return blocked(volumes[half:]) - blocked(volumes[:half])
