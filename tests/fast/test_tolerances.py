"""How near two numbers must be has a name that says why (`tests.support.Tolerance`)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
WORDS = ("atol", "rtol", "abs", "rel")
SMALLEST = 0.005
"""Above it stand bounds of what is drawn by chance or is physics, each with its own reason."""


def bare(source: str) -> list[int]:
    """Return the lines where a tolerance is given by a number."""
    return [
        number.lineno
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg in WORDS
        for number in ast.walk(keyword.value)
        if isinstance(number, ast.Constant)
        and isinstance(number.value, float)
        and 0 < number.value < SMALLEST
    ]


@pytest.mark.parametrize("folder", sorted(p.name for p in TESTS.iterdir() if p.is_dir()))
def test_no_tolerance_is_a_bare_number(folder: str) -> None:
    found = {
        str(path.relative_to(TESTS)): lines
        for path in sorted((TESTS / folder).rglob("*.py"))
        if (lines := bare(path.read_text(encoding="utf-8")))
    }
    assert not found


def test_a_bare_number_is_found() -> None:
    assert bare("approx(1.0,\n rel=2 * 1e-6)\nallclose(a, b, rtol=0, atol=Tolerance.SUMS)") == [2]
