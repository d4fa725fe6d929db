"""What every kind of model has in common: frames in, a trained model out.

A kind of model is one module with a `Trainer` and a `TrainedModel`, named in `registry.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from mlsel.core.errors import MlselError
from mlsel.training.frames import FloatArray, Frames, symbols

if TYPE_CHECKING:
    from mpi4py import MPI


@dataclass(frozen=True)
class Prediction:
    """What a model says of some frames.

    Attributes
    ----------
    energy : float64, (n_frames)
        eV.
    forces : float64, (n_frames, n_atoms, 3)
        eV/Å.
    atomic_energies : float64, (n_frames, n_atoms)
        eV; they sum to `energy`.
    virial : float64, (n_frames, 3, 3), optional
        −∂E/∂ε, eV; the stress in ASE's sign is −virial/V.
    """

    energy: FloatArray
    forces: FloatArray
    atomic_energies: FloatArray
    virial: FloatArray | None = None


class TrainedModel(ABC):
    """A model that can be asked."""

    kind: ClassVar[str]
    numbers: tuple[int, ...]
    """Atomic numbers that it knows."""
    folder: Path
    facts: Mapping[str, Any]
    """What the fit found, for model.json."""
    files: ClassVar[tuple[str, ...]] = ()
    """What the model is, in its folder: files that nobody changes after the fit."""

    @abstractmethod
    def predict(self, frames: Frames) -> Prediction:
        """Return energies, forces and atomic energies.

        Raises
        ------
        MlselError
            If the frames hold an element that the model does not know.
        """

    pair_style: str = ""
    """LAMMPS's name of the one that evaluates it, which fix pair asks."""

    @property
    def told_in_lammps(self) -> tuple[str, ...]:
        """Return the quantities of atoms that fix pair can ask this model for."""
        return ("sigma",) if self.has_uncertainty and self.pair_style else ()

    @property
    def has_uncertainty(self) -> bool:
        """Whether it can tell how sure it is of an atom."""
        return False

    def uncertainty(self, frames: Frames) -> FloatArray:
        """Return the uncertainty of each atom's energy, (n_frames, n_atoms), eV.

        The same numbers as `fix … pair … sigma 1` gives in LAMMPS.

        Raises
        ------
        MlselError
            If the model cannot tell.
        """
        raise MlselError(
            f"{self.folder} is of the kind {self.kind}, which tells no uncertainty of atoms."
        )

    @abstractmethod
    def lammps_commands(self, species: Sequence[str]) -> list[str]:
        """Return pair_style and pair_coeff for atom types 1 … n of these elements."""

    @abstractmethod
    def calculator(self) -> Any:
        """Return an ASE calculator (energy, forces, energies, stress)."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> TrainedModel:
        """Open a model that `Trainer.fit` wrote."""

    def check(self, numbers: npt.ArrayLike) -> None:
        """Raise MlselError unless the model knows all these elements."""
        unknown = sorted(set(np.unique(numbers).tolist()) - set(self.numbers))
        if unknown:
            raise MlselError(
                f"{self.folder} was trained on {symbols(self.numbers)} and cannot say anything "
                f"of {symbols(unknown)}: train a model on data that holds these elements."
            )

    def check_species(self, species: Sequence[str]) -> None:
        """Like `check`, for chemical symbols."""
        from ase.data import atomic_numbers

        for symbol in species:
            if symbol not in atomic_numbers:
                raise MlselError(f"{symbol!r} is no element.")
        self.check([atomic_numbers[symbol] for symbol in species])


class Trainer(ABC):
    """Makes a model of one kind with its parameters.

    `name` is the model's name in the study, `parameters` everything that decides the result
    beside the data; both are stored in model.json.
    """

    kind: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions whose versions model.json records."""
    uses_validation: ClassVar[bool] = True
    """Whether the result depends on held-out frames."""
    uses_isolated_atoms: ClassVar[bool] = False
    """Whether energies of isolated atoms, where the data set has them, are what it learns from."""
    isolated_atoms: Mapping[int, float] | None = None
    """These energies, eV by atomic number, for all elements of the data set."""
    has_weights: ClassVar[bool] = False
    """Whether a fit can go on from another model's weights, `start`."""
    start: Path | None = None
    """The folder of that model."""
    beside: str = ""
    """Which of `training.baselines` the model learns beside; "": `training.baseline`."""
    ranks: MPI.Intracomm | None = None
    """Those that do a fit together, each of which calls it; None: this process alone."""
    name: str
    n_train: int | None
    """Frames of the data set to use, the first of them; None: all."""

    @property
    def references_from(self) -> str:
        """What the energies of elements are taken from without isolated atoms; for model.json."""
        return "the kind of model itself"

    @property
    def labels(self) -> Mapping[str, str]:
        """Labels that it needs beside energy and forces, each with the key that asks for it."""
        return {}

    on_report: Callable[[float, str], None]
    """Told the share done (0 … 1) and a few words, now and then."""

    @property
    def cost(self) -> float:
        """Rough work of a fit, to do the longest first and to tell the time left."""
        return 1.0

    def admission(self, memory: float) -> AbstractContextManager[Any]:
        """Return a context to be held during `fit`, which may wait for room.

        Parameters
        ----------
        memory : float
            GiB for all fits of a machine; 0: most of what it has.
        """
        return nullcontext()

    @property
    def is_external(self) -> bool:
        """Whether the work is done by another program, one core each."""
        return False

    @property
    def shares_ranks(self) -> bool:
        """Whether several ranks can do one fit together, told to it by `ranks`."""
        return False

    @property
    def uses_gpu(self) -> bool:
        """Whether a fit computes on a GPU where there is one."""
        return False

    def progress(self, out: Path) -> str:
        """Say in a few words how far an unfinished fit in this folder is; "" if not begun."""
        return "begun" if out.is_dir() and any(out.iterdir()) else ""

    def illustrate(self, out: Path) -> None:
        """Draw pictures of the finished model into its folder, where there is something to see."""
        return

    @property
    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Everything that decides the result beside the data, as plain values."""

    @abstractmethod
    def fit(self, train: Sequence[Frames], validation: Sequence[Frames], out: Path) -> TrainedModel:
        """Train, or go on training, and leave the product in the folder `out`.

        Without held-out frames (`validation`), a trainer that needs some takes them from `train`.

        `model.json` must not be written here: it is the sign that the product is whole, and
        `stage.train` writes it last.
        """


def hear_nothing(share: float, text: str) -> None:
    """Be a trainer's `on_report` until it has another: a function that can be sent to ranks."""
