"""Units that a source says its values are in: those that are given for it must agree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mlsel.core import units
from mlsel.core.errors import MlselError, shortened
from mlsel.pool.h5md import units_of_h5md
from mlsel.pool.incoming import Incoming
from mlsel.pool.labels import LabelOptions
from mlsel.pool.lammps_dump import dump_columns, dump_units
from mlsel.pool.sources import kind_of, units_of_database

QUANTITIES = ("energy", "length", "force", "stress")
UNSAID = (
    "extxyz", "xyz", "traj", "bundletrajectory", "json",
    "lammps-dump-text", "lammps-dump-binary", "netcdftrajectory", "runnerdata",
)  # fmt: skip
"""Formats that hold numbers in whatever units their writer had. Of all others the readers know the
units and convert to eV and Å."""

SAME = 1e-4
"""Two factors are the same unit's: constants of different years are not told apart."""


def refuse_units(path: Path, options: LabelOptions) -> None:
    """Raise MlselError if a source says its units and those given for it don't agree: values would
    be converted twice, or not at all, a wrong number without a word."""
    put = _puts(options)
    kind = kind_of(path)
    if kind == "lammps-dump-text":
        _agree_with_dump(path, options)
    if not put:
        return
    said = dict(_said(path, kind))
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


def _puts(options: LabelOptions) -> list[str]:
    return [quantity for quantity in QUANTITIES if options.factor(quantity) != 1]


DUMP_STYLES = {"metal": ("eV", "Angstrom"), "real": ("kcal/mol", "Angstrom"),
               "electron": ("Hartree", "Bohr")}  # fmt: skip
"""Energy and length of LAMMPS's styles of units; forces are their quotient in each of these."""


def _agree_with_dump(path: Path, options: LabelOptions) -> None:
    """Raise MlselError if a dump says its style of units and the options don't say the same."""
    style = dump_units(path)
    if not style:
        return
    if style not in DUMP_STYLES:
        raise MlselError(
            f"{path} says that it is in LAMMPS's units {shortened(style, 40)!r}: only frames in "
            f"{', '.join(DUMP_STYLES)} are read. Convert it, or write it anew in one of these."
        )
    energy, length = DUMP_STYLES[style]
    wanted = LabelOptions(energy_unit=energy, length_unit=length)
    if any(
        abs(options.factor(quantity) / wanted.factor(quantity) - 1) > SAME
        for quantity in ("energy", "length", "force")
    ):
        raise MlselError(
            f"{path} says that it is in LAMMPS's units {style}, and it would be read with "
            f"{_given(options) if _puts(options) else 'eV and Å'}: give --energy-unit {energy} "
            f"--length-unit {length}, from which that of the forces follows."
        )


def untold_units(path: Path, options: LabelOptions) -> str:
    """Return a warning where the units of a format that is written in several are taken for
    granted, else ""."""
    kind = kind_of(path)
    if kind == "runnerdata" and not _puts(options):
        return (
            f"{path} does not say its units, as no input.data does: it is taken to be in eV and Å; "
            "for those of RuNNer, in atomic units, give --energy-unit Hartree --length-unit Bohr"
        )
    if kind != "lammps-dump-text" or _puts(options) or dump_units(path):
        return ""
    if options.force_unit or "fx" not in dump_columns(path):
        return ""
    return (
        f"{path} does not say its units, as few dumps do: forces are taken to be in eV/Å, as in "
        "units metal (--force-unit eV/Angstrom says so); for units real give --energy-unit kcal/mol"
    )


_TOLD = re.compile(r"(energy|forces?|stress|virial|length|distance|positions?)[-_]?units?", re.I)
_OF_KEY = {"energy": "energy", "virial": "energy", "force": "force", "forces": "force",
           "stress": "stress"}  # fmt: skip


def look_at_told_units(frames: Incoming, path: Path, options: LabelOptions) -> Iterator[str]:
    """Yield a warning for each unit that frames say themselves (`energy_unit=…`) and that is not
    known.

    Raises
    ------
    MlselError
        If it is known, and they would be read in another.
    """
    for (_, key), values in frames.values.items():
        match = _TOLD.fullmatch(key)
        if match is None or not isinstance(values, list):
            continue
        quantity = _OF_KEY.get(match[1].lower(), "length")
        follows = {"force": "", "stress": "^3"}
        ours = getattr(options, f"{quantity}_unit") or (
            f"{options.energy_unit}/{options.length_unit}{follows[quantity]}"
        )
        for text in sorted(set(values)):
            told = f"{key}={shortened(text, 40)}"
            if not units.is_unit(text, quantity):
                yield (
                    f"{path} says {told}, which is no unit of {quantity} that is known: taken to "
                    f"be in {ours}"
                )
            elif abs(units.factor(text, quantity) / options.factor(quantity) - 1) > SAME:
                raise MlselError(
                    f"{path}, frame {frames.index[values.index(text)]} says {told}, and it would "
                    f"be read in {ours}: give --{quantity}-unit {text!r}."
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
