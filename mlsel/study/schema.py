"""Dataclasses as sections of a TOML file: declared with units and bounds, read strictly.

A mistake is one sentence: the file, the key, the value found and the values allowed.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from mlsel.core.errors import MlselError, nearest, shortened
from mlsel.study.toml_text import MAX_DEPTH, parse_toml

MAX_SERIES = 10_000
"""Values of { from, to, n }."""
MAX_TEXT = 1000
MAX_INTEGER = 2**31 - 1
"""LAMMPS's integers have no more."""
MAX_NUMBER, MIN_NUMBER = 1e12, 1e-15
"""In size; 0 apart."""
NOT_IN_A_FILE = ("name", "source", "part")
"""Of a study: what the others are asked for by, or what says where it is from."""


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


def key_of(name: str) -> str:
    """Return a field's key in the file: `import_` is `import`, which Python keeps for itself."""
    return name.rstrip("_")


def set_key(values: dict[str, Any], override: str) -> None:
    """Put "section.key=value" into TOML's values; a bare word is a string."""
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    override = shortened(override, 100)
    if not equals or not 2 <= len(path) <= MAX_DEPTH or not all(path):
        raise MlselError(f"--set {override}: write section.key=value, for instance pool.seed=7.")
    try:
        value = parse_toml(f"value = {text}", f"--set {override}")["value"]
    except MlselError:
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
    fields = {key_of(f.name): f for f in dataclasses.fields(section)}
    for key in values:
        if key not in fields:
            known = [k for k in fields if prefix or k not in NOT_IN_A_FILE]
            where = f"section [{prefix[:-1]}] has" if prefix else "a study has the sections"
            listed = shortened(", ".join(known), 200)
            raise MlselError(
                f"{source}: unknown key {prefix}{shortened(key, 40)}{nearest(key, known)}; "
                f"{where} {listed}."
            )
    made = {}
    for key, declared in fields.items():
        hint = hints[declared.name]
        if key in values:
            made[declared.name] = _convert(
                values[key], hint, declared.metadata, source, f"{prefix}{key}"
            )
        elif dataclasses.is_dataclass(hint):
            made[declared.name] = build(hint, {}, source, f"{prefix}{key}.")
        elif (
            declared.default is dataclasses.MISSING
            and declared.default_factory is dataclasses.MISSING
        ):
            allowed = _allowed(hint, declared.metadata)
            raise MlselError(f"{source}: {prefix}{key} is missing: give {allowed}.")
    result = section(**made)
    problem = result.check() if hasattr(result, "check") else None
    if problem:
        raise MlselError(f"{source}: {problem}.")
    return result


def _convert(value: Any, hint: Any, meta: Mapping[str, Any], source: str, key: str) -> Any:
    """Return a TOML value as the type declared, or raise with both sides."""

    def refuse() -> MlselError:
        return MlselError(f"{source}: {key} is {_show(value)}: it must be {_allowed(hint, meta)}.")

    if hint is Any:
        return value
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
        for name in value:
            _check_text(name, source, key)
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
    if type(value) is int and abs(value) > MAX_INTEGER:
        raise _too_large(value, f"from {-MAX_INTEGER} to {MAX_INTEGER}", source, key)
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise refuse()
    if hint is str:
        _check_text(value, source, key)
    low, above, high = meta.get("at_least"), meta.get("above"), meta.get("at_most")
    if (
        (low is not None and value < low)
        or (above is not None and value <= above)
        or (high is not None and value > high)
    ):
        raise refuse()
    if hint is float and value and not MIN_NUMBER <= abs(value) <= MAX_NUMBER:
        limits = f"from {MIN_NUMBER:g} to {MAX_NUMBER:g} in size, or 0"
        raise _too_large(value, limits, source, key)
    choices = meta.get("choices")
    if choices is not None and value not in choices:
        raise MlselError(
            f"{source}: {key} is {_show(value)}{nearest(str(value), map(str, choices))}; "
            f"it must be {_allowed(hint, meta)}."
        )
    return value


def _series(value: dict[str, Any], source: str, key: str) -> list[float]:
    """Expand { from = 900, to = 2200, n = 16 }, evenly spaced, or in the logarithm if log."""
    form = (
        "{ from = number, to = number, n = whole number above 0 "
        f"and at most {MAX_SERIES}, log = true or false }}"
    )
    known = {"from", "to", "n", "log"}
    ends = value.get("from"), value.get("to")
    n, log = value.get("n"), value.get("log", False)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if numbers:
        numbers = all(abs(end) <= MAX_NUMBER for end in ends if end is not None)
    counted = type(n) is int and 0 < n <= MAX_SERIES
    if not (numbers and counted and type(log) is bool and value.keys() <= known):
        raise MlselError(f"{source}: {key} is {_show(value)}: it must be a list or {form}.")
    first, last = (float(end) for end in ends if end is not None)
    if log and min(first, last) <= 0:
        raise MlselError(f"{source}: {key} is {_show(value)}: with log both ends must be above 0.")
    if log:
        first, last = math.log(first), math.log(last)
    assert n is not None
    points = [first + (last - first) * i / max(1, n - 1) for i in range(n)]
    return [math.exp(p) for p in points] if log else points


def _check_text(value: str, source: str, key: str) -> None:
    if len(value) > MAX_TEXT or not value.isprintable():
        raise MlselError(
            f"{source}: {key} is {_show(value)}: it must be a text of at most {MAX_TEXT} "
            "characters, without control characters."
        )


def _too_large(value: float, limits: str, source: str, key: str) -> MlselError:
    return MlselError(f"{source}: {key} is {_show(value)}: it must be a number {limits}.")


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
        return f'"{shortened(value, 60)}"'
    if isinstance(value, bool):
        return str(value).lower()
    if type(value) is int and abs(value) > MAX_INTEGER:
        return f"a number of {value.bit_length() * 3 // 10 + 1} digits or so"
    return f"{value:g}" if isinstance(value, float) else shortened(_text(value), 80)


def _text(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # Python's limit on the digits of a number
        return "…"


def replaced(section: Any, values: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section's values with others in their place: sections key by key, and the value of
    a key whole, were it a table.

    Parameters
    ----------
    section : dataclass
    values : mapping
        All of its values, as `values_of` gives them.
    others : mapping
        Some, by the keys of the file; keys that it has not stay for `build` to refuse.
    """
    hints = typing.get_type_hints(section)
    inner = {key_of(f.name): hints[f.name] for f in dataclasses.fields(section)}
    found = dict(values)
    for key, value in others.items():
        is_section = dataclasses.is_dataclass(inner.get(key)) and isinstance(value, Mapping)
        found[key] = replaced(inner[key], values[key], value) if is_section else value
    return found


def plain(value: Any) -> Any:
    """Return a value with lists in place of tuples, as JSON and TOML know them."""
    if dataclasses.is_dataclass(value):
        return values_of(value)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def values_of(section: Any) -> dict[str, Any]:
    """Return a section's values by the keys of the file."""
    found = {}
    for declared in dataclasses.fields(section):
        found[key_of(declared.name)] = plain(getattr(section, declared.name))
    return found


def default_values(section: Any) -> dict[str, Any]:
    """Return the defaults of a section's keys; keys that have none are left out."""
    hints, found = typing.get_type_hints(section), {}
    for declared in dataclasses.fields(section):
        key = key_of(declared.name)
        if dataclasses.is_dataclass(hints[declared.name]):
            found[key] = default_values(hints[declared.name])
        elif declared.default is not dataclasses.MISSING:
            found[key] = declared.default
        elif declared.default_factory is not dataclasses.MISSING:
            found[key] = declared.default_factory()
    return found
