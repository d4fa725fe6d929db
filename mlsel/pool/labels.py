"""Which values of other people's frames are labels: decided over all frames, never by the first.

A label is found under the names that are usual for it, or under those that the user gives. Where
two usual names give different values, or each only some of the frames, nobody but the user knows
which is meant: that is refused with the counts. Conventions of the stress's sign go by name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlsel.core import units
from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.core.errors import MlselError
from mlsel.pool.incoming import PLACES, Incoming, Value, distinct

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


def of_unknown_sign(keys: Iterable[str]) -> list[str]:
    """Return a warning of what may be a stress or a virial, among keys of values that are none."""
    found = [
        key
        for key in sorted(keys)
        if re.search("stress|virial", key.lower())
        and not (key in USUAL_KEYS["virial"] or key.lower().endswith(("unit", "units")))
    ]
    if not found:
        return []
    return [
        f"{', '.join(found)}: the sign and unit are not known, so it is no label but kept as "
        "found: --stress-key (positive in tension) or --virial-key (−dE/dε)"
    ]


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


@dataclass(frozen=True)
class Found:
    """A label of F frames, in our units.

    Attributes
    ----------
    keys : the keys that it has in some frame
    choice : (F,), which of them each frame's is under; −1 where it has none
    values : (F, …), anything where there is none
    """

    keys: tuple[str, ...]
    choice: IntArray
    values: Array


def label_values(
    frames: Incoming, label: str, key: str, options: LabelOptions
) -> tuple[Array, Array] | None:
    """Return a label in our units from frames' values under a key, and which frames have it.

    A value that is not finite is none. Stress without a volume is none. None if no frame has any.

    Raises
    ------
    WrongShape
        If the values have another shape or are no numbers.
    """
    found = frames.find(key)
    return None if found is None else _label_of(frames, label, key, found[1], options)


def _label_of(
    frames: Incoming, label: str, key: str, value: Value, options: LabelOptions
) -> tuple[Array, Array]:
    if label == "virial":
        return _virial(frames, key, value, options)
    n = frames.n_atoms
    shape = {"energy": (), "forces": (n, 3), "atomic_energies": (n,)}[label]
    if isinstance(value, list) or value.dtype.kind not in "fi":
        raise WrongShape(f"{key} is no number; {label} must be numbers of shape {shape}")
    array = value.reshape(-1) if label == "energy" and value[0].size == 1 else value
    if array.shape[1:] != shape:
        raise WrongShape(f"{key} has the shape {value.shape[1:]}; {label} must have {shape}")
    return array * options.factor("force" if label == "forces" else "energy"), _finite(array)


def _finite(array: Array) -> Array:
    found: Array = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    return found


def _virial(frames: Incoming, key: str, value: Value, options: LabelOptions) -> tuple[Array, Array]:
    if isinstance(value, list) or value.dtype.kind not in "fi" or value[0].size not in (6, 9):
        size = "no numbers" if isinstance(value, list) else f"the shape {value.shape[1:]}"
        raise WrongShape(f"{key} has {size}; a stress or virial must have 6 (Voigt) or 9")
    numbers = value.reshape(len(frames), -1).astype(np.float64)
    if value[0].size == 6:
        numbers = numbers[:, [0, 5, 4, 5, 1, 3, 4, 3, 2]]  # of xx yy zz yz xz xy
    matrix = numbers.reshape(-1, 3, 3)
    is_there = _finite(matrix)
    is_stress = key in options.stress or (key not in options.virial and key in STRESS_KEYS)
    if not is_stress:
        return matrix * options.factor("energy"), is_there
    volume = frames.volume
    scale: FloatArray = -volume * options.factor("stress")
    return scale[:, None, None] * matrix, is_there & (volume > 0)


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

    def label(self, frames: Incoming, label: str) -> Found | None:
        """Return the frames' label, each under the first of its keys; None if none has it."""
        found: Found | None = None
        for key in self.keys.get(label, ()):
            there = label_values(frames, label, key, self.options)
            if there is None or not there[1].any():
                continue
            values, has = there
            if found is None:
                found = Found((key,), np.where(has, 0, -1), values)
                continue
            new = has & (found.choice < 0)
            if new.any():
                choice = np.where(new, len(found.keys), found.choice)
                both = found.values.copy()
                both[new] = values[new]
                found = Found((*found.keys, key), choice, both)
        return found

    def labels(self, frames: Incoming) -> dict[str, Found]:
        """Return all labels of frames; an energy may be the sum of atomic energies."""
        found = {label: self.label(frames, label) for label in LABELS}
        made = {label: value for label, value in found.items() if value is not None}
        if "energy" not in self.keys and "atomic_energies" in made:
            parts = made["atomic_energies"]
            keys = tuple(f"the sum of {key}" for key in parts.keys)
            made["energy"] = Found(keys, parts.choice, parts.values.sum(axis=1))
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

    def see(self, frames: Incoming) -> None:
        """Take note of frames."""
        self.n_frames += len(frames)
        self.known |= {key for _, key in frames.values}
        for label, candidates in self._candidates.items():
            here: dict[str, tuple[Array, Array]] = {}
            for key in self._options.keys(label) or USUAL_KEYS[label]:
                try:
                    found = label_values(frames, label, key, self._options)
                except WrongShape as error:
                    if self._options.keys(label):
                        raise MlselError(f"{self._where(frames, 0)}: {error}.") from None
                    # Decided later: a usual name that holds something else is left alone.
                    self._wrong.setdefault(key, f"{self._where(frames, 0)}: {error}")
                    continue
                if found is not None and found[1].any():
                    self._refuse_two_places(frames, label, key, found)
                    here[key] = found
                    first = frames.source, int(frames.index[found[1].argmax()])
                    candidates.first[key] = min(first, candidates.first.get(key, first))
            self._compare(label, here, candidates, len(frames))

    def _refuse_two_places(
        self, frames: Incoming, label: str, key: str, found: tuple[Array, Array]
    ) -> None:
        """Raise if ASE keeps two different values under one label's key: one would be lost."""
        places = [place for place in PLACES if (place, key) in frames.values]
        differ = np.zeros(len(frames), dtype=bool)
        for place in places[1:]:
            try:
                values, has = _label_of(
                    frames, label, key, frames.values[place, key], self._options
                )
            except WrongShape:
                differ |= True
                continue
            close = np.isclose(values, found[0], 1e-8, 1e-8).reshape(len(frames), -1)
            differ |= ~has | ~close.all(axis=1)
        differ &= found[1]
        if differ.any():
            raise MlselError(
                f"{self._where(frames, int(differ.argmax()))} has two different values of {key}, "
                f"in ASE's {' and '.join(places)}, and {label} can be one of them only: give one "
                "of them another name."
            )

    def _compare(
        self,
        label: str,
        here: dict[str, tuple[Array, Array]],
        candidates: _Candidates,
        n_frames: int,
    ) -> None:
        """Take note of which keys frames have together, and of how far their values differ."""
        has = np.array([there for _, there in here.values()]).reshape(len(here), n_frames)
        for pattern, alike in distinct(has):
            keys = [key for key, there in zip(here, pattern, strict=True) if there]
            values = {key: here[key][0][alike].reshape(int(alike.sum()), -1) for key in keys}
            if label == "energy" and len(keys) > 1 and "free_energy" in keys:
                free = values.pop("free_energy")
                self._n_free += len(free)
                gaps = [float(np.abs(value - free).max()) for value in values.values()]
                self._free_energy = max(self._free_energy, *gaps)
            candidates.sets[frozenset(values)] += int(alike.sum())
            first, *others = values.values() or [np.empty((0, 0))]
            for value in others:
                scale = np.maximum(np.abs(first).max(axis=1), 1e-3)
                gap = float((np.abs(value - first).max(axis=1) / scale).max())
                candidates.difference = max(candidates.difference, gap)

    def _where(self, frames: Incoming, k: int) -> str:
        return f"{self._sources[frames.source]}, frame {frames.index[k]}"

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
        if self._n_free and self._free_energy > 0 and "free_energy" not in taken:
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
