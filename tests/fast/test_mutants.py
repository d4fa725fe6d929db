"""The table of mutants: each can be tried. `make mutants` tries them."""

from __future__ import annotations

import re

import pytest

from tests.mutants.run import ROOT, problem
from tests.mutants.table import MUTANTS, Mutant


def test_names_are_unique() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 60


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutants_text_and_tests_are_there(mutant: Mutant) -> None:
    assert problem(mutant) == ""
    assert mutant.becomes != mutant.text and mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        wanted = rf"^ *def {name.partition('[')[0]}\(" if name else "^ *>>> "
        assert re.search(wanted, text, re.MULTILINE), test
