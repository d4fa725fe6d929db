"""Descriptors of atomic environments, for the methods that look at structures.

    radial      our own: how many neighbours of each species are how far away; fast, streamed
    soap        the paper's SOAP (its table 3), through quippy
    FILE.npy    the user's: (n_frames, D), or (n_frames, n_atoms, D) where atoms are described

A frame is described by the mean and the standard deviation of its atoms' descriptors, species by
species; or by the user's row.

References
----------
Behler, J. Chem. Phys. 134, 074106 (2011), for radial symmetry functions.
Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013), for SOAP.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlsel.errors import MlselError
from mlsel.pool import Array, Block, FloatArray, IntArray, Pool
from mlsel.selection.base import Task, not_finite, refuse

Floats = npt.NDArray[np.floating]
SOAP_OPTIONS = "n_max=8 l_max=6 atom_sigma=0.825 cutoff={cutoff} cutoff_transition_width=0.5"


class Descriptor(ABC):
    """Describes each atom of each frame of a block."""

    @abstractmethod
    def atoms(self, pool: Pool, block: Block) -> Floats:
        """Return (F, N, D); a frame's rows don't depend on which frames it comes with."""


@dataclass(frozen=True)
class Radial(Descriptor):
    """Neighbours of each species at each distance.

    For atom i, species s and shell k at r_k = (k + 1/2) w, w = cutoff / n_shells,

        g_isk = Σ_{j of species s} Λ(r_ij / w − k − 1/2) f(r_ij),
        Λ(x) = max(0, 1 − |x|),    f(r) = (1 + cos(π r / cutoff)) / 2,

    over all j and their periodic images nearer than the cutoff: a histogram of distances with
    triangular bins, which is continuous as atoms move.

    Parameters
    ----------
    numbers : tuple of int
        The atomic numbers that occur in the pool.
    cutoff : float
        Å.
    n_shells : int
    """

    numbers: tuple[int, ...]
    cutoff: float = 6.0
    n_shells: int = 8

    def atoms(self, pool: Pool, block: Block) -> Floats:
        species = np.searchsorted(self.numbers, pool.numbers(block.run))
        periodic = np.array(pool.periodic(block.run))
        n_frames, n_atoms, _ = block["positions"].shape
        out = np.empty((n_frames, n_atoms, len(self.numbers) * self.n_shells), dtype=np.float32)
        # Arrays over all pairs of a few frames stay in the cache.
        n = max(1, 2**16 // n_atoms**2)
        for start in range(0, n_frames, n):
            some = slice(start, start + n)
            out[some] = self._few(block["positions"][some], block["cell"][some], species, periodic)
        return out

    def _few(
        self, positions: FloatArray, cells: FloatArray, species: IntArray, periodic: Array
    ) -> Floats:
        n_frames, n_atoms, _ = positions.shape
        size = len(self.numbers) * self.n_shells
        counts = np.zeros(n_frames * n_atoms * size)
        row = np.arange(n_frames * n_atoms).reshape(n_frames, n_atoms, 1) * size
        start = (row + species * self.n_shells).astype(np.int64)  # of atom i's shells for j
        for r2 in self._squared_distances(positions, cells, periodic):
            near = np.flatnonzero((r2.ravel() < self.cutoff**2) & (r2.ravel() > 1e-6))
            r = np.sqrt(r2.ravel()[near])
            x = r * (self.n_shells / self.cutoff) - 0.5
            shell = np.floor(x).astype(np.int64)
            upper = x - shell
            weight = 0.5 + 0.5 * np.cos((np.pi / self.cutoff) * r)
            at = start.ravel()[near] + shell
            inside = shell >= 0
            counts += np.bincount(at[inside], ((1 - upper) * weight)[inside], minlength=len(counts))
            inside = shell < self.n_shells - 1
            counts += np.bincount(at[inside] + 1, (upper * weight)[inside], minlength=len(counts))
        return counts.reshape(n_frames, n_atoms, size)

    def _squared_distances(
        self, positions: FloatArray, cells: FloatArray, periodic: Array
    ) -> list[FloatArray]:
        """Return r² of all pairs, (F, N, N), once for each image that can be near enough."""
        if not periodic.any():
            d = positions[:, :, None] - positions[:, None]
            return [(d * d).sum(axis=-1)]
        cells = np.where(periodic[:, None], cells, np.eye(3))
        inverse = np.linalg.inv(cells)
        # 1 / height over the faces; a pair nearer than half of it is the nearest image.
        reach = self.cutoff * np.sqrt((inverse**2).sum(axis=1)).max(axis=0)
        n_images = np.where(periodic, np.ceil(reach - 0.5).clip(0), 0).astype(int)
        fractional = np.stack(
            [sum(positions[..., b] * inverse[:, b, a, None] for b in range(3)) for a in range(3)]
        )
        d = fractional[:, :, :, None] - fractional[:, :, None]
        d -= np.rint(d) * periodic[:, None, None, None]
        diagonal = not np.any(cells[:, ~np.eye(3, dtype=bool)])
        squares = []
        for shift in np.ndindex(*(2 * n_images + 1)):
            moved = [d[a] + (shift[a] - n_images[a]) if n_images[a] else d[a] for a in range(3)]
            r2 = np.zeros_like(d[0])
            for b in range(3):
                if diagonal:
                    x = moved[b] * cells[:, b, b, None, None]
                else:
                    x = sum(moved[a] * cells[:, a, b, None, None] for a in range(3))
                r2 += x * x
            squares.append(r2)
        return squares


@dataclass(frozen=True)
class Soap(Descriptor):
    """SOAP vectors by quippy."""

    numbers: tuple[int, ...]
    cutoff: float = 6.5

    def atoms(self, pool: Pool, block: Block) -> Floats:
        try:
            from quippy.descriptors import Descriptor as Quippy
        except ImportError as error:
            raise MlselError(
                f"descriptor soap needs quippy ({error}): pip install quippy-ase"
            ) from None
        from ase import Atoms

        kinds = " ".join(map(str, self.numbers))
        n = len(self.numbers)
        options = SOAP_OPTIONS.format(cutoff=self.cutoff)
        many = f"n_species={n} species_Z={{{kinds}}} n_Z={n} Z={{{kinds}}}"
        soap = Quippy(f"soap {options} {many}")
        numbers, periodic = pool.numbers(block.run), pool.periodic(block.run)
        frames = []
        for positions, cell in zip(block["positions"], block["cell"], strict=True):
            atoms = Atoms(numbers, positions, cell=cell, pbc=periodic)
            frames.append(np.asarray(soap.calc(atoms)["data"], dtype=np.float32))
        return np.stack(frames)


def make_descriptor(pool: Pool, name: str, cutoff: float) -> Descriptor:
    """Return a descriptor by its name, for the species of a pool."""
    numbers = tuple(sorted({int(z) for run in pool.runs for z in pool.numbers(run)}))
    kinds = {"radial": Radial, "soap": Soap}
    if name not in kinds:
        raise refuse(
            f"there is no descriptor {name}: it must be one of {', '.join(kinds)}, or the path of "
            "an .npy file."
        )
    made: Descriptor = kinds[name](numbers, cutoff)
    return made


def user_array(pool: Pool, given: str | Array) -> Array | None:
    """Return the user's array, if `given` is one or names a file, after checking its length."""
    if isinstance(given, str):
        if not given.endswith(".npy"):
            return None
        if not Path(given).is_file():
            raise refuse(f"there is no descriptor file {given}.")
        array: Array = np.load(given, mmap_mode="r")
    else:
        array = given
    if array.ndim not in (2, 3) or len(array) != pool.n_frames:
        raise refuse(
            f"the descriptor array has the shape {array.shape}: for {pool.path} it must be "
            f"({pool.n_frames}, D), or ({pool.n_frames}, n_atoms, D)."
        )
    return array


def _require_finite(task: Task, rows: Floats, what: str) -> None:
    good = np.isfinite(rows).reshape(len(rows), -1).all(axis=1) | ~task.eligible
    if not good.all():
        frame = int(np.argmin(good))
        if what == "positions":
            raise not_finite(task.pool, what, frame)
        raise refuse(f"{what} of frame {frame} is NaN or infinite.")


def frame_features(task: Task, given: str | Array, cutoff: float) -> Floats:
    """Describe every frame, (n_frames, D), the same on all ranks.

    Raises
    ------
    MlselError
        If the descriptor of an eligible frame is not finite.
    """
    array = user_array(task.pool, given)
    if array is not None:
        rows = array if array.ndim == 2 else array.mean(axis=1)
        rows = np.asarray(rows)
        _require_finite(task, rows, "the descriptor")
        return rows
    descriptor = make_descriptor(task.pool, str(given), cutoff)
    numbers = sorted({int(z) for run in task.pool.runs for z in task.pool.numbers(run)})
    ids, parts = [np.empty(0, dtype=np.int64)], []
    with np.errstate(invalid="ignore"):
        for block in task.blocks("positions", "cell", frame_ids=task.share()):
            atoms = descriptor.atoms(task.pool, block)
            of = task.pool.numbers(block.run)
            parts.append(np.concatenate([_moments(atoms, of == z) for z in numbers], axis=1))
            ids.append(block.frame_ids)
    # A rank without frames of its own has to know the width all the same.
    width = max(task.every([part.shape[1] for part in parts[:1]] or [0]))
    part = np.concatenate([np.empty((0, width), dtype=np.float32), *parts])
    rows = task.per_frame(np.concatenate(ids), part)
    _require_finite(task, rows, "positions")
    return rows


def _moments(atoms: Floats, of_species: Array) -> Floats:
    """Return mean and standard deviation over the atoms of a species, (F, 2 D)."""
    if not of_species.any():
        return np.zeros((len(atoms), 2 * atoms.shape[2]), dtype=np.float32)
    some = atoms[:, of_species]
    mean = some.mean(axis=1, dtype=np.float64)
    spread = np.sqrt(np.square(some - mean[:, None]).mean(axis=1, dtype=np.float64))
    return np.concatenate([mean, spread], axis=1).astype(np.float32)


def atom_features(task: Task, given: str | Array, cutoff: float, frames: IntArray) -> list[Floats]:
    """Describe every atom of some frames: one (n_atoms, D) a frame, the same on all ranks."""
    array = user_array(task.pool, given)
    if array is not None:
        rows = array if array.ndim == 3 else array[:, None]
        described = [np.asarray(rows[frame]) for frame in frames]
        for frame, of_atoms in zip(frames, described, strict=True):
            if not np.isfinite(of_atoms).all():
                raise refuse(f"the descriptor of frame {frame} is NaN or infinite.")
        return described
    descriptor = make_descriptor(task.pool, str(given), cutoff)
    found: dict[int, Floats] = {}
    with np.errstate(invalid="ignore"):
        for block in task.blocks("positions", "cell", frame_ids=task.share(frames)):
            for frame, of_atoms in zip(
                block.frame_ids.tolist(), descriptor.atoms(task.pool, block), strict=True
            ):
                found[frame] = of_atoms
    if task.comm is not None and task.comm.size > 1:
        for others in task.comm.allgather(found):
            found.update(others)
    for frame in frames.tolist():
        if not np.isfinite(found[frame]).all():
            raise not_finite(task.pool, "positions", frame)
    return [found[frame] for frame in frames.tolist()]
