"""A self-contained HTML page: text, tables that sort, pictures within; nothing from the network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path


@dataclass(frozen=True)
class Shown:
    """A number that is sorted by its value and shown as a text."""

    value: float
    text: str

    def __float__(self) -> float:
        return self.value


Cell = str | float | int | Shown | None


def page(title: str, parts: Sequence[str]) -> str:
    """Return the whole page."""
    body = "\n".join(parts)
    scripts = "".join(f"<script>{_file(name)}</script>\n" for name in ("page.js", "pool_map.js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_file('page.css')}</style>\n</head>\n<body>\n"
        f"{body}\n{scripts}</body>\n</html>\n"
    )


def _file(name: str) -> str:
    """The text of a file that lies beside this module."""
    return (resources.files("mlsel.report") / name).read_text(encoding="utf-8")


def answer(sentences: Sequence[str], note: str = "") -> str:
    """Return the answer: its first sentence large, the others and a note below."""
    first, *others = sentences
    below = "".join(f"<p>{escape(sentence)}</p>" for sentence in others)
    small = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        '<section class="answer"><h2>The answer</h2>'
        f'<p class="first">{escape(first)}</p>{below}{small}</section>'
    )


def listed(texts: Sequence[str]) -> str:
    """Return a list of texts."""
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def chips(values: Mapping[str, Cell]) -> str:
    """Return names with their numbers, side by side as far as the window is wide."""
    each = "".join(
        f"<span><b>{escape(name)}</b> {_shown(value) if value is not None else '–'}</span>"
        for name, value in values.items()
    )
    return f'<div class="chips">{each}</div>'


def heading(text: str, level: int = 2) -> str:
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def link(path: str, text: str = "") -> str:
    """Return a link to a file beside the page."""
    from urllib.parse import quote

    return f'<a href="{quote(path)}">{escape(text or path)}</a>'


def picture(svg: Path, png: Path, caption: str, alternative: str, folder: Path) -> str:
    """Return a figure: the SVG inside the page, with links to both files."""
    files = " · ".join(
        link(path.relative_to(folder).as_posix(), path.suffix[1:].upper())
        for path in (svg, png)
        if path.is_file()
    )
    return drawing(svg.read_bytes(), f"{escape(caption)} ({files})", alternative)


def drawing(svg: bytes, caption: str, alternative: str) -> str:
    """Return a figure that has no files beside the page; the caption is HTML."""
    data = base64.b64encode(svg).decode("ascii")
    return (
        f'<figure><img alt="{escape(alternative, quote=True)}" '
        f'src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def beside(theirs: str, ours: str) -> str:
    """Return the paper's statement beside ours."""
    return (
        f'<div class="beside"><div><h4>The paper</h4><p>{escape(theirs)}</p></div>'
        f"<div><h4>Here</h4><p>{escape(ours)}</p></div></div>"
    )


def table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Cell]]) -> str:
    """Return a table that sorts by a click on a column's head.

    Parameters
    ----------
    columns : mapping
        Key in the rows, and head.
    rows : sequence of mappings
        Numbers are shown to four digits, or as their text, and sorted by their value; None is a
        dash.

    Examples
    --------
    >>> print(table({"a": "A"}, [{"a": 0.123456}]).split("<tbody>")[1].split("</tbody>")[0])
    <tr><td class="number" data-value="0.123456">0.1235</td></tr>
    """
    numeric = {
        key
        for key in columns
        if rows and all(isinstance(row.get(key), int | float | Shown | None) for row in rows)
    }
    body = "\n".join(
        "<tr>" + "".join(_cell(key, row.get(key), key in numeric) for key in columns) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{_heads(columns, numeric)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def table_with_details(
    columns: Mapping[str, str], rows: Sequence[tuple[Mapping[str, Cell], str]]
) -> str:
    """Return a table in which something stands under each row, over the whole width.

    Parameters
    ----------
    columns : mapping
        Key in the rows, and head.
    rows : sequence of (mapping, HTML)
    """
    numeric = {
        key
        for key in columns
        if all(isinstance(row.get(key), int | float | Shown | None) for row, _ in rows)
    }
    body = "\n".join(
        "<tbody><tr>"
        + "".join(_cell(key, row.get(key), key in numeric) for key in columns)
        + f'</tr><tr class="details"><td colspan="{len(columns)}">{details}</td></tr></tbody>'
        for row, details in rows
    )
    return (
        f'<table class="detailed"><thead><tr>{_heads(columns, numeric)}</tr></thead>{body}</table>'
    )


def _heads(columns: Mapping[str, str], numeric: set[str]) -> str:
    return "".join(
        f"<th{' class="number"' if key in numeric else ''}>{escape(head)}</th>"
        for key, head in columns.items()
    )


def _cell(key: str, value: Cell, is_number: bool) -> str:
    if is_number:
        if value is None:
            return '<td class="number" data-value="">–</td>'
        number = value.value if isinstance(value, Shown) else value
        return f'<td class="number" data-value="{number}">{_shown(value)}</td>'
    text = str(value if value is not None else "–")
    if key == "word":
        return f'<td class="word {text.replace(" ", "-")}">{escape(text)}</td>'
    return f"<td{' class="long"' if len(text) > 60 else ''}>{escape(text)}</td>"


def _shown(value: Cell) -> str:
    if isinstance(value, Shown):
        return escape(value.text)
    if isinstance(value, int):
        return f"{value}"
    return f"{value:.4g}".replace("-", "−", 1) if isinstance(value, float) else str(value)


def definitions(values: Mapping[str, object]) -> str:
    """Return a list of names and what they stand for."""
    rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in values.items())
    return f"<dl>{rows}</dl>"


def folded(summary: str, inner: str) -> str:
    """Return something that opens at a click."""
    return f"<details><summary>{escape(summary)}</summary>{inner}</details>"
