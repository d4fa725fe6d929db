"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import make_pool


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of four short runs of 64 ions, made once."""
    return make_pool(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def tiny_pool(tiny_folder: Path) -> Path:
    """Its pool."""
    return tiny_folder / "pool.h5"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the pair styles' tests first.

    When QUIP gives a file up it calls the abort function of whoever loaded its library first. That
    of pair_style quip is an error of LAMMPS's, that of quippy ends the process: where a test before
    imported quippy, a refused file would end the tests. (docs/pair-styles.md tells users.)
    """
    plugins = Path(__file__).parent / "plugins"
    items.sort(key=lambda item: not item.path.is_relative_to(plugins))
