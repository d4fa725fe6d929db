"""What a schnetpack model's energy is made of: its modules' keys followed from first to last.

Every module of schnetpack reads keys of one dictionary and writes others. An energy is a sum of
terms, each with a factor, and of offsets; whatever else a module writes is known to be something
else. A module that is not known here may write anything, so that it is refused by its name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from mlsel.core.errors import MlselError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Sum:
    """Σ factor × term + Σ offsets over atoms, in the model's units."""

    terms: tuple[tuple[Any, float], ...]
    mean: float = 0.0
    references: Array | None = None
    """By atomic number."""

    def __add__(self, other: Sum) -> Sum:
        references = self.references
        if other.references is not None:
            references = other.references + (0.0 if references is None else references)
        return Sum(self.terms + other.terms, self.mean + other.mean, references)

    def times(self, factor: float) -> Sum:
        return Sum(
            tuple((term, factor * own) for term, own in self.terms),
            factor * self.mean,
            None if self.references is None else factor * self.references,
        )


@dataclass(frozen=True)
class Other:
    """What no file for pair_style schnet can hold, with the reason."""

    why: str


@dataclass(frozen=True)
class Energy:
    """The energy that the model's forces are derived from."""

    key: str
    readout: Any
    scale: float
    repulsion: Any | None
    repulsion_scale: float
    mean: float
    references: Array | None
    force_key: str | None
    left_out: tuple[str, ...]
    """Outputs that are no part of the energy: "dipole_moment (DipoleMoment)"."""

    @classmethod
    def of(cls, model: Any) -> Energy:
        """Follow the modules of a NeuralNetworkPotential.

        Raises
        ------
        MlselError
            If the energy has a part that cannot be exported, or if a module is not known.
        """
        keys = _Keys()
        for module in model.output_modules:
            keys.apply(module, "output module")
        if model.do_postprocessing:
            for module in model.postprocessors:
                keys.apply(module, "postprocessor")
        elif any(not _is_cast(module) for module in model.postprocessors):
            raise MlselError(
                "The model was saved with do_postprocessing off, without which its energies lack "
                f"{', '.join(_names(model.postprocessors))}: set model.do_postprocessing = True "
                "and save it again."
            )
        return keys.energy()


def _names(modules: Any) -> list[str]:
    return [type(module).__name__ for module in modules]


def _is_cast(module: Any) -> bool:
    from schnetpack.transform import CastMap, CastTo32, CastTo64

    return type(module) in (CastMap, CastTo32, CastTo64) and all(
        kind in ("float32", "float64") for pair in module.type_map.items() for kind in pair
    )


class _Keys:
    """What stands under each key of schnetpack's dictionary."""

    def __init__(self) -> None:
        self.values: dict[str, Sum | Other] = {}
        self.written_by: dict[str, str] = {}
        self.parts: set[str] = set()
        """Keys that a sum took up."""
        self.forces: dict[str, tuple[str, Sum | Other]] = {}
        """Key of forces → key of their energy, and what their slope is, with their own factors."""

    def write(self, key: str, value: Sum | Other, module: Any) -> None:
        self.values[key] = value
        self.written_by[key] = type(module).__name__

    def apply(self, module: Any, role: str) -> None:
        import schnetpack.atomistic as atomistic
        import schnetpack.transform as transform

        from mlsel.export_model.elemental import ElementalAtomwise

        kind = type(module)  # exactly: a class derived from one of these may do something else
        name = kind.__name__
        if kind in (atomistic.Atomwise, ElementalAtomwise):
            self.atomwise(module)
        elif kind is atomistic.Forces:
            value = self.values.get(module.energy_key, Other(f"{module.energy_key} is missing"))
            self.forces[module.force_key] = module.energy_key, value
        elif kind is atomistic.ZBLRepulsionEnergy:
            self.write(module.output_key, Sum(((module, 1.0),)), module)
        elif kind is atomistic.Aggregation:
            self.aggregation(module)
        elif kind in (atomistic.EnergyCoulomb, atomistic.EnergyEwald):
            why = (
                f"{name} is part of the energy, and a file for pair_style schnet holds no "
                "charges: train the network on what charges leave over, and add them in LAMMPS by "
                "pair_style hybrid/overlay (coul/long)"
            )
            self.write(module.output_key, Other(why), module)
        elif kind is atomistic.DipoleMoment:
            for key in (module.dipole_key, module.charges_key):
                self.write(key, Other(f"{key} is DipoleMoment's, no energy"), module)
        elif kind is atomistic.Polarizability:
            key = module.polarizability_key
            self.write(key, Other(f"{key} is Polarizability's, no energy"), module)
        elif kind is transform.ScaleProperty:
            self.scale(module)
        elif kind is transform.AddOffsets:
            self.offsets(module)
        elif not _is_cast(module):
            raise MlselError(
                f"The {role} {name} cannot be exported: nothing is known here of what it does to "
                "the energy. Known are Atomwise, Forces, Aggregation, ZBLRepulsionEnergy, "
                "AddOffsets, ScaleProperty, CastTo32 and CastTo64."
            )

    def atomwise(self, module: Any) -> None:
        if module.per_atom_output_key is not None:
            why = f"{module.per_atom_output_key} holds an energy for each atom, not their sum"
            self.write(module.per_atom_output_key, Other(why), module)
        value: Sum | Other = Sum(((module, 1.0),))
        if module.n_out != 1:
            value = Other(f"the Atomwise of {module.output_key} has n_out = {module.n_out}, not 1")
        elif module.aggregation_mode != "sum":
            value = Other(
                f"the Atomwise of {module.output_key} has aggregation_mode = "
                f"{module.aggregation_mode!r}; only a sum over atoms can be exported"
            )
        self.write(module.output_key, value, module)

    def aggregation(self, module: Any) -> None:
        self.parts.update(module.keys)
        total = Sum(())
        for key in module.keys:
            value = self.values.get(key, Other(f"nothing is known here of {key} in Aggregation"))
            if isinstance(value, Other):
                self.write(module.output_key, value, module)
                return
            total = total + value
        self.write(module.output_key, total, module)

    def scale(self, module: Any) -> None:
        factor = float(module.scale.detach())
        source, target = module.input_key, module.output_key
        if source in self.values:
            value = self.values[source]
            self.write(target, value.times(factor) if isinstance(value, Sum) else value, module)
        if source in self.forces:
            energy_key, value = self.forces[source]
            self.forces[target] = (
                energy_key, value.times(factor) if isinstance(value, Sum) else value,
            )  # fmt: skip

    def offsets(self, module: Any) -> None:
        key = module._property
        if key in self.forces:
            raise MlselError(f"AddOffsets changes the forces, {key}: that cannot be exported.")
        value = self.values.get(key)
        if not isinstance(value, Sum):
            return
        if not module.is_extensive:
            why = f"AddOffsets of {key} has is_extensive = False; only offsets for each atom can be"
            self.write(key, Other(f"{why} exported"), module)
            return
        if module.add_mean:
            value = replace(value, mean=value.mean + float(module.mean.detach()))
        if module.add_atomrefs:
            own = module.atomref.detach().cpu().double().numpy().ravel()
            value = value + Sum((), 0.0, own)
        self.values[key] = value

    def energy_key(self) -> str:
        keys = sorted({key for key, _ in self.forces.values()})
        if not keys:  # no forces: the one energy that no other is made of
            left = {key: value for key, value in self.values.items() if key not in self.parts}
            keys = [key for key, value in left.items() if isinstance(value, Sum)]
            if not keys:
                reasons = [value.why for value in left.values() if isinstance(value, Other)]
                raise MlselError(
                    "The model has no energy that can be exported: "
                    f"{'; '.join(reasons[:2]) or 'it has no output module'}."
                )
        if len(keys) != 1:
            raise MlselError(
                f"The model has {len(keys)} energies ({', '.join(keys)}), "
                "and one can be exported: let Forces say which it is."
            )
        return keys[0]

    def energy(self) -> Energy:
        import schnetpack.atomistic as atomistic

        from mlsel.export_model.elemental import ElementalAtomwise

        key = self.energy_key()
        value = self.values.get(key, Other(f"no output module gives {key}"))
        if isinstance(value, Other):
            raise MlselError(f"The energy {key!r} cannot be exported: {value.why}.")
        networks = (atomistic.Atomwise, ElementalAtomwise)
        readouts = [one for one in value.terms if type(one[0]) in networks]
        repulsions = [one for one in value.terms if type(one[0]) is atomistic.ZBLRepulsionEnergy]
        if len(readouts) != 1 or len(repulsions) > 1:
            raise MlselError(
                f"The energy {key} is a sum of {', '.join(_names(t for t, _ in value.terms))}: "
                "one Atomwise and at most one ZBLRepulsionEnergy can be exported."
            )
        self.check_forces(key, value)
        repulsion, repulsion_scale = repulsions[0] if repulsions else (None, 0.0)
        used = self.parts | {key} | set(self.forces)
        return Energy(
            key=key,
            readout=readouts[0][0],
            scale=readouts[0][1],
            repulsion=repulsion,
            repulsion_scale=repulsion_scale,
            mean=value.mean,
            references=value.references,
            force_key=next(iter(self.forces), None),
            left_out=tuple(
                f"{one} ({by})" for one, by in self.written_by.items()
                if one not in used and one != readouts[0][0].per_atom_output_key
            ),
        )  # fmt: skip

    def check_forces(self, key: str, value: Sum) -> None:
        """The pair style's forces are the slope of its energy; the model's must be, too."""
        for force_key, (_, source) in self.forces.items():
            if isinstance(source, Other):
                raise MlselError(f"The energy of {force_key} cannot be exported: {source.why}.")
            factors = {id(term): factor for term, factor in source.terms}
            for term, factor in value.terms:
                own = factors.pop(id(term), 0.0)
                if not math.isclose(own, factor, rel_tol=1e-6):
                    raise MlselError(
                        f"ScaleProperty and Forces do not fit: the model's energy {key!r} has "
                        f"{type(term).__name__} {factor:g} times and its forces {force_key!r} are "
                        f"the slope of {own:g} times that, and LAMMPS needs forces that are the "
                        f"slope of the energy. Scale both alike ({key!r} and {force_key!r})."
                    )
            if factors:
                raise MlselError(
                    f"The forces {force_key!r} are the slope of more than the energy {key!r} has."
                )


def reach(function: Any) -> float:
    """Return the distance from which on a cutoff function is zero, in the model's units."""
    from schnetpack.nn import SwitchFunction

    end = function.switch_off if type(function) is SwitchFunction else function.cutoff
    return float(end.detach())
