"""LAMMPS decks on disk: made from the templates in lammps_inputs/, read back by their sections.

A deck is a plain LAMMPS input file. Its values stand in `variable NAME index VALUE` lines, which
`lmp -var` overrides; comment lines "# [name]" divide it into sections, so that a session can run
them one by one. What is executed is what stands in the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from mlsel.core.errors import MlselError, nearest
from mlsel.core.provenance import file_digest
from mlsel.core.record import Record

_SECTION = re.compile(r"^# \[(.+)\]\s*$")
_VARIABLE = re.compile(r'^(variable\s+)(\w+)(\s+index\s+)("[^"]*"|\S+)', re.MULTILINE)


def packaged_folder(name: str) -> Path:
    """Return lammps_inputs/ or potentials/: inside an installed mlsel, or beside its sources."""
    installed = Path(str(resources.files("mlsel"))) / name
    return installed if installed.is_dir() else installed.parent.parent / name


def template(name: str) -> str:
    """Return the text of a deck template in lammps_inputs/."""
    return (packaged_folder("lammps_inputs") / name).read_text(encoding="utf-8")


def fill(text: str, values: Mapping[str, object]) -> str:
    """Return a deck with other defaults of its variables.

    >>> fill("variable temperature index 1400.0  # K", {"temperature": 900.0})
    'variable temperature index 900.0  # K'
    >>> fill('variable pairs index "1 1"', {"pairs": "1 1 1 2"})
    'variable pairs index "1 1 1 2"'
    """
    missing = set(values) - {match[2] for match in _VARIABLE.finditer(text)}
    if missing:
        raise ValueError(f"the deck has no variable {', '.join(sorted(missing))}")

    def replace(match: re.Match[str]) -> str:
        name = match[2]
        value = str(values.get(name, match[4]))
        if " " in value and not value.startswith('"'):
            value = f'"{value}"'
        return match[1] + name + match[3] + value

    return _VARIABLE.sub(replace, text)


def sections(text: str) -> dict[str, list[str]]:
    """Return the lines of each section of a deck; "" is what stands before the first."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in text.splitlines():
        heading = _SECTION.match(line)
        if heading:
            name = heading[1]
            found[name] = []
        else:
            found[name].append(line)
    return found


def potential_names() -> list[str]:
    """Return the names of the potentials that come with mlsel."""
    return sorted(path.stem for path in packaged_folder("potentials").glob("*.lmp"))


def files_named(text: str) -> dict[str, str]:
    """Return a hash of each file that LAMMPS commands name, by its name: tables, coefficients,
    other includes and what these name. What is no file, seen from here, is none of them."""
    found: dict[str, str] = {}
    waiting = [text]
    while waiting:
        for line in re.sub(r"&[ \t]*\n", " ", waiting.pop()).splitlines():
            words = [word.strip("\"'") for word in line.partition("#")[0].split()]
            for word in words[1:]:
                if word in found or not _is_file(word):
                    continue
                found[word] = file_digest(Path(word))
                if words[0] == "include":
                    waiting.append(Path(word).read_text(encoding="utf-8", errors="replace"))
    return found


FILES = "potential_files"
"""Key of a record: the files that a potential names, which an earlier mlsel did not look at."""


def files_since(text: str, record: Record) -> dict[str, dict[str, str]]:
    """Return hashes of the files that a potential names, under their key in a record.

    Where there is a record they are those of the files in it: what is not here has not changed, and
    a potential that names others is another text.
    """
    found = files_named(text)
    try:
        recorded = record.read()
    except MlselError:  # damaged; whoever uses it tells
        recorded = None
    if recorded is None:
        return {FILES: found}
    known = recorded.get(FILES)
    if known is None:
        return {}
    return {FILES: {name: found.get(name, of) for name, of in known.items()}}


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):  # a word that is too long for a name
        return False


def read_potential(name: str, species: tuple[str, ...]) -> str:
    """Return the text of a potential: a name in potentials/, or the path of a LAMMPS include.

    Raises
    ------
    MlselError
        If there is none, or if it says that it is for other species or another order of them.
    """
    path = Path(name)
    if not path.is_file():
        path = packaged_folder("potentials") / f"{name}.lmp"
    if not path.is_file():
        known = potential_names()
        raise MlselError(
            f'system.potential is "{name}"{nearest(name, known)}: give the path of a LAMMPS '
            f"include file, or one of {', '.join(known)}."
        )
    text = path.read_text(encoding="utf-8")
    stated = re.search(r"^#\s*species:\s*(.+)$", text, re.MULTILINE)
    if stated and tuple(stated[1].split()) != species:
        raise MlselError(
            f"system.species is {' '.join(species)}, but the potential {name} is for "
            f"{stated[1].strip()}, in this order."
        )
    return text
