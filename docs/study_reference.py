"""A hook of MkDocs: the keys of the study file, written from what its sections declare."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from mlsel.study.schema import key_of
from mlsel.study.study import Study

MARK = "<!-- every key of the study file -->"
WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the reference where a page asks for it."""
    return markdown.replace(MARK, "\n".join(section_lines(Study))) if MARK in markdown else markdown


def section_lines(section: Any, name: str = "") -> Iterator[str]:
    """Yield the Markdown of a section, and then of the sections in it."""
    hints = typing.get_type_hints(section)
    inner = {f.name: hints[f.name] for f in dataclasses.fields(section)}
    keys = [
        f
        for f in dataclasses.fields(section)
        if name and not dataclasses.is_dataclass(hints[f.name])
    ]
    if name:
        yield from (f"\n## [{name}]\n", *_paragraphs(section), "")
    if keys:
        yield "| key | default | allowed | unit | meaning |"
        yield "|---|---|---|---|---|"
    for field in keys:
        cells = (
            f"`{key_of(field.name)}`",
            _default(field),
            _allowed(hints[field.name], field.metadata),
            field.metadata.get("unit", ""),
            field.metadata.get("doc", ""),
        )
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    for key, hint in inner.items():
        if dataclasses.is_dataclass(hint):
            yield from section_lines(hint, f"{name}.{key}" if name else key)


def _paragraphs(section: Any) -> list[str]:
    return [line.strip() for line in (section.__doc__ or "").splitlines()]


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{_toml(field.default)}`"
    if field.default_factory is not dataclasses.MISSING:
        return f"`{_toml(field.default_factory())}`"
    return "**must be given**"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _allowed(hint: Any, meta: Mapping[str, Any]) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        least = "one or more, each a " if meta.get("one_or_more") else ""
        return f"list: {least}{_allowed(arguments[0], meta)}"
    if origin is not None and issubclass(origin, Mapping):
        if dataclasses.is_dataclass(arguments[1]):
            return "a section by name"
        return f"table: {_allowed(arguments[1], meta)} by name"
    if meta.get("choices") is not None:
        return ", ".join(f"`{_toml(choice)}`" for choice in meta["choices"])
    signs = {"above": ">", "at_least": "≥", "at_most": "≤"}
    bounds = [f"{sign} {meta[key]:g}" for key, sign in signs.items() if meta.get(key) is not None]
    words = next((WORDS[part] for part in (hint, *arguments) if part in WORDS), "value")
    return " ".join([words, ", ".join(bounds)]).strip()
