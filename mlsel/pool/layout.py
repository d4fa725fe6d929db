"""What lies where in a run, and in which unit; `mlsel.pool.pool` shows the whole file."""

from __future__ import annotations

from dataclasses import dataclass

from mlsel.core import units

FORMAT_VERSION = 2
"""1: without the attribute; 2: fields of some runs, values that are no numbers, references."""


@dataclass(frozen=True)
class Field:
    """A quantity per frame and atom: where it lies below /particles/<run>, and its unit."""

    element: str
    tail: tuple[int, ...]
    unit: str


ATOM_FIELDS: dict[str, Field] = {
    "positions": Field("position", (3,), units.LENGTH),
    "forces": Field("force", (3,), units.FORCE),
    "atomic_energies": Field("potential_energy", (), units.ENERGY),
}
OBSERVABLE_UNITS = {
    "energy": units.ENERGY,
    "temperature": units.TEMPERATURE,
    "pressure": units.PRESSURE,
    "volume": units.VOLUME,
    "mean_square_displacement": units.AREA,
}
"""Units of the numbers per frame that mlsel itself writes; others bring their own."""


@dataclass(frozen=True)
class Layout:
    """How a field lies in a run, beyond those that mlsel itself makes.

    Attributes
    ----------
    per_atom : bool
    tail : shape of one value, without frames and atoms
    dtype : NumPy's name of the type; S<n> for text in UTF-8
    unit : str
    attributes : key, place, encoding
    """

    per_atom: bool = False
    tail: tuple[int, ...] = ()
    dtype: str = "f8"
    unit: str = ""
    attributes: tuple[tuple[str, str], ...] = ()


LONG_LISTS = ("sources", "source_digests", "source_runs")
"""Attributes of /parameters that are datasets there where they are long."""
VIRIAL = Layout(tail=(3, 3), unit=units.ENERGY)
PAIR_ENERGIES = "pair_energies"
"""Atoms' energies by the reference's pair potential alone, its charges off, up to its cutoff."""
PAIR_ENERGY = Layout(per_atom=True, unit=units.ENERGY)
