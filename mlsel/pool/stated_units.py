"""Units that a source says its values are in: none may be put on top of these."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlsel.core import units
from mlsel.core.errors import MlselError
from mlsel.pool.h5md import units_of_h5md
from mlsel.pool.labels import LabelOptions
from mlsel.pool.sources import kind_of, units_of_database

QUANTITIES = ("energy", "length", "force", "stress")
UNSAID = (
    "extxyz", "xyz", "traj", "bundletrajectory", "json",
    "lammps-dump-text", "lammps-dump-binary", "netcdftrajectory",
)  # fmt: skip
"""Formats that hold numbers in whatever units their writer had. Of all others the readers know the
units and convert to eV and Å."""


def refuse_units(path: Path, options: LabelOptions) -> None:
    """Raise MlselError if a source says its units and others are given for it: each would be
    converted twice, a wrong number without a word."""
    put = [quantity for quantity in QUANTITIES if options.factor(quantity) != 1]
    if not put:
        return
    said = dict(_said(path, kind_of(path)))
    twice = next((quantity for quantity in put if quantity in said), None)
    if twice is not None:
        raise MlselError(
            f"{path}: {said[twice]}, and {_given(options)} is given for the files: it would be "
            "converted twice. Import it without that option, the files that need the option by "
            "themselves, then both pools together."
        )
    is_foreign = "length" in said and "Å" not in said["length"]
    if is_foreign and not (options.force_unit and options.stress_unit):
        raise MlselError(
            f"{path}: {said['length']}, and {_given(options)} is given: whether forces and "
            "stresses are per that length or per Å is not said. Give --force-unit and "
            "--stress-unit, too."
        )


def _given(options: LabelOptions) -> str:
    held = {q: getattr(options, f"{q}_unit") for q in QUANTITIES}
    others = [
        f"--{quantity}-unit {text}"
        for quantity, text in held.items()
        if text and units.factor(text, quantity) != 1
    ]
    return " ".join(others) or "a unit"


def _said(path: Path, kind: str) -> Iterator[tuple[str, str]]:
    """Yield the quantities whose unit is known from the file or its format, and in words how."""
    if kind == "h5md":
        found = units_of_h5md(path)
    elif kind == "db":
        found = units_of_database(path)
    elif kind == "pool":
        yield from ((quantity, "a pool of mlsel's is in eV and Å") for quantity in QUANTITIES)
        return
    elif kind == "cp2k":
        text = "trajectories of CP2K are read as Hartree, Å and Hartree/Bohr"
        yield from ((quantity, text) for quantity in QUANTITIES)
        return
    elif kind not in UNSAID:
        yield from ((quantity, f"{kind} is read to eV and Å") for quantity in QUANTITIES)
        return
    else:
        return
    for quantity, (what, unit) in found.items():
        is_ours = quantity == "length" and units.factor(unit, "length") == 1
        yield quantity, f"its {what} is in {'Å' if is_ours else unit}"
