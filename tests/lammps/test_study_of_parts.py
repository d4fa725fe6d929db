"""`mlsel run` of a study with two parts from nothing to its reports, as a user gives it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlsel.evaluate.csv_table import ERRORS, read_table
from mlsel.pool.pool import Pool
from mlsel.study.folder import StudyFolder
from tests.support import TINY_STUDY, run_mlsel

STUDY = (
    TINY_STUDY
    + """
[selection]
methods = ["random", "force"]
test_methods = ["random"]
bins = 8
n_train = 12
n_validation = 2
n_test = 4
[training]
kinds = ["pair"]
[evaluation]
test = "part:test"
probe = true
[validation]
models = []
repeats = 0
n_atoms = 64
density_time = 0.2
density_parts = 1
equilibration = 0.02
duration = 0.1
nve = 0.02
block = 0.02
trajectory_interval = 50
[parts.test]
until = "selection"
pool = { seed = 2, temperatures = [1500] }
selection = { methods = ["random"], n_train = 1, n_validation = 0, n_test = 20 }
[parts.few]
until = "evaluate"
training.pair.n_train = 6
"""
)


@pytest.mark.slow
def test_a_study_and_its_parts(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(STUDY, encoding="utf-8")
    done = run_mlsel("run", "mine.toml", ranks=2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "done" in done.stderr and "Traceback" not in done.stderr
    assert run_mlsel("status", "mine", cwd=tmp_path).returncode == 0
    folder, few = StudyFolder(tmp_path / "mine"), StudyFolder(tmp_path / "mine" / "few")
    with Pool(folder.pool) as pool, Pool(few.pool) as other:
        assert pool.digest == other.digest
    assert (folder.runs / "1300K-1bar/run.h5").samefile(few.runs / "1300K-1bar/run.h5")
    for place in (folder, few):  # both on the frames of the part
        rows = [row for row in read_table(place.errors, ERRORS)
                if (row["part"], row["quantity"]) == ("all", "energy_per_atom")]  # fmt: skip
        assert {row["n"] for row in rows} == {"20"}
        assert place.probe.is_file()
    again = run_mlsel("run", "mine.toml", cwd=tmp_path)
    assert again.returncode == 0 and "runs in" not in again.stderr
    assert "few (no report: it ends with evaluate)" in folder.report.read_text(encoding="utf-8")
