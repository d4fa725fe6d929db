"""`make setup`: Python is found where it is, and a linked environment is left alone."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def python(path: Path, version: str = "3.12.1", missing: str = "") -> Path:
    """Make a program that does what a Python of that version at that place would do."""
    changes = f"sys._base_executable = {str(path)!r}; sys.version_info = "
    changes += f"{tuple(map(int, version.split('.')))}; sys.modules.update({{{missing}}})"
    return program(
        path, f'exec {sys.executable} -c "import sys; {changes}; exec(sys.argv[1])" "$2"'
    )


def find(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the finder with this environment alone; /usr, /opt and the home lie in `folder`."""
    bash = shutil.which("bash")
    assert bash is not None
    return subprocess.run(
        [bash, ROOT / ".ci" / "find-python", folder / "root"],
        env={"PATH": str(folder / "bin"), "HOME": "", **environment},
        capture_output=True,
        text=True,
    )


def on_path(folder: Path) -> Path:
    return python(folder / "bin/python3.13", "3.13.0")


def behind_a_broken_shim(folder: Path) -> Path:
    """A shim that is on PATH and ends with 127, as pyenv's do; `pyenv root` knows the place."""
    program(folder / "bin/python3.12", "echo 'pyenv: python3.12: command not found' >&2; exit 127")
    program(folder / "bin/pyenv", f"echo {folder}/roots/pyenv")
    return python(folder / "roots/pyenv/versions/3.12.7/bin/python3")


def beside_pyenv(folder: Path) -> Path:
    """HOME is empty and `pyenv root` tells a folder that is not there."""
    program(folder / "bin/pyenv", "echo /.pyenv")
    return python(folder / "versions/3.13.0/bin/python3", "3.13.0")


def in_the_users_own_home(folder: Path) -> Path:
    return python(
        Path(f"{folder}/root{pwd.getpwuid(os.getuid()).pw_dir}/.pyenv/versions/3.12.1/bin/python3")
    )


def of_uv(folder: Path) -> Path:
    made = python(folder / "uv/cpython-3.12/bin/python3.12")
    program(folder / "bin/uv", f'[ "$2 $3" = "find 3.12" ] && echo {made}')
    return made


def that_uv_installs(folder: Path) -> Path:
    made = folder / "uv/cpython-3.12/bin/python3.12"
    kept = python(folder / "kept")
    kept.write_text(kept.read_text().replace(str(kept), str(made)))
    program(
        folder / "bin/uv",
        f'case "$2" in\ninstall) {shutil.which("mkdir")} -p {made.parent}\n'
        f"  {shutil.which('cp')} {kept} {made} ;;\nfind) [ -x {made} ] && echo {made} ;;\nesac",
    )
    return made


def of_condas_environment(folder: Path) -> Path:
    python(folder / "root/opt/miniconda3/bin/python3", "3.11.5")
    return python(folder / "root/opt/miniconda3/envs/new/bin/python3", "3.13.2")


def of_python_org(folder: Path) -> Path:
    return python(folder / "root/usr/local/bin/python3.12")


LAYOUTS = [
    on_path,
    behind_a_broken_shim,
    beside_pyenv,
    in_the_users_own_home,
    of_uv,
    that_uv_installs,
    of_condas_environment,
    of_python_org,
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_python_is_found(layout: Callable[[Path], Path], tmp_path: Path) -> None:
    python(tmp_path / "bin/python3", "3.11.2")
    wanted = layout(tmp_path)
    found = find(tmp_path)
    assert (found.returncode, found.stdout) == (0, f"{wanted}\n"), found.stderr


def test_one_that_is_too_old_too_new_or_incomplete_is_passed_over(tmp_path: Path) -> None:
    python(tmp_path / "bin/python3", "3.11.2")
    python(tmp_path / "bin/python", "3.14.0")
    python(tmp_path / "bin/python3.12", missing="'ensurepip': None")  # Debian without python3-venv
    found = find(tmp_path)
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.count("\n") == 1 and len(found.stderr) <= 400
    assert "3.12 or 3.13" in found.stderr and "install python3.12" in found.stderr


def test_a_linked_environment_is_left_alone(tmp_path: Path) -> None:
    """`venv --clear` empties what the link points to."""
    there = tmp_path / "another"
    there.mkdir()
    (there / "kept").touch()
    (tmp_path / ".venv").symlink_to(there)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(["make", "setup"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert f".venv is a symbolic link to {there}" in done.stderr
    assert [path.name for path in there.iterdir()] == ["kept"]
