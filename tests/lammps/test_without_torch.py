"""Without torch, schnetpack and quippy: what doesn't use them works, what does names them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import environment, write_study
from tests.support.labelled import write_trajectory

HIDDEN = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "schnetpack", "quippy"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
from mlsel.__main__ import console
sys.exit(console())
"""


def mlsel(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDDEN, *words],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_what_needs_none_of_them_works(tmp_path: Path) -> None:
    write_trajectory(tmp_path / "traj.extxyz")
    write_study(tmp_path)
    for command in (
        "import traj.extxyz pool.h5",
        "info pool.h5",
        "selection --pool pool.h5 --method force -n 20 --seed 1 -o train.h5",
        "export train.h5 train.extxyz",
        "generate tiny.toml",
    ):
        done = mlsel(tmp_path, *command.split())
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("model", "keys", "needed"),
    [
        ("schnet-small", (), "torch"),
        ("gap", ("--set", 'training.gap.fit="gap_fit"'), "quippy-ase"),
    ],
)
def test_a_stage_that_needs_one_names_it(
    tmp_path: Path, model: str, keys: tuple[str, ...], needed: str
) -> None:
    write_trajectory(tmp_path / "traj.extxyz")
    assert mlsel(tmp_path, "import", "traj.extxyz", "pool.h5").returncode == 0
    done = mlsel(tmp_path, "training", "--data", "pool.h5", "--model", model, "-o", "model", *keys)
    assert done.returncode == 2
    said = done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and len(said) <= 400
    assert f"needs {needed}" in said and "pip install" in said
