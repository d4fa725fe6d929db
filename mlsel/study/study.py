"""The study: everything that a user sets, read from TOML into frozen dataclasses.

Each section of the file is one dataclass here; a field's default, unit and bounds stand in its
declaration and are checked when it is read, so that a mistake is told before anything runs.
A stage that is added brings its section: a dataclass and a field of `Study`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from mlsel.core.errors import MlselError, nearest, shortened
from mlsel.core.record import Record
from mlsel.study.folder import StudyFolder
from mlsel.study.schema import build, default_values, plain, quantity, set_key, values_of
from mlsel.study.seeds import MOST, family, seeded
from mlsel.study.toml_text import parse_toml, read_toml

DEFAULT_STUDY = "paper"
MAX_ATOMS = 10_000_000
MAX_RUNS = 100_000
MAX_STEPS = 10**15
ELEMENTS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy "
    "Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf"
)


@dataclass(frozen=True)
class System:
    """What is simulated: species in the order of LAMMPS's atom types."""

    species: tuple[str, ...] = quantity(one_or_more=True)
    potential: str = quantity(
        "",
        doc="a name in potentials/, or the path of a LAMMPS include; not needed with pool.import",
    )
    n_atoms: int = quantity(
        100, at_least=1, at_most=MAX_ATOMS, doc="ignored where `start` is a file"
    )
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
class PoolSection:
    """The pool: MD runs, one for each pair of temperature and pressure, or files to import.

    The frames of files are never made again: a pool whose files have changed is named and refused,
    and `mlsel import STUDY --again` makes it anew.
    """

    import_: tuple[str, ...] = quantity(
        (), doc="files of frames and patterns of such, in place of MD runs; * and ** as in a shell"
    )
    import_options: ImportSection = field(default_factory=ImportSection)
    temperatures: tuple[float, ...] = quantity((), unit="K", above=0, doc="of the MD runs")
    pressures: tuple[float, ...] = quantity((), unit="bar", doc="of the MD runs")
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
    pair_energies: bool = quantity(
        False, doc="also store atoms' energies without charges, for selection by pair-energy"
    )

    def check(self) -> str | None:
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
        if max(longest, self.frames_per_run * self.sampling_interval) > MAX_STEPS:
            return f"[pool] asks for a run of more than {MAX_STEPS:g} steps: make it shorter"
        if self.melt > 0 and self.melt_temperature == 0:
            return (
                f"pool.melt is {self.melt:g} ps but pool.melt_temperature is 0: "
                "set the temperature of the hot start (K, above 0), or pool.melt = 0"
            )
        return None


@dataclass(frozen=True)
class SelectionSection:
    """The data sets that are selected from the pool: one for each method, and a test set.

    Of each method there is a training set and a held-out set; the test set has equal parts from
    `test_methods`, and shares no frame with any of them.
    """

    methods: tuple[str, ...] = quantity(
        ("random", "single-md-random", "global-energy", "atomic-energy", "force"), one_or_more=True
    )
    n_train: int = quantity(512, at_least=1)
    n_validation: int = quantity(128, at_least=0, doc="held out of training to judge it")
    n_test: int = quantity(20480, at_least=0)
    test_methods: tuple[str, ...] = quantity(
        ("random", "single-md-random", "global-energy", "atomic-energy", "force")
    )
    unseen_runs: tuple[str, ...] = quantity(
        (), doc="runs of the pool that no data set is chosen from, to test on what was never seen"
    )
    n_unseen: int = quantity(
        200, at_least=1, doc="frames of these together, evenly spaced, at the end of the test set"
    )
    molten_only: bool = quantity(
        False, doc="leave out the runs that the pool says did not stay molten"
    )
    bins: int = quantity(512, at_least=1, doc="of the methods that are uniform in a property")
    run: str = quantity("", doc="of single-md-random; empty: at the lowest pressure and nearest to")
    run_temperature: float = quantity(1400.0, unit="K", above=0, doc="of single-md-random's run")
    seed: int = quantity(1, at_least=0)
    seeds: int = quantity(
        1,
        at_least=1,
        at_most=MOST,
        doc="data sets of each method that differ in their seed alone, and so their models do",
    )
    streams: str = quantity(
        "own", choices=("own", "common"), doc="of random numbers: one a method, or one for all"
    )

    def data_sets(self) -> list[str]:
        """Return the names of the data sets to train on: all methods with one seed, then another's.

        >>> SelectionSection(methods=("random", "force"), seeds=2).data_sets()
        ['random', 'force', 'random-s2', 'force-s2']
        """
        return [seeded(m, k) for k in range(1, self.seeds + 1) for m in self.methods]

    def seed_of(self, data_set: str) -> int:
        """Return which seed, from 1 on, a data set has; 1 for one that is not of the study."""
        return family(data_set)[1] if data_set in self.data_sets() else 1

    def check(self) -> str | None:
        for name in ("methods", "test_methods"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                return f"selection.{name} names one method twice: {', '.join(values)}"
        if self.unseen_runs and not self.n_test:
            return "selection.unseen_runs are to test on, and selection.n_test is 0: give it frames"
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
        {},
        at_least=2,
        at_most=10_000,
        doc="of a size's radial basis; a size that isn't named: Table 1's",
    )
    energy_weights: tuple[float, ...] = quantity(
        (0.01, 0.1), at_least=0, at_most=1, doc="of the energy in the loss; forces: 1 less it"
    )
    n_train: int = quantity(512, at_least=2, doc="the first frames of a data set")
    validation_share: float = quantity(
        0.1, above=0, at_most=0.5, doc="of the frames held out, where a set has none of its own"
    )
    cutoff: float = quantity(6.0, unit="Å", above=0)
    batch_size: int = quantity(8, at_least=1)
    learning_rate: float = quantity(5e-4, above=0)
    max_epochs: int = quantity(500, at_least=1)
    patience: int = quantity(50, at_least=1, doc="epochs without a better held-out loss")
    decay_factor: float = quantity(1.0, above=0, at_most=1, doc="of the learning rate; 1: none")
    decay_patience: int = quantity(20, at_least=1, doc="epochs without gain before each decay")
    decay_to: float = quantity(0.0, at_least=0, doc="the learning rate is never lowered below")
    activation: str = quantity(
        "silu", choices=("silu", "shifted_softplus"), doc="of the output network"
    )
    output_per_element: bool = quantity(False, doc="an output network for each element")
    energy_per_atom: bool = quantity(False, doc="the loss has the energy of an atom, not of all")
    atomic_energy_weight: float = quantity(
        0.0, at_least=0, doc="of each atom's energy in the loss, where the data have them"
    )
    stress_weight: float = quantity(
        0.0, at_least=0, doc="of the virial of an atom in the loss, where the data have virials"
    )
    loss: str = quantity("squared", choices=("squared", "huber"), doc="the penalty of an error")
    huber_delta: float = quantity(
        0.1, above=0, doc="in the units of the loss: errors beyond it count linearly"
    )
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
    virial_sigma: float = quantity(
        0.0, unit="eV/atom", at_least=0, doc="of the virials of frames that have one; 0: unused"
    )
    n_train: int = quantity(128, at_least=1)
    n_max: int = quantity(8, at_least=1, at_most=100)
    l_max: int = quantity(6, at_least=0, at_most=100)
    atom_sigma: float = quantity(0.825, unit="Å", above=0)
    zeta: float = quantity(4.0, above=0)
    cutoff: float = quantity(6.5, unit="Å", above=0)
    cutoff_transition_width: float = quantity(0.5, unit="Å", above=0)
    delta: float = quantity(1.0, unit="eV", above=0)
    jitter: float = quantity(1e-8, above=0, doc="regularisation of the sparse covariance")
    seed: int = quantity(1, at_least=0)


@dataclass(frozen=True)
class BaselineSection:
    """Known interactions that are taken out of the labels and added to every model."""

    zbl: tuple[float, ...] = quantity(
        (), unit="Å", above=0, doc="screened nuclear repulsion, switched off between two distances"
    )
    charges: Mapping[str, float] = quantity({}, unit="e", doc="of each element, by Ewald's sum")
    include: str = quantity("", doc="the path of a LAMMPS include in metal units, in place of both")

    def check(self) -> str | None:
        if self.zbl and not (len(self.zbl) == 2 and self.zbl[0] < self.zbl[1]):
            return (
                f"training.baseline.zbl is [{', '.join(f'{r:g}' for r in self.zbl)}]: it must be "
                "two distances (Å), the smaller one first, for instance [2.0, 4.0]"
            )
        if self.include and (self.zbl or self.charges):
            return "training.baseline has an include beside zbl or charges: give one or the other"
        for symbol in self.charges:
            if symbol not in ELEMENTS.split():
                hint = nearest(symbol, ELEMENTS.split())
                return f'training.baseline.charges names "{symbol}", which is no element{hint}'
        return None


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
    seeds: int = quantity(
        1,
        at_least=1,
        at_most=MOST,
        doc="models of each kind on each data set that differ in their seed alone",
    )
    memory: float = quantity(
        0.0, unit="GiB", at_least=0, doc="for a machine's GAP fits together; 0: 90 % of what it has"
    )
    schnet: SchNetSection = field(default_factory=SchNetSection)
    gap: GapSection = field(default_factory=GapSection)
    pair: PairSection = field(default_factory=PairSection)
    core: str = quantity(
        "",
        choices=("", "zbl"),
        doc="a repulsion below the shortest distances of the training frames, added to models "
        "that are there, too: a guard rail, no cure",
    )
    baseline: BaselineSection = field(default_factory=BaselineSection)

    def check(self) -> str | None:
        if self.core and (self.baseline.zbl or self.baseline.include):
            return (
                f'training.core is "{self.core}" beside training.baseline.'
                f"{'zbl' if self.baseline.zbl else 'include'}: the baseline has a repulsion of its "
                'own, set training.core = ""'
            )
        for kind in self.kinds:
            if not all(part.isidentifier() for part in kind.split(".")):
                return f'training.kinds names "{kind}": give a kind, or the dotted name of a module'
        return None


@dataclass(frozen=True)
class LearningSection:
    """Learning curves: models trained on data sets of several sizes, by each method."""

    n: tuple[int, ...] = quantity((), at_least=1, doc="frames of each data set; none: no curves")
    methods: tuple[str, ...] = quantity((), doc="of selection.methods; none: all of them")
    models: tuple[str, ...] = quantity(
        ("*",), doc="patterns of the models that are trained on them"
    )
    seeds: int = quantity(
        0, at_least=0, at_most=MOST, doc="data sets of each size and method; 0: selection.seeds"
    )
    levels: tuple[float, ...] = quantity(
        (), unit="eV/Å", above=0, doc="errors that are to be reached; none: one that all reach"
    )

    def check(self) -> str | None:
        if len(set(self.n)) != len(self.n):
            return f"learning.n names one size twice: {', '.join(map(str, self.n))}"
        return None


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
        for name in self.potentials:
            if name in ("reference", "start") or not name.replace("-", "").isalnum():
                return (
                    f'validation.potentials names one "{name}": take letters, digits and hyphens, '
                    "but neither reference nor start"
                )
        return None


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
    lost: float = quantity(
        0.75, above=0, at_most=1, doc="of its shortest distance of a pair: the run is lost"
    )
    seed: int = quantity(1, at_least=0)

    def check(self) -> str | None:
        if self.lost >= self.near:
            return (
                f"refine.lost is {self.lost:g} and refine.near {self.near:g}: lost must be "
                "smaller, else runs end before a frame is new"
            )
        if self.duration * 1000 / self.timestep > MAX_STEPS:
            return f"refine.duration asks for more than {MAX_STEPS:g} steps: make it shorter"
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
    learning: LearningSection = field(default_factory=LearningSection)
    refine: RefineSection = field(default_factory=RefineSection)

    def check(self) -> str | None:
        unknown = [m for m in self.learning.methods if m not in self.selection.methods]
        if unknown:
            return (
                f"learning.methods names {', '.join(unknown)}: give some of selection.methods "
                f"({', '.join(self.selection.methods)})"
            )
        if not self.name or self.name in (".", "..") or "/" in self.name or len(self.name) > 200:
            return f'name is "{self.name}": it must be one that a folder can have'
        if not (self.system.potential or self.pool.import_):
            return (
                "system.potential is missing: give a text (a name in potentials/, or the path of a "
                "LAMMPS include), or files of your own as pool.import, which need none"
            )
        return None

    @property
    def is_of_contents(self) -> bool:
        """Whether it only stands for what a folder holds: nobody named or kept a study."""
        return not (self.system.potential or self.pool.import_)

    def as_dict(self, *sections: str) -> dict[str, Any]:
        """Return sections as plain values, for provenance and comparison."""
        return {name: values_of(getattr(self, name)) for name in sections}


def defaults() -> dict[str, Any]:
    """Return the defaults of the sections' keys, as plain values."""
    hints = get_type_hints(Study)
    sections = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    return {name: plain(default_values(section)) for name, section in sections.items()}


def record_study(study: Study, folder: Path) -> None:
    """Keep a study in its folder, so that `recorded_study` knows it."""
    Record(StudyFolder(folder).study).write(values_of(study))


def recorded_study(folder: Path, overrides: Sequence[str] = ()) -> Study | None:
    """Return the study that was kept in a folder, with overrides; None if there is none.

    Raises
    ------
    MlselError
        If the file is damaged or its values are not allowed.
    """
    record = Record(StudyFolder(folder).study)
    values = record.read()
    if values is None:
        return None
    try:
        for override in overrides:
            set_key(values, override)
        study = build(Study, values, str(record.path))
    except MlselError as error:
        raise MlselError(shortened(str(error))) from None
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
    try:
        if _is_file(path):
            values, name = read_toml(path), path.stem
        elif source in presets():
            preset = resources.files("mlsel.study") / "presets" / f"{source}.toml"
            values, name = parse_toml(preset.read_text(encoding="utf-8"), source), source
        else:
            raise MlselError(
                f"There is no study {source}: give the path of a TOML file or one of the presets "
                f"{', '.join(presets())}{nearest(source, presets())}."
            )
        for override in overrides:
            set_key(values, override)
        if "source" in values:
            raise MlselError(f"{source}: unknown key source: it is where a study was read from.")
        study = build(Study, {"name": name, "source": source, **values}, source)
    except MlselError as error:
        raise MlselError(shortened(str(error))) from None
    assert isinstance(study, Study)
    return study


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, say
        return False
