"""A study through the job scripts on a real Slurm: killed, run into its limit, the same in the end.

The products are compared with those of `mlsel run` in one process, bit for bit where that is
promised: trajectories, selections, networks, validation runs.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from mlsel.core.lock import holder_of
from tests.mpi.test_generate import hashes
from tests.slurm.cluster import PATIENCE, Cluster
from tests.support import environment, events

pytestmark = pytest.mark.slurm

STUDY = """
[system]
species = ["Na", "Cl"]
potential = "nacl-tosi-fumi"
n_atoms = 64
[pool]
temperatures = [1300, 1800]
pressures = [1, 10000]
melt_temperature = 3000
melt = 0.5
equilibration = 0.5
frames_per_run = 100
sampling_interval = 50
checkpoint_interval = 500
[selection]
methods = ["random", "force"]
test_methods = ["random", "force"]
n_train = 16
n_validation = 4
n_test = 20
[training]
kinds = ["schnet", "gap"]
[training.schnet]
sizes = ["small"]
energy_weights = [0.01]
n_train = 16
cutoff = 5.0
max_epochs = 30
patience = 30
[training.gap]
n_sparse = [10]
n_train = 4
n_max = 4
l_max = 3
cutoff = 4.5
[validation]
models = ["*/schnet-*"]
repeats = 0
n_atoms = 64
density_time = 1.0
equilibration = 0.1
duration = 0.5
nve = 0.1
block = 0.05
sampling_interval = 10
trajectory_interval = 10
checkpoint_interval = 0.1
rdf_cutoff = 6.0
rdf_bins = 60
"""
"""Every stage, as short as it can be."""


def write_study(folder: Path) -> Path:
    path = folder / "small.toml"
    path.write_text(STUDY, encoding="utf-8")
    return path


def until(what: str, condition: Callable[[], object], cluster: Cluster, folder: Path) -> None:
    """Wait for what a file tells; if it does not come show the queue and the jobs' logs."""
    if not events.until(condition, folder, PATIENCE):
        logs = "".join(f"\n== {p.name}\n{p.read_text()[-1500:]}"
                       for p in sorted(folder.glob("**/logs/*")))  # fmt: skip
        queue = cluster.command("squeue", check=False)
        raise AssertionError(f"{what} did not happen\n{queue}{logs}")


def submitted(folder: Path) -> dict[str, str]:
    """The jobs that `mlsel slurm` submitted last, by script."""
    known = json.loads((folder / "slurm-jobs.json").read_text())
    return {job["script"]: job["job"] for job in known["jobs"]}


def worker(lock: Path) -> int:
    """The process that holds a lock."""
    holder = holder_of(lock)
    assert holder is not None
    return holder.pid


def mlsel(cluster: Cluster, cwd: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlsel", *map(str, words)],
        cwd=cwd, env=cluster.environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """The same study by one process, beside the jobs; call it to have it whole."""
    folder = tmp_path_factory.mktemp("serial")
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "mlsel", "run", str(write_study(folder)),
         "--set", "validation.ranks_per_run=0"],  # as validate.sbatch; runs record their settings
        cwd=folder, env=environment() | {"OMP_NUM_THREADS": "1"}, stdout=log, stderr=log,
    )  # fmt: skip

    def whole() -> Path:
        assert process.wait(PATIENCE) == 0, (folder / "log").read_text()[-2000:]
        return folder / "small"

    yield whole
    process.kill()
    process.wait()
    log.close()


def test_a_study_killed_limited_and_resubmitted(
    cluster: Cluster, scripts: Path, tmp_path: Path, serial: Callable[[], Path]
) -> None:
    study, folder = write_study(tmp_path), tmp_path / "small"
    limit = scripts / "train.sbatch"
    limit.write_text(
        re.sub(r"--time=\S+", "--time=1", limit.read_text()).replace("B:TERM@300", "B:TERM@5")
    )

    # 1: generation is killed in the middle; what depends on it leaves the queue.
    done = mlsel(cluster, tmp_path, "slurm", study)
    assert done.returncode == 0, done.stderr
    again = mlsel(cluster, tmp_path, "slurm", study)
    assert again.returncode == 2 and "are still in the queue" in again.stderr
    job = submitted(folder)["generate"]
    sampling = "runs/*/sample-*.restart"
    until("sampling", lambda: list(folder.glob(sampling)), cluster, tmp_path)
    os.kill(worker(folder / ".lock"), signal.SIGKILL)
    others = [n for script, n in submitted(folder).items() if script != "start"]
    cluster.wait(others)
    assert cluster.state(job)[0] == "FAILED"
    state = mlsel(cluster, tmp_path, "status", folder)
    assert state.returncode == 1
    assert re.search(r"begun +\d+K-\d+bar: \d+% of 6000 steps", state.stdout), state.stdout
    cluster.wait([submitted(folder)["start"]])

    # 2: the same command goes on. The first model is held up until Slurm says its time is over.
    done = mlsel(cluster, tmp_path, "slurm", study)
    assert done.returncode == 0, done.stderr
    jobs = submitted(folder)
    assert "start" not in jobs
    metrics = folder / "models/random/schnet-small-e0.01/metrics.csv"
    until("an epoch", metrics.is_file, cluster, tmp_path)
    trainer = worker(folder / "models/.lock-1-of-4")
    os.kill(trainer, signal.SIGSTOP)
    log = folder / f"logs/train-{jobs['train']}_1.log"
    lock = folder / "models/.lock-3-of-4"
    try:
        # Meanwhile another element is cancelled, which is no reason to queue it again.
        until("the third element", lock.is_file, cluster, tmp_path)
        cancelled = worker(lock)
        os.kill(cancelled, signal.SIGSTOP)  # so that it is not done before it is cancelled
        cluster.command("scancel", f"{jobs['train']}_3")
        third = folder / f"logs/train-{jobs['train']}_3.log"
        until("its signal", lambda: "asked to stop" in third.read_text(), cluster, tmp_path)
        os.kill(cancelled, signal.SIGCONT)
        until("the signal", lambda: "asked to stop" in log.read_text(), cluster, tmp_path)
    finally:
        os.kill(trainer, signal.SIGCONT)
    until("the requeue", lambda: "queued again" in log.read_text(), cluster, tmp_path)
    n_epochs = len(metrics.read_text().splitlines()) - 2
    assert 1 <= n_epochs < 30

    # 3: the element that was cancelled is submitted again alone.
    cluster.wait(cluster.queue())
    assert log.read_text().count("start 2 on") == 1
    assert "start 2 on" not in third.read_text()
    state = mlsel(cluster, tmp_path, "status", folder)
    training = state.stdout.partition("training")[2].partition("evaluate")[0]
    assert state.returncode == 1 and "(part 3)" in training, state.stdout
    assert "(part 1)" not in training
    done = mlsel(cluster, tmp_path, "slurm", study)
    assert "train (parts 3)" in done.stderr and "generate" not in done.stderr, done.stderr
    cluster.wait(cluster.queue())
    state = mlsel(cluster, tmp_path, "status", folder)
    assert state.returncode == 0, state.stdout
    assert "all is done" in mlsel(cluster, tmp_path, "slurm", study).stderr

    # 4: the products are those of one process.
    alone = serial()
    bits, expected = hashes(folder), hashes(alone)
    assert bits.keys() == expected.keys()
    exact = [
        name for name in bits if name.split("/")[0] in ("pool.h5", "runs", "data", "validation")
    ]
    assert {name: bits[name] for name in exact} == {name: expected[name] for name in exact}
    for path in folder.glob("models/*/schnet-*/weights.pt"):
        ours, theirs = (torch.load(p, weights_only=True)
                        for p in (path, alone / path.relative_to(folder)))  # fmt: skip
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    table = "evaluation/errors.csv"
    assert (folder / table).read_text() == (alone / table).read_text()
    assert (folder / "report.html").is_file()


def test_srun_starts_ranks_and_passes_the_signal(
    cluster: Cluster, scripts: Path, tmp_path: Path, serial: Callable[[], Path]
) -> None:
    study, folder = write_study(tmp_path), tmp_path / "small"
    site = scripts / "site.sh"
    site.write_text(site.read_text() + '\nLAUNCHER="srun --mpi=pmi2"\n')
    script = scripts / "generate.sbatch"
    job = cluster.command("sbatch", "--parsable", "--output=log", script, study,
                          cwd=tmp_path)  # fmt: skip
    until("a checkpoint", lambda: list(folder.glob("runs/*/*.restart")), cluster, tmp_path)
    cluster.command("scancel", "--batch", "--signal=TERM", job)
    log = tmp_path / "log"
    until("the requeue", lambda: "queued again" in log.read_text(), cluster, tmp_path)
    assert "stopped by a signal" in log.read_text() and "Killed" not in log.read_text()
    cluster.wait([job])
    assert cluster.state(job) == ("COMPLETED", 0, 1), log.read_text()
    expected = {name: bits for name, bits in hashes(serial()).items()
                if name.startswith(("runs/", "pool.h5"))}  # fmt: skip
    assert hashes(folder) == expected
