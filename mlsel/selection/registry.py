"""The registry of methods. A new one is a module with a subclass of `Selector` and a line here."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from mlsel.core.errors import nearest
from mlsel.selection.base import Selector, refuse
from mlsel.selection.binned.flat import FlatAtomicEnergy, FlatForce
from mlsel.selection.binned.uniform import (
    UniformAtomicEnergy,
    UniformForce,
    UniformGlobalEnergy,
    UniformPairEnergy,
)
from mlsel.selection.methods.at_random import Random, SingleMDRandom
from mlsel.selection.methods.committee import Committee
from mlsel.selection.methods.cur import Cur
from mlsel.selection.methods.direct import Direct
from mlsel.selection.methods.entropy import Entropy
from mlsel.selection.methods.force_fps import ForceFarthestPoint
from mlsel.selection.methods.fps import FarthestPoint
from mlsel.selection.methods.network_distillation import NetworkDistillation
from mlsel.selection.methods.set_cover import SetCover

_CLASSES: tuple[type[Selector], ...] = (
    Random,
    SingleMDRandom,
    UniformGlobalEnergy,
    UniformAtomicEnergy,
    UniformPairEnergy,
    UniformForce,
    FlatAtomicEnergy,
    FlatForce,
    FarthestPoint,
    ForceFarthestPoint,
    Direct,
    Cur,
    Entropy,
    SetCover,
    NetworkDistillation,
    Committee,
)

METHODS: dict[str, type[Selector]] = {kind.name: kind for kind in _CLASSES}
PAPER_METHODS = ("random", "single-md-random", "global-energy", "atomic-energy", "force")


def make_selector(method: str, parameters: Mapping[str, Any] | None = None) -> Selector:
    """Return a method by its name, with parameters.

    Raises
    ------
    MlselError
        If there is no such method or parameter (the nearest one is named), or a value is wrong.

    Examples
    --------
    >>> make_selector("atomic-energy", {"species": "Na"})
    UniformAtomicEnergy(bins=512, species='Na')
    """
    if method not in METHODS:
        raise refuse(
            f"there is no method {method}{nearest(method, METHODS)}: "
            f"the methods are {', '.join(METHODS)}."
        )
    kind = METHODS[method]
    hints = typing.get_type_hints(kind)
    known = list(kind.defaults())
    values = {}
    for name, value in (parameters or {}).items():
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise refuse(f"{method} has no parameter {name}{nearest(name, known)}: {has}.")
        values[name] = _typed(method, name, value, hints[name])
    made: Selector = kind(**values)
    return made


def _typed(method: str, name: str, value: Any, hint: Any) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    if hint in words and type(value) is not hint:
        raise refuse(f"{method}: {name} is {value!r}: it must be {words[hint]}.")
    return value
