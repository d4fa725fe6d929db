"""From where on `mlsel check` tells of a frame."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """From where on a frame is told.

    Attributes
    ----------
    closest : share of the two covalent radii's sum
    outlier : distance from the median in units of 1.4826 × MAD, the standard deviation of a normal
        distribution (Rousseeuw & Croux 1993, doi:10.1080/01621459.1993.10476408)
    """

    closest: float = 0.5
    outlier: float = 10.0
