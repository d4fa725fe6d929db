"""Spacing: how many steps lie between the frames of a run whose correlation times were measured.

How long a value is correlated is the time that one independent value of it takes: the time between
values times 1 + 2 Σ ρ(t), twice the integrated correlation time. Values so far apart are nearly
independent: of an exponential decay exp(-2) is left.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mlsel.core import units
from mlsel.core.arrays import FloatArray
from mlsel.core.record import read_json, shape_told
from mlsel.pool.correlation import inefficiency, relative_error
from mlsel.study.sections.pool import BY_CORRELATION, PoolSection

MEASURED = ("energy", "volume")
"""Columns of what is measured."""
LEAST, WITHIN, GREATEST = "least", "no", "greatest"
MEANS = (
    "sampling_interval steps lie between frames: the longer of the correlation times of energy and "
    "volume, within bounds. A correlation time is (1 + 2 sum of rho(t)) times the time between "
    "values, which an independent value takes (A. Sokal's window of 5), over correlation_stretch "
    "before the frames; correlation_time_error is relative, one sigma"
)


@dataclass(frozen=True)
class Spacing:
    """What a run measured, and what it chose.

    Attributes
    ----------
    interval : steps between frames
    energy, volume : their correlation times, ps
    error : standard error of the longer of them, relative
    bounded : whether the interval is the least or the greatest allowed, where the time asks for
        another: LEAST, GREATEST or WITHIN
    """

    interval: int
    energy: float
    volume: float
    error: float
    bounded: str

    @classmethod
    def of(cls, values: FloatArray, pool: PoolSection) -> Self:
        """Return the spacing that a run's energies and volumes ask for.

        Parameters
        ----------
        values : (n, 2)
            Energy and volume every `pool.correlation.record_interval` steps.
        pool : PoolSection
        """
        section = pool.correlation
        worth = [inefficiency(column) for column in values.T]
        step = section.record_interval * pool.timestep / units.FS_PER_PS
        wanted = math.ceil(max(worth) * section.record_interval)
        interval = min(max(wanted, section.least_interval), section.greatest_interval)
        bounded = LEAST if wanted < interval else GREATEST if wanted > interval else WITHIN
        energy, volume = (float(g * step) for g in worth)
        return cls(interval, energy, volume, relative_error(max(worth), len(values)), bounded)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what a run's file says.

        Raises
        ------
        MlselError
            If it is damaged.
        """
        with shape_told(path, "remove the run's folder, and give the same command again"):
            read = cls(**read_json(path))
            if type(read.interval) is not int or read.interval < 1:
                raise ValueError(f"interval is {read.interval}")
        return read

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def attributes(self, pool: PoolSection) -> dict[str, Any]:
        """Return what the run's file of frames says of it."""
        return {
            "sampling": BY_CORRELATION,
            "sampling_interval": self.interval,
            "sampling_bounded": self.bounded,
            "energy_correlation_time": self.energy,
            "volume_correlation_time": self.volume,
            "correlation_time_unit": "ps",
            "correlation_time_error": self.error,
            "correlation_stretch": pool.correlation.stretch,
            "sampling_means": MEANS,
        }
