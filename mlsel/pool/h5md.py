"""H5MD files that others wrote, as ASE's Atoms, a frame at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from mlsel.core import units
from mlsel.core.arrays import Array
from mlsel.core.errors import MlselError
from mlsel.core.hdf5_file import reading_hdf5
from mlsel.pool.damage import damage_told, errors_told

if TYPE_CHECKING:
    from ase import Atoms

_ATOM_ELEMENTS = {
    "force": ("forces", "force"),
    "potential_energy": ("atomic_energies", "energy"),
    "charge": ("charges", "charge"),
}
_ENERGIES = ("energy", "potential_energy")


def read_h5md(
    path: Path, elements: Sequence[str] = ()
) -> Iterator[tuple[Atoms, dict[str, list[str]]]]:
    """Yield the frames of all groups of /particles; what has no unit is taken to be in ours.

    Beside each stands under not_kept what else the file holds: its units and meaning are unknown.

    Parameters
    ----------
    path : path
    elements : of the types, where species counts types from 0 or 1

    Raises
    ------
    MlselError
        If there are no positions or no species, or a unit is not known.
    """
    frames = _frames(path, elements)
    while True:
        with damage_told(path):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _frames(path: Path, elements: Sequence[str]) -> Iterator[tuple[Atoms, dict[str, list[str]]]]:
    with h5py.File(path, "r", locking=False) as file:
        groups = list(file.get("particles", {}))
        if not groups:
            raise MlselError(f"{path} is HDF5 without /particles: it is no H5MD trajectory.")
        for name in groups:
            yield from _of_group(file, name, path, elements)


def _of_group(
    file: Any, name: str, path: Path, elements: Sequence[str]
) -> Iterator[tuple[Atoms, dict[str, list[str]]]]:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    group = file["particles"][name]
    where = f"{path}, /particles/{name}"
    if "position/value" not in group:
        raise MlselError(f"{where} has no position.")
    positions, length = _element(group, "position", "length", where)
    n_frames, n_atoms = positions.shape[:2]
    steps = _steps(group["position"], n_frames)
    numbers = _numbers(group, where, elements)
    if numbers.shape[1] != n_atoms or len(numbers) not in (1, n_frames):
        raise MlselError(
            f"{where} has {n_frames} frames of {n_atoms} positions and species for {len(numbers)} "
            f"of {numbers.shape[1]}."
        )
    boundary = [_text(kind) for kind in np.ravel(group["box"].attrs.get("boundary", ["none"] * 3))]
    periodic = [kind == "periodic" for kind in boundary]
    edges, to_length, fixed = None, 1.0, False
    if "edges" in group["box"]:
        fixed = isinstance(group["box/edges"], h5py.Dataset)
        if fixed:
            edges = group["box/edges"]
            to_length = _factor(edges, edges, "length", where, default=length)
        else:
            edges, to_length = _element(group["box"], "edges", "length", where, default=length)
            _same_frames(edges, group["box/edges"], n_frames, steps, f"{where}: box/edges")
    per_atom = {
        label: _element(group, element, quantity, where)
        for element, (label, quantity) in _ATOM_ELEMENTS.items()
        if f"{element}/value" in group
    }
    for element, (label, _) in _ATOM_ELEMENTS.items():
        if label in per_atom:
            values = per_atom[label][0]
            _same_frames(values, group[element], n_frames, steps, f"{where}: {element}")
    energy = _energy(file, name, where)
    if energy is not None:
        _same_frames(energy[0], energy[0].parent, n_frames, steps, f"{where}: energy")
    ids = group.get("id/value")
    if ids is not None:
        _same_frames(ids, group["id"], n_frames, steps, f"{where}: id")
    not_kept = _left(file, name)
    for i in range(n_frames):
        cell = None
        if edges is not None:
            box = np.asarray(edges[()] if fixed else edges[i]) * to_length
            cell = np.diag(box) if box.ndim == 1 else box
        # Atoms may stand in another order in each frame: their ids say which is which.
        order = np.arange(n_atoms) if ids is None else np.argsort(ids[i], kind="stable")
        of_frame = numbers[min(i, len(numbers) - 1)]
        atoms = Atoms(
            of_frame[order], positions=positions[i][order] * length, cell=cell, pbc=periodic
        )
        results = {label: values[i][order] * factor for label, (values, factor) in per_atom.items()}
        if energy is not None:
            results["energy"] = np.asarray(energy[0][i]).item() * energy[1]
        extra = {k: results.pop(k) for k in ("atomic_energies", "charges") if k in results}
        atoms.arrays.update(extra)
        if results:
            atoms.calc = SinglePointCalculator(atoms, **results)
        yield atoms, {"not_kept": not_kept}


def units_of_h5md(path: Path) -> dict[str, tuple[str, str]]:
    """Return the units that a file says of what is read of it: of a quantity (length, energy,
    force) the first element that has one, and the unit as it is written."""
    found: dict[str, tuple[str, str]] = {}
    with errors_told(path), reading_hdf5(path) as file:
        for name in file.get("particles", {}):
            here = f"particles/{name}"
            places = {f"{here}/position": "length", f"{here}/box/edges": "length"}
            places |= {f"{here}/{element}": quantity
                       for element, (_, quantity) in _ATOM_ELEMENTS.items()}  # fmt: skip
            places |= {f"{home}/{key}": "energy" for key in _ENERGIES
                       for home in (f"observables/{name}", "observables")}  # fmt: skip
            for place, quantity in places.items():
                values = file.get(f"{place}/value", file.get(place))
                unit = None if values is None else _unit(values, file[place])
                if unit is not None:
                    found.setdefault(quantity, (place.rpartition("/")[2], _text(unit)))
    return found


def _left(file: Any, name: str) -> list[str]:
    """Return the elements that nothing here reads, by their paths."""
    read = {"box", "position", "species", "id", *_ATOM_ELEMENTS}
    left = [f"particles/{key}" for key in file["particles"][name] if key not in read]
    if "observables" in file:
        top = file["observables"]
        homes = [top]
        homes += [file["observables"][name]] if name in file["observables"] else []
        left += [
            f"observables/{key}"
            for home in homes
            for key in home
            if f"{key}/value" in home
            and not (key in _ENERGIES and (home is not top or len(file["particles"]) == 1))
        ]
    return left


def _energy(file: Any, name: str, where: str) -> tuple[Any, float] | None:
    """Return the energies of a group's atoms: its own, or the file's where there is no other."""
    homes = [f"observables/{name}"]
    homes += ["observables"] if len(file["particles"]) == 1 else []
    for home in homes:
        for key in _ENERGIES:
            if home in file and f"{home}/{key}/value" in file:
                return _element(file[home], key, "energy", where)
    return None


def _steps(element: Any, n_frames: int) -> Array | None:
    """Return the steps that an element was sampled at, None if it doesn't say them."""
    if "step" not in element:
        return None
    step = element["step"]
    if step.shape == ():  # the distance of two
        return np.asarray(step.attrs.get("offset", 0) + step[()] * np.arange(n_frames))
    return np.asarray(step[()])


def _same_frames(values: Any, element: Any, n_frames: int, steps: Array | None, what: str) -> None:
    """Raise unless an element was sampled where the positions were: it would be other frames'."""
    if len(values) != n_frames:
        raise MlselError(f"{what} has {len(values)} frames where positions have {n_frames}.")
    own = _steps(element, n_frames)
    if own is None or steps is None or np.array_equal(own, steps):
        return
    pair = (", ".join(map(str, one[:3].tolist())) + ", …" for one in (own, steps))
    raise MlselError(
        f"{what} was sampled at the steps {next(pair)} and position at {next(pair)}: they are not "
        "of the same frames."
    )


def _element(
    group: Any, name: str, quantity: str, where: str, default: float = 1.0
) -> tuple[Any, float]:
    values = group[f"{name}/value"]
    return values, _factor(values, group[name], quantity, where, default)


def _factor(values: Any, group: Any, quantity: str, where: str, default: float = 1.0) -> float:
    unit = _unit(values, group)
    if unit is None:
        return default
    try:
        return units.factor(_text(unit), quantity)
    except MlselError as error:
        raise MlselError(f"{where}: {error}") from None


def _unit(values: Any, group: Any) -> Any:
    return values.attrs.get("unit", group.attrs.get("unit"))


def _numbers(group: Any, where: str, elements: Sequence[str]) -> Any:
    """Return atomic numbers, of one frame where they are all frames', (1 or F, N)."""
    from ase.data import atomic_numbers

    if "species" not in group:
        raise MlselError(f"{where} has no species: which elements its atoms are is not known.")
    species = group["species"]
    values = np.atleast_2d(species["value"][()] if isinstance(species, h5py.Group) else species[()])
    if h5py.check_enum_dtype(species.dtype if isinstance(species, h5py.Dataset) else values.dtype):
        names = {v: k for k, v in h5py.check_enum_dtype(species.dtype).items()}
        values = np.array([names[int(value)] for value in values.flat]).reshape(values.shape)
    if values.dtype.kind in "iu":
        return _of_types(values.astype(np.int64), where, elements)
    symbols = [_text(value) for value in values.flat]
    unknown = next((symbol for symbol in symbols if symbol not in atomic_numbers), None)
    if unknown is not None:
        raise MlselError(f"{where}: the species {unknown!r} is no element.")
    return np.array([atomic_numbers[symbol] for symbol in symbols]).reshape(values.shape)


def _of_types(values: Any, where: str, elements: Sequence[str]) -> Any:
    """Atomic numbers of species that are integers, which may be atomic numbers or types."""
    from ase.data import atomic_numbers

    found = np.unique(values)
    first = int(found[0])
    if elements:
        if first not in (0, 1) or found[-1] - first >= len(elements):
            raise MlselError(
                f"{where} has the species {found.tolist()[:8]}, --species names {len(elements)} "
                "elements: give one for each type, counted from 0 or 1."
            )
        return np.array([atomic_numbers[symbol] for symbol in elements])[values - first]
    if first < 1 or (len(found) > 1 and found.tolist() == list(range(1, len(found) + 1))):
        raise MlselError(
            f"{where} has the species {found.tolist()[:8]}, which look like types and not like "
            "atomic numbers: say which elements they are, for instance --species Na Cl."
        )
    return values


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
