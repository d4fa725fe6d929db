"""Which values of other people's frames are labels: decided over all frames, never by the first.

A label is found under the names that are usual for it, or under those that the user gives. Where
two usual names give different values, or each only some of the frames, nobody but the user knows
which is meant: that is refused with the counts. Conventions of the stress's sign go by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mlsel.core import units
from mlsel.core.arrays import Array, FloatArray
from mlsel.core.errors import MlselError
from mlsel.pool.sources import PLACES, Frame

LABELS = ("energy", "forces", "virial", "atomic_energies")
_PREFIXES = ("REF_", "", "dft_", "DFT_", "ref_")


def _usual(*names: str) -> tuple[str, ...]:
    return tuple(prefix + name for name in names for prefix in _PREFIXES)


STRESS_KEYS = _usual("stress")
"""Positive in tension, energy per volume: ASE's convention, and MACE's and NequIP's."""
VIRIAL_KEYS = _usual("virial", "virials")
"""−dE/dε in energy: QUIP's convention, and MACE's, DeePMD's and NEP's."""
USUAL_KEYS: dict[str, tuple[str, ...]] = {
    "energy": (*_usual("energy"), "free_energy"),
    "forces": _usual("forces", "force"),
    "virial": (*STRESS_KEYS, *VIRIAL_KEYS),
    "atomic_energies": (*_usual("atomic_energies"), "energies"),
}


@dataclass(frozen=True)
class LabelOptions:
    """What the user says of the labels; keys in the order of preference.

    Attributes
    ----------
    energy, forces, atomic_energies, virial, stress : keys, empty for the usual ones
    without : refuse, skip or keep frames that lack an energy or forces that others have
    energy_unit, length_unit, force_unit, stress_unit : as `core.units.factor` reads them
        Forces without a unit of their own are in energy_unit / length_unit, stress in
        energy_unit / length_unit³.
    """

    energy: tuple[str, ...] = ()
    forces: tuple[str, ...] = ()
    atomic_energies: tuple[str, ...] = ()
    virial: tuple[str, ...] = ()
    stress: tuple[str, ...] = ()
    without: str = "refuse"
    energy_unit: str = "eV"
    length_unit: str = "Angstrom"
    force_unit: str = ""
    stress_unit: str = ""

    def factor(self, quantity: str) -> float:
        """Return what a source's energy, length, force or stress is multiplied by."""
        energy = units.factor(self.energy_unit, "energy")
        length = units.factor(self.length_unit, "length")
        if quantity == "energy":
            return energy
        if quantity == "length":
            return length
        if quantity == "force":
            unit = self.force_unit
            return units.factor(unit, "force") if unit else energy / length
        unit = self.stress_unit
        return units.factor(unit, "stress") if unit else energy / length**3

    def keys(self, label: str) -> tuple[str, ...]:
        """Return the keys given for a label."""
        given: tuple[str, ...] = getattr(self, label)
        return (*given, *self.stress) if label == "virial" else given


class WrongShape(ValueError):
    """A value under a label's key that can't be the label."""


def label_value(frame: Frame, label: str, key: str, options: LabelOptions) -> Array | None:
    """Return a label in our units from a frame's value under a key; None if it has none.

    A value that is not finite is none. Stress without a volume is none.

    Raises
    ------
    WrongShape
        If the value has another shape or is no number.
    """
    found = frame.find(key)
    if found is None:
        return None
    value = found[1]
    n = len(frame.numbers)
    if label == "virial":
        return _virial(frame, key, value, options)
    shape = {"energy": (), "forces": (n, 3), "atomic_energies": (n,)}[label]
    if isinstance(value, str) or value.dtype.kind not in "fi":
        raise WrongShape(f"{key} is no number; {label} must be numbers of shape {shape}")
    array = value.reshape(()) if label == "energy" and value.size == 1 else value
    if array.shape != shape:
        raise WrongShape(f"{key} has the shape {value.shape}; {label} must have {shape}")
    if not np.isfinite(array).all():
        return None
    return array * options.factor("force" if label == "forces" else "energy")


def _virial(frame: Frame, key: str, value: Array | str, options: LabelOptions) -> Array | None:
    if isinstance(value, str) or value.dtype.kind not in "fi" or value.size not in (6, 9):
        size = "no numbers" if isinstance(value, str) else f"the shape {value.shape}"
        raise WrongShape(f"{key} has {size}; a stress or virial must have 6 (Voigt) or 9")
    if not np.isfinite(value).all():
        return None
    if value.size == 6:
        xx, yy, zz, yz, xz, xy = value.ravel()
        matrix = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]], dtype=np.float64)
    else:
        matrix = value.reshape(3, 3).astype(np.float64)
    is_stress = key in options.stress or (key not in options.virial and key in STRESS_KEYS)
    if not is_stress:
        return matrix * options.factor("energy")
    if not frame.volume > 0:
        return None
    return -frame.volume * options.factor("stress") * matrix


@dataclass
class _Candidates:
    """What frames have under the keys that a label could have."""

    sets: Counter[frozenset[str]] = field(default_factory=Counter)
    first: dict[str, tuple[int, int]] = field(default_factory=dict)
    difference: float = 0.0


@dataclass(frozen=True)
class Decision:
    """The keys of each label, in the order in which they are looked for; no entry: no label."""

    keys: Mapping[str, tuple[str, ...]]
    options: LabelOptions
    notes: tuple[str, ...] = ()

    def label(self, frame: Frame, label: str) -> tuple[str, Array] | None:
        """Return the key and the value of a frame's label, in our units."""
        for key in self.keys.get(label, ()):
            value = label_value(frame, label, key, self.options)
            if value is not None:
                return key, value
        return None

    def labels(self, frame: Frame) -> dict[str, tuple[str, Array]]:
        """Return all labels of a frame; an energy may be the sum of atomic energies."""
        found = {label: self.label(frame, label) for label in LABELS}
        made = {label: value for label, value in found.items() if value is not None}
        if "energy" not in self.keys and "atomic_energies" in made:
            key, parts = made["atomic_energies"]
            made["energy"] = f"the sum of {key}", np.asarray(parts.sum())
        return made

    @property
    def required(self) -> tuple[str, ...]:
        """The labels whose lack is told: energy and forces, if any frame has them."""
        return tuple(label for label in ("energy", "forces") if label in self.keys)


class Survey:
    """Looks at every frame once; `decide` then says where the labels are."""

    def __init__(self, options: LabelOptions, sources: Sequence[Any]) -> None:
        self._options = options
        self._sources = sources
        self._candidates = {label: _Candidates() for label in LABELS}
        self._wrong: dict[str, str] = {}
        self._free_energy = 0.0
        self._n_free = 0
        self.n_frames = 0
        self.known: set[str] = set()

    def see(self, frame: Frame) -> None:
        """Take note of a frame."""
        self.n_frames += 1
        self.known |= {key for _, key in frame.values}
        for label, candidates in self._candidates.items():
            here: dict[str, Array] = {}
            for key in self._options.keys(label) or USUAL_KEYS[label]:
                try:
                    value = label_value(frame, label, key, self._options)
                except WrongShape as error:
                    if self._options.keys(label):
                        raise MlselError(f"{self._where(frame)}: {error}.") from None
                    # Decided later: a usual name that holds something else is left alone.
                    self._wrong.setdefault(key, f"{self._where(frame)}: {error}")
                    continue
                if value is not None:
                    self._refuse_two_places(frame, label, key)
                    here[key] = value
                    candidates.first.setdefault(key, (frame.source, frame.index))
            self._compare(label, here, candidates)

    def _refuse_two_places(self, frame: Frame, label: str, key: str) -> None:
        """Raise if ASE keeps two different values under one label's key: one would be lost."""
        places = [place for place in PLACES if (place, key) in frame.values]
        if len(places) == 1:
            return
        values = []
        for place in places:
            alone = replace(frame, values={(place, key): frame.values[place, key]})
            try:
                values.append(label_value(alone, label, key, self._options))
            except WrongShape:
                values.append(None)
        if any(
            values[0] is None or value is None or not np.allclose(value, values[0], 1e-8, 1e-8)
            for value in values[1:]
        ):
            raise MlselError(
                f"{self._where(frame)} has two different values of {key}, in ASE's "
                f"{' and '.join(places)}, and {label} can be one of them only: give one of them "
                "another name."
            )

    def _compare(self, label: str, here: dict[str, Array], candidates: _Candidates) -> None:
        free = here.pop("free_energy", None) if label == "energy" and len(here) > 1 else None
        if free is not None:
            self._n_free += 1
            self._free_energy = max(
                self._free_energy, *(float(abs(value - free)) for value in here.values())
            )
        candidates.sets[frozenset(here)] += 1
        values: list[FloatArray] = list(here.values())
        for value in values[1:]:
            scale = max(float(np.abs(values[0]).max()), 1e-3)
            gap = float(np.abs(value - values[0]).max()) / scale
            candidates.difference = max(candidates.difference, gap)

    def _where(self, frame: Frame) -> str:
        return f"{self._sources[frame.source]}, frame {frame.index}"

    def decide(self) -> Decision:
        """Return which key each label has.

        Raises
        ------
        MlselError
            If a key that was given is nowhere, or if it isn't clear which key is meant.
        """
        keys: dict[str, tuple[str, ...]] = {}
        for label, candidates in self._candidates.items():
            given = self._options.keys(label)
            there = set().union(*candidates.sets)
            for key in given:
                if key not in there:
                    raise MlselError(self._nowhere(label, key))
            if given:
                keys[label] = given
            elif there:
                self._refuse_unclear(label, candidates, there)
                keys[label] = tuple(key for key in USUAL_KEYS[label] if key in there)
        for label, found in keys.items():
            if not self._options.keys(label):
                for key in found:
                    if key in self._wrong:
                        raise MlselError(f"{self._wrong[key]}.")
        notes = tuple(f"not taken: {text}." for key, text in self._wrong.items())
        return Decision(keys, self._options, (*notes, *self._energy_notes(keys)))

    def _energy_notes(self, keys: Mapping[str, tuple[str, ...]]) -> list[str]:
        taken = keys.get("energy", ())
        if taken == ("free_energy",):
            return ["energy is free_energy: that of the electrons' entropy too, with the forces."]
        if self._n_free and "free_energy" not in taken:
            return [
                f"{self._n_free} frames have free_energy beside {'/'.join(taken)}, up to "
                f"{self._free_energy:.3g} eV apart: forces are derivatives of free_energy in most "
                "codes; --energy-key free_energy takes it."
            ]
        return []

    def _nowhere(self, label: str, key: str) -> str:
        shown = sorted(self.known)
        there = ", ".join(shown[:12]) + (", …" if len(shown) > 12 else "")
        return (
            f"no frame of {', '.join(map(str, self._sources[:2]))} has {label} under the key "
            f"{key}; there is {there or 'nothing beside the positions'}."[:380]
        )

    def _refuse_unclear(self, label: str, candidates: _Candidates, there: set[str]) -> None:
        if len(there) == 1 or (label == "energy" and there == {"free_energy"}):
            return
        together = any(len(keys) > 1 for keys in candidates.sets)
        if together and candidates.difference <= 1e-5:
            return
        counts = {
            key: sum(n for keys, n in candidates.sets.items() if key in keys) for key in there
        }
        told = []
        for key, n in sorted(counts.items(), key=lambda pair: USUAL_KEYS[label].index(pair[0])):
            source, index = candidates.first[key]
            told.append(f"{key} in {n} (first: {self._sources[source]}, frame {index})")
        how = "--virial-key or --stress-key" if label == "virial" else f"--{_dashed(label)}-key"
        apart = " with other values" if together else ""
        raise MlselError(
            f"{label} is under {len(told)} keys{apart} in {self.n_frames} frames: "
            f"{'; '.join(told)}: say which is meant with {how}, repeated in the order of "
            "preference if both are."
        )


def _dashed(label: str) -> str:
    return label.replace("_", "-")
