"""Every stage killed at counted operations on the disk, and every write of it refused: what it
leaves in the end is what a stage that was left alone leaves, file by file.

A seeded sample of the points is tried by `make test`, all of them by `make crash-points`.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mlsel.core.parallel import world
from mlsel.core.shards import Part
from mlsel.evaluate.probes import probe_study
from mlsel.evaluate.stage import evaluate
from mlsel.generate import generate
from mlsel.selection.stage import select_study
from mlsel.study.study import load_study
from mlsel.training.stage import train_study
from mlsel.validate.stage import validate
from tests.support import run_killed, run_mlsel, run_with_signal
from tests.support.crash_points import (
    Again,
    Prepare,
    Trial,
    Work,
    again_points,
    at_the_kth,
    contents,
    count,
)
from tests.support.training_data import frames, write_pool

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
density_parts = 2
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
[training.gap]
n_train = 6
n_sparse = [10]
n_max = 3
l_max = 2
cutoff = 4.0
atom_sigma = 0.6
"""
RANDOM = 'selection.methods=["random"]'


def generation(folder: Path) -> Work:
    study = load_study(str(_written(folder, MD)), [])
    return lambda: generate(study, folder / "tiny", world())


def measured_generation(folder: Path) -> Work:
    """Runs that measure their correlation times and then choose how far apart frames are."""
    steps = {"stretch": 0.04, "record_interval": 2, "least_interval": 1, "greatest_interval": 2}
    overrides = [f"pool.correlation.{key}={value}" for key, value in steps.items()]
    overrides += ["pool.temperatures=[1300]", "pool.sampling=correlation"]
    study = load_study(str(_written(folder, MD)), overrides)
    return lambda: generate(study, folder / "tiny", world())


def validation(folder: Path) -> Work:
    study = load_study(str(_written(folder, MD)), [])
    return lambda: validate(study, folder / "tiny", world())


def selection(folder: Path) -> Work:
    study = load_study(str(_written(folder, LEARNING)), [])
    write_pool(folder / "tiny" / "pool.h5", [frames(30)])
    return lambda: select_study(study, folder / "tiny", world())


def training(folder: Path, kind: str = "schnet", *changes: str) -> Work:
    overrides = [RANDOM, f'training.kinds=["{kind}"]', *changes]
    study = load_study(str(_written(folder, LEARNING)), overrides)
    data = folder / "tiny" / "data"
    write_pool(data / "random.h5", [frames(6)])
    write_pool(data / "random-validation.h5", [frames(2, seed=2)])
    return lambda: train_study(study, folder / "tiny", world())


def evaluation(trained: Path, folder: Path) -> Work:
    study = load_study(str(_written(folder, LEARNING)), [RANDOM])
    shutil.copytree(trained, folder / "tiny")
    parts = json.dumps([{"method": "random", "n": 300}])
    write_pool(folder / "tiny" / "data" / "test.h5", [frames(300, seed=9)], parts=parts)
    return lambda: evaluate(study, folder / "tiny", world())


def probing(trained: Path, folder: Path) -> Work:
    study = load_study(str(_written(folder, LEARNING)), [RANDOM])
    shutil.copytree(trained, folder / "tiny")
    write_pool(folder / "tiny" / "data" / "test.h5", [frames(2, seed=9, side=4)])
    return lambda: probe_study(study, folder / "tiny", world())


def own_gap(folder: Path) -> Work:
    """A GAP that mlsel fits itself."""
    return training(folder, "gap", "training.gap.fit=own")


def _written(folder: Path, text: str) -> Path:
    path = folder.parent / "tiny.toml"  # a study's folder keeps where it came from
    path.write_text(text, encoding="utf-8")
    return path


def models(folder: Path) -> Work:
    """Several models at once, of two kinds."""
    return training(folder, "schnet", 'training.kinds=["schnet","pair"]')


def part_of_models(folder: Path, part: Part) -> Work:
    overrides = [RANDOM, 'training.kinds=["schnet","pair"]']
    study = load_study(str(_written(folder, LEARNING)), overrides)
    return lambda: train_study(study, folder / "tiny", world(), part=part)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    training(folder, "pair")()
    return folder / "tiny"


MAKERS: dict[str, Prepare] = {
    "generate": generation,
    "correlation": measured_generation,
    "validate": validation,
    "selection": selection,
    "training": training,
    "gap": partial(training, kind="gap"),
    "own-gap": own_gap,
    "pair": partial(training, kind="pair"),
    "models": models,
}
STAGES = [*MAKERS, "evaluate", "probe"]
FEW = {"gap": 2, "own-gap": 2, "evaluate": 2, "training": 2}
"""Points of a sample where a start is slow; of the others four."""
SAMPLED = [stage for stage in STAGES if stage not in ("correlation", "models", "probe", "evaluate")]


def prepare(stage: str, trained: Path) -> Prepare:
    made: dict[str, Prepare] = {
        **MAKERS, "evaluate": partial(evaluation, trained), "probe": partial(probing, trained)
    }  # fmt: skip
    return made[stage]


@pytest.mark.parametrize("stage", SAMPLED)
def test_some_points(stage: str, trained: Path, tmp_path: Path) -> None:
    trial, size = Trial(prepare(stage, trained), tmp_path), FEW.get(stage, 4)
    assert trial.kills(size) >= size
    assert trial.refusals(max(1, size // 2)) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_all_points(stage: str, trained: Path, tmp_path: Path) -> None:
    trial = Trial(prepare(stage, trained), tmp_path)
    assert trial.kills() >= len(trial.points)
    pieces = sum(point.n_alike for point in trial.writes)
    n_refused = trial.refusals(every_piece=stage == "selection")
    assert n_refused >= 2 * (pieces if stage == "selection" else len(trial.writes))


def selected_again(folder: Path) -> Again:
    def work(seed: int, again: bool) -> None:
        study = load_study(str(_written(folder, LEARNING)), [f"selection.seed={seed}"])
        select_study(study, folder / "tiny", world(), again=again)

    selection(folder)
    work(1, False)
    return partial(work, 2), lambda: work(1, False)


def trained_again(folder: Path, kind: str, key: str) -> Again:
    def work(change: str, again: bool) -> None:
        overrides = [RANDOM, f'training.kinds=["{kind}"]', change]
        study = load_study(str(_written(folder, LEARNING)), overrides)
        train_study(study, folder / "tiny", world(), again=again)

    training(folder, kind)
    before, after = (f"training.{kind}.{key}={value}" for value in KEYS[key])
    work(before, False)
    return partial(work, after), lambda: work(before, False)


KEYS: dict[str, tuple[object, object]] = {
    "seed": (1, 2),
    "spacing": (0.25, 0.5),
    "temperature": (1400.0, 1500.0),
    "duration": (0.08, 0.06),
}


def validated_again(folder: Path, key: str) -> Again:
    def work(value: object, again: bool) -> object:
        study = load_study(str(_written(folder, MD)), [f"validation.{key}={value}"])
        return validate(study, folder / "tiny", world(), again=again)

    before, after = KEYS[key]
    work(before, False)
    return partial(work, after), lambda: work(before, False)


AGAIN: dict[str, Callable[[Path], Again]] = {
    "selection": selected_again,
    "training": partial(trained_again, kind="schnet", key="seed"),
    "gap": partial(trained_again, kind="gap", key="seed"),
    "pair": partial(trained_again, kind="pair", key="spacing"),
    "validate-temperature": partial(validated_again, key="temperature"),
    "validate-duration": partial(validated_again, key="duration"),
}


@pytest.mark.parametrize("stage", ["selection", "pair"])
def test_again_at_some_points(stage: str, tmp_path: Path) -> None:
    assert again_points(AGAIN[stage], tmp_path, 4).total() >= 4


@pytest.mark.slow
@pytest.mark.parametrize("stage", AGAIN)
def test_again_at_all_points(stage: str, tmp_path: Path) -> None:
    found = again_points(AGAIN[stage], tmp_path)
    assert found["finished"] and found["the first refused"], found


def command(stage: str, folder: Path) -> list[str | Path]:
    """Return the words that do in a folder's subfolder what a maker's work does."""
    words: list[str | Path] = [stage, folder / "tiny.toml", "-o", "tiny"]
    if stage in ("training", "evaluate"):
        words += ["--set", RANDOM]
    return words


@pytest.mark.parametrize(
    ("stage", "named"),
    [
        ("generate", "*.restart"),
        ("validate", "*/reference/*.restart"),
        ("selection", "*/random.h5"),
        pytest.param("training", "*/checkpoint.pt", marks=pytest.mark.slow),
        pytest.param("evaluate", "*.npz", marks=pytest.mark.slow),
    ],
)
def test_a_rank_of_two_is_killed(stage: str, named: str, trained: Path, tmp_path: Path) -> None:
    """A real SIGKILL, right after a file has got its name."""
    make, words = prepare(stage, trained), command(stage, tmp_path)
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


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["generate", "validate", "selection", "training", "evaluate"])
@pytest.mark.parametrize("rank", [0, 1])
def test_one_rank_of_two_is_killed_at_counted_points(
    rank: int, stage: str, trained: Path, tmp_path: Path
) -> None:
    """At its first, middle and last operation, each job then killed once more."""
    make, words = prepare(stage, trained), command(stage, tmp_path)

    def start(where: Path, k: int) -> tuple[int, int]:
        counts = tmp_path / "counts"
        code = run_killed(rank, k, counts, *words, cwd=where)
        return code, int(counts.read_text()) if counts.is_file() else 0

    alone = tmp_path / "alone"
    alone.mkdir()
    make(alone)
    code, n = start(alone, 0)
    assert code == 0
    expected = contents(alone)
    for k in sorted({1, n // 2, n} - {0}) if n else []:
        place = tmp_path / f"killed-{k}"
        place.mkdir()
        make(place)
        assert start(place, k)[0] != 0, f"{k} of {n}"
        start(place, 3)
        done = run_mlsel(*words, ranks=2, cwd=place, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        assert contents(place) == expected, f"{k} of {n}"


def answered(place: Path, *words: str | Path) -> str:
    """Give a command that may be refused; return the sentence, nothing if it was done."""
    done = run_mlsel(*words, cwd=place, OMP_NUM_THREADS="1")
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr, done.stderr
    if not done.returncode:
        return ""
    (said,) = (line for line in done.stderr.splitlines() if line.startswith("mlsel: "))
    assert len(said) <= 400, said
    return said


@pytest.mark.slow
def test_selection_during_generate(tmp_path: Path) -> None:
    """Refused at the first, a middle and the last operation, and it changes nothing."""
    n = count(generation(tmp_path / "alone")).n
    expected, words = contents(tmp_path / "alone"), command("selection", tmp_path)
    for k in (1, n // 2, n):
        place = tmp_path / f"both-{k}"
        told: list[str] = []

        def meanwhile(place: Path = place, told: list[str] = told) -> None:
            told.append(answered(place, *words))

        at_the_kth(k, meanwhile, generation(place))
        assert len(told) == 1 and told[0] and contents(place) == expected, f"{k} of {n}"


@pytest.mark.slow
def test_evaluation_during_training(tmp_path: Path) -> None:
    """Of the models that are there; in the end it is of all."""

    def begin(name: str) -> tuple[Path, Work]:
        place = tmp_path / name
        work = models(place)
        write_pool(place / "tiny" / "data" / "test.h5", [frames(4, seed=9)])
        return place, work

    words = command("evaluate", tmp_path)
    told: list[str] = []
    alone, work = begin("alone")
    n = count(work).n
    assert not answered(alone, *words)
    expected = contents(alone)
    for k in (1, n // 2, n):
        place, work = begin(f"both-{k}")

        def meanwhile(place: Path = place) -> None:
            told.append(answered(place, *words))

        at_the_kth(k, meanwhile, work)
        assert not answered(place, *words)
        assert contents(place) == expected, f"{k} of {n}"
    assert any(told) and not all(told)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 9])
def test_two_parts_with_one_number(k: int, tmp_path: Path) -> None:
    words = [*command("training", tmp_path), "--set", 'training.kinds=["schnet","pair"]', "--part"]
    models(tmp_path / "alone")()
    place = tmp_path / "both"
    models(place)

    def meanwhile() -> None:
        assert "another job works in" in answered(place, *words, "1/2")
        assert not answered(place, *words, "2/2")

    assert at_the_kth(k, meanwhile, part_of_models(place, Part(1, 2))) >= k
    assert contents(place) == contents(tmp_path / "alone")


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
            said = answered(disk, *words)
            if said:
                n_full += 1
                assert re.search("disk (is )?full", said), said  # LAMMPS's own files: a question
            subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
            done = run_mlsel(*words, cwd=disk, OMP_NUM_THREADS="1")
            assert done.returncode == 0, done.stderr
            assert contents(disk) == contents(alone)
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    assert n_full
