"""Every stage killed at counted operations on the disk: what it leaves in the end is what a stage
that was left alone leaves, file by file.

Points are all operations of a small study; a seeded sample of them is tried, all where `slow`.
"""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mlsel.cli import _told as told
from mlsel.core import files
from mlsel.core.parallel import world
from mlsel.evaluate.stage import evaluate
from mlsel.generate import generate
from mlsel.selection.stage import select_study
from mlsel.study.study import load_study
from mlsel.training.stage import train_study
from mlsel.validate.stage import validate
from tests.support import run_mlsel, run_with_signal
from tests.support.crash_points import WRITES, FullDisk, contents, count, sample, try_points
from tests.support.training_data import frames, write_pool

Work = Callable[[], object]

MD = """
[system]
species = ["Na", "Cl"]
potential = "nacl-tosi-fumi"
n_atoms = 64
[pool]
temperatures = [1300, 1800]
pressures = [1]
melt_temperature = 3000
melt = 0.02
equilibration = 0.02
frames_per_run = 6
sampling_interval = 10
checkpoint_interval = 20
[validation]
models = []
repeats = 1
n_atoms = 64
density_time = 0.1
equilibration = 0.02
duration = 0.08
nve = 0.02
block = 0.02
sampling_interval = 10
trajectory_interval = 10
checkpoint_interval = 0.02
rdf_cutoff = 6.0
rdf_bins = 30
"""
LEARNING = """
[system]
species = ["Na", "Cl"]
potential = "nacl-tosi-fumi"
[pool]
temperatures = [1400]
pressures = [1]
[selection]
methods = ["random", "force"]
test_methods = ["random", "force"]
n_train = 6
n_validation = 2
n_test = 4
[training]
kinds = ["schnet"]
[training.schnet]
sizes = ["small"]
energy_weights = [0.01]
cutoff = 4.0
n_train = 6
max_epochs = 2
"""


def generation(folder: Path) -> Work:
    study = load_study(str(_written(folder, MD)), [])
    return lambda: generate(study, folder / "tiny", world())


def validation(folder: Path) -> Work:
    study = load_study(str(_written(folder, MD)), [])
    return lambda: validate(study, folder / "tiny", world())


def selection(folder: Path) -> Work:
    study = load_study(str(_written(folder, LEARNING)), [])
    write_pool(folder / "tiny" / "pool.h5", [frames(30)])
    return lambda: select_study(study, folder / "tiny", world())


def training(folder: Path) -> Work:
    study = load_study(str(_written(folder, LEARNING)), ['selection.methods=["random"]'])
    data = folder / "tiny" / "data"
    write_pool(data / "random.h5", [frames(6)])
    write_pool(data / "random-validation.h5", [frames(2, seed=2)])
    return lambda: train_study(study, folder / "tiny", world())


def evaluation(trained: Path, folder: Path) -> Work:
    study = load_study(str(_written(folder, LEARNING)), ['selection.methods=["random"]'])
    shutil.copytree(trained, folder / "tiny")
    parts = json.dumps([{"method": "random", "n": 300}])
    write_pool(folder / "tiny" / "data" / "test.h5", [frames(300, seed=9)], parts=parts)
    return lambda: evaluate(study, folder / "tiny", world())


def _written(folder: Path, text: str) -> Path:
    path = folder.parent / "tiny.toml"  # a study's folder keeps where it came from
    path.write_text(text, encoding="utf-8")
    return path


SAMPLED = pytest.param(5, id="sample")
ALL = pytest.param(None, id="all", marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    training(folder)()
    return folder / "tiny"


MAKERS: dict[str, Callable[[Path], Work]] = {
    "generate": generation,
    "validate": validation,
    "selection": selection,
    "training": training,
}


def command(stage: str, folder: Path) -> list[str | Path]:
    """Return the words that do in a folder's subfolder what a maker's work does."""
    words: list[str | Path] = [stage, folder / "tiny.toml", "-o", "tiny"]
    if stage in ("training", "evaluate"):
        words += ["--set", 'selection.methods=["random"]']
    return words


@pytest.mark.parametrize(
    ("stage", "named"),
    [
        ("generate", "*.restart"),
        ("validate", "*/reference/*.restart"),
        ("selection", "*/random.h5"),
        ("training", "*/checkpoint.pt"),
        ("evaluate", "*.npz"),
    ],
)
def test_a_rank_of_two_is_killed(stage: str, named: str, trained: Path, tmp_path: Path) -> None:
    """A real SIGKILL, right after a file has got its name."""
    makers: dict[str, Callable[[Path], Work]] = {
        **MAKERS, "evaluate": partial(evaluation, trained)
    }  # fmt: skip
    make, words = makers[stage], command(stage, tmp_path)
    for name in ("alone", "killed"):
        (tmp_path / name).mkdir()
        make(tmp_path / name)
    done = run_mlsel(*words, ranks=2, cwd=tmp_path / "alone", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    killed = run_with_signal(signal.SIGKILL, named, *words, ranks=2, cwd=tmp_path / "killed")
    assert killed.returncode != 0
    done = run_mlsel(*words, ranks=2, cwd=tmp_path / "killed", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "killed") == contents(tmp_path / "alone")


def full(stage: Callable[[Path], Work], folder: Path, size: int | None, number: int) -> None:
    """Check that a full disk is a sentence and that, with room again, the twin's files come out."""
    twin = folder / "twin"
    twin.mkdir()
    work = stage(twin)
    whole = count(work)
    expected = contents(twin)
    writes = [k for k, kind in enumerate(whole.kinds, 1) if kind.split()[0] in WRITES]
    for place in sample(len(writes), size):
        k = writes[place - 1]
        there = folder / f"full-{k}"
        there.mkdir()
        work = stage(there)
        with pytest.raises(OSError) as caught, files.operations(FullDisk(k, number)):
            work()
        assert caught.value.errno == number and told(caught.value), f"{k}: {whole.kinds[k - 1]}"
        work()
        assert contents(there) == expected, f"{k}: {whole.kinds[k - 1]}"


@pytest.mark.parametrize("size", [SAMPLED, ALL])
@pytest.mark.parametrize("stage", [generation, validation, selection, training])
def test_full_disk(stage: Callable[[Path], Work], size: int | None, tmp_path: Path) -> None:
    full(stage, tmp_path, size, errno.ENOSPC)


def test_input_output_error(tmp_path: Path) -> None:
    full(selection, tmp_path, 8, errno.EIO)


@pytest.mark.parametrize("size", [SAMPLED, ALL])
@pytest.mark.parametrize("stage", [generation, validation, selection, training])
def test_stage(stage: Callable[[Path], Work], size: int | None, tmp_path: Path) -> None:
    try_points(stage, tmp_path, size)


@pytest.mark.parametrize("size", [SAMPLED, ALL])
def test_evaluation(trained: Path, size: int | None, tmp_path: Path) -> None:
    try_points(partial(evaluation, trained), tmp_path, size)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["generate", "validate", "selection", "training"])
def test_a_disk_that_is_really_full(stage: str, tmp_path: Path) -> None:
    """On a file system of a few sizes, where this user may mount one: never a crash."""
    make, words = MAKERS[stage], command(stage, tmp_path)
    alone = tmp_path / "alone"
    alone.mkdir()
    make(alone)
    done = run_mlsel(*words, cwd=alone, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    used = sum(path.stat().st_size for path in alone.rglob("*"))
    disk = tmp_path / "disk"
    disk.mkdir()
    n_full = 0
    for share in (0.4, 0.55, 0.7, 0.85, 0.95, 1.05):
        kib = max(64, int(share * used) // 1024)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("this user may not mount")
        try:
            try:
                make(disk)
            except OSError:
                continue  # not even the input fits
            done = run_mlsel(*words, cwd=disk, OMP_NUM_THREADS="1")
            assert done.returncode in (0, 2), done.stderr
            if done.returncode:
                n_full += 1
                assert "disk is full" in done.stderr, done.stderr
                assert "Traceback" not in done.stderr, done.stderr
            subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
            done = run_mlsel(*words, cwd=disk, OMP_NUM_THREADS="1")
            assert done.returncode == 0, done.stderr
            assert contents(disk) == contents(alone)
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    assert n_full
