"""Labellers: what gives frames their energies and forces, a LAMMPS include or an ASE calculator."""

from __future__ import annotations

import importlib
import re
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.errors import MlselError

FIELDS = ("energy", "forces", "virial", "atomic_energies")


class NotLabelled(MlselError):
    """A calculation of one frame came to nothing: that frame is left out, and told."""


@dataclass(frozen=True)
class Label:
    """What a labeller says of a frame.

    Attributes
    ----------
    energy : eV
    forces : (N, 3), eV/Å
    virial : (3, 3), eV, optional
        −∂E/∂ε.
    atomic_energies : (N,), eV, optional
    """

    energy: float
    forces: FloatArray
    virial: FloatArray | None = None
    atomic_energies: FloatArray | None = None

    def check(self) -> None:
        """Raise NotLabelled unless all of it is finite."""
        for name in FIELDS:
            value = getattr(self, name)
            if value is not None and not np.isfinite(value).all():
                raise NotLabelled(f"its {name} is NaN or infinite")

    def arrays(self) -> dict[str, FloatArray]:
        """Return what there is, by name."""
        held = ((name, getattr(self, name)) for name in FIELDS)
        return {name: np.asarray(value, float) for name, value in held if value is not None}


class Labeller(ABC):
    """Gives a frame its labels."""

    name: str
    """Who made the labels, as the user named it."""
    identity: ClassVar[str] = ""

    @abstractmethod
    def label(
        self,
        numbers: IntArray,
        positions: FloatArray,
        cell: FloatArray,
        periodic: tuple[bool, bool, bool],
    ) -> Label:
        """Return the labels of one frame: (N,), (N, 3) Å, (3, 3) Å, three bools.

        Raises
        ------
        NotLabelled
            If the calculation did not come to its end.
        """


class IncludeLabeller(Labeller):
    """LAMMPS with an include in metal units, whose line `# species: …` names its atom types."""

    def __init__(self, path: Path) -> None:
        from mlsel.md.include import IncludePotential

        if not path.is_file():
            raise MlselError(f"--with {path}: there is no such LAMMPS include.")
        text = path.read_text(encoding="utf-8")
        stated = re.search(r"^#\s*species:\s*(.+)$", text, re.MULTILINE)
        if stated is None:
            raise MlselError(
                f"{path} does not say of which elements its atom types are: write them on a line "
                "of their own, for instance `# species: Na Cl`."
            )
        self.name = str(path)
        self._potential = IncludePotential(text, tuple(stated[1].split()), str(path))

    def label(
        self,
        numbers: IntArray,
        positions: FloatArray,
        cell: FloatArray,
        periodic: tuple[bool, bool, bool],
    ) -> Label:
        found = self._potential.evaluate(numbers, positions[None], cell[None], periodic)
        virial = found.virial[0] if all(periodic) else None
        label = Label(float(found.energy[0]), found.forces[0], virial, found.atomic_energies[0])
        label.check()
        return label


class AseLabeller(Labeller):
    """Any ASE calculator, made by a function of the user's: `module:function`, no arguments."""

    def __init__(self, place: str) -> None:
        from ase.calculators.calculator import BaseCalculator

        self.name = f"ase:{place}"
        module, _, function = place.partition(":")
        if not module or not function:
            raise MlselError(
                f"--with ase:{place}: write ase:MODULE:FUNCTION, a function without arguments that "
                "returns an ASE calculator."
            )
        if "" not in sys.path:
            sys.path.insert(0, "")  # a file in the working folder, as `python -c` would find it
        try:
            factory = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise MlselError(f"--with ase:{place} can't be imported: {error}.") from None
        try:
            self._calculator: Any = factory()
        except Exception as error:  # the user's own code
            raise MlselError(f"--with ase:{place}: {function}() raised {_short(error)}.") from None
        if not isinstance(self._calculator, BaseCalculator):
            raise MlselError(
                f"--with ase:{place}: {function}() returned {type(self._calculator).__name__}, "
                "which is no ASE calculator."
            )
        properties = getattr(self._calculator, "implemented_properties", [])
        for needed in ("energy", "forces"):
            if needed not in properties:
                raise MlselError(
                    f"--with ase:{place}: the calculator gives {', '.join(properties)} and no "
                    f"{needed}, which labels need."
                )
        self._has = set(properties)

    def label(
        self,
        numbers: IntArray,
        positions: FloatArray,
        cell: FloatArray,
        periodic: tuple[bool, bool, bool],
    ) -> Label:
        from ase import Atoms

        atoms = Atoms(numbers, positions, cell=cell, pbc=periodic)
        atoms.calc = self._calculator
        try:
            energy, forces = float(atoms.get_potential_energy()), atoms.get_forces()
            virial = None
            if "stress" in self._has and all(periodic):
                virial = -atoms.get_volume() * atoms.get_stress(voigt=False)
            atomic = atoms.get_potential_energies() if "energies" in self._has else None
        except Exception as error:  # whatever a code's interface raises when it did not converge
            raise NotLabelled(_short(error)) from None
        if atomic is not None and not np.isclose(np.sum(atomic), energy, rtol=1e-6, atol=1e-6):
            atomic = None  # what some calculators call energies are no shares of the energy
        label = Label(energy, np.array(forces), virial, atomic)
        label.check()
        return label


def make_labeller(text: str) -> Labeller:
    """Return the labeller of `--with`: the path of a LAMMPS include, or ase:module:function."""
    if text.startswith("ase:"):
        return AseLabeller(text.removeprefix("ase:"))
    return IncludeLabeller(Path(text))


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
