"""Units. Ours are Å, eV, ps, K, bar, eV/Å and e; this module alone converts others.

Stress is positive in tension and in eV/Å³ where ASE's names are used; a virial is −dE/dε in eV, ε
the strain: virial = −volume × stress.
"""

from __future__ import annotations

import re

from mlsel.core.errors import MlselError

# H5MD's grammar: factors with a space between, a sign before each exponent.
LENGTH, VOLUME, AREA = "Angstrom", "Angstrom+3", "Angstrom+2"
ENERGY, FORCE, STRESS = "eV", "eV Angstrom-1", "eV Angstrom-3"
TIME, TEMPERATURE, PRESSURE, CHARGE = "ps", "K", "bar", "e"

FS_PER_PS = 1000.0
DENSITY = 1.66053906660
"""g/cm³ of one u/Å³ (CODATA 2018)."""
BAR = 1602176.634
"""bar of one eV/Å³ (exact)."""

_HARTREE, _MOL = 27.211386245988, 6.02214076e23 * 1.602176634e-19  # eV; J/mol of one eV
_UNITS: dict[str, tuple[float, dict[str, int]]] = {
    "ev": (1.0, {"E": 1}),
    "mev": (1e-3, {"E": 1}),
    "hartree": (_HARTREE, {"E": 1}),
    "ha": (_HARTREE, {"E": 1}),
    "eh": (_HARTREE, {"E": 1}),
    "rydberg": (_HARTREE / 2, {"E": 1}),
    "ry": (_HARTREE / 2, {"E": 1}),
    "kcal/mol": (4184.0 / _MOL, {"E": 1}),
    "kj/mol": (1000.0 / _MOL, {"E": 1}),
    "angstrom": (1.0, {"L": 1}),
    "ang": (1.0, {"L": 1}),
    "a": (1.0, {"L": 1}),
    "å": (1.0, {"L": 1}),
    "bohr": (0.529177210903, {"L": 1}),
    "a0": (0.529177210903, {"L": 1}),
    "nm": (10.0, {"L": 1}),
    "pm": (0.01, {"L": 1}),
    "gpa": (1e4 / BAR, {"E": 1, "L": -3}),
    "kbar": (1e3 / BAR, {"E": 1, "L": -3}),
    "bar": (1 / BAR, {"E": 1, "L": -3}),
    "ps": (1.0, {"T": 1}),
    "fs": (1 / FS_PER_PS, {"T": 1}),
    "e": (1.0, {"Q": 1}),
}
_DIMENSIONS = {
    "length": {"L": 1},
    "energy": {"E": 1},
    "force": {"E": 1, "L": -1},
    "stress": {"E": 1, "L": -3},
    "time": {"T": 1},
    "charge": {"Q": 1},
}
_EXAMPLES = {
    "length": "Angstrom, Bohr, nm",
    "energy": "eV, Hartree, Ry, kcal/mol, kJ/mol",
    "force": "eV/Angstrom, Hartree/Bohr, kcal/mol/Angstrom",
    "stress": "eV/Angstrom^3, GPa, kbar, Hartree/Bohr^3",
    "time": "ps, fs",
    "charge": "e",
}


def factor(text: str, quantity: str) -> float:
    """Return what a number in the unit `text` is multiplied by to be in ours.

    Parameters
    ----------
    text : str
        Factors and quotients in any of the usual notations, H5MD's too.
    quantity : of length, energy, force, stress, time, charge
        Stress in eV/Å³ here.

    Raises
    ------
    MlselError
        If the text is no unit of that quantity.

    Examples
    --------
    >>> round(factor("Hartree/Bohr", "force"), 3), round(factor("kcal/mol", "energy"), 5)
    (51.422, 0.04336)
    >>> factor("nm", "length"), factor("eV Angstrom-1", "force"), factor("kbar", "stress") * BAR
    (10.0, 1.0, 1000.0)
    """
    found = _parse(text)
    if found is None or found[1] != _DIMENSIONS[quantity]:
        raise MlselError(
            f"{text[:60]!r} is no unit of {quantity} that is known: give for instance "
            f"{_EXAMPLES[quantity]}."
        )
    return found[0]


def is_unit(text: str, quantity: str) -> bool:
    """Whether a text is a unit of a quantity that `factor` knows.

    >>> is_unit("kcal/mol", "energy"), is_unit("kcal/mol", "force")
    (True, False)
    """
    found = _parse(text)
    return found is not None and found[1] == _DIMENSIONS[quantity]


def _parse(text: str) -> tuple[float, dict[str, int]] | None:
    plain = re.sub(r"\s+", " ", text.strip().lower())
    plain = re.sub(r"(kcal|kj)(?: ?/ ?mol| mol-1)\b", r"\1:mol", plain).replace("**", "^")
    value, dimensions, sign = 1.0, dict[str, int](), 1
    for piece in re.split(r"\s*([/* ])\s*", plain):
        if piece in ("/", "*", " "):
            sign = -1 if piece == "/" else 1
            continue
        match = re.fullmatch(r"([a-zå]\w*?(?::mol)?)(?:\^?\(?([+-]?\d+)\)?)?", piece)
        if match is None:
            return None
        name, power = match[1].replace(":", "/"), match[2]
        if name + (power or "") in _UNITS:  # a0
            name, power = name + (power or ""), None
        if name not in _UNITS:
            return None
        exponent = sign * int(power or 1)
        value *= _UNITS[name][0] ** exponent
        for dimension, n in _UNITS[name][1].items():
            dimensions[dimension] = dimensions.get(dimension, 0) + exponent * n
    return value, {key: n for key, n in dimensions.items() if n}
