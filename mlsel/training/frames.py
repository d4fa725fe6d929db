"""Configurations with labels, read for training and testing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import IntArray
from mlsel.core.errors import MlselError
from mlsel.pool.pool import Pool

FloatArray = npt.NDArray[np.floating[Any]]
T = TypeVar("T")


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
    kept : dict, optional
        Given one, `shared` keeps there what it is asked for, as long as the frames live.
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
    kept: dict[Hashable, Any] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    def atoms(self, row: int) -> Any:
        """Return a frame as ASE's Atoms, without its labels."""
        from ase import Atoms

        return Atoms(self.numbers, self.positions[row], cell=self.cell[row], pbc=self.periodic)

    def unlabelled(self) -> Frames:
        """Return them as a model may see them, with what is kept of them."""
        return Frames(
            self.numbers, self.positions, self.cell, self.periodic,
            frame_ids=self.frame_ids, kept=self.kept,
        )  # fmt: skip

    def shared(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` computes of positions and cells: once, for all that ask by this key,
        where it is kept."""
        if self.kept is None:
            return make()
        if key not in self.kept:
            self.kept[key] = make()
        found: T = self.kept[key]
        return found

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
        for name in block.fields:
            finite = np.isfinite(block[name]).reshape(len(block), -1).all(axis=1)
            if not finite.all():
                raise MlselError(
                    f"{pool.path}: {name} of frame {block.frame_ids[~finite][0]} is not a finite "
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
