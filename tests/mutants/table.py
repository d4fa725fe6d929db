"""The mutants, as they stand in mutants.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """A change and the tests that must notice it.

    Attributes
    ----------
    name : unique
    file : from the root of the repository
    text, becomes : what stands in the file exactly once, and what it is replaced by
    wrong : what would go wrong, in a line
    tests : ids for pytest
    survives : why nothing notices it yet, "" where the tests do
    """

    name: str
    file: str
    text: str
    becomes: str
    wrong: str
    tests: tuple[str, ...]
    survives: str = ""


def _read() -> tuple[Mutant, ...]:
    found = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text(encoding="utf-8"))
    return tuple(Mutant(**{**row, "tests": tuple(row["tests"])}) for row in found["mutant"])


MUTANTS = _read()
