"""pool.sampling = "correlation": each run measures how far apart its frames must be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mlsel.core import files
from mlsel.core.parallel import world
from mlsel.generate import generate
from mlsel.md.npt_run import MdRun
from mlsel.pool.check import check, report
from mlsel.pool.info import describe
from mlsel.pool.pool import Pool
from mlsel.study.study import load_study
from tests.mpi.test_generate import hashes
from tests.support import run_deck, run_mlsel, write_study

STUDY = """
[system]
species = ["Na", "Cl"]
potential = "nacl-tosi-fumi"
n_atoms = 32
cutoff = 6.0
[pool]
temperatures = [1300]
pressures = [1, 5000]
melt_temperature = 3000
melt = 0.05
equilibration = 0.1
frames_per_run = 5
checkpoint_interval = 400
sampling = "correlation"
[pool.correlation]
stretch = 1.6
least_interval = 31
greatest_interval = 79
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study's pool, made in one go."""
    place = tmp_path_factory.mktemp("correlation")
    done = run_mlsel("generate", write_study(place, STUDY), ranks=2, cwd=place)
    assert done.returncode == 0, done.stderr
    return place / "tiny"


def test_a_run_says_what_it_measured(folder: Path) -> None:
    with Pool(folder / "pool.h5") as pool:
        steps = [block["step"] for block in pool.blocks("step")]
    for run, step in zip(sorted((folder / "runs").glob("*bar")), steps, strict=True):
        spacing = json.loads((run / "spacing.json").read_text())
        with h5py.File(folder / "pool.h5") as file:
            told = dict(file[f"particles/{run.name}"].attrs)
        assert told["sampling"] == "correlation"
        assert told["sampling_interval"] == spacing["interval"]
        assert told["energy_correlation_time"] == spacing["energy"] > 0
        assert told["volume_correlation_time"] == spacing["volume"] > 0
        assert 31 <= spacing["interval"] <= 79
        assert set(np.diff(step)) == {spacing["interval"]}
        assert step[0] % spacing["interval"] == 0
        assert 0 < step[0] - (50 + 100 + 1600) <= 2 * spacing["interval"]
        assert f"interval            index {spacing['interval']}" in (run / "in.lammps").read_text()


def test_info_and_check_tell_the_times(folder: Path) -> None:
    with Pool(folder / "pool.h5") as pool:
        for lines in (describe(pool), report(pool, check(pool))):
            assert "frames as far apart as correlated, in 2 runs:" in lines
            assert any(line.startswith("1300K-5000bar              every ") for line in lines)


def test_killed_anywhere_it_is_the_same_pool(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each checkpoint, and when the interval is chosen but not yet written."""
    written, chosen = MdRun.checkpoint, files.write_json
    cut: list[Path] = []

    class CutOff(Exception):
        pass

    def write_and_stop(self: MdRun, *arguments: Any) -> None:
        written(self, *arguments)
        raise CutOff

    def stop(path: Path, value: object) -> None:
        if path.name == "spacing.json" and not cut:
            cut.append(path)
            raise CutOff
        chosen(path, value)

    monkeypatch.setattr("mlsel.md.npt_run.write_json", stop)
    monkeypatch.setattr(MdRun, "checkpoint", write_and_stop)
    study = load_study(str(write_study(tmp_path, STUDY)), [])
    n_cuts = 0
    while True:
        try:
            generate(study, tmp_path / "tiny", world())
        except CutOff:
            n_cuts += 1
            continue
        break
    assert cut and n_cuts >= 1 + 2 * (1 + 1 + 4 + 1 + 1)  # of melt, equilibrate, measure, …
    assert hashes(tmp_path / "tiny") == hashes(folder)


def test_the_deck_alone_gives_the_same_frames(folder: Path) -> None:
    run_deck("runs/1300K-1bar/in.lammps", folder)
    frames = (folder / "trajectory.lammpstrj").read_text().split("ITEM: TIMESTEP\n")[1:]
    with Pool(folder / "runs" / "1300K-1bar" / "run.h5") as pool:
        block = next(pool.blocks("step", "positions"))
    assert [int(frame.split()[0]) for frame in frames] == block["step"].tolist()
    rows = [line.split() for line in frames[-1].splitlines()[8:]]
    np.testing.assert_array_equal(np.array(rows, float)[:, 2:5], block["positions"][-1])


def test_another_way_of_sampling_is_another_study(folder: Path, tmp_path: Path) -> None:
    done = run_mlsel(
        "generate", write_study(tmp_path, STUDY), "-o", folder, "--set", "pool.sampling=interval"
    )
    assert done.returncode == 2 and 'pool.sampling ("correlation" there' in done.stderr
