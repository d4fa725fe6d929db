"""The study: everything that a user sets, read from TOML into frozen dataclasses.

Each section of the file is one dataclass here; a field's default, unit and bounds stand in its
declaration and are checked when it is read, so that a mistake is told before anything runs.
A stage that is added brings its section: a dataclass and a field of `Study`.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from mlsel.core.errors import MlselError, nearest
from mlsel.study.schema import build, plain, quantity, set_key

DEFAULT_STUDY = "paper"
ELEMENTS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy "
    "Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf"
)


@dataclass(frozen=True)
class System:
    """What is simulated: species in the order of LAMMPS's atom types."""

    species: tuple[str, ...] = quantity(one_or_more=True)
    potential: str = quantity(doc="a name in potentials/, or the path of a LAMMPS include")
    n_atoms: int = quantity(100, at_least=1, doc="ignored where `start` is a file")
    composition: tuple[int, ...] = quantity((), at_least=1, doc="per formula unit; default 1 each")
    start: str = quantity("grid", doc='"grid", or a structure file that ASE reads')
    spacing: float = quantity(3.0, unit="Å", above=0, doc="of the start grid's sites")
    cutoff: float = quantity(10.0, unit="Å", above=0, doc="of the reference pair potential")
    kspace_accuracy: float = quantity(1e-5, above=0, at_most=0.1, doc="relative, of the Ewald sum")

    def check(self) -> str | None:
        known = ELEMENTS.split()
        for symbol in self.species:
            if symbol not in known:
                hint = nearest(symbol, known)
                return f'system.species names "{symbol}", which is no element{hint}'
        if len(set(self.species)) != len(self.species):
            return f"system.species names one element twice: {', '.join(self.species)}"
        if self.composition and len(self.composition) != len(self.species):
            return (
                f"system.composition has {len(self.composition)} numbers and system.species "
                f"{len(self.species)} elements: give one number for each element"
            )
        unit = sum(self.formula_unit)
        if self.start == "grid" and self.n_atoms % unit:
            below = self.n_atoms // unit * unit
            formula = "".join(
                symbol + (str(n) if n > 1 else "")
                for symbol, n in zip(self.species, self.formula_unit, strict=True)
            )
            nearby = f"{below} or {below + unit}" if below else f"{unit}"
            return (
                f"system.n_atoms is {self.n_atoms}, which is no whole number of formula units "
                f"{formula} ({unit} atoms each): take {nearby}"
            )
        return None

    @property
    def formula_unit(self) -> tuple[int, ...]:
        """Atoms of each species in a formula unit."""
        return self.composition or (1,) * len(self.species)


@dataclass(frozen=True)
class PoolSection:
    """The MD runs that make the pool: one for each pair of temperature and pressure."""

    temperatures: tuple[float, ...] = quantity(unit="K", above=0, one_or_more=True)
    pressures: tuple[float, ...] = quantity(unit="bar", one_or_more=True)
    timestep: float = quantity(1.0, unit="fs", above=0, at_most=10.0)
    melt_temperature: float = quantity(
        0.0, unit="K", at_least=0, doc="of the hot start, where above the run's; 0: no hot start"
    )
    melt: float = quantity(0.0, unit="ps", at_least=0, doc="duration of the hot start")
    equilibration: float = quantity(10.0, unit="ps", at_least=0)
    frames_per_run: int = quantity(2000, at_least=1)
    sampling_interval: int = quantity(100, unit="steps", at_least=1)
    checkpoint_interval: int = quantity(20000, unit="steps", at_least=1)
    ranks_per_run: int = quantity(1, at_least=1)
    thermostat_time: float = quantity(0.1, unit="ps", above=0)
    barostat_time: float = quantity(1.0, unit="ps", above=0)
    seed: int = quantity(1, at_least=0)

    def check(self) -> str | None:
        for name in ("temperatures", "pressures"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                return f"pool.{name} names one value twice: {', '.join(f'{v:g}' for v in values)}"
        if self.melt > 0 and self.melt_temperature == 0:
            return (
                f"pool.melt is {self.melt:g} ps but pool.melt_temperature is 0: "
                "set the temperature of the hot start (K, above 0), or pool.melt = 0"
            )
        return None


@dataclass(frozen=True)
class SelectionSection:
    """The data sets that are selected from the pool: one for each method, and a test set.

    Of each method there is a training set and a validation set; the test set has equal parts from
    `test_methods`, and shares no frame with any of them.
    """

    methods: tuple[str, ...] = quantity(
        ("random", "single-md-random", "global-energy", "atomic-energy", "force"), one_or_more=True
    )
    n_train: int = quantity(512, at_least=1)
    n_validation: int = quantity(128, at_least=0)
    n_test: int = quantity(20480, at_least=0)
    test_methods: tuple[str, ...] = quantity(
        ("random", "single-md-random", "global-energy", "atomic-energy", "force")
    )
    bins: int = quantity(512, at_least=1, doc="of the methods that are uniform in a property")
    run: str = quantity("", doc="of single-md-random; empty: at the lowest pressure and nearest to")
    run_temperature: float = quantity(1400.0, unit="K", above=0, doc="of single-md-random's run")
    seed: int = quantity(1, at_least=0)

    def check(self) -> str | None:
        for name in ("methods", "test_methods"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                return f"selection.{name} names one method twice: {', '.join(values)}"
        n_parts = len(self.test_methods)
        if self.n_test and not n_parts:
            return "selection.test_methods is empty: name methods, or set selection.n_test = 0"
        if self.n_test and self.n_test % n_parts:
            below = self.n_test // n_parts * n_parts
            return (
                f"selection.n_test is {self.n_test}, which is not {n_parts} equal parts: "
                f"take {below} or {below + n_parts}"
            )
        return None


@dataclass(frozen=True)
class SchNetSection:
    """SchNets: one model for each pair of size and energy weight."""

    sizes: tuple[str, ...] = quantity(
        ("small", "medium", "large"), choices=("small", "medium", "large"), doc="Table 1"
    )
    n_gaussians: Mapping[str, int] = quantity(
        {}, at_least=2, doc="of a size's radial basis; a size that isn't named: Table 1's"
    )
    energy_weights: tuple[float, ...] = quantity(
        (0.01, 0.1), at_least=0, at_most=1, doc="of the energy in the loss; forces: 1 less it"
    )
    n_train: int = quantity(512, at_least=2, doc="the first frames of a data set")
    validation_share: float = quantity(
        0.1, above=0, at_most=0.5, doc="of the frames, where a data set has no validation set"
    )
    cutoff: float = quantity(6.0, unit="Å", above=0)
    batch_size: int = quantity(8, at_least=1)
    learning_rate: float = quantity(5e-4, above=0)
    max_epochs: int = quantity(500, at_least=1)
    patience: int = quantity(50, at_least=1, doc="epochs without a better validation loss")
    decay_factor: float = quantity(1.0, above=0, at_most=1, doc="of the learning rate; 1: none")
    decay_patience: int = quantity(20, at_least=1, doc="epochs without gain before each decay")
    average: float = quantity(0.0, at_least=0, at_most=0.9999, doc="of weights over steps; 0: none")
    dtype: str = quantity("float32", choices=("float32", "float64"))
    tf32: bool = quantity(False, doc="TensorFloat-32 on a GPU")
    device: str = quantity("auto", choices=("auto", "cpu", "cuda"))
    seed: int = quantity(1, at_least=0)

    def check(self) -> str | None:
        for size in self.n_gaussians:
            if size not in ("small", "medium", "large"):
                return (
                    f"training.schnet.n_gaussians names the size {size}: it must be one of small, "
                    "medium, large"
                )
        return None


@dataclass(frozen=True)
class GapSection:
    """GAPs: one model for each pair of sparse points and force sigma."""

    n_sparse: tuple[int, ...] = quantity((1000,), at_least=1, doc="sparse points of each element")
    sparse_method: str = quantity(
        "random", choices=("random", "cur_points", "covariance", "kmeans"), doc="gap_fit's names"
    )
    two_body: bool = quantity(False, doc="a distance_2b before the SOAP")
    two_body_delta: float = quantity(1.0, unit="eV", above=0, doc="of distance_2b")
    force_sigmas: tuple[float, ...] = quantity((0.1,), unit="eV/Å", above=0)
    energy_sigma: float = quantity(0.003, unit="eV/atom", above=0)
    n_train: int = quantity(128, at_least=1)
    n_max: int = quantity(8, at_least=1)
    l_max: int = quantity(6, at_least=0)
    atom_sigma: float = quantity(0.825, unit="Å", above=0)
    zeta: float = quantity(4.0, above=0)
    cutoff: float = quantity(6.5, unit="Å", above=0)
    cutoff_transition_width: float = quantity(0.5, unit="Å", above=0)
    delta: float = quantity(1.0, unit="eV", above=0)
    jitter: float = quantity(1e-8, above=0, doc="regularisation of the sparse covariance")
    seed: int = quantity(1, at_least=0)


@dataclass(frozen=True)
class PairSection:
    """A pair potential, by least squares: the floor that other models must beat."""

    n_train: int = quantity(0, at_least=0, doc="the first frames of a data set; 0: all")
    cutoff: float = quantity(6.5, unit="Å", above=0)
    spacing: float = quantity(0.25, unit="Å", above=0, doc="of the splines' knots, at most")
    energy_sigma: float = quantity(0.005, unit="eV/atom", above=0)
    force_sigma: float = quantity(0.1, unit="eV/Å", above=0)


@dataclass(frozen=True)
class TrainingSection:
    """Which models are trained on each data set."""

    kinds: tuple[str, ...] = quantity(
        ("schnet", "gap", "pair"), doc="names in mlsel.training.registry"
    )
    memory: float = quantity(
        0.0, unit="GiB", at_least=0, doc="for a machine's GAP fits together; 0: 90 % of what it has"
    )
    schnet: SchNetSection = field(default_factory=SchNetSection)
    gap: GapSection = field(default_factory=GapSection)
    pair: PairSection = field(default_factory=PairSection)


@dataclass(frozen=True)
class ValidationSection:
    """NVT runs of trained potentials, and of the reference, from the same snapshot.

    The snapshot is one of an NPT run of the reference at `temperature` and `pressure`, at that
    run's mean density.
    """

    models: tuple[str, ...] = quantity(
        ("*",), doc="patterns of <data set>/<model>; an empty list: the reference alone"
    )
    potentials: Mapping[str, str] = quantity(
        {}, doc="more potentials: a name, and the path of a LAMMPS include"
    )
    repeats: int = quantity(1, at_least=0, doc="more runs of the reference, with other seeds")
    n_atoms: int = quantity(1000, at_least=2, doc="ignored where system.start is a file")
    temperature: float = quantity(1400.0, unit="K", above=0)
    pressure: float = quantity(1.0, unit="bar", doc="of the NPT run that gives the density")
    density_time: float = quantity(20.0, unit="ps", above=0, doc="over which it is averaged")
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
    rdf_bins: int = quantity(500, at_least=10)
    rdf_cutoff: float = quantity(10.0, unit="Å", above=0)
    short_distance: float = quantity(
        0.75, above=0, at_most=1, doc="of the reference's shortest distance of a pair: too short"
    )
    watch: bool = quantity(False, doc="how far the models of one data set disagree on the way")
    ranks_per_run: int = quantity(1, at_least=0, doc="0: all ranks for one run after another")
    seed: int = quantity(1, at_least=0)

    def check(self) -> str | None:
        if self.trajectory_interval % self.sampling_interval:
            return (
                f"validation.trajectory_interval is {self.trajectory_interval} steps, which is no "
                f"multiple of validation.sampling_interval ({self.sampling_interval} steps)"
            )
        for name in self.potentials:
            if name in ("reference", "start") or not name.replace("-", "").isalnum():
                return (
                    f'validation.potentials names one "{name}": take letters, digits and hyphens, '
                    "but neither reference nor start"
                )
        return None


@dataclass(frozen=True)
class Study:
    """A study: its name and its sections."""

    name: str
    source: str
    system: System
    pool: PoolSection
    selection: SelectionSection
    training: TrainingSection
    validation: ValidationSection

    def as_dict(self, *sections: str) -> dict[str, Any]:
        """Return sections as plain values, for provenance and comparison."""
        return {name: plain(dataclasses.asdict(getattr(self, name))) for name in sections}


RECORD = "study.json"


def record_study(study: Study, folder: Path) -> None:
    """Keep a study in its folder, so that `recorded_study` knows it."""
    from mlsel.core.files import write_json

    write_json(folder / RECORD, plain(dataclasses.asdict(study)))


def recorded_study(folder: Path) -> Study | None:
    """Return the study that was kept in a folder, None if there is none."""
    path = folder / RECORD
    if not path.is_file():
        return None
    study = build(Study, json.loads(path.read_text(encoding="utf-8")), str(path))
    assert isinstance(study, Study)
    return study


def presets() -> list[str]:
    """Return the names of the studies that come with mlsel."""
    folder = resources.files("mlsel.study") / "presets"
    return sorted(
        Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".toml")
    )


def load_study(source: str = DEFAULT_STUDY, overrides: Sequence[str] = ()) -> Study:
    """Read a study file, or a preset by its name, and check it.

    Parameters
    ----------
    source : str
        The path of a TOML file, or a preset's name.
    overrides : sequence of str
        "section.key=value", the value in TOML's notation (a bare word is a string).

    Raises
    ------
    MlselError
        In one sentence: the file, the key, the value found and the values allowed.

    Examples
    --------
    >>> load_study("quick", ["pool.seed=7"]).pool.seed
    7
    """
    path = Path(source)
    if path.is_file():
        text, name = path.read_text(encoding="utf-8"), path.stem
    elif source in presets():
        preset = resources.files("mlsel.study") / "presets" / f"{source}.toml"
        text, name = preset.read_text(encoding="utf-8"), source
    else:
        raise MlselError(
            f"There is no study {source}: give the path of a TOML file or one of the presets "
            f"{', '.join(presets())}{nearest(source, presets())}."
        )
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MlselError(f"{source} is not valid TOML: {error}.") from None
    for override in overrides:
        set_key(values, override)
    values = {"name": name, "source": source, **values}
    study = build(Study, values, source)
    assert isinstance(study, Study)
    return study
