"""Labellers: what gives frames their energies and forces, a LAMMPS include or an ASE calculator."""

from __future__ import annotations

import importlib
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.errors import MlselError, shortened
from mlsel.core.provenance import digest
from mlsel.core.user_code import code_digest

if TYPE_CHECKING:
    from mlsel.study.study import Study

FIELDS = ("energy", "forces", "virial", "atomic_energies")
SHARES = 1e-6
"""Relative, and in eV: how far the sum of atomic energies may be from the energy."""
ASE = "ase:"
"""What a calculator's place begins with."""
OPEN = "they are not periodic in all directions"
NO_SHARES = "its atomic energies do not add up to the energy"
NOT_GIVEN = "the calculator gives none"


class NotLabelled(MlselError):
    """A calculation of one frame came to nothing: that frame is left out, and told."""


def are_shares(atomic_energies: FloatArray, energy: float, tolerance: float = SHARES) -> bool:
    """Whether energies of atoms add up to the energy."""
    return bool(np.isclose(atomic_energies.sum(), energy, rtol=tolerance, atol=tolerance))


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
    left_out : mapping of name to (reason, what was found)
        Why there is no virial or no atomic energies.
    """

    energy: float
    forces: FloatArray
    virial: FloatArray | None = None
    atomic_energies: FloatArray | None = None
    left_out: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        energy: float,
        forces: FloatArray,
        virial: FloatArray | None,
        atomic_energies: FloatArray | None,
        periodic: tuple[bool, bool, bool],
        n_atoms: int,
    ) -> Label:
        """Return what of this is a label: a virial of a frame that is periodic in all directions,
        atomic energies that are shares of the energy; and why the rest is not.

        Raises
        ------
        NotLabelled
            If a number is NaN or infinite, or there are not as many as the atoms want.
        """
        cls(energy, forces, virial, atomic_energies).check(n_atoms)
        left_out = {}
        if not all(periodic):
            virial, left_out["virial"] = None, (OPEN, "")
        elif virial is None:
            left_out["virial"] = (NOT_GIVEN, "")
        if atomic_energies is None:
            left_out["atomic_energies"] = (NOT_GIVEN, "")
        elif not are_shares(atomic_energies, energy):
            # what some calculators call energies are no shares; LAMMPS's tail correction has none
            found = f"{atomic_energies.sum():.10g} eV in place of {energy:.10g} eV"
            atomic_energies, left_out["atomic_energies"] = None, (NO_SHARES, found)
        return cls(energy, forces, virial, atomic_energies, left_out)

    def check(self, n_atoms: int) -> None:
        """Raise NotLabelled unless all of it is finite and of n_atoms atoms."""
        shapes = (), (n_atoms, 3), (3, 3), (n_atoms,)
        for name, shape in zip(FIELDS, shapes, strict=True):
            value = getattr(self, name)
            if value is not None and np.shape(value) != shape:
                raise NotLabelled(
                    f"{name} of the shape {np.shape(value)}, where {n_atoms} atoms have {shape}"
                )
            if value is not None and not np.isfinite(value).all():
                raise NotLabelled(f"{name}: NaN or infinite")

    def arrays(self) -> dict[str, FloatArray]:
        """Return what there is, by name."""
        held = ((name, getattr(self, name)) for name in FIELDS)
        return {name: np.asarray(value, float) for name, value in held if value is not None}


class Labeller(ABC):
    """Gives a frame its labels."""

    name: str
    """Who made the labels, as the user named it."""
    content: str
    """A hash of what makes them: an include and the files that it names, or the code that makes a
    calculator."""

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
        self.content = include_content(path)
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
        from mlsel.md.include import FrameFailed

        try:
            found = self._potential.evaluate(numbers, positions[None], cell[None], periodic)
        except FrameFailed as error:
            raise NotLabelled(shortened(error.reason, 120)) from None
        return Label.of(
            float(found.energy[0]),
            found.forces[0],
            found.virial[0],
            found.atomic_energies[0],
            periodic,
            len(numbers),
        )


def include_content(path: Path) -> str:
    """Return a hash of a LAMMPS include and of the files that it names (tables, coefficients)."""
    from mlsel.md.deck import files_named

    text = path.read_text(encoding="utf-8")
    return digest({"text": text, "files": files_named(text)})


def calculator_content(place: str) -> str:
    """Return a hash of the code of a calculator's `module:function`, "" where it is not here."""
    _look_here()
    return code_digest(place.partition(":")[0])


def _look_here() -> None:
    """Have a file in the working folder found, as `python -c` would find it."""
    if "" not in sys.path:
        sys.path.insert(0, "")


def include_of(study: Study) -> Path | None:
    """Return the LAMMPS include that labels a study's new frames, None if none does."""
    from mlsel.md import deck

    text = study.refine.labeller or study.system.potential
    if not text or text.startswith(ASE):
        return None
    path = Path(text)
    if not study.refine.labeller and not path.is_file():
        path = deck.packaged_folder("potentials") / f"{text}.lmp"
    return path


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
        _look_here()
        try:
            factory = getattr(importlib.import_module(module), function)
        except Exception as error:  # the user's own code
            raise MlselError(f"--with ase:{place} can't be imported: {_short(error)}.") from None
        self.content = calculator_content(place)
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
            energy, forces = float(atoms.get_potential_energy()), np.array(atoms.get_forces())
            stress = self._optional("stress", lambda: atoms.get_stress(voigt=False), all(periodic))
            atomic = self._optional("energies", atoms.get_potential_energies)
        except Exception as error:  # whatever a code's interface raises when it did not converge
            raise NotLabelled(_short(error)) from None
        virial = None if stress is None else -atoms.get_volume() * stress
        return Label.of(energy, forces, virial, atomic, periodic, len(numbers))

    def _optional(
        self, name: str, read: Callable[[], FloatArray], wanted: bool = True
    ) -> FloatArray | None:
        """Return a property that the calculator need not have: some name one that they only have
        where their input asks for it."""
        from ase.calculators.calculator import PropertyNotImplementedError

        if name not in self._has or not wanted:
            return None
        try:
            return np.array(read())
        except PropertyNotImplementedError:
            return None


def make_labeller(text: str) -> Labeller:
    """Return the labeller of `--with`: the path of a LAMMPS include, or ase:module:function."""
    if text.startswith(ASE):
        return AseLabeller(text.removeprefix(ASE))
    return IncludeLabeller(Path(text))


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {shortened(lines[0], 120)}" if lines else type(error).__name__
