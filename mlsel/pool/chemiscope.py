"""Frames as chemiscope shows them: structures, and what each frame is known by.

References
----------
Fraux, Cersonsky, Ceriotti, J. Open Source Softw. 5, 2117 (2020); https://chemiscope.org/docs
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

import numpy as np

from mlsel.pool.formats import Outgoing

UNITS = {"energy per atom": "eV", "volume per atom": "Å^3", "largest force": "eV/Å",
         "temperature": "K", "pressure": "bar"}  # fmt: skip


def write_chemiscope(file: TextIO, frames: Iterator[Outgoing], name: str) -> None:
    """Write frames, one after the other, and then the properties that all of them have.

    Properties are of frames, numbers or texts: energy and volume per atom, the largest force, and
    whatever else the frames say in one number or word. Those of atoms are left out.
    """
    from ase.data import chemical_symbols

    columns: dict[str, list[Any]] = {}
    n = 0
    meta = {"name": name, "description": "written by mlsel export"}
    file.write(f'{{"meta":{json.dumps(meta, ensure_ascii=False)},"structures":[\n')
    for frame in frames:
        structure: dict[str, Any] = {
            "size": len(frame.numbers),
            "names": [chemical_symbols[z] for z in frame.numbers],
        }
        for axis, key in enumerate("xyz"):
            structure[key] = [round(float(v), 5) for v in frame.positions[:, axis]]
        if all(frame.periodic):
            structure["cell"] = [round(float(v), 5) for v in np.asarray(frame.cell).ravel()]
        file.write((",\n" if n else "") + json.dumps(structure, separators=(",", ":")))
        for key, value in _known(frame).items():
            columns.setdefault(key, []).append(value)
        n += 1
    properties = {
        key: {"target": "structure", "values": values, **_unit(key)}
        for key, values in columns.items()
        if len(values) == n and len({isinstance(value, str) for value in values}) == 1
    }
    text = json.dumps(properties, ensure_ascii=False, separators=(",", ":"))
    file.write(f'\n],"properties":{text}}}\n')


def _unit(key: str) -> dict[str, str]:
    return {"units": UNITS[key]} if key in UNITS else {}


def _known(frame: Outgoing) -> dict[str, Any]:
    """Finite numbers and texts that are known of a frame."""
    n = len(frame.numbers)
    found: dict[str, Any] = {}
    if "energy" in frame.labels:
        found["energy per atom"] = float(frame.labels["energy"]) / n
    if all(frame.periodic):
        found["volume per atom"] = abs(float(np.linalg.det(frame.cell))) / n
    if "forces" in frame.labels:
        found["largest force"] = float(np.linalg.norm(frame.labels["forces"], axis=1).max())
    found |= frame.info
    return {
        key: value if isinstance(value, str) else float(value)
        for key, value in found.items()
        if isinstance(value, str)
        or (isinstance(value, int | float | np.number) and np.isfinite(value))
    }
