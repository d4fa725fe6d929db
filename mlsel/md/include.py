"""A potential as a LAMMPS include, asked for energies, forces and virials of any frames.

One way for all who need them: labels, baselines, checks. LAMMPS computes, nothing is written out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mlsel.core import units
from mlsel.core.arrays import FloatArray
from mlsel.core.errors import MlselError
from mlsel.md.session import LammpsError, LammpsSession

MARGIN = 1.0
"""Å between the outermost atoms and the box where a direction is not periodic."""


def without_charges(text: str, variables: Mapping[str, float] | None = None) -> str:
    """Return the commands of an include with all charges zero: what is left is short-ranged.

    Parameters
    ----------
    text : str
    variables : mapping, optional
        Of LAMMPS's index style, which the include may have defaults for.
    """
    before = [f"variable {name} index {value:.17g}" for name, value in (variables or {}).items()]
    # An Ewald sum of nothing is asked for a splitting that it can't find by itself.
    long_ranged = re.search(r"^\s*kspace_style\s+(?!none)", text, re.MULTILINE)
    after = ["kspace_modify gewald 0.3"] if long_ranged else []
    return "\n".join([*before, text, "set group all charge 0.0", *after, ""])


@dataclass(frozen=True)
class Evaluation:
    """What a potential says of frames of the same atoms.

    Attributes
    ----------
    energy : (F,), eV
    forces : (F, N, 3), eV/Å
    atomic_energies : (F, N), eV
    virial : (F, 3, 3), eV: −∂E/∂ε; without meaning along directions that are not periodic
    """

    energy: FloatArray
    forces: FloatArray
    atomic_energies: FloatArray
    virial: FloatArray


class FrameFailed(LammpsError):
    """LAMMPS gave up a frame.

    Attributes
    ----------
    frame : int
        Its place among those that were asked for.
    reason : str
        What LAMMPS said.
    """

    def __init__(self, name: str, frame: int, reason: str) -> None:
        super().__init__(f"{name} on frame {frame}: {reason}")
        self.frame, self.reason = frame, reason


class IncludePotential:
    """A LAMMPS include in metal units: pair style, coefficients, charges, kspace style.

    Parameters
    ----------
    text : str
        The include's commands; its atom types are those of `species`, from 1 on.
    species : sequence of str
    name : str
        For sentences.

    Examples
    --------
    ::

        with IncludePotential(text, ("Na", "Cl")) as potential:
            found = potential.evaluate(numbers, positions, cells)
    """

    def __init__(self, text: str, species: tuple[str, ...], name: str = "the potential") -> None:
        from ase.data import atomic_numbers

        self._text, self._species, self._name = text, species, name
        unknown = [symbol for symbol in species if symbol not in atomic_numbers]
        if unknown:
            raise MlselError(
                f"{name} names {', '.join(unknown)} on its line `# species:`, and there is no such "
                "element: write, for instance, `# species: Na Cl`."
            )
        self._type_of = {atomic_numbers[s]: k for k, s in enumerate(species, 1)}
        self._session: LammpsSession | None = None
        self._made_for: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            self._session.close()

    def evaluate(
        self,
        numbers: npt.ArrayLike,
        positions: npt.NDArray[np.floating[Any]],
        cell: npt.NDArray[np.floating[Any]],
        periodic: tuple[bool, bool, bool] = (True, True, True),
    ) -> Evaluation:
        """Return energies, forces and virials.

        Parameters
        ----------
        numbers : (N,)
            Atomic numbers.
        positions : (F, N, 3), Å
        cell : (F, 3, 3), Å
            Rows are the cell's vectors; those of directions that are not periodic don't matter.
        periodic : three bools

        Raises
        ------
        MlselError
            If an element is not among the potential's.
        LammpsError
            If LAMMPS does not take the include.
        FrameFailed
            If it gives up a frame.
        """
        types = self._types(np.asarray(numbers))
        n_frames, n_atoms = positions.shape[:2]
        energy, atomic = np.empty(n_frames), np.empty((n_frames, n_atoms))
        forces, virial = np.empty((n_frames, n_atoms, 3)), np.empty((n_frames, 3, 3))
        extent = _extent(positions)
        for k in range(n_frames):
            place = _Placed.of(positions[k], cell[k], periodic, extent)
            session = self._prepared(types, place, periodic, extent)
            try:
                session.place(place.box, place.positions)
                session.run(0)
                atoms = session.atoms("energies")
            except LammpsError as error:
                self._drop()
                raise FrameFailed(self._name, k, str(error)) from None
            assert atoms is not None
            thermo = session.thermo()
            energy[k] = thermo["PotEng"]
            atomic[k] = atoms.atomic_energies
            forces[k] = atoms.forces @ place.rotation
            xx, yy, zz, xy, xz, yz = (thermo[f"c_virial[{i}]"] for i in range(1, 7))
            pressure = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
            volume = abs(np.linalg.det(place.box))
            virial[k] = place.rotation.T @ pressure @ place.rotation * volume / units.BAR
        return Evaluation(energy, forces, atomic, virial)

    def _types(self, numbers: npt.NDArray[Any]) -> list[int]:
        from ase.data import chemical_symbols

        unknown = sorted({int(z) for z in numbers} - self._type_of.keys())
        if unknown:
            raise MlselError(
                f"{self._name} is for {', '.join(self._species)}, and a frame holds "
                f"{', '.join(chemical_symbols[z] for z in unknown)}."
            )
        return [self._type_of[int(z)] for z in numbers]

    def _prepared(
        self, types: list[int], place: _Placed, periodic: tuple[bool, bool, bool], extent: float
    ) -> LammpsSession:
        """Return a session that holds such atoms."""
        wanted = types, periodic, 0.0 if all(periodic) else extent
        if self._session is not None and self._made_for == wanted:
            return self._session
        self._drop()
        from mpi4py import MPI

        session = LammpsSession(MPI.COMM_SELF)
        self._session, self._made_for = session, wanted
        a, b, c = place.box
        boundary = " ".join("p" if p else "f" for p in periodic)
        session.execute(
            [
                "units metal",
                "atom_style charge",
                "atom_modify map yes sort 0 0",
                f"boundary {boundary}",
                "box tilt large",
                f"region box prism 0 {a[0]:.17g} 0 {b[1]:.17g} 0 {c[2]:.17g} "
                f"{b[0]:.17g} {c[0]:.17g} {c[1]:.17g}",
                f"create_box {len(self._species)} box",
                "mass * 1.0",
            ]
        )
        session.create(types, place.positions)
        try:
            session.execute(
                [
                    *self._text.splitlines(),
                    "neighbor 0.0 bin",
                    "neigh_modify one 100000 page 1000000",
                    "compute energies all pe/atom",
                    "compute sum all reduce sum c_energies",
                    "compute virial all pressure NULL virial",
                    "thermo_style custom step pe c_sum c_virial[*]",
                    "thermo_modify lost error norm no",
                ]
            )
        except LammpsError as error:
            self._drop()
            raise LammpsError(f"LAMMPS does not take {self._name}: {error}") from None
        return session

    def _drop(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = None


@dataclass(frozen=True)
class _Placed:
    """A frame in LAMMPS's frame of reference: a along x, b in the xy plane.

    Attributes
    ----------
    box : (3, 3), Å
        Lower triangular.
    positions : (N, 3), Å
        Within the box.
    rotation : (3, 3)
        x_LAMMPS @ rotation is x (a reflection is in it where the cell is left-handed, which no
        potential feels).
    """

    box: FloatArray
    positions: FloatArray
    rotation: FloatArray

    @classmethod
    def of(
        cls,
        positions: npt.NDArray[np.floating[Any]],
        cell: npt.NDArray[np.floating[Any]],
        periodic: tuple[bool, bool, bool],
        extent: float,
    ) -> _Placed:
        vectors = _complete(np.asarray(cell, dtype=np.float64), periodic)
        q, r = np.linalg.qr(vectors.T)
        sign = np.where(np.diag(r) < 0, -1.0, 1.0)
        box, rotation = (r * sign[:, None]).T, (q * sign).T
        turned = np.asarray(positions, dtype=np.float64) @ rotation.T
        for k in range(3):
            if not periodic[k]:  # such a vector is along an axis, and that axis is its own
                turned[:, k] += 0.5 * (extent - turned[:, k].min() - turned[:, k].max())
                box[k] = 0.0
                box[k, k] = extent
        shares = turned @ np.linalg.inv(box)
        wrapped = np.array(periodic)
        shares[:, wrapped] -= np.floor(shares[:, wrapped])
        shares[:, wrapped] %= 1.0
        return cls(box, shares @ box, rotation)


def _extent(positions: npt.NDArray[np.floating[Any]]) -> float:
    """Return the side of a box, Å, in which the atoms of any frame fit however they are turned."""
    reach = positions - positions.mean(axis=1, keepdims=True)
    radius = float(np.sqrt(np.square(reach).sum(axis=2).max(initial=0.0)))
    return float(2.0 ** np.ceil(np.log2(2.0 * (radius + MARGIN))))  # so that few boxes are made


def _complete(cell: FloatArray, periodic: tuple[bool, bool, bool]) -> FloatArray:
    """Return the cell with vectors orthogonal to all others where it is not periodic."""
    vectors = cell.copy()
    known = [vectors[k] for k in range(3) if periodic[k]]
    for k in range(3):
        if periodic[k]:
            continue
        if len(known) == 2:
            vector = np.cross(known[0], known[1])
        elif known:
            vector = np.cross(known[0], np.eye(3)[np.argmin(np.abs(known[0]))])
        else:
            vector = np.array([1.0, 0.0, 0.0])
        vectors[k] = vector / np.linalg.norm(vector)
        known.append(vectors[k])
    if abs(np.linalg.det(vectors)) < 1e-9:
        raise MlselError("a frame is periodic and its cell has no volume: give the cell's vectors.")
    return vectors
