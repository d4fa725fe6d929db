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
