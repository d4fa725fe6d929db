"""Trajectories of CP2K: NAME-pos-1.xyz, and beside it NAME-frc-1.xyz, NAME-1.cell and NAME.out.

CP2K writes energies in Hartree, forces in Hartree/Bohr and lengths in Å unless its input asks for
others, and says none of these in the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core import units
from mlsel.core.arrays import FloatArray
from mlsel.core.errors import MlselError, shortened

if TYPE_CHECKING:
    from ase import Atoms

_NUMBER = r"[-+]?[\d.]+(?:[EeDd][-+]?\d+)?"
_COMMENT = re.compile(rf"\s*i\s*=\s*(\d+),\s*time\s*=\s*({_NUMBER}),.*\bE\s*=\s*({_NUMBER})\s*$")
_STEP = re.compile(r"(?:STEP NUMBER\s*=|MD\| Step number)\s*(\d+)")


def is_cp2k(path: Path) -> bool:
    """Whether an XYZ file has the comments of CP2K's trajectories."""
    with path.open("rb") as file:
        lines = [file.readline(2000) for _ in range(2)]
    return _COMMENT.match(lines[1].decode("utf-8", "replace")) is not None


@dataclass(frozen=True)
class _Beside:
    """The files of a run; which of them are there is another matter."""

    forces: Path
    cells: Path
    output: Path

    @classmethod
    def of(cls, path: Path) -> _Beside:
        """Return what belongs to NAME-pos-1.xyz.

        Raises
        ------
        MlselError
            If it has another name.
        """
        before, sign, after = path.name.rpartition("-pos-")
        if not sign:
            raise MlselError(
                f"{path} is a trajectory of CP2K and its name has no -pos-: if it holds positions, "
                "name it NAME-pos-1.xyz, as CP2K does, so that forces (-frc-) and cells are found "
                "beside it."
            )
        names = f"{before}-frc-{after}", f"{before}-{after[:-4]}.cell", f"{before}.out"
        return cls(*(path.with_name(name) for name in names))


def files_beside(path: Path) -> list[Path]:
    """Return the files that a trajectory of CP2K is read with."""
    beside = _Beside.of(path)
    return [file for file in (beside.forces, beside.cells, beside.output) if file.is_file()]


@dataclass(frozen=True)
class _Frame:
    step: int
    energy: float
    symbols: list[str]
    rows: FloatArray


def read_cp2k(path: Path) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    """Yield the frames with their energies, and forces and cells from the files beside.

    Raises
    ------
    MlselError
        If the file holds no positions, no file tells the cell, or the files are not of one run.
    """
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    beside = _Beside.of(path)
    cells, converged = _cells(beside.cells, path), _converged(beside.output)
    forces = _frames(beside.forces) if beside.forces.is_file() else None
    to_ev = units.factor("Hartree", "energy")
    for number, frame in enumerate(_frames(path)):
        where = f"{path}, frame {number} (step {frame.step})"
        cell = cells.get(frame.step, cells.get(-1))
        if cell is None:
            raise MlselError(f"{where}: the file of the cells has no such step.")
        atoms = Atoms(frame.symbols, frame.rows, cell=cell, pbc=bool(cell.any()))
        results: dict[str, Any] = {"energy": frame.energy * to_ev}
        if forces is not None:
            there = next(forces, None)
            if there is None or (there.step, there.energy, there.symbols) != (
                frame.step,
                frame.energy,
                frame.symbols,
            ):
                raise MlselError(
                    f"{where} has no forces in {beside.forces.name}, whose frame {number} is of "
                    "another step, energy or other atoms: the two are not of one run."
                )
            results["forces"] = there.rows * units.factor("Hartree/Bohr", "force")
        atoms.calc = SinglePointCalculator(atoms, **results)
        info: dict[str, Any] = {"step_of_cp2k": frame.step}
        if frame.step in converged:
            info["scf_converged"] = converged[frame.step]
        yield atoms, {"info": info}


def _frames(path: Path) -> Iterator[_Frame]:
    with path.open(encoding="utf-8") as file:
        number = 0
        while (line := file.readline()).strip():
            where = f"{path}, frame {number}"
            comment = file.readline()
            found = _COMMENT.match(comment)
            if not line.strip().isdigit() or found is None:
                raise MlselError(
                    f"{where} begins with {shortened(line.strip(), 40)!r} and "
                    f"{shortened(comment.strip(), 60)!r}, which is not as CP2K writes it."
                )
            rows = [file.readline().split() for _ in range(int(line))]
            try:
                numbers = np.array([[float(x) for x in row[1:]] for row in rows]).reshape(-1, 3)
                symbols = [row[0] for row in rows]
            except (ValueError, IndexError):
                raise MlselError(
                    f"{where} has a line that is no element with three numbers: it was cut short, "
                    "or is damaged; leave it out."
                ) from None
            step, energy = int(found[1]), float(found[3].replace("D", "E"))
            yield _Frame(step, energy, symbols, numbers)
            number += 1


def _cells(path: Path, trajectory: Path) -> dict[int, FloatArray]:
    """Return the cell of each step; of a file with one line that of all, as −1."""
    if not path.is_file():
        raise MlselError(
            f"{trajectory} says no cell, and {path.name} is not beside it: have CP2K write it "
            "(MOTION/PRINT/CELL), or write one line: 0 0.0, the nine numbers of the vectors (Å) "
            "and the volume; nine zeros where nothing is periodic."
        )
    found: dict[int, FloatArray] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            found[int(words[0])] = np.array([float(x) for x in words[2:11]]).reshape(3, 3)
        except ValueError:
            raise MlselError(
                f"{path} has the line {shortened(line.strip(), 80)!r}: it must be a step, a time "
                "and nine numbers or more."
            ) from None
    return {-1: next(iter(found.values()))} if len(found) == 1 else found


def _converged(path: Path) -> dict[int, bool]:
    """Return for each MD step that an output tells of whether its electrons converged."""
    found: dict[int, bool] = {}
    if not path.is_file():
        return found
    is_good = True
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if "SCF run NOT converged" in line:
                is_good = False
            step = _STEP.search(line)
            if step or ("MD_INI|" in line and 0 not in found):
                found[int(step[1]) if step else 0] = is_good
                is_good = True
    return found
