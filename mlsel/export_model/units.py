"""Units of a model's energies and lengths: what they are called, and where they are told.

schnetpack keeps no units in a model. spktrain leaves config.yaml beside best_model, whose
`data.property_units` and `data.distance_unit` name them; where it says nothing the numbers are
those of the database that it names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import units

from mlsel.core.errors import MlselError

ENERGIES = {
    "eV": 1.0,
    "meV": 1e-3,
    "kcal/mol": units.kcal / units.mol,
    "kJ/mol": units.kJ / units.mol,
    "Ha": units.Hartree,
    "Hartree": units.Hartree,
    "Ry": units.Rydberg,
    "Rydberg": units.Rydberg,
}
"""eV."""
LENGTHS = {
    "Ang": 1.0,
    "Angstrom": 1.0,
    "nm": 10.0,
    "Bohr": units.Bohr,
    "a0": units.Bohr,
}
"""Å."""
CONFIG = "config.yaml"


def in_ev(unit: str | float, source: str) -> float:
    """Return how many eV an energy's unit is; `source` is where it stands, for the sentence.

    >>> in_ev("kcal/mol", "--energy-unit") == in_ev("kcal / mol", "config.yaml")
    True
    """
    return _factor(unit, ENERGIES, "an energy", "eV", source)


def in_angstrom(unit: str | float, source: str) -> float:
    """Return how many Å a length's unit is.

    >>> in_angstrom("nm", "--length-unit")
    10.0
    """
    return _factor(unit, LENGTHS, "a length", "Å", source)


def _factor(
    unit: str | float, known: dict[str, float], quantity: str, ours: str, source: str
) -> float:
    text = str(unit).replace(" ", "")
    if text in known:
        return known[text]
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise MlselError(
            f"{source} has {unit!r}, which is no unit of {quantity} known here: "
            f"{', '.join(known)}, or the number of {ours} in one."
        )
    return number


@dataclass(frozen=True)
class ToldUnits:
    """The units that stand beside a model, and where; None where nothing tells."""

    energy: str | float | None = None
    length: str | float | None = None
    config: str = ""
    energy_source: str = ""
    length_source: str = ""

    @classmethod
    def beside(cls, model: Path, energy_key: str) -> ToldUnits:
        """Look into config.yaml in the folder of `model`, and the database that it names.

        Raises
        ------
        MlselError
            If there is a config.yaml that cannot be read.
        """
        from omegaconf import OmegaConf

        path = model.absolute().parent / CONFIG
        if not path.is_file():
            return cls()
        try:
            config = OmegaConf.load(path)
            given = OmegaConf.select(config, "data.property_units") or {}
            energy = given.get(_target(config, energy_key))
            length = OmegaConf.select(config, "data.distance_unit")
        except Exception as error:  # YAML's, omegaconf's, no mapping where one is due
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise MlselError(
                f"{path} cannot be read for the model's units ({reason[0][:120]}): "
                "give --energy-unit and --length-unit."
            ) from None
        sources = [str(path), str(path)]
        if energy is None or length is None:
            stored, database = _stored_units(config)
            if energy is None:
                energy = (stored.get("_property_unit_dict") or {}).get(_target(config, energy_key))
                sources[0] = database
            if length is None:
                length, sources[1] = stored.get("_distance_unit"), database
        return cls(energy, length, str(path), *sources)


def _target(config: Any, energy_key: str) -> str:
    """The property of the data that the model's output was trained on: its unit's key."""
    from omegaconf import OmegaConf

    for output in OmegaConf.select(config, "task.outputs") or ():
        if output.get("name") == energy_key:
            return str(output.get("target_property") or energy_key)
    return energy_key


def _stored_units(config: Any) -> tuple[dict[str, Any], str]:
    """What the database of the training data says of its units, and its path; empty if it is not
    there."""
    from ase.db import connect
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        path = OmegaConf.select(config, "data.datapath")
    except OmegaConfBaseException:  # ${hydra:…}: the folder that training was started in
        return {}, ""
    if not isinstance(path, str) or not Path(path).is_file():
        return {}, ""
    try:
        metadata = connect(path, use_lock_file=False).metadata
    except Exception:  # no database of ASE's: then it tells no units
        return {}, ""
    return dict(metadata), path
