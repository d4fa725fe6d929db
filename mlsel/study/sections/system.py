"""The section [system]: what is simulated."""

from __future__ import annotations

from dataclasses import dataclass

from mlsel.core.errors import nearest
from mlsel.study.schema import quantity

MAX_ATOMS = 10_000_000
MAX_STEPS = 10**15
MAX_KSPACE = 0.1
ELEMENTS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy "
    "Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf"
)


def kspace_problem(key: str, text: str) -> str | None:
    """Say what is wrong with the words of a LAMMPS kspace_style, None if nothing is."""
    name, _, accuracy = text.rpartition(" ")
    try:
        known = 0 < float(accuracy) <= MAX_KSPACE
    except ValueError:
        known = False
    if known and name.strip():
        return None
    return (
        f'{key} is "{text}": it must be a kspace_style of LAMMPS and its relative accuracy, above '
        f'0 and at most {MAX_KSPACE:g}, for instance "pppm 1e-5"'
    )


@dataclass(frozen=True)
class System:
    """What is simulated: species in the order of LAMMPS's atom types."""

    species: tuple[str, ...] = quantity(one_or_more=True)
    potential: str = quantity(
        "",
        doc="a name in potentials/, or the path of a LAMMPS include; not needed with pool.import",
    )
    n_atoms: int = quantity(
        100, at_least=1, at_most=MAX_ATOMS, doc="ignored where `start` is a file"
    )
    composition: tuple[int, ...] = quantity((), at_least=1, doc="per formula unit; default 1 each")
    start: str = quantity("grid", doc='"grid", or a structure file that ASE reads')
    spacing: float = quantity(3.0, unit="Å", above=0, doc="of the start grid's sites")
    cutoff: float = quantity(10.0, unit="Å", above=0, doc="of the reference pair potential")
    kspace_accuracy: float = quantity(
        1e-5, above=0, at_most=MAX_KSPACE, doc="relative, of the Ewald sum"
    )

    def check(self) -> str | None:
        known = ELEMENTS.split()
        for symbol in self.species:
            if symbol not in known:
                hint = nearest(symbol, known)
                return f'system.species names "{symbol}", which is no element{hint}'
        if len(set(self.species)) != len(self.species):
            return f"system.species names one element twice: {', '.join(self.species)}"
        if self.composition and len(self.composition) != len(self.species):
            return (
                f"system.composition has {len(self.composition)} numbers and system.species "
                f"{len(self.species)} elements: give one number for each element"
            )
        unit = sum(self.formula_unit)
        if self.start == "grid" and self.n_atoms % unit:
            below = self.n_atoms // unit * unit
            formula = "".join(
                symbol + (str(n) if n > 1 else "")
                for symbol, n in zip(self.species, self.formula_unit, strict=True)
            )
            nearby = f"{below} or {below + unit}" if below else f"{unit}"
            return (
                f"system.n_atoms is {self.n_atoms}, which is no whole number of formula units "
                f"{formula} ({unit} atoms each): take {nearby}"
            )
        return None

    @property
    def formula_unit(self) -> tuple[int, ...]:
        """Atoms of each species in a formula unit."""
        return self.composition or (1,) * len(self.species)
