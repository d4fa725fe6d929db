"""What every kind of model has in common: frames in, a trained model out.

A kind of model is one module with a `Trainer` and a `TrainedModel`, named in `registry.py`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from mlsel.core.errors import MlselError
from mlsel.core.provenance import versions
from mlsel.core.record import shape_told
from mlsel.pool.pool import Pool
from mlsel.study.folder import MODEL

if TYPE_CHECKING:
    from mpi4py import MPI

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.int64]

MODEL_FILE = MODEL
LARGEST_ENERGY = 1e8
"""eV; the electrons of the heaviest atom have 1.5e6."""


@dataclass(frozen=True)
class Frames:
    """Configurations of the same atoms, with labels where they are known.

    Attributes
    ----------
    numbers : int64, (n_atoms)
        Atomic numbers.
    positions : float64, (n_frames, n_atoms, 3)
        Å.
    cell : float64, (n_frames, 3, 3)
        Å, rows are the cell's vectors.
    periodic : three bools
    energy : float64, (n_frames), optional
        eV.
    forces : float64, (n_frames, n_atoms, 3), optional
        eV/Å.
    atomic_energies : float64, (n_frames, n_atoms), optional
        eV; they sum to `energy`.
    virial : float64, (n_frames, 3, 3), optional
        −∂E/∂ε, eV.
    frame_ids : int64, (n_frames), optional
        Their numbers in the pool that they are of.
    """

    numbers: IntArray
    positions: FloatArray
    cell: FloatArray
    periodic: tuple[bool, bool, bool] = (True, True, True)
    energy: FloatArray | None = None
    forces: FloatArray | None = None
    atomic_energies: FloatArray | None = None
    virial: FloatArray | None = None
    frame_ids: IntArray | None = None

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    def atoms(self, row: int) -> Any:
        """Return a frame as ASE's Atoms, without its labels."""
        from ase import Atoms

        return Atoms(self.numbers, self.positions[row], cell=self.cell[row], pbc=self.periodic)

    def take(self, rows: npt.ArrayLike) -> Frames:
        """Return the frames of these rows."""
        rows = np.asarray(rows)
        rows = rows if rows.dtype == bool else rows.astype(np.int64)
        return Frames(
            self.numbers,
            self.positions[rows],
            self.cell[rows],
            self.periodic,
            None if self.energy is None else self.energy[rows],
            None if self.forces is None else self.forces[rows],
            None if self.atomic_energies is None else self.atomic_energies[rows],
            None if self.virial is None else self.virial[rows],
            None if self.frame_ids is None else self.frame_ids[rows],
        )


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


def read_frames(
    pool: Pool,
    frame_ids: range | npt.ArrayLike | None = None,
    max_bytes: int = 2**31,
    more: Sequence[str] = (),
) -> Iterator[Frames]:
    """Yield the frames of a pool with their labels (ordered by run), checked to be finite.

    Virials come with those frames that have one and are periodic in all directions, and atomic
    energies if `more` names them.

    Raises
    ------
    MlselError
        If energies or forces are missing or a label is not finite; it names the frame.
    """
    fields = ("positions", "cell", "energy", "forces", *more)
    blocks = pool.blocks(*fields, frame_ids=frame_ids, max_bytes=max_bytes, optional=("virial",))
    for block in blocks:
        for field in block.fields:
            finite = np.isfinite(block[field]).reshape(len(block), -1).all(axis=1)
            if not finite.all():
                raise MlselError(
                    f"{pool.path}: {field} of frame {block.frame_ids[~finite][0]} is not a finite "
                    f"number ({np.count_nonzero(~finite)} such frames): remove them from the data."
                )
        yield Frames(
            pool.numbers(block.run),
            block["positions"],
            block["cell"],
            pool.periodic(block.run),
            block["energy"],
            block["forces"],
            block["atomic_energies"] if "atomic_energies" in more else None,
            block.fields.get("virial") if all(pool.periodic(block.run)) else None,
            np.asarray(block.frame_ids, np.int64),
        )


def split(
    frames: Sequence[Frames], fraction: float, seed: int
) -> tuple[list[Frames], list[Frames]]:
    """Split frames at random into training and held-out ones, at least one of each.

    Raises
    ------
    MlselError
        If there are fewer than two frames.
    """
    lengths = [len(part) for part in frames]
    total = sum(lengths)
    if total < 2:
        raise MlselError(
            f"The data set holds {total} frame{'s' * (total != 1)}: training needs at least 2, "
            "one of them held out."
        )
    n_validation = min(total - 1, max(1, round(fraction * total)))
    chosen = np.zeros(total, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(total)[:n_validation]] = True
    train, validation = [], []
    for part, flags in zip(frames, np.split(chosen, np.cumsum(lengths)[:-1]), strict=True):
        if not flags.all():
            train.append(part.take(np.flatnonzero(~flags)))
        if flags.any():
            validation.append(part.take(np.flatnonzero(flags)))
    return train, validation


LEAST_SQUARES, ISOLATED_ATOMS = "least squares", "isolated atoms"
"""Where the energies of elements are from, in model.json."""


def reference_energies(
    frames: Sequence[Frames], isolated_atoms: Mapping[int, float] | None = None
) -> dict[int, float]:
    """Return the energy of each element, eV, by least squares of E = Σ_i e(Z_i).

    Where energies of isolated atoms are given it is those, for all elements of the frames.

    Where the composition never varies the smallest solution is taken (in NaCl, both the same).

    >>> cell, zero = np.eye(3)[None].repeat(2, 0), np.zeros((2, 3, 3))
    >>> reference_energies([Frames(np.array([11, 17, 17]), zero, cell, energy=np.full(2, -9.0))])
    {11: -1.8, 17: -3.6}
    """
    elements = sorted({int(z) for part in frames for z in part.numbers})
    if isolated_atoms:
        return {z: isolated_atoms[z] for z in elements}
    counts, energies = [], []
    for part in frames:
        assert part.energy is not None
        row = [np.count_nonzero(part.numbers == z) for z in elements]
        counts += [row] * len(part)
        energies.append(part.energy)
    solution = np.linalg.lstsq(np.array(counts, dtype=float), np.concatenate(energies))[0]
    return {z: round(float(e), 9) for z, e in zip(elements, solution, strict=True)}


def symbols(numbers: Sequence[int]) -> str:
    """Return chemical symbols, for sentences.

    >>> symbols([11, 17])
    'Na, Cl'
    """
    from ase.data import chemical_symbols

    return ", ".join(chemical_symbols[z] for z in numbers)


def describe(trainer: Trainer, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what model.json holds: kind, name, parameters, data and versions.

    A kind that comes with mlsel is found again by its name, another by its module.
    """
    module = type(trainer).__module__
    return {
        "kind": trainer.kind,
        **({} if module.startswith("mlsel.") else {"module": module}),
        "name": trainer.name,
        "parameters": trainer.parameters,
        "data": dict(data),
        "versions": versions(*trainer.packages),
    }


def read_description(folder: Path) -> dict[str, Any]:
    """Return model.json of a finished model.

    Raises
    ------
    MlselError
        If there is none, or it is not one of ours.
    """
    path = folder / MODEL_FILE
    if not path.is_file():
        raise MlselError(
            f"{folder} holds no finished model (no {MODEL_FILE}): train it with `mlsel training`."
        )
    with shape_told(path, "remove it and train the model again"):
        description = dict(json.loads(path.read_text(encoding="utf-8")))
        for key in ("kind", "module"):
            if not isinstance(description.get(key, "x"), str) or not description["kind"]:
                raise TypeError(f"{key} is no name")
        for key in ("parameters", "data", "versions", "result"):
            if not isinstance(description.get(key, {}), dict):
                raise TypeError(f"{key} is no table")
    return description


def numbers_of(facts: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the atomic numbers that a model's file says it knows.

    Raises
    ------
    ValueError, KeyError or TypeError
        If they are none.
    """
    numbers = tuple(facts["numbers"])
    if not numbers or not all(type(z) is int and 1 <= z <= 118 for z in numbers):
        raise ValueError("numbers are no atomic numbers")
    return numbers


def element_energies(table: Mapping[str, Any], numbers: Sequence[int]) -> dict[int, float]:
    """Return the energy of each of these elements, eV, from a model's file.

    Raises
    ------
    ValueError, KeyError or TypeError
        If one is missing or no energy.
    """
    energies = {z: float(table[str(z)]) for z in numbers}
    if not all(abs(energy) < LARGEST_ENERGY for energy in energies.values()):
        raise ValueError("an element's energy is none")
    return energies
