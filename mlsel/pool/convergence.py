"""Whether the electrons of a frame converged, by what the output that it is read from says.

ASE reads labels and, but for ORCA and FHI-aims, not this. CP2K's word is read with its trajectory
(`cp2k`); Quantum ESPRESSO marks no energy that did not converge as one, so that ASE finds none.

VASP says it step by step, in the order of the frames. Gaussian and FHI-aims say it of the energies
that follow, and a frame is known by its energy: ASE leaves out and merges geometries by rules of
its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.core.errors import MlselError
from mlsel.pool.extxyz import opened

if TYPE_CHECKING:
    from ase import Atoms

SAME = 1e-9
"""Of an energy: two are one number."""
_ITERATION, _NELM = re.compile(rb"Iteration\s*\d+\(\s*(\d+)\)"), re.compile(rb"NELM\s*=\s*(\d+)")
_NUMBER = re.compile(rb"=\s*(-?\d+\.\d+(?:[DE][-+]?\d+)?)")
_OF_GAUSSIAN = re.compile(
    rb"\s*(?:SCF Done:|Energy=|E2 =|E3 =|E4\(|DEMP5 =|E2\(|CCSD\(T\)=|Wavefu)"
)
"""The lines that ASE takes energies from; of several on a line the last."""


def convergence_of(path: Path, kind: str) -> Callable[[Atoms], bool | None]:
    """Return what tells of each frame, in their order, whether its electrons converged; None where
    that is not known.

    Raises
    ------
    MlselError
        If a frame of ORCA's did not: ASE reads no energy there, or no file at all.
    """
    if kind == "orca-output":
        _refuse_orca(path)
    if kind in ("gaussian-out", "aims-output"):
        bad = list(_of_gaussian(path) if kind == "gaussian-out" else _of_aims(path))
        return lambda atoms: not _is_one_of(atoms, bad) if bad else None
    steps = of_vasp(path, kind)
    return lambda atoms: next(steps, None)


def _is_one_of(atoms: Atoms, energies: list[float]) -> bool:
    energy = None if atoms.calc is None else atoms.calc.results.get("energy")
    return energy is not None and any(abs(energy - e) <= SAME * abs(e) for e in energies)


def _of_gaussian(path: Path) -> Iterator[float]:
    """Yield the energies, eV, of SCF cycles that did not converge, and what was computed on them.

    Link 502 says so before the energy; a second attempt (SCF=XQC) gives another one after it.
    """
    from ase.units import Hartree

    is_next_bad = is_bad = False
    with opened(path) as file:
        for line in file:
            if b"Convergence criterion not met" in line:
                is_next_bad = True
            elif _OF_GAUSSIAN.match(line) and (found := _NUMBER.findall(line)):
                if b"SCF Done:" in line:
                    is_bad, is_next_bad = is_next_bad, False
                if is_bad:
                    number = found[0] if b"SCF Done:" in line else found[-1]
                    yield float(number.replace(b"D", b"e")) * float(Hartree)


def _of_aims(path: Path) -> Iterator[float]:
    """Yield the energies, eV, of self-consistency cycles that did not converge."""
    is_bad = False
    with opened(path) as file:
        for line in file:
            if b"SELF-CONSISTENCY CYCLE DID NOT CONVERGE" in line:
                is_bad = True
            elif b"Begin self-consistency loop" in line:
                is_bad = False
            elif is_bad and b"| Electronic free energy" in line:
                yield float(line.split(b":")[-1].split()[0])


def _refuse_orca(path: Path) -> None:
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            if b"FINAL SINGLE POINT ENERGY" in line and b"not fully converged" in line:
                raise MlselError(
                    f"{path}, line {number}, says that the electrons did not fully converge: ASE "
                    "reads no energy there. Leave this output out, or cut the geometry out of it."
                )


def of_vasp(path: Path, kind: str) -> Iterator[bool]:
    """Yield for each ionic step of a VASP run whether its electrons converged.

    VASP 5 writes that EDIFF is reached where it is not, too: what tells is whether all the steps
    that NELM allows were made.
    """
    most, steps = 0, 0
    if kind == "vasp-out":
        was_reached = False
        with opened(path) as file:
            for line in file:
                if b"aborting loop because EDIFF is reached" in line:
                    was_reached = True
                elif b"Iteration" in line and (found := _ITERATION.search(line)):
                    steps = int(found[1])
                elif not most and (found := _NELM.search(line)):
                    most = int(found[1])
                elif b"FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in line:
                    yield was_reached and (not most or steps < most)
                    was_reached, steps = False, 0
    elif kind == "vasp-xml":
        from xml.etree import ElementTree

        with opened(path) as file:
            for _, element in ElementTree.iterparse(file, ["end"]):
                if element.tag == "i" and element.get("name") == "NELM" and not most:
                    most = int(element.text or 0)  # a later one is of the response functions
                elif element.tag == "scstep":
                    steps += 1
                elif element.tag == "calculation":
                    yield not most or steps < most
                    steps = 0
                    element.clear()
