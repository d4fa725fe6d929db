"""Descriptors of atomic environments, for the methods that look at structures.

    radial      our own: how many neighbours of each species are how far away; fast, streamed
    soap        the paper's SOAP (its table 3), through quippy
    FILE.npy    the user's: (n_frames, D), or (n_frames, n_atoms, D) where atoms are described

A frame is described by the mean and the standard deviation of its atoms' descriptors, species by
species; or by the user's row.

References
----------
Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013), for SOAP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import Array, IntArray
from mlsel.pool.block import Block
from mlsel.pool.pool import Pool
from mlsel.selection.base import Selector, Task, not_finite, refuse
from mlsel.selection.descriptors.radial import Radial

Floats = npt.NDArray[np.floating]
SOAP_OPTIONS = "n_max=8 l_max=6 atom_sigma=0.825 cutoff={cutoff} cutoff_transition_width=0.5"


class Descriptor(Protocol):
    """Describes each atom of each frame of a block."""

    def atoms(self, pool: Pool, block: Block) -> Floats:
        """Return (F, N, D); a frame's rows don't depend on which frames it comes with."""


@dataclass(frozen=True)
class Soap:
    """SOAP vectors by quippy, normalised: with the paper's settings 2,700 numbers an atom.

    The environments of all species of the pool are described as neighbours; quippy's vectors of
    two atoms can be compared whatever their species.
    """

    numbers: tuple[int, ...]
    cutoff: float = 6.5

    def atoms(self, pool: Pool, block: Block) -> Floats:
        try:
            from quippy.descriptors import Descriptor as Quippy
        except ImportError as error:
            raise refuse(
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


def make_descriptor(numbers: tuple[int, ...], name: str, cutoff: float) -> Descriptor:
    """Return a descriptor by its name, for some species."""
    if name == "radial":
        return Radial(numbers, cutoff)
    if name == "soap":
        return Soap(numbers, cutoff)
    raise refuse(
        f"there is no descriptor {name}: it must be one of radial, soap, or the path of "
        "an .npy file."
    )


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


def _described(
    task: Task, name: str, cutoff: float, frames: IntArray
) -> Iterator[tuple[Block, Floats]]:
    """Describe the atoms of this rank's part of some frames.

    Raises, on all ranks and after the last block, if a position is not finite.
    """
    descriptor = make_descriptor(task.elements, name, cutoff)
    bad: list[int] = []
    for block in task.blocks("positions", "cell", frame_ids=np.asarray(task.share(frames))):
        flat = [block[field].reshape(len(block), -1) for field in ("positions", "cell")]
        good = np.logical_and(*(np.isfinite(values).all(axis=1) for values in flat))
        if good.all():
            yield block, descriptor.atoms(task.pool, block)
        else:
            bad += block.frame_ids[~good].tolist()
    bad = task.every(bad)
    if bad:
        finite = all(
            np.isfinite(block["positions"]).all()
            for block in task.blocks("positions", frame_ids=np.array([min(bad)]))
        )
        raise not_finite(task.pool, "cell" if finite else "positions", min(bad))


def frame_features(task: Task, given: str | Array, cutoff: float) -> Floats:
    """Describe every eligible frame, (n_eligible, D), the same on all ranks.

    Raises
    ------
    MlselError
        If the descriptor of an eligible frame, or what it is computed from, is not finite.
    """
    frames = task.frame_ids
    array = user_array(task.pool, given)
    if array is not None:
        rows = np.asarray(array if task.eligible.all() else array[frames])
        rows = rows if rows.ndim == 2 else rows.mean(axis=1)
        own = np.asarray(task.share(np.arange(len(rows))))
        mine = rows[own[0] : own[-1] + 1] if len(own) else rows[:0]
        bad = task.every(own[~np.isfinite(mine).all(axis=1)][:1].tolist())
        if bad:
            raise refuse(f"the descriptor of frame {frames[min(bad)]} is NaN or infinite.")
        return rows
    ids, parts = [np.empty(0, dtype=np.int64)], []
    for block, atoms in _described(task, str(given), cutoff, frames):
        parts.append(described_frames(task, block, atoms))
        ids.append(block.frame_ids)
    # A rank without frames of its own has to know the width all the same.
    width = max(task.every([part.shape[1] for part in parts[:1]]))
    part = np.concatenate([np.empty((0, width), dtype=np.float32), *parts])
    return task.join(part[np.argsort(np.concatenate(ids))])


@dataclass(frozen=True)
class OfFrames(Selector):
    """What methods that compare frames as wholes are asked for.

    Parameters
    ----------
    descriptor : str or array
        See `mlsel.selection.descriptors.features`.
    cutoff : float
        Å, of the descriptor.
    """

    descriptor: str | Array = "radial"
    cutoff: float = 6.0

    fields: ClassVar[tuple[str, ...]] = ("positions",)

    def features(self, task: Task) -> Floats:
        """Describe every eligible frame; see `frame_features`."""
        return frame_features(task, self.descriptor, self.cutoff)


def described_frames(task: Task, block: Block, atoms: Floats) -> Floats:
    """Return the descriptors of frames, (F, D'), by those of their atoms, (F, N, D)."""
    of = task.pool.numbers(block.run)
    return np.concatenate([_moments(atoms, of == z) for z in task.elements], axis=1)


def _moments(atoms: Floats, of_species: Array) -> Floats:
    """Return mean and standard deviation over the atoms of a species, (F, 2 D)."""
    n = int(of_species.sum())
    if n == 0:
        return np.zeros((len(atoms), 2 * atoms.shape[2]), dtype=np.float32)
    weights = of_species[None].astype(np.float64) / n
    values = atoms.astype(np.float64)
    mean = weights @ values
    values -= mean
    values *= values
    spread = np.sqrt(weights @ values)
    return np.concatenate([mean, spread], axis=2)[:, 0].astype(np.float32)


def atom_features(task: Task, given: str | Array, cutoff: float, frames: IntArray) -> list[Floats]:
    """Describe every atom of some frames: one (n_atoms, D) a frame, the same on all ranks."""
    array = user_array(task.pool, given)
    if array is not None:
        rows = array if array.ndim == 3 else array[:, None]
        mine = np.asarray(task.share(frames))
        looked_at = rows if len(mine) == len(rows) else rows[mine]
        bad = task.every(mine[~np.isfinite(looked_at).all(axis=(1, 2))][:1].tolist())
        if bad:
            raise refuse(f"the descriptor of frame {min(bad)} is NaN or infinite.")
        return [np.asarray(rows[frame]) for frame in frames]
    ids = [np.empty(0, dtype=np.int64)]
    parts, sizes = [], [np.empty(0, dtype=np.int64)]
    for block, atoms in _described(task, str(given), cutoff, frames):
        ids.append(block.frame_ids)
        sizes.append(np.full(len(block), atoms.shape[1]))
        parts.append(atoms.reshape(-1, atoms.shape[2]))
    width = max(task.every([part.shape[1] for part in parts[:1]]))
    whole = task.join(np.concatenate([np.empty((0, width), dtype=np.float32), *parts]))
    ends = np.cumsum(task.join(np.concatenate(sizes)))
    found = dict(zip(task.join(np.concatenate(ids)).tolist(), np.split(whole, ends), strict=False))
    return [found[frame] for frame in frames.tolist()]
