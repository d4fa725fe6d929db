"""The compiler has nothing to say of our C++. Users' builds do not stop at a warning of another
compiler's; here one is an error."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from mlsel.core import native
from mlsel.plugins import builder

ROOT = Path(__file__).parents[2]
ELSEWHERE = sorted(
    path for path in (ROOT / "mlsel").rglob("*.cpp") if path.parent != builder.SOURCES
)


def test_the_plugins_were_built_without_warnings(plugins: Path) -> None:
    manifest = json.loads((plugins / builder.MANIFEST).read_text())
    assert {"-Wall", "-Wextra"} < set(builder.COMMON_FLAGS)
    assert manifest["warnings"] == []


@pytest.mark.parametrize("path", ELSEWHERE, ids=lambda path: path.name)
def test_no_warnings_elsewhere(path: Path) -> None:
    flags = [*native.NATIVE, "-fopenmp", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    ended = subprocess.run(["g++", *flags, str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
