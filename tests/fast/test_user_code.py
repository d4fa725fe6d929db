"""The hash of a user's own module: every edit of what it imports beside it is one, nothing else."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from mlsel.core.user_code import code_digest

FILES = {
    "calculators/__init__.py": "from .tables import *\n",
    "calculators/dft.py": "import numpy\nfrom calculators import tables\nfrom .more.deep import x",
    "calculators/tables.py": "import mine_beside\nk = 1\n",
    "calculators/more/__init__.py": "",
    "calculators/more/deep.py": "from ... import nothing_there\nfrom ..tables import k as x\n",
    "mine_beside.py": "import mlsel.core.errors\nimport calculators.dft\n",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in {**FILES, "unrelated.py": "", "calculators/unused.py": ""}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("calculators", "calculators.tables", "mine_beside", "brittle"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.fixture
def forgotten() -> object:
    """What a test imported is imported no more after it."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("calculators", "mine_beside"):
            del sys.modules[name]


@pytest.mark.parametrize("name", FILES)
def test_an_edit_of_what_is_imported_is_noticed(name: str, place: Path) -> None:
    (place / "calculators/more/deep.py").write_text("from ..tables import k as x\n")
    path = place / name
    before = code_digest("mine_beside")
    assert before and code_digest("mine_beside") == before
    path.write_text(path.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
    assert code_digest("mine_beside") != before


@pytest.mark.parametrize("name", ["unrelated.py", "calculators/unused.py"])
def test_an_edit_of_anything_else_is_none(name: str, place: Path) -> None:
    before = code_digest("mine_beside")
    (place / name).write_text("# edited\n", encoding="utf-8")
    assert code_digest("mine_beside") == before


@pytest.mark.usefixtures("forgotten")
def test_what_runs_is_what_was_imported(place: Path) -> None:
    path = place / "mine_beside.py"
    path.write_text("k = 1\n", encoding="utf-8")
    importlib.import_module("mine_beside")
    before = code_digest("mine_beside")
    path.write_text("k = 22\n", encoding="utf-8")
    assert code_digest("mine_beside") == before
    del sys.modules["mine_beside"]
    assert code_digest("mine_beside") != before


def test_what_is_not_here_has_no_hash(place: Path) -> None:
    (place / "brittle.py").write_text("from (\n", encoding="utf-8")
    assert code_digest("brittle")
    for name in ("no_such_module", "calculators.no_such", "no_such.module", "sys", "", ".a"):
        assert code_digest(name) == ""


def test_of_what_is_installed_the_file_counts() -> None:
    assert code_digest("ase.calculators.emt") != code_digest("ase.calculators.lj") != ""
