"""The section [refine]: rounds of MD, labels and training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlsel.study.schema import quantity
from mlsel.study.sections.system import MAX_STEPS

WATCHED = ("sigma", "below")
"""Quantities of atoms that one model tells in LAMMPS."""


@dataclass(frozen=True)
class RefineSection:
    """Rounds of MD, labels and training, until MD meets nothing that the training set lacks."""

    models: tuple[str, ...] = quantity(
        (), doc="patterns of <data set>/<model>; none: no refinement"
    )
    labeller: str = quantity(
        "",
        doc='"ase:MODULE:FUNCTION" or the path of a LAMMPS include; "": the reference potential',
    )
    method: str = quantity("fps", doc="a selection method that thins the new frames")
    labels: int = quantity(64, at_least=1, at_most=1_000_000, doc="to be spent in all, a model")
    labels_per_round: int = quantity(16, at_least=1, at_most=1_000_000)
    rounds: int = quantity(4, at_least=1, at_most=1000, doc="of labels and training, at most")
    temperatures: tuple[float, ...] = quantity(
        (), unit="K", above=0, doc="none: validation.temperature"
    )
    pressures: tuple[float, ...] = quantity((), unit="bar", doc="none: at constant volume")
    replicas: int = quantity(2, at_least=1, at_most=10_000, doc="runs a temperature and pressure")
    duration: float = quantity(20.0, unit="ps", above=0, doc="of a run that meets nothing new")
    timestep: float = quantity(1.0, unit="fs", above=0, at_most=10.0)
    thermostat_time: float = quantity(0.1, unit="ps", above=0)
    barostat_time: float = quantity(1.0, unit="ps", above=0)
    sampling_interval: int = quantity(10, unit="steps", at_least=1, doc="of frames looked at")
    checkpoint_interval: float = quantity(10.0, unit="ps", above=0)
    near: float = quantity(
        0.95, above=0, at_most=1, doc="of the training set's shortest distance of a pair: new"
    )
    force: float = quantity(1.5, at_least=1, doc="times its largest force: new")
    watch: Mapping[str, float] = quantity(
        {},
        above=0,
        doc="what the pair style tells of atoms, and what is new: sigma (eV), below (Å)",
    )
    lost: float = quantity(
        0.75, above=0, at_most=1, doc="of its shortest distance of a pair: the run is lost"
    )
    volume: float = quantity(
        1.1, at_least=1, doc="times the largest volume of an atom, or a part of the smallest: new"
    )
    lost_volume: float = quantity(
        1.5, at_least=1, doc="times these: the run has boiled away, or collapsed, and is lost"
    )
    seed: int = quantity(1, at_least=0)

    def check(self) -> str | None:
        unknown = [name for name in self.watch if name not in WATCHED]
        if unknown:
            return (
                f"refine.watch names {', '.join(unknown)}: a model's pair style tells "
                f"{', '.join(WATCHED)}"
            )
        if self.lost >= self.near:
            return (
                f"refine.lost is {self.lost:g} and refine.near {self.near:g}: lost must be "
                "smaller, else runs end before a frame is new"
            )
        if self.lost_volume <= self.volume:
            return (
                f"refine.lost_volume is {self.lost_volume:g} and refine.volume {self.volume:g}: "
                "lost_volume must be larger, else runs end before a frame is new"
            )
        n_steps = self.duration * 1000 / self.timestep
        if n_steps < self.sampling_interval:
            return (
                f"refine.duration is {n_steps:g} steps and refine.sampling_interval "
                f"{self.sampling_interval}: a run must be looked at once at least"
            )
        if n_steps > MAX_STEPS:
            return f"refine.duration asks for more than {MAX_STEPS:g} steps: make it shorter"
        return None
