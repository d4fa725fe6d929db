"""What ASE's Atoms hold in one form, and frames that no potential could be trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core.arrays import Array
from mlsel.core.errors import MlselError
from mlsel.core.neighbours import LARGEST
from mlsel.pool.incoming import ARRAYS, INFO, RESULTS, Incoming, Json, Value

if TYPE_CHECKING:
    from ase import Atoms

LONGEST_TEXT = 2**16


def from_atoms(atoms: Atoms, more: dict[str, Any], source: int, index: int) -> Incoming:
    """Return a frame that ASE read.

    Parameters
    ----------
    more : what else is known of it
        `info`: values beside those of Atoms.info; `filled_in`: names of results that the reader
        made up; `not_kept`: names of what the reader left in the file.
    """
    values: dict[tuple[str, str], Value] = {}
    not_kept: list[str] = list(more.get("not_kept", ()))
    filled = list(more.get("filled_in", ()))
    results = {} if atoms.calc is None else dict(atoms.calc.results)
    for key in filled:
        results.pop(key, None)
    info = {**atoms.info, **more.get("info", {})}
    arrays = {k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}
    _keep_constraints(atoms, arrays, not_kept)
    if np.any(atoms.get_celldisp()):
        not_kept.append("the cell's origin (celldisp)")
    for place, found in ((RESULTS, results), (INFO, info), (ARRAYS, arrays)):
        for key, value in found.items():
            kept = _normal(value)
            if kept is None or (isinstance(kept, str) and len(kept) > LONGEST_TEXT):
                if value is not None:
                    not_kept.append(str(key))
                continue
            values[place, str(key)] = [kept] if isinstance(kept, str) else kept[None]
    return Incoming(
        source,
        np.array([index], dtype=np.int64),
        atoms.numbers.astype(np.int64),
        np.asarray(atoms.positions, dtype=np.float64)[None],
        np.asarray(atoms.cell.array, dtype=np.float64)[None],
        (bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2])),
        values,
        not_kept,
        filled,
    )


def _keep_constraints(atoms: Atoms, arrays: dict[str, Any], not_kept: list[str]) -> None:
    from ase.constraints import FixAtoms

    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            not_kept.append(f"constraint {type(constraint).__name__}")
        elif len(constraint.index):
            free = np.ones(len(atoms), dtype=bool)
            free[constraint.index] = False
            arrays["move_mask"] = free


def _normal(value: Any) -> Array | str | None:
    """Return a value as an array of numbers or texts, a text or JSON; None if it is none."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (bool, int, float, np.generic, np.ndarray, list, tuple)):
        try:
            array = np.asarray(value)
        except ValueError:  # a ragged list
            array = np.empty(0, dtype=object)
        if array.dtype == object and array.size and all(isinstance(x, str) for x in array.flat):
            array = array.astype(str)  # as ASE reads columns of text
        if array.dtype.kind == "b":
            return array
        if array.dtype.kind in "iu" and array.dtype.itemsize <= 8:
            wide = array.astype(np.int64)
            return wide if (wide == array).all() else array.astype(np.float64)
        if array.dtype.kind == "f":
            return array.astype(np.float64)
        if array.dtype.kind == "U" and isinstance(value, np.ndarray):
            return array
    try:
        return Json(json.dumps(value, sort_keys=True, default=_plain))
    except (TypeError, ValueError):
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(type(value).__name__)


def checked(frames: Incoming, path: Path) -> list[Incoming]:
    """Return frames without forces that a constraint filled in, after refusing what is no frame.

    Raises
    ------
    MlselError
        If a potential could not be trained on one of the frames.
    """
    odd = _odd(frames)
    if odd.any():
        first = int(np.flatnonzero(odd)[0])
        raise MlselError(_what_is_odd(frames.take(np.array([first])), path))
    return _without_zero_forces_of_fixed_atoms(frames)


def _odd(frames: Incoming) -> Array:
    """Which frames `_what_is_odd` has a sentence for."""
    if not frames.n_atoms or frames.numbers.min() < 1 or frames.numbers.max() > 118:
        return np.ones(len(frames), dtype=bool)
    lengths = np.linalg.norm(frames.cell, axis=2)
    odd = np.zeros(len(frames), dtype=bool)
    for array in (frames.positions, frames.cell):  # NaN is not within, either
        flat = array.reshape(len(frames), -1)
        odd |= ~((flat.max(axis=1) <= LARGEST) & (flat.min(axis=1) >= -LARGEST))
    for axis, along in enumerate(frames.periodic):
        if along:
            odd |= lengths[:, axis] == 0
    if all(frames.periodic):
        odd |= ~(frames.volume >= 1e-6 * lengths.prod(axis=1))
    if frames.n_atoms > 1:
        may_be = (frames.positions[:, 0] == frames.positions[:, 1]).all(axis=1)
        odd[may_be] |= ~np.ptp(frames.positions[may_be], axis=1).any(axis=1)
    return odd


def _what_is_odd(frame: Incoming, path: Path) -> str:
    where = f"{path}, frame {frame.index[0]}"
    if not frame.n_atoms:
        return f"{where} has no atoms: leave it out."
    positions, cell = frame.positions[0], frame.cell[0]
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        return f"{where} has a position or a cell that is NaN or infinite: leave it out."
    largest = max(np.abs(cell).max(), np.abs(positions).max())
    if largest > LARGEST:
        return (
            f"{where} has a position or a cell of {largest:.3g} Å, and {LARGEST:g} Å are the most: "
            "leave it out, or say the unit (--length-unit)."
        )
    if frame.numbers.min() < 1 or frame.numbers.max() > 118:
        bad = frame.numbers[(frame.numbers < 1) | (frame.numbers > 118)][0]
        return f"{where} has an atom of no element (atomic number {bad})."
    if any(frame.periodic) and not cell.any():
        return f'{where} is periodic (pbc) and has no cell: give its Lattice, or pbc="F F F".'
    lengths = np.linalg.norm(cell, axis=1)
    if all(frame.periodic) and not frame.volume[0] >= 1e-6 * lengths.prod():
        return f"{where} is periodic and its cell has no volume: {cell.round(3).tolist()}."
    if any(along and not length for along, length in zip(frame.periodic, lengths, strict=True)):
        return f"{where} is periodic along a cell vector that is zero."
    return (
        f"{where} has all {frame.n_atoms} atoms at one point "
        f"({', '.join(f'{x:g}' for x in positions[0])}): are its positions under another name?"
    )


def _without_zero_forces_of_fixed_atoms(frames: Incoming) -> list[Incoming]:
    """Forces that are exactly zero on every fixed atom and nowhere else are no label."""
    free = frames.values.get((ARRAYS, "move_mask"))
    if free is None or isinstance(free, list) or free.ndim != 2:
        return [frames]
    for place, key in [k for k in frames.values if k[1].lower().endswith(("force", "forces"))]:
        forces = frames.values[place, key]
        if isinstance(forces, list) or forces.shape != (len(frames), frames.n_atoms, 3):
            continue
        is_free = free.astype(bool)
        on_fixed = (forces.any(axis=2) & ~is_free).any(axis=1)
        on_free = (forces.any(axis=2) & is_free).any(axis=1)
        is_filled = ~on_fixed & (on_free | ~is_free.any(axis=1))
        if is_filled.all():
            values = {at: value for at, value in frames.values.items() if at != (place, key)}
            frames = replace(frames, values=values, filled_in=[*frames.filled_in, key])
        elif is_filled.any():
            parts = [frames.take(is_filled), frames.take(~is_filled)]
            return [one for part in parts for one in _without_zero_forces_of_fixed_atoms(part)]
    return [frames]


def read_by_ase(path: Path, kind: str, **arguments: Any) -> Iterator[Atoms]:
    """Yield the frames of a file as ASE's reader of this format gives them, on this rank alone."""
    from ase.io import iread

    yield from iread(
        str(path),
        index=":",
        format=kind,
        parallel=False,
        do_not_split_by_at_sign=True,
        **arguments,
    )
