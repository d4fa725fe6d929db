"""Baselines: what is known of the interactions is not learnt, but added.

A baseline is a LAMMPS include. Its energies, forces and virials, as LAMMPS computes them, are
taken out of the labels before a model is fitted, whatever its kind; what is used afterwards, in
`predict`, ASE and LAMMPS alike, is the sum. A repulsive wall of known shape keeps atoms apart where
no data say so; charges carry the interactions beyond a model's cutoff.

References
----------
Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Matter, Pergamon (1985), for ZBL.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core.errors import MlselError, shortened
from mlsel.core.files import write_json
from mlsel.core.neighbours import LARGEST
from mlsel.md.deck import files_named
from mlsel.md.include import Evaluation, FrameFailed, IncludePotential
from mlsel.training.base import Prediction, TrainedModel
from mlsel.training.description import BASELINE_FILE
from mlsel.training.frames import FloatArray, Frames, symbols

if TYPE_CHECKING:
    from mlsel.study.sections.training import BaselineSection

log = logging.getLogger(__name__)

FILE = BASELINE_FILE
NEUTRAL = 1e-6
"""e, to which formal charges of all atoms add up."""
COULOMB_CUTOFF = 10.0
COULOMB_ACCURACY = 1e-5
KSPACE = re.compile(r"^[ \t]*kspace_style[ \t]+(?!none).*$", re.MULTILINE)
SENSELESS = 1e6
"""eV: a baseline that gives a frame more than this says nothing that a model could be added to."""


@dataclass(frozen=True)
class Baseline:
    """Known interactions, for atom types in any order where they come from settings.

    Attributes
    ----------
    zbl : two floats or empty
        Å: the screened nuclear repulsion is switched off from the first to the second distance.
    charges : mapping of element to charge
        e; by Ewald's sum.
    include : str
        A LAMMPS include of the user's own, in place of both.
    species : tuple of str
        The elements of the include's atom types.
    kspace_style : str
        Of MD, in place of the include's own; labels and predictions are by the latter.
    files : mapping of name to hash
        The files that the include names: they stay where they are.
    """

    zbl: tuple[float, ...] = ()
    charges: Mapping[str, float] | None = None
    include: str = ""
    species: tuple[str, ...] = ()
    kspace_style: str = ""
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        section: BaselineSection,
        species: tuple[str, ...],
        where: str = "training.baseline",
    ) -> Baseline | None:
        """Return the baseline that a study asks for there, None if it asks for none.

        Raises
        ------
        MlselError
            If it names an include that is not there, or has no kspace_style to be replaced.
        """
        if not section.include:
            if not section.zbl and not section.charges:
                return None
            charges = dict(section.charges) or None
            return cls(section.zbl, charges, kspace_style=section.kspace_style)
        path = Path(section.include)
        if not path.is_file():
            raise MlselError(
                f'{where}.include is "{path}", and there is no such file: give the path '
                "of a LAMMPS include in metal units."
            )
        text = path.read_text(encoding="utf-8")
        if not re.search(r"^\s*pair_style\s", text, re.MULTILINE):
            raise MlselError(
                f"{where}.include is {path}, which has no line pair_style: it can't be "
                "added to a model."
            )
        stated = re.search(r"^#\s*species:\s*(.+)$", text, re.MULTILINE)
        species = tuple(stated[1].split()) if stated else species
        if section.kspace_style and not KSPACE.search(text):
            raise MlselError(
                f"{where}.kspace_style is set, and {path} has no kspace_style that it "
                "could replace: leave it out."
            )
        files = files_named(text)
        return cls((), None, text, species, section.kspace_style, files)

    @property
    def identity(self) -> dict[str, Any]:
        """Return what decides labels and predictions, as plain values."""
        return {
            "zbl": list(self.zbl),
            "charges": dict(self.charges or {}),
            "include": self.include,
            "species": list(self.species),
            **({"files": dict(self.files)} if self.files else {}),
        }

    def require_files(self, folder: Path) -> None:
        """Refuse a baseline, kept beside a model, whose include names a file that was edited.

        Raises
        ------
        MlselError
            If it does.
        """
        now = files_named(self.include)
        for name, of in self.files.items():
            if now.get(name, of) != of:
                raise MlselError(
                    f"{shortened(name, 80)} was edited since {shortened(str(folder), 80)} was "
                    "trained beside a baseline that names it: set it back, or train the model anew "
                    "with `mlsel training --again`."
                )

    def text(self, species: Sequence[str]) -> str:
        """Return the LAMMPS include for atom types 1, 2, … of these elements.

        Raises
        ------
        MlselError
            If an element has no charge, or the user's include is for other types.
        """
        if self.include:
            if tuple(species) != self.species:
                raise MlselError(
                    f"the baseline's include is for the atom types {' '.join(self.species)}, not "
                    f"{' '.join(species)}: give the types in this order."
                )
            return self.include
        from ase.data import atomic_numbers

        known = self.charges or {}
        without = [symbol for symbol in species if self.charges and symbol not in known]
        if without:
            raise MlselError(
                f"the baseline's charges are those of {', '.join(known)}, and the frames hold "
                f"{', '.join(without)}: give each element a charge (0 where it has none)."
            )
        styles, lines = [], []
        if self.zbl:
            styles.append(f"zbl {self.zbl[0]:g} {self.zbl[1]:g}")
            numbers = [atomic_numbers[symbol] for symbol in species]
            for i, j in combinations_with_replacement(range(len(species)), 2):
                lines.append(f"pair_coeff {i + 1} {j + 1} zbl {numbers[i]} {numbers[j]}")
        before = []
        if self.charges:
            before = [f"set type {k} charge {known[s]:g}" for k, s in enumerate(species, 1)]
            styles.append(f"coul/long {COULOMB_CUTOFF:g}")
            lines += ["pair_coeff * * coul/long", f"kspace_style ewald {COULOMB_ACCURACY:g}"]
        return "\n".join([*before, f"pair_style hybrid/overlay {' '.join(styles)}", *lines]) + "\n"

    def lammps_commands(self, species: Sequence[str]) -> list[str]:
        """Return what MD uses: the include, by another sum over the reciprocal space if one is
        asked for."""
        text = self.text(species)
        if self.kspace_style:
            text = KSPACE.sub(f"kspace_style {self.kspace_style}", text)
        return text.splitlines()

    def evaluate(self, frames: Frames, path: Path | None = None) -> Evaluation:
        """Return what the baseline says of frames.

        Parameters
        ----------
        frames : Frames
        path : path, optional
            Where they are from, for sentences.

        Raises
        ------
        MlselError
            If that makes no sense for a frame, by its number.
        """

        def named(row: int) -> str:
            frame = row if frames.frame_ids is None else frames.frame_ids[row]
            return f"frame {frame}" + ("" if path is None else f" of {path}")

        species = self.species or tuple(symbols(np.unique(frames.numbers).tolist()).split(", "))
        with IncludePotential(self.text(species), species, "the baseline") as potential:
            try:
                found = potential.evaluate(
                    frames.numbers, frames.positions, frames.cell, frames.periodic
                )
            except FrameFailed as error:
                raise MlselError(
                    f"the baseline says nothing of {named(error.frame)}: {error.reason}"
                ) from None
        largest = np.abs(found.forces).max(axis=(1, 2), initial=0.0)
        bad = ~(np.abs(found.energy) < SENSELESS) | ~(largest < SENSELESS)
        if bad.any():
            frame = int(np.argmax(bad))
            raise MlselError(
                f"the baseline gives {named(frame)} an energy of {found.energy[frame]:.3g} eV and "
                f"forces up to {largest[frame]:.3g} eV/Å: leave such frames out, or choose a "
                "baseline that is meant for these distances."
            )
        return found

    def taken_from(self, frames: Frames, path: Path | None = None) -> Frames:
        """Return frames (of a file, for sentences) whose labels are what is left to learn."""
        charge = sum((self.charges or {}).get(s, 0.0) for s in frames.atoms(0).symbols)
        if abs(charge) > NEUTRAL:
            log.warning(
                "the baseline's charges give %d atoms a charge of %+.6g e: the sum adds a "
                "uniform background", len(frames.numbers), charge,
            )  # fmt: skip
        known = self.evaluate(frames, path)
        return replace(
            frames,
            energy=None if frames.energy is None else frames.energy - known.energy,
            forces=None if frames.forces is None else frames.forces - known.forces,
            atomic_energies=(
                None
                if frames.atomic_energies is None
                else frames.atomic_energies - known.atomic_energies
            ),
            virial=None if frames.virial is None else frames.virial - known.virial,
        )

    def write(self, folder: Path) -> None:
        """Keep it beside a model."""
        write_json(folder / FILE, {**self.identity, "kspace_style": self.kspace_style})


def read_baseline(folder: Path) -> Baseline | None:
    """Return the baseline that lies beside a model, None if there is none."""
    from ase.data import atomic_numbers

    path = folder / FILE
    if not path.is_file():
        return None
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        zbl = tuple(map(float, known["zbl"]))
        charges = {str(k): float(v) for k, v in known["charges"].items()}
        species = tuple(known["species"])
        if zbl and not (len(zbl) == 2 and 0 <= zbl[0] < zbl[1] < LARGEST):
            raise ValueError("zbl")
        if not np.isfinite(list(charges.values())).all():
            raise ValueError("charges")
        if not all(isinstance(s, str) and s in atomic_numbers for s in (*charges, *species)):
            raise ValueError("elements")
        kspace_style = known.get("kspace_style", "")  # an earlier mlsel had none
        if not isinstance(known["include"], str) or not isinstance(kspace_style, str):
            raise TypeError("include")
        files = {str(name): str(of) for name, of in known.get("files", {}).items()}
        return Baseline(zbl, charges or None, known["include"], species, kspace_style, files)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise MlselError(f"{path} is damaged: train the model again.") from None


class SumModel(TrainedModel):
    """A baseline and a model of what it leaves."""

    def __init__(self, baseline: Baseline, model: TrainedModel) -> None:
        self.baseline, self.model = baseline, model
        self.kind = model.kind  # type: ignore[misc]
        self.pair_style = model.pair_style
        self.numbers, self.folder, self.facts = model.numbers, model.folder, model.facts

    @classmethod
    def load(cls, folder: Path) -> TrainedModel:
        raise AssertionError("opened by training.registry.load_model")

    def predict(self, frames: Frames) -> Prediction:
        self.check(frames.numbers)
        identity = json.dumps(self.baseline.identity, sort_keys=True)
        known = frames.shared(("baseline", identity), lambda: self.baseline.evaluate(frames))
        learnt = self.model.predict(frames)
        virial = None if learnt.virial is None else learnt.virial + known.virial
        return Prediction(
            learnt.energy + known.energy,
            learnt.forces + known.forces,
            learnt.atomic_energies + known.atomic_energies,
            virial,
        )

    @property
    def told_in_lammps(self) -> tuple[str, ...]:
        return self.model.told_in_lammps

    @property
    def has_uncertainty(self) -> bool:
        return self.model.has_uncertainty

    def uncertainty(self, frames: Frames) -> FloatArray:
        return self.model.uncertainty(frames)

    def lammps_commands(self, species: Sequence[str]) -> list[str]:
        return overlaid(self.baseline.lammps_commands(species), self.model.lammps_commands(species))

    def calculator(self) -> Any:
        from mlsel.training.calculator import ModelCalculator

        return ModelCalculator(self)


def overlaid(include: Iterable[str], model: Iterable[str]) -> list[str]:
    """Return LAMMPS commands for the sum of an include and of a model's pair style.

    Examples
    --------
    >>> overlaid(["pair_style zbl 2 4", "pair_coeff 1 1 11 11"],
    ...          ["pair_style schnet", "pair_coeff * * model.pt Na"])
    ... # doctest: +NORMALIZE_WHITESPACE
    ['pair_style hybrid/overlay zbl 2 4 schnet', 'pair_coeff 1 1 zbl 11 11',
     'pair_coeff * * schnet model.pt Na']

    Raises
    ------
    MlselError
        If there is no pair style in the include, or the model's own.
    """
    before, styles, after = _parts(include)
    own_before, own_styles, own_after = _parts(model)
    if not styles:
        raise MlselError("the baseline's include has no pair_style: it can't be added to a model.")
    if _name(styles) == _name(own_styles) or f" {_name(own_styles)} " in f" {styles} ":
        raise MlselError(
            f"the baseline's include has the pair style of the model itself ({_name(own_styles)}): "
            "LAMMPS can't tell one from the other."
        )
    return [
        *before,
        *own_before,
        f"pair_style hybrid/overlay {styles} {own_styles}",
        *after,
        *own_after,
    ]


def _parts(lines: Iterable[str]) -> tuple[list[str], str, list[str]]:
    """Return what stands before the pair style, its words, and the rest as `hybrid` wants it."""
    text = re.sub(r"&[ \t]*\n", " ", "\n".join(lines))
    before: list[str] = []
    after: list[str] = []
    styles, is_hybrid = "", False
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["pair_style"]:
            is_hybrid = words[1:2] in (["hybrid"], ["hybrid/overlay"])
            styles = " ".join(words[2:] if is_hybrid else words[1:])
        elif not styles:
            before.append(line)
        elif words[:1] == ["pair_coeff"] and not is_hybrid:
            coefficients = line.split(None, 3)
            after.append(" ".join([*coefficients[:3], _name(styles), *coefficients[3:]]))
        else:
            after.append(line)
    return before, styles, after


def _name(styles: str) -> str:
    return styles.partition(" ")[0]
