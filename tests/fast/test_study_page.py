"""The page of the study says what its tables say."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

STUDY = Path(__file__).parents[2] / "docs" / "study"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"study_{name}", STUDY / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["README.md", "index.md", "results.md"])
def test_tables_of_a_page_are_those_of_the_data(name: str) -> None:
    page = load("page")
    path = next(p for p in page.PAGES if p.name == name)
    assert page.written(path) == path.read_text(encoding="utf-8")


def test_ranks_and_their_correlation() -> None:
    page = load("page")
    assert page.ranks([3.0, 1.0, 2.0, 1.0]).tolist() == [3.0, 0.5, 2.0, 0.5]
    # Spearman's 1904 formula, 1 − 6 Σ d² / n (n² − 1), for ranks without ties: d = 1, 1, 0, 0
    r, _ = page.spearman([1, 2, 3, 4], [20, 10, 30, 40])
    assert abs(r - 0.8) < 1e-12
