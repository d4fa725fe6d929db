"""What all methods of selection share: the checks, the ranks, the record of what was asked.

A method is a class with one function, `choose(task)`; `Selector.select` does the rest. So a new
method is one short file and a line in the registry.

How a selection is made independent of ranks and blocks: whatever is random is drawn before the
pool is read, one number for each frame id, from a generator that is the same on all ranks; and
what a rank learns from its share of the frames is put together in the order of frame ids before
anything is decided.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.errors import MlselError
from mlsel.core.provenance import digest
from mlsel.pool import copies, finite
from mlsel.pool.block import Block
from mlsel.pool.pool import Pool
from mlsel.pool.subset import write_subset
from mlsel.selection.arguments import ids_to_exclude, seed_and_generator

if TYPE_CHECKING:
    from mpi4py import MPI

BLOCK_BYTES = 2 * 2**20
"""Size of the blocks that are read: small enough to stay in the cache while it is worked on."""


def refuse(sentence: str) -> MlselError:
    """Return the error for a mistake that all ranks find alike."""
    return MlselError(sentence, everywhere=True)


@dataclass(frozen=True)
class Task:
    """One selection to make: what `Selector.choose` gets.

    Attributes
    ----------
    pool : Pool
    n : int
        How many frames to choose; there are as many eligible ones.
    eligible : bool, (n_frames,)
        The frames that may be chosen.
    rng : numpy.random.Generator
        In the same state on all ranks.
    comm : MPI communicator or None
    block_bytes : int
        Upper bound of the arrays that are read at a time.
    given : Task or None
        All frames of a data set that is there already.
    beside : Pool or None
        Another pool whose elements descriptors must know too: of the given frames' task, the pool.
    """

    pool: Pool
    n: int
    eligible: npt.NDArray[np.bool_]
    rng: np.random.Generator
    comm: MPI.Comm | None = None
    block_bytes: int = BLOCK_BYTES
    given: Task | None = None
    beside: Pool | None = None

    @property
    def n_given(self) -> int:
        return 0 if self.given is None else self.given.n

    @functools.cached_property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers of the pool's atoms and of the given ones, sorted. Few methods need them,
        and they take opening every run."""
        pools = (self.pool, self.beside, None if self.given is None else self.given.pool)
        runs = [(pool, run) for pool in pools if pool is not None for run in pool.runs]
        return tuple(sorted({int(z) for pool, run in runs for z in pool.numbers(run)}))

    @property
    def frame_ids(self) -> IntArray:
        """The eligible frames, sorted, int64 (n_eligible,)."""
        return np.flatnonzero(self.eligible)

    def keys(self) -> FloatArray:
        """Draw a random number in [0, 1) for every frame of the pool, (n_frames,).

        The frames in the order of their keys (ties: of their ids) are in random order, and the
        first of them are known without sorting all.
        """
        return self.rng.random(self.pool.n_frames)

    def share(self, frame_ids: IntArray | None = None) -> range | IntArray:
        """Return this rank's part of all frames, or of those given: a stretch of them."""
        n = self.pool.n_frames if frame_ids is None else len(frame_ids)
        rank, size = (0, 1) if self.comm is None else (self.comm.rank, self.comm.size)
        start, stop = n * rank // size, n * (rank + 1) // size
        return range(start, stop) if frame_ids is None else frame_ids[start:stop]

    def blocks(self, *fields: str, frame_ids: range | IntArray) -> Iterator[Block]:
        """Read frames, mostly `share()`."""
        return self.pool.blocks(*fields, frame_ids=frame_ids, max_bytes=self.block_bytes)

    def join(self, part: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the arrays of all ranks, one after the other along the first axis."""
        if self.comm is None or self.comm.size == 1:
            return part
        part = np.ascontiguousarray(part)
        lengths = self.comm.allgather(len(part))
        whole = np.empty((sum(lengths), *part.shape[1:]), part.dtype)
        row = part.itemsize * int(np.prod(part.shape[1:]))
        counts = [n * row for n in lengths]
        self.comm.Allgatherv(part.view(np.uint8).reshape(-1), [whole.view(np.uint8), counts])
        return whole

    def from_root[T](self, value: T) -> T:
        """Return what rank 0 has."""
        if self.comm is None or self.comm.size == 1:
            return value
        told: T = self.comm.bcast(value)
        return told

    def every[T](self, values: list[T]) -> list[T]:
        """Return the small lists of all ranks, joined."""
        if self.comm is None or self.comm.size == 1:
            return values
        return [value for part in self.comm.allgather(values) for value in part]

    def stretches(self, n: int, rows: int) -> list[slice]:
        """Cut n rows into blocks of some, the same whatever the ranks, and return this rank's."""
        blocks = np.arange(0, n, rows)
        return [slice(start, min(start + rows, n)) for start in np.asarray(self.share(blocks))]

    def total(self, parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Add up what all ranks have of all blocks, one by one: the same bits for any ranks."""
        return functools.reduce(np.add, self.every(parts))

    def first(self, keys: FloatArray, n: int) -> IntArray:
        """Return the n eligible frames with the smallest keys, in the order of the keys."""
        allowed = self.frame_ids
        n = min(n, len(allowed))
        limit = (n + 8.0 * np.sqrt(n) + 32.0) / max(1, len(allowed))
        few = allowed[keys[allowed] < limit]
        return self.in_order(few if len(few) >= n else allowed, keys)[:n]

    def in_order(self, frame_ids: IntArray, keys: FloatArray) -> IntArray:
        """Return frames in the random order that the keys stand for."""
        return frame_ids[np.lexsort((frame_ids, keys[frame_ids]))]


@dataclass(frozen=True)
class Selection:
    """Chosen frames, and what was asked.

    Attributes
    ----------
    frame_ids : int64, (n,)
        Unique, in the order chosen.
    method : str
    parameters : mapping
        The method's parameters, defaults filled in.
    n : int
    seed : int or None
        None where a generator was given instead.
    pool, pool_digest : str
        The pool's path and its digest.
    n_excluded : int
        Frames of the pool that were not allowed.
    excluded : str
        Digest of those frames' ids ('' for none).
    given : str
        Digest of the data set that was there already ('' for none).
    """

    frame_ids: IntArray
    method: str
    parameters: Mapping[str, Any]
    n: int
    seed: int | None
    pool: str
    pool_digest: str
    n_excluded: int
    excluded: str
    given: str = ""

    def __len__(self) -> int:
        return len(self.frame_ids)

    def record(self) -> dict[str, Any]:
        """Return what was asked, as plain values (seed −1 where a generator was given)."""
        plain = {
            key: digest(value.tobytes()) if isinstance(value, np.ndarray) else value
            for key, value in self.parameters.items()
        }
        return {
            "method": self.method,
            "method_parameters": plain,
            "n": self.n,
            "seed": -1 if self.seed is None else self.seed,
            "pool_digest": self.pool_digest,
            "n_excluded": self.n_excluded,
            "excluded": self.excluded,
            **({"given": self.given} if self.given else {}),
        }

    def write(self, pool: Pool, path: Path) -> None:
        """Write the frames as a data set, in the order chosen.

        The data set is a pool file; its /parameters say what was asked, and its observable
        source_frame holds the frame ids.
        """
        import json

        attributes = self.record()
        attributes["method_parameters"] = json.dumps(attributes["method_parameters"])
        attributes["pool"] = os.path.relpath(pool.path, path.parent)
        write_subset(pool, self.frame_ids, path, {"made_by": "mlsel.selection", **attributes})


class Selector(ABC):
    """A method of selection. Subclasses are dataclasses whose fields are the parameters."""

    name: ClassVar[str]
    """As users write it."""
    summary: ClassVar[str]
    """What it chooses, in a few words."""
    fields: ClassVar[tuple[str, ...]] = ()
    """What the pool must hold."""
    remedy: ClassVar[str] = ""
    """How a pool gets what it must hold, where that is not plain."""
    nested: ClassVar[bool] = True
    """Whether the first k of n chosen frames are those that k would have given."""

    @abstractmethod
    def choose(self, task: Task) -> IntArray:
        """Return task.n unique eligible frame ids in the order chosen, the same on all ranks."""

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the method's parameters with their defaults (MISSING where there is none)."""
        assert dataclasses.is_dataclass(cls)
        return {f.name: f.default for f in dataclasses.fields(cls)}

    def parameters(self) -> dict[str, Any]:
        """Return the method's parameters by name."""
        return {name: getattr(self, name) for name in self.defaults()}

    def select(
        self,
        pool: Pool,
        n: int,
        rng: int | np.integer[Any] | np.random.Generator,
        exclude: npt.ArrayLike = (),
        comm: MPI.Comm | None = None,
        block_bytes: int = BLOCK_BYTES,
        given: Pool | None = None,
    ) -> Selection:
        """Choose n frames of a pool.

        Collective over comm, if one is given: every rank reads a share of the pool and returns
        the same selection, which is also the one without MPI.

        Parameters
        ----------
        pool : Pool
        n : int
            From 1 to the number of frames that are not excluded.
        rng : int or numpy.random.Generator
            A seed, or a generator in the same state on all ranks.
        exclude : int, (m,)
            Frame ids that must not be chosen, nor copies of them. Of frames that are copies of
            each other one is chosen at most.
        comm : MPI communicator, optional
        block_bytes : int
            Upper bound of the arrays that are read at a time; the result doesn't depend on it.
        given : Pool, optional
            A data set that is there already, from this pool or another: the frames chosen are
            those that go best with it, and of this pool's frames none that it holds. What is
            drawn at random, or by what models say of a frame alone, looks at nothing else of it.

        Raises
        ------
        MlselError
            If there are not n frames, if the pool lacks what the method needs, or if what the
            method reads of the eligible frames holds a NaN or an infinity. `Selection.write` reads
            all fields of the chosen ones and refuses such a value there.
        """
        self._require_fields(pool)
        eligible = np.ones(pool.n_frames, dtype=bool)
        ids = np.unique(ids_to_exclude(exclude))
        if given is not None:
            self._require_fields(given)
            if given.attributes.get("pool_digest") == pool.digest:
                ids = np.union1d(ids, given.values("source_frame").astype(np.int64))
        if len(ids) and (ids[0] < 0 or ids[-1] >= pool.n_frames):
            raise refuse(
                f"Asked to exclude frame {ids[0] if ids[0] < 0 else ids[-1]}, but frame ids of "
                f"{pool.path} go from 0 to {pool.n_frames - 1}."
            )
        eligible[ids] = False
        n_copies = _leave_out_copies(pool, eligible, given)
        n_left = pool.n_frames - len(ids) - n_copies
        check_n(n, n_left, pool, len(ids) + n_copies, " without copies" if n_copies else "")
        seed, generator = seed_and_generator(rng)
        there = None
        if given is not None and len(given):
            every = np.ones(len(given), dtype=bool)
            there = Task(given, len(given), every, generator, comm, block_bytes, beside=pool)
        task = Task(pool, n, eligible, generator, comm, block_bytes, there)
        chosen = self.choose(task)
        if len(chosen) != n or len(np.unique(chosen)) != n or not eligible[chosen].all():
            raise AssertionError(f"{self.name} broke its contract")
        asked = self.asked(pool, n, seed, ids)
        return dataclasses.replace(
            asked, frame_ids=chosen, given="" if given is None else given.digest
        )

    def asked(self, pool: Pool, n: int, seed: int | None, exclude: npt.ArrayLike = ()) -> Selection:
        """Return the record of a selection that is still to be made: without its frames."""
        ids = np.unique(ids_to_exclude(exclude))
        return Selection(
            np.empty(0, dtype=np.int64),
            self.name,
            self.parameters(),
            n,
            seed,
            str(pool.path),
            pool.digest,
            len(ids),
            digest(ids.tobytes()) if len(ids) else "",
        )

    def _require_fields(self, pool: Pool) -> None:
        missing = [field for field in self.fields if field not in pool.fields]
        if missing and self.remedy:
            raise refuse(
                f"{self.name} needs {missing[0]}, which {pool.path} does not hold: {self.remedy}."
            )
        if missing:
            possible = sorted(k.name for k in _kinds() if set(k.fields) <= set(pool.fields))
            raise refuse(
                f"{self.name} needs {missing[0]}, and {pool.path} holds "
                f"{', '.join(pool.fields)}: methods that would work on it are "
                f"{', '.join(possible)}."
            )


def _leave_out_copies(pool: Pool, eligible: npt.NDArray[np.bool_], given: Pool | None) -> int:
    """Leave one eligible frame of each content, none that is left out or given; return how many
    were taken away."""
    found = copies.hashes(pool)
    if found is None:
        return 0
    n_before = int(eligible.sum())
    taken = found[~eligible]
    if given is not None:
        there = copies.hashes(given, of_any=True)
        assert there is not None
        taken = np.union1d(taken, there)
    eligible &= ~np.isin(found, taken)
    ids = np.flatnonzero(eligible)
    eligible[ids[copies.later_copies(found[ids])]] = False
    return n_before - int(eligible.sum())


def _kinds(of: type[Selector] | None = None) -> Iterator[type[Selector]]:
    """The methods that are known: the subclasses that have a name."""
    for kind in (of or Selector).__subclasses__():
        if hasattr(kind, "name"):
            yield kind
        yield from _kinds(kind)


def check_n(n: int, n_left: int, pool: Pool, n_excluded: int, which: str = "") -> None:
    """Raise, with both sides, unless n frames can be had."""
    if not isinstance(n, (int, np.integer)):
        raise refuse(f"Asked for {n!r} frames: n must be a whole number.")
    if not 1 <= n <= n_left:
        after = f" after excluding {n_excluded}" if n_excluded else ""
        allowed = f"n must be between 1 and {n_left}" if n_left else "none can be chosen"
        raise refuse(f"Asked for {n} frames, {pool.path} has {n_left}{which}{after}: {allowed}.")


def not_finite(pool: Pool, field: str, frame: int) -> MlselError:
    """Return the error that names a NaN or an infinity, where all ranks know of it."""
    return refuse(str(finite.not_finite(pool, field, frame)))
