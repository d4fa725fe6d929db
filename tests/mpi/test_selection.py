"""The same frames on 1, 2 and 4 ranks, through the command that users give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.synthetic import write_synthetic_pool
from mlsel.pool.pool import Pool
from mlsel.selection import METHODS

MPIRUN = Path(sys.executable).with_name("mpirun")
ALL_METHODS = """
import sys
from pathlib import Path
import numpy as np
from mpi4py import MPI
from mlsel.pool.pool import Pool
from mlsel.selection import METHODS, make_selector
lines = []
with Pool(sys.argv[1]) as pool:
    for method in METHODS:
        parameters = {"runs": 3} if method == "single-md-random" else {}
        if method == "committee":
            rng = np.random.default_rng(1)
            parameters = {"predictions": rng.standard_normal((3, len(pool), 10, 3))}
        chosen = make_selector(method, parameters).select(pool, 40, 3, range(20), MPI.COMM_WORLD)
        every = MPI.COMM_WORLD.gather(chosen.frame_ids.tolist())
        if every is not None:
            assert all(frames == every[0] for frames in every), method
            lines.append(f"{method} {every[0]}")
if MPI.COMM_WORLD.rank == 0:
    Path(sys.argv[2]).write_text("\\n".join(lines))
"""


def mpirun(n_ranks: int, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(MPIRUN), "-n", str(n_ranks), sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def pool_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mpi") / "pool.h5"
    fields = ("positions", "forces", "atomic_energies", "pair_energies")
    write_synthetic_pool(path, 250, n_atoms=10, frames_per_run=90, fields=fields)
    return path


def test_every_method_on_1_2_and_4_ranks(pool_path: Path, tmp_path: Path) -> None:
    answers = []
    for n_ranks in (1, 2, 4):
        out = tmp_path / f"{n_ranks}.txt"
        done = mpirun(n_ranks, "-c", ALL_METHODS, str(pool_path), str(out))
        assert done.returncode == 0, done.stderr
        answers.append(out.read_text())
    assert answers[0].count("\n") == len(METHODS) - 1
    assert answers[0] == answers[1] == answers[2]


def test_the_command_writes_the_same_file(pool_path: Path, tmp_path: Path) -> None:
    words = ["-m", "mlsel.selection", "--pool", str(pool_path), "--method", "atomic-energy"]
    words += ["-n", "60", "--seed", "5", "--parameter", "species=Na", "-o"]
    files = [tmp_path / f"{n}.h5" for n in (1, 2)]
    for n_ranks, path in zip((1, 2), files, strict=True):
        done = mpirun(n_ranks, *words, str(path))
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("60 frames") == 1
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_nan_in_one_ranks_share_is_told_once(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "pool.h5"
    write_synthetic_pool(path, 40, n_atoms=10, frames_per_run=10)
    with h5py.File(path, "r+") as file:
        file["particles/run-0003/force/value"][4, 7, 2] = np.nan
    words = ["-m", "mlsel.selection", "--pool", str(path), "--method", "force", "-n", "5"]
    done = mpirun(2, *words, "-o", str(tmp_path / "data.h5"))
    assert done.returncode == 2
    assert done.stderr.count("forces of frame 34 (run run-0003, its frame 4, atom 7)") == 1
    assert len(done.stderr.splitlines()) == 1


def test_study_on_2_ranks(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    write_synthetic_pool(folder / "pool.h5", 400, n_atoms=10, frames_per_run=100)
    words = ["-m", "mlsel.selection", "paper", "-o", str(folder), "--set", "selection.n_train=20"]
    words += ["--set", "selection.n_validation=5", "--set", "selection.n_test=100"]
    done = mpirun(2, *words)
    assert done.returncode == 0, done.stderr
    with Pool(folder / "data/test.h5") as test:
        assert len(test) == 100
