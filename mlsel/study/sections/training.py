"""The section [training]: which models there are, a section for each kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlsel.core.errors import nearest, shortened
from mlsel.study.schema import quantity
from mlsel.study.sections.system import ELEMENTS, kspace_problem
from mlsel.study.seeds import MOST

_LABEL = re.compile(r"(?![sn]\d+$)[A-Za-z][A-Za-z0-9_]{0,29}")


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

    fit: str = quantity(
        "gap_fit",
        choices=("own", "gap_fit"),
        doc="by mlsel, in little memory and shared over ranks, or by QUIP's program",
    )
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

    def check(self) -> str | None:
        if self.fit == "own" and self.sparse_method not in ("random", "cur_points"):
            return (
                f'training.gap.sparse_method is "{self.sparse_method}", which training.gap.fit = '
                '"own" does not have: take "random" or "cur_points", or set fit = "gap_fit"'
            )
        return None


@dataclass(frozen=True)
class BaselineSection:
    """Known interactions that are taken out of the labels and added to every model."""

    zbl: tuple[float, ...] = quantity(
        (),
        unit="Å",
        above=0,
        at_most=20,
        doc="screened nuclear repulsion, switched off between two distances",
    )
    charges: Mapping[str, float] = quantity({}, unit="e", doc="of each element, by Ewald's sum")
    include: str = quantity("", doc="the path of a LAMMPS include in metal units, in place of both")
    kspace_style: str = quantity(
        "", doc="in MD alone, in place of Ewald's sum or the include's own: no label is changed"
    )

    def problem(self, where: str) -> str | None:
        """Return what is wrong with it, under its name in the study; None if nothing is."""
        if self.zbl and not (len(self.zbl) == 2 and self.zbl[0] < self.zbl[1]):
            return (
                f"{where}.zbl is [{', '.join(f'{r:g}' for r in self.zbl)}]: it must be "
                "two distances (Å), the smaller one first, for instance [2.0, 4.0]"
            )
        if self.include and (self.zbl or self.charges):
            return f"{where} has an include beside zbl or charges: give one or the other"
        if self.kspace_style:
            if not (self.charges or self.include):
                return f"{where} has a kspace_style and no charges: leave it out"
            problem = kspace_problem(f"{where}.kspace_style", self.kspace_style)
            if problem:
                return problem
            if self.charges and not self.kspace_style.startswith(("ewald", "pppm")):
                return (
                    f'{where}.kspace_style is "{self.kspace_style}": the charges go with '
                    "those that begin with ewald or pppm"
                )
        if self.charges and not any(self.charges.values()):
            return f"{where}.charges are 0 all of them: leave them out"
        for symbol in self.charges:
            if symbol not in ELEMENTS.split():
                hint = nearest(symbol, ELEMENTS.split())
                return f'{where}.charges names "{symbol}", which is no element{hint}'
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
    baselines: Mapping[str, BaselineSection] = quantity(
        {},
        doc="a section each, by name: every model once more beside each of them, as MODEL-NAME",
    )

    def baseline_named(self, name: str) -> tuple[BaselineSection, str]:
        """Return one of the baselines, "" for `baseline`, and where it stands in the study."""
        if not name:
            return self.baseline, "training.baseline"
        return self.baselines[name], f"training.baselines.{name}"

    def check(self) -> str | None:
        for name in ("", *self.baselines):
            section, where = self.baseline_named(name)
            if name and not _LABEL.fullmatch(name):
                return (
                    f'training.baselines names one "{shortened(name, 40)}": give a word of at most '
                    "30 letters, digits and _ that begins with a letter and is not like s2 or n64, "
                    "which are seeds and sizes"
                )
            problem = section.problem(where)
            if problem:
                return problem
            if self.core and (section.zbl or section.include):
                return (
                    f'training.core is "{self.core}" beside {where}.'
                    f"{'zbl' if section.zbl else 'include'}: the baseline has a repulsion of its "
                    'own, set training.core = ""'
                )
        for kind in self.kinds:
            if not all(part.isidentifier() for part in kind.split(".")):
                return f'training.kinds names "{kind}": give a kind, or the dotted name of a module'
        return None
