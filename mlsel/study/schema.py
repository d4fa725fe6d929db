"""Dataclasses as sections of a TOML file: declared with units and bounds, read strictly.

A mistake is one sentence: the file, the key, the value found and the values allowed.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from mlsel.core.errors import MlselError, nearest


def quantity(
    default: Any = dataclasses.MISSING,
    *,
    unit: str = "",
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    choices: Sequence[Any] | None = None,
    one_or_more: bool = False,
    doc: str = "",
) -> Any:
    """Declare a field of a section: its default, unit and the values allowed.

    Bounds and choices hold for each element where the field is a list.
    """
    bounds = {
        "unit": unit,
        "at_least": at_least,
        "above": above,
        "at_most": at_most,
        "choices": choices,
        "one_or_more": one_or_more,
        "doc": doc,
    }
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=bounds)
    return field(default=default, metadata=bounds)


def set_key(values: dict[str, Any], override: str) -> None:
    """Put "section.key=value" into TOML's values; a bare word is a string."""
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or len(path) < 2 or not all(path):
        raise MlselError(f"--set {override}: write section.key=value, for instance pool.seed=7.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = values
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise MlselError(f"--set {override}: {part} is a value, not a section.")
    table[path[-1]] = value


def build(section: Any, values: Mapping[str, Any], source: str, prefix: str = "") -> Any:
    """Return a section made of TOML's values, checked, or raise MlselError.

    Parameters
    ----------
    section : dataclass
    source : str
        What the values come from, for the messages.
    prefix : str
        Where the section stands, "" or ending with a dot.
    """
    hints = typing.get_type_hints(section)
    fields = {f.name: f for f in dataclasses.fields(section)}
    for key in values:
        if key not in fields:
            known = [k for k in fields if prefix or k not in ("name", "source")]
            where = f"section [{prefix[:-1]}] has" if prefix else "a study has the sections"
            raise MlselError(
                f"{source}: unknown key {prefix}{key}{nearest(key, known)}; "
                f"{where} {', '.join(known)}."
            )
    made = {}
    for name, declared in fields.items():
        if name in values:
            made[name] = _convert(
                values[name], hints[name], declared.metadata, source, f"{prefix}{name}"
            )
        elif dataclasses.is_dataclass(hints[name]):
            made[name] = build(hints[name], {}, source, f"{prefix}{name}.")
        elif (
            declared.default is dataclasses.MISSING
            and declared.default_factory is dataclasses.MISSING
        ):
            hint = _allowed(hints[name], declared.metadata)
            raise MlselError(f"{source}: {prefix}{name} is missing: give {hint}.")
    result = section(**made)
    problem = result.check() if hasattr(result, "check") else None
    if problem:
        raise MlselError(f"{source}: {problem}.")
    return result


def _convert(value: Any, hint: Any, meta: Mapping[str, Any], source: str, key: str) -> Any:
    """Return a TOML value as the type declared, or raise with both sides."""

    def refuse() -> MlselError:
        return MlselError(f"{source}: {key} is {_show(value)}: it must be {_allowed(hint, meta)}.")

    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise refuse()
        return build(hint, value, source, f"{key}.")
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        (inner,) = (h for h in typing.get_args(hint) if h is not type(None))
        return _convert(value, inner, meta, source, key)
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise refuse()
        inner = typing.get_args(hint)[1]
        return {k: _convert(v, inner, meta, source, f"{key}.{k}") for k, v in value.items()}
    if origin is tuple:
        inner = typing.get_args(hint)[0]
        if isinstance(value, dict) and inner is float:
            value = _series(value, source, key)
        if not isinstance(value, list) or (meta.get("one_or_more") and not value):
            raise refuse()
        return tuple(
            _convert(element, inner, meta, source, f"{key}[{i}]") for i, element in enumerate(value)
        )
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise refuse()
    low, above, high = meta.get("at_least"), meta.get("above"), meta.get("at_most")
    if (
        (low is not None and value < low)
        or (above is not None and value <= above)
        or (high is not None and value > high)
    ):
        raise refuse()
    choices = meta.get("choices")
    if choices is not None and value not in choices:
        raise MlselError(
            f"{source}: {key} is {_show(value)}{nearest(str(value), map(str, choices))}; "
            f"it must be {_allowed(hint, meta)}."
        )
    return value


def _series(value: dict[str, Any], source: str, key: str) -> list[float]:
    """Expand { from = 900, to = 2200, n = 16 }, evenly spaced, or in the logarithm if log."""
    form = "{ from = number, to = number, n = whole number above 0, log = true or false }"
    known = {"from", "to", "n", "log"}
    ends = value.get("from"), value.get("to")
    n, log = value.get("n"), value.get("log", False)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if not (numbers and type(n) is int and n > 0 and type(log) is bool and value.keys() <= known):
        raise MlselError(f"{source}: {key} is {_show(value)}: it must be a list or {form}.")
    first, last = (float(end) for end in ends if end is not None)
    if log and min(first, last) <= 0:
        raise MlselError(f"{source}: {key} is {_show(value)}: with log both ends must be above 0.")
    if log:
        first, last = math.log(first), math.log(last)
    points = [first + (last - first) * i / max(1, n - 1) for i in range(n)]
    return [math.exp(p) for p in points] if log else points


_TYPE_NAMES = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}


def _allowed(hint: Any, meta: Mapping[str, Any]) -> str:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        hint = next(h for h in typing.get_args(hint) if h is not type(None))
        origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return "a section"
    if origin in (dict, Mapping):
        return "a table"
    if origin is tuple:
        some = "one or more " if meta.get("one_or_more") else ""
        element = _allowed(typing.get_args(hint)[0], {**meta, "doc": ""})
        text = f"a list of {some}values, each {element}"
    else:
        text = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}[
            hint
        ]
        if meta.get("choices") is not None:
            text = "one of " + ", ".join(map(str, meta["choices"]))
        if meta.get("unit"):
            text += f" ({meta['unit']})"
        limits = {"above": "above", "at_least": "at least", "at_most": "at most"}
        given = [f"{word} {meta[k]:g}" for k, word in limits.items() if meta.get(k) is not None]
        if given:
            text += " " + " and ".join(given)
    if meta.get("doc"):
        text += f" ({meta['doc']})"
    return text


def _show(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def plain(value: Any) -> Any:
    """Return a value with lists in place of tuples, as JSON and TOML know them."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def default_values(section: Any) -> dict[str, Any]:
    """Return the defaults of a section's keys; keys that have none are left out."""
    hints, found = typing.get_type_hints(section), {}
    for declared in dataclasses.fields(section):
        if dataclasses.is_dataclass(hints[declared.name]):
            found[declared.name] = default_values(hints[declared.name])
        elif declared.default is not dataclasses.MISSING:
            found[declared.name] = declared.default
        elif declared.default_factory is not dataclasses.MISSING:
            found[declared.name] = declared.default_factory()
    return found
