"""A signal before the end of a job: stages stop where they can go on, with exit code 75."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mpi.test_generate import hashes
from tests.support import environment, run_mlsel, run_with_signal, write_study
from tests.support.training_data import frames, write_pool


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_generation_stops_at_a_checkpoint(
    number: signal.Signals, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    words = ("generate", write_study(tmp_path), "-o", folder)
    done = run_with_signal(number, "*.restart", *words, ranks=2)
    assert done.returncode == 75, done.stderr
    assert done.stderr.count("stopped by a signal") == 1 and "goes on from here" in done.stderr
    assert not (folder / ".lock").exists()
    assert list(folder.glob("runs/*/*.restart")) and not (folder / "pool.h5").exists()
    done = run_mlsel("generate", tmp_path / "tiny.toml", "-o", folder, ranks=2)
    assert done.returncode == 0, done.stderr
    assert hashes(folder) == hashes(tiny_folder)


def test_tasks_are_not_begun_after_the_signal(tmp_path: Path) -> None:
    """Nothing was done: the code is 1, so that a job does not queue itself for ever."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal, sys\n"
        "from mlsel.core import stopping\n"
        "from mlsel.cli import run_main\n"
        "from mlsel.core.parallel import share, world\n"
        "def main(argv):\n"
        "    with stopping.heard():\n"
        "        if sys.argv[1] == 'before': os.kill(os.getpid(), signal.SIGTERM)\n"
        "        share(world(), range(20), lambda task, *_: \n"
        "              os.kill(os.getpid(), signal.SIGTERM) if task == 3 else None)\n"
        "    return 0\n"
        "sys.exit(run_main(main))\n"
    )
    for when, code, said in (("before", 1, "0 of 20"), ("within", 75, "4 of 20")):
        done = subprocess.run(
            [sys.executable, str(program), when],
            capture_output=True, text=True, timeout=60,
            env=environment() | {"PYTHONPATH": str(Path.cwd())},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert said in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("what", ["return 0", "raise MlselError('wrong')"])
def test_a_signal_after_the_work_changes_nothing(what: str) -> None:
    """Python takes a second to end, in which Slurm's warning may come."""
    program = (
        "import os, signal, sys\n"
        "from mlsel.cli import run_main\n"
        "from mlsel.core import stopping\n"
        "from mlsel.core.errors import MlselError\n"
        "def main(argv):\n"
        f"    with stopping.heard():\n        {what}\n"
        "code = run_main(main)\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, env=environment() | {"PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    assert done.returncode == (0 if "return" in what else 2), done.stderr


def test_gap_fit_is_ended_and_a_network_goes_on(tmp_path: Path) -> None:
    """A GAP can't go on from a part: if that is all there is to do the code is 1."""
    write_pool(tmp_path / "data" / "random.h5", [frames(8)])
    slow = tmp_path / "gap_fit"
    slow.write_text("#!/bin/sh\nkill -USR1 $PPID\nexec sleep 60\n")
    slow.chmod(0o755)
    settings = {
        "selection.methods": '["random"]', "training.schnet.sizes": '["small"]',
        "training.schnet.n_train": "8", "training.schnet.cutoff": "4.0",
        "training.schnet.max_epochs": "100000", "training.schnet.patience": "100000",
        "training.gap.fit": "gap_fit", "training.gap.n_train": "4", "training.gap.cutoff": "4.0",
        "learning.n": "[]",
    }  # fmt: skip
    words = ["training", "quick", "-o", str(tmp_path)]
    for key, value in settings.items():
        words += ["--set", f"{key}={value}"]
    done = run_mlsel(*words, "--part", "2", MLSEL_GAP_FIT=str(slow))
    assert done.returncode == 1, done.stderr
    assert "gap_fit was ended" in done.stderr and "needs a job that is longer" in done.stderr
    done = run_with_signal(signal.SIGTERM, "*/checkpoint.pt", *words, "--part", "1")
    assert done.returncode == 75, done.stderr
    model = tmp_path / "models" / "random" / "schnet-small-e0.01"
    assert (model / "checkpoint.pt").is_file() and not (model / "model.json").exists()
    assert not list(tmp_path.glob("models/.lock*"))
