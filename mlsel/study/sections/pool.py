"""The section [pool]: MD runs, or files of frames."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlsel.core.errors import shortened
from mlsel.study.schema import quantity
from mlsel.study.sections.system import MAX_STEPS

MAX_RUNS = 100_000
LEAST_STRETCH = 20
"""Of the longest correlation time that may be told."""
BY_INTERVAL, BY_CORRELATION = "interval", "correlation"
OF_MD_ALONE = (
    "timestep", "frames_per_run", "sampling", "sampling_interval", "checkpoint_interval",
    "ranks_per_run", "seed", "pair_energies",
)  # fmt: skip
"""Keys that decide nothing where frames come from files; the others also lead the run that gives
validation its start."""


@dataclass(frozen=True)
class ImportSection:
    """How the files of pool.import are read: the options of `mlsel import`, under the same names.

    A label is found under the keys given for it, in the order of preference; without any, under
    those that are usual.
    """

    energy_key: tuple[str, ...] = quantity((), doc="of the total energy")
    forces_key: tuple[str, ...] = quantity(())
    atomic_energies_key: tuple[str, ...] = quantity((), doc="of energies per atom")
    virial_key: tuple[str, ...] = quantity((), doc="of −dE/dε, an energy")
    stress_key: tuple[str, ...] = quantity((), doc="positive in tension")
    energy_unit: str = quantity("eV", doc="of the files that don't say theirs")
    length_unit: str = quantity("Angstrom")
    force_unit: str = quantity("", doc="empty: energy_unit / length_unit")
    stress_unit: str = quantity("", doc="empty: energy_unit / length_unit³")
    without_labels: str = quantity(
        "refuse",
        choices=("refuse", "skip", "keep"),
        doc="frames without an energy or forces that others have",
    )
    types: tuple[str, ...] = quantity((), doc="the elements of a LAMMPS dump's types 1, 2, …")
    keep_isolated: bool = quantity(
        False, doc="isolated atoms are frames, too, and not element references alone"
    )


@dataclass(frozen=True)
class CorrelationSection:
    """Frames as far apart as they are correlated, where pool.sampling is "correlation".

    After equilibration each run measures how many steps running of its energy and of its volume are
    worth one independent value, 1 + 2 Σ ρ(t) times the steps between values, and then keeps a frame
    every so many steps, the larger of both numbers, within the bounds. The run says the times and
    the interval.
    """

    stretch: float = quantity(
        50.0, unit="ps", above=0, doc="over which it is measured; no frame is kept of it"
    )
    record_interval: int = quantity(10, unit="steps", at_least=1, doc="of energy and volume")
    least_interval: int = quantity(10, unit="steps", at_least=1, doc="between frames")
    greatest_interval: int = quantity(
        2000, unit="steps", at_least=1, doc="between frames; the stretch is twenty such at least"
    )

    def problem(self, timestep: float) -> str | None:
        """What is wrong with the section, where steps are so long (fs)."""
        if self.least_interval > self.greatest_interval:
            return (
                f"pool.correlation.least_interval is {self.least_interval} and greatest_interval "
                f"{self.greatest_interval} steps: the least must not be above the greatest"
            )
        steps = round(self.stretch * 1000 / timestep)
        least = LEAST_STRETCH * max(self.greatest_interval, self.record_interval)
        if not least <= steps <= MAX_STEPS:
            return (
                f"pool.correlation.stretch is {self.stretch:g} ps ({steps} steps): it must be from "
                f"{LEAST_STRETCH} times greatest_interval and record_interval ({least} steps) to "
                f"{MAX_STEPS:g} steps, so that times as long can be told"
            )
        return None


@dataclass(frozen=True)
class PoolSection:
    """The pool: MD runs, one for each pair of temperature and pressure, or files to import.

    The frames of files are never made again: a pool whose files have changed is named and refused,
    and `mlsel import STUDY --again` makes it anew.
    """

    import_: tuple[str, ...] = quantity(
        (), doc="files of frames and patterns of such, in place of MD runs; * and ** as in a shell"
    )
    import_options: ImportSection = field(default_factory=ImportSection)
    correlation: CorrelationSection = field(default_factory=CorrelationSection)
    temperatures: tuple[float, ...] = quantity((), unit="K", above=0, doc="of the MD runs")
    pressures: tuple[float, ...] = quantity((), unit="bar", doc="of the MD runs")
    timestep: float = quantity(1.0, unit="fs", above=0, at_most=10.0)
    melt_temperature: float = quantity(
        0.0, unit="K", at_least=0, doc="of the hot start, where above the run's; 0: no hot start"
    )
    melt: float = quantity(0.0, unit="ps", at_least=0, doc="duration of the hot start")
    equilibration: float = quantity(10.0, unit="ps", at_least=0)
    frames_per_run: int = quantity(2000, at_least=1)
    sampling: str = quantity(
        BY_INTERVAL,
        choices=(BY_INTERVAL, BY_CORRELATION),
        doc="a frame every sampling_interval, or as [pool.correlation] says",
    )
    sampling_interval: int = quantity(
        100, unit="steps", at_least=1, doc="not used where sampling is correlation"
    )
    checkpoint_interval: int = quantity(20000, unit="steps", at_least=1)
    ranks_per_run: int = quantity(1, at_least=1)
    thermostat_time: float = quantity(0.1, unit="ps", above=0)
    barostat_time: float = quantity(1.0, unit="ps", above=0)
    seed: int = quantity(1, at_least=0)
    pair_energies: bool = quantity(
        False, doc="also store atoms' energies without charges, for selection by pair-energy"
    )

    def check(self) -> str | None:
        for name in OF_MD_ALONE if self.import_ else ():
            default = type(self).__dataclass_fields__[name].default
            if getattr(self, name) != default:
                return (
                    f"[pool] has both import and {name}, which is of MD runs, and of the files all "
                    f"frames are imported as they are: leave {name} out, or at {default}"
                )
        for name, unit in (("temperatures", "K"), ("pressures", "bar")):
            values = getattr(self, name)
            if values and self.import_:
                return (
                    f"[pool] has both import and {name}: the frames come from files or from MD "
                    "runs, so leave one of them out"
                )
            if not (values or self.import_):
                return (
                    f"pool.{name} is [], or not given: give a list of one or more numbers "
                    f"({unit}), or files of your own as pool.import"
                )
            if len(set(values)) != len(values):
                listed = shortened(", ".join(f"{v:g}" for v in values), 100)
                return f"pool.{name} names one value twice: {listed}"
        n_runs = len(self.temperatures) * len(self.pressures)
        if n_runs > MAX_RUNS:
            return (
                f"pool.temperatures and pool.pressures make {n_runs} runs: they must make at most "
                f"{MAX_RUNS}"
            )
        longest = max(self.melt, self.equilibration) * 1000 / self.timestep
        interval = self.sampling_interval
        if self.sampling == BY_CORRELATION:
            problem = self.correlation.problem(self.timestep)
            if problem:
                return problem
            interval = self.correlation.greatest_interval
        if max(longest, self.frames_per_run * interval) > MAX_STEPS:
            return f"[pool] asks for a run of more than {MAX_STEPS:g} steps: make it shorter"
        if self.melt > 0 and self.melt_temperature == 0:
            return (
                f"pool.melt is {self.melt:g} ps but pool.melt_temperature is 0: "
                "set the temperature of the hot start (K, above 0), or pool.melt = 0"
            )
        return None
