"""A data set: chosen frames of a pool, in the order chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import Array, IntArray, whole_numbers
from mlsel.pool.block import Run
from mlsel.pool.finite import require_finite
from mlsel.pool.layout import ATOM_FIELDS, Layout
from mlsel.pool.pool import Pool
from mlsel.pool.teacher import stamp_of
from mlsel.pool.writer import INTEGER, LABELS, PoolWriter


def write_subset(
    pool: Pool,
    frame_ids: npt.ArrayLike,
    path: str | Path,
    parameters: Mapping[str, Any] | None = None,
    author: str = "not stated",
    labels: Callable[[IntArray, Sequence[str]], Mapping[str, Array]] | None = None,
    label_names: Sequence[tuple[str, ...]] = (),
    replaced: Sequence[str] = tuple(LABELS),
) -> None:
    """Write chosen frames of a pool as a data set, in the order given.

    Frames of the same atoms, with the same fields, become one run of the data set. `step` counts
    them in the order chosen; the observables source_frame and source_run say where in the pool each
    comes from (source_run indexes the attribute `source_runs` of /parameters).

    Parameters
    ----------
    frame_ids : int, (n,)
        Unique frame ids of the pool.
    labels : callable, optional
        labels(frame ids, names) returns, for frames of the same atoms, arrays of these names:
        energy, forces, virial or atomic_energies. They stand in place of all of `replaced` that
        the pool has.
    label_names : (n,) tuples of names
        Which of them each of the chosen frames has.
    replaced : names
        Labels that are not taken from the pool where `labels` gives some.

    Raises
    ------
    MlselError
        If any field of a chosen frame holds a NaN or an infinity; nothing is written then.
    """
    ids = whole_numbers(frame_ids, "frame ids")
    run_of, _ = pool.locate(ids)
    kinds: dict[_Kind, list[int]] = {}
    kind_of_run: dict[int, _Kind] = {}
    for place, index in enumerate(run_of):
        if index not in kind_of_run:
            kind_of_run[index] = _kind(pool, pool.runs[index])
        kind = kind_of_run[index]
        if labels is not None:
            kind = kind.labelled(label_names[place], replaced)
        kinds.setdefault(kind, []).append(place)

    group_of = np.empty(len(ids), dtype=np.int64)
    row_in = np.empty(len(ids), dtype=np.int64)
    names = [run.name for run in pool.runs]
    stamp = {**(parameters or {}), "source_runs": names}
    if "sources" in pool.attributes:
        stamp.setdefault("sources", pool.attributes["sources"])
    if labels is None:
        stamp = {**stamp_of(pool), **stamp}
    with PoolWriter(path, stamp, author, pool.element_references) as writer:
        for group, (kind, members) in enumerate(kinds.items()):
            places = np.array(members)
            group_of[places], row_in[places] = group, np.arange(len(places))
            run_writer = writer.add_run(
                "frames" if len(kinds) == 1 else f"frames-{group}",
                np.frombuffer(kind.numbers, dtype=np.int64),
                len(places),
                [f for f in ATOM_FIELDS if f in dict(kind.layouts)],
                {"source_frame": INTEGER, "source_run": INTEGER},
                periodic=kind.periodic,
                orthogonal=kind.orthogonal,
                extras={f: layout for f, layout in kind.layouts if f not in ATOM_FIELDS},
            )
            fields = [f for f, _ in kind.layouts]
            for start in range(0, len(places), 1024):
                part = places[start : start + 1024]
                own = [f for f in fields if labels is None or f not in replaced]
                arrays = _gather(pool, ids[part], [*own, "cell"])
                if labels is not None:
                    arrays |= labels(ids[part], [f for f in fields if f in replaced])
                require_finite(pool, ids[part], arrays)
                arrays["source_frame"], arrays["source_run"] = ids[part], run_of[part]
                run_writer.append(part, np.zeros(len(part)), **arrays)
        if len(kinds) > 1:
            writer.set_order(group_of, row_in)


@dataclass(frozen=True)
class _Kind:
    """What frames must have in common to share a run."""

    numbers: bytes
    periodic: tuple[bool, bool, bool]
    orthogonal: bool
    layouts: tuple[tuple[str, Layout], ...]

    def labelled(self, names: Sequence[str], replaced: Sequence[str]) -> _Kind:
        """Return the kind with other labels in place of some."""
        kept = [(field, layout) for field, layout in self.layouts if field not in replaced]
        return replace(self, layouts=(*kept, *((name, LABELS[name]) for name in names)))


def _kind(pool: Pool, run: Run) -> _Kind:
    fields = (f for f in pool.fields_of(run) if f not in ("source_frame", "source_run"))
    layouts = tuple((field, pool.layout(run, field)) for field in fields)
    return _Kind(pool.numbers(run).tobytes(), pool.periodic(run), pool.is_orthogonal(run), layouts)


def _gather(pool: Pool, ids: IntArray, fields: Sequence[str]) -> dict[str, Array]:
    """Read frames of the same atoms from any runs, in the order of ids."""
    place = {int(frame): i for i, frame in enumerate(ids)}
    out: dict[str, Array] = {}
    for block in pool.blocks(frame_ids=ids, everything=True):
        at = np.array([place[int(frame)] for frame in block.frame_ids])
        for field in fields:
            there = out.get(field)
            if there is None or there.dtype != block[field].dtype:  # text of another length
                both = [block[field].dtype] if there is None else [there.dtype, block[field].dtype]
                wide = np.empty((len(ids), *block[field].shape[1:]), np.result_type(*both))
                if there is not None:
                    wide[:] = there
                out[field] = there = wide
            there[at] = block[field]
    return out
