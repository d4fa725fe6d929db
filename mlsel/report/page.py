"""A self-contained HTML page: text, tables that sort, pictures within; nothing from the network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: #2563a8; }
@media (prefers-color-scheme: dark) { :root { --link: #8ab8ec; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 68rem; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
a { color: var(--link); overflow-wrap: anywhere; }
figure { margin: 1rem 0; } figcaption { font-size: .9rem; }
figure img { width: 100%; height: auto; background: #fff; border-radius: 4px; }
.beside { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
.beside > div { border-left: 3px solid var(--line); padding-left: .8rem; }
.beside h4 { margin: 0; font-size: .85rem; opacity: .75; }
.beside p { margin: .2rem 0; font-size: .95rem; }
@media (max-width: 40rem) { .beside { grid-template-columns: 1fr; } }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; width: 100%; }
th, td { padding: .3rem .6rem; text-align: left; border-bottom: 1px solid var(--line);
         vertical-align: top; }
th { cursor: pointer; white-space: nowrap; background: var(--soft); }
th[aria-sort=ascending]::after { content: " \\2191"; }
th[aria-sort=descending]::after { content: " \\2193"; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums;
                       white-space: nowrap; }
td.long { min-width: 16rem; }
.word { font-weight: 600; min-width: 7rem; }
.agrees-within-what-was-run::before { content: "\\25CF "; color: #2a9d5c; }
.not-judged::before { content: "\\25CB "; }
.differs::before { content: "\\25B2 "; color: #d39b1f; }
.unphysical::before, .blown-up::before { content: "\\25A0 "; color: #c8412f; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem; font-size: .9rem; }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin: 0 0 .4rem 1rem; } }
details { font-size: .9rem; }
@media print {
  :root { color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  figure, tr, .beside { break-inside: avoid; }
  h2 { break-after: avoid; }
  .wide { overflow: visible; } table { font-size: 7.5pt; }
  th[aria-sort]::after { content: ""; }
}
"""

SCRIPT = """
for (const head of document.querySelectorAll("th")) {
  head.tabIndex = 0;
  const sort = () => {
    const table = head.closest("table"), body = table.tBodies[0];
    const column = head.cellIndex, down = head.getAttribute("aria-sort") === "ascending";
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const number = text => text.trim() === "" ? NaN : Number(text);
    const rows = [...body.rows].sort((a, b) => {
      const x = value(a), y = value(b), m = number(x), n = number(y);
      if (isNaN(m) && isNaN(n)) return (down ? -1 : 1) * x.localeCompare(y);
      if (isNaN(m) || isNaN(n)) return isNaN(m) ? 1 : -1;
      return (down ? -1 : 1) * (m - n);
    });
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows);
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
}
"""


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
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{body}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


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
    data = base64.b64encode(svg.read_bytes()).decode("ascii")
    files = " · ".join(
        link(path.relative_to(folder).as_posix(), path.suffix[1:].upper())
        for path in (svg, png)
        if path.is_file()
    )
    return (
        f'<figure><img alt="{escape(alternative, quote=True)}" '
        f'src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{escape(caption)} ({files})</figcaption></figure>"
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
    heads = "".join(
        f"<th{' class="number"' if key in numeric else ''}>{escape(head)}</th>"
        for key, head in columns.items()
    )
    body = "\n".join(
        "<tr>" + "".join(_cell(key, row.get(key), key in numeric) for key in columns) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
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
