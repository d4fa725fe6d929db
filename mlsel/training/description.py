"""model.json: what a finished model says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.core.errors import MlselError, shortened
from mlsel.core.provenance import digest, file_digest, versions
from mlsel.core.record import read_json, shape_told
from mlsel.study.folder import MODEL

if TYPE_CHECKING:
    from mlsel.training.base import Trainer

MODEL_FILE = MODEL
CORE_FILE, BASELINE_FILE = "core.json", "baseline.json"
"""Beside it: what is added to the model."""
LARGEST_ENERGY = 1e8
"""eV; the electrons of the heaviest atom have 1.5e6."""


def is_users(trainer: Trainer) -> bool:
    """Whether the code of its kind is a user's own, and none that comes with mlsel."""
    return not type(trainer).__module__.startswith("mlsel.")


def describe(trainer: Trainer, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what model.json holds: kind, name, parameters, data and versions.

    A kind that comes with mlsel is found again by its name, another by its module.
    """
    return {
        "kind": trainer.kind,
        **({"module": type(trainer).__module__} if is_users(trainer) else {}),
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
        for key in ("parameters", "data", "versions", "result", "code", "files"):
            if not isinstance(description.get(key, {}), dict):
                raise TypeError(f"{key} is no table")
    return description


def model_digest(folder: Path) -> str:
    """Return a hash of a finished model as MD uses it, with what is added to it there."""
    core, baseline = folder / CORE_FILE, folder / BASELINE_FILE
    image = (folder / MODEL_FILE).read_bytes()
    if core.is_file():
        image += core.read_bytes()
    if baseline.is_file():
        image += str(read_json(baseline).get("kspace_style", "")).encode()
    return digest(image)


def file_digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return a hash of each of these files that is in a folder."""
    paths = {name: folder / name for name in names}
    return {name: file_digest(path) for name, path in paths.items() if path.is_file()}


def require_files(folder: Path, description: Mapping[str, Any]) -> None:
    """Refuse a model of whose files one is another than the training left.

    Raises
    ------
    MlselError
        If it is; one that is gone its kind tells of.
    """
    recorded = description.get("files", {})  # an earlier mlsel didn't say
    for name, now in file_digests(folder, recorded).items():
        if now != recorded[name]:
            raise MlselError(
                f"{shortened(str(folder), 120)}: {name} is not the file that the training left "
                f"({MODEL_FILE} has another hash): bring that back, or train the model anew with "
                "`mlsel training --again`."
            )


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
