"""The section [validation]: MD of the models, and what counts as agreement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlsel.study.schema import quantity
from mlsel.study.sections.system import MAX_ATOMS, MAX_STEPS, kspace_problem


@dataclass(frozen=True)
class ToleranceSection:
    """What counts as agreement with the reference: the largest differences, of mean values."""

    rdf: float = quantity(0.1, at_least=0, doc="of g(r), averaged over 0.4 Å")
    peak_position: float = quantity(0.03, unit="Å", at_least=0)
    peak_height: float = quantity(5.0, unit="%", at_least=0)
    coordination: float = quantity(3.0, unit="%", at_least=0)
    short_weight: float = quantity(1e-3, unit="neighbours", at_least=0, doc="below the onset")
    inner_weight: float = quantity(1e-3, unit="neighbours", at_least=0, doc="far below the onset")
    density: float = quantity(2.0, unit="%", at_least=0, doc="from the pressure")
    energy: float = quantity(5.0, unit="meV/atom", at_least=0)
    diffusion: float = quantity(10.0, unit="%", at_least=0)
    nve_drift: float = quantity(0.05, unit="meV/atom/ps", at_least=0)


@dataclass(frozen=True)
class ValidationSection:
    """NVT runs of trained potentials, and of the reference, from the same snapshot.

    The snapshot is one of an NPT run of the reference at `temperature` and `pressure`, at that
    run's mean density. Where the reference is no potential of LAMMPS's, it is a frame of the pool.
    """

    reference: str = quantity(
        "auto",
        choices=("auto", "lammps", "pool", "none"),
        doc="system.potential in LAMMPS, the pool's trajectories at `temperature`, or none: "
        "stability and energy conservation alone; auto: lammps, where there is a potential",
    )
    trajectories: tuple[str, ...] = quantity(
        (),
        doc="of the pool, where the reference is pool or none: patterns of its runs or files; "
        "empty: all whose temperature is within 5 % of `temperature`",
    )
    frame_time: float = quantity(
        0.0,
        unit="ps",
        at_least=0,
        doc="between the frames of imported trajectories; 0: not known, no diffusion is compared",
    )

    models: tuple[str, ...] = quantity(
        ("*",), doc="patterns of <data set>/<model>; an empty list: the reference alone"
    )
    potentials: Mapping[str, str] = quantity(
        {}, doc="more potentials: a name, and the path of a LAMMPS include"
    )
    repeats: int = quantity(
        1, at_least=0, at_most=1000, doc="more runs of the reference, with other seeds"
    )
    n_atoms: int = quantity(
        1000,
        at_least=2,
        at_most=MAX_ATOMS,
        doc="ignored where system.start is a file; at most, where frames of the pool are repeated",
    )
    temperature: float = quantity(1400.0, unit="K", above=0)
    pressure: float = quantity(1.0, unit="bar", doc="of the NPT run that gives the density")
    density_time: float = quantity(20.0, unit="ps", above=0, doc="over which it is averaged")
    density_error: float = quantity(
        0.5, unit="%", above=0, doc="the NPT run goes on until the density is known as well as this"
    )
    density_parts: int = quantity(
        5, at_least=1, doc="of density_time, after which it ends all the same"
    )
    expect_solid: bool = quantity(False, doc="the reference is no liquid: no hot start from a grid")
    equilibration: float = quantity(
        5.0, unit="ps", at_least=0, doc="of each run, not averaged; at most a quarter of duration"
    )
    duration: float = quantity(1000.0, unit="ps", above=0)
    durations: Mapping[str, float] = quantity(
        {}, unit="ps", above=0, doc="of kinds of models that are slower"
    )
    nve: float = quantity(
        1.0, unit="ps", at_least=0, doc="at the end; at most a quarter of the duration"
    )
    timestep: float = quantity(1.0, unit="fs", above=0, at_most=10.0)
    thermostat_time: float = quantity(0.1, unit="ps", above=0)
    kspace_style: str = quantity("", doc="in place of the reference potential's own")
    sampling_interval: int = quantity(50, unit="steps", at_least=1, doc="of thermo, RDF, checks")
    trajectory_interval: int = quantity(100, unit="steps", at_least=1)
    block: float = quantity(1.0, unit="ps", above=0, doc="over which RDFs are averaged")
    checkpoint_interval: float = quantity(10.0, unit="ps", above=0)
    rdf_bins: int = quantity(500, at_least=10, at_most=100_000)
    rdf_cutoff: float = quantity(10.0, unit="Å", above=0)
    short_distance: float = quantity(
        0.75,
        above=0,
        at_most=1,
        doc="of the shortest distance of a pair in the reference's NPT run, or, where that is no "
        "potential, in the training data: too short",
    )
    watch: bool = quantity(False, doc="how far the models of one data set disagree on the way")
    ranks_per_run: int = quantity(1, at_least=0, doc="0: all ranks for one run after another")
    seed: int = quantity(1, at_least=0)
    tolerances: ToleranceSection = field(default_factory=ToleranceSection)

    def check(self) -> str | None:
        if self.trajectory_interval % self.sampling_interval:
            return (
                f"validation.trajectory_interval is {self.trajectory_interval} steps, which is no "
                f"multiple of validation.sampling_interval ({self.sampling_interval} steps)"
            )
        longest = max(
            self.density_time * self.density_parts, self.equilibration, self.duration, self.nve,
            self.block, self.checkpoint_interval, *self.durations.values(),
        )  # fmt: skip
        if longest * 1000 / self.timestep > MAX_STEPS:
            return f"[validation] asks for a run of more than {MAX_STEPS:g} steps: make it shorter"
        if self.kspace_style:
            problem = kspace_problem("validation.kspace_style", self.kspace_style)
            if problem:
                return problem
        for name in self.potentials:
            if name in ("reference", "start") or not name.replace("-", "").isalnum():
                return (
                    f'validation.potentials names one "{name}": take letters, digits and hyphens, '
                    "but neither reference nor start"
                )
        return None
