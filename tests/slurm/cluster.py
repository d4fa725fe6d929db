"""A Slurm of one node on this machine: own configuration, ports and folder, no munge.

python -m tests.slurm.cluster FOLDER      start one, print its SLURM_CONF, end it with Ctrl-C
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import environment
from tests.support.events import has_ended, is_readable

PATIENCE = 900.0
"""s; when a step of a test is given up on a machine that does other things, not a measurement."""

CONFIGURATION = """
ClusterName=mlsel
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
# Requeued jobs wait until credentials have expired: 121 s by default.
AuthInfo=cred_expire=5
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=5,bf_interval=5
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={host} MaxTime=INFINITE State=UP
"""


def why_absent() -> str:
    """Why there can be no cluster here; empty if there can."""
    missing = [name for name in ("slurmctld", "slurmd", "sbatch") if _find(name) is None]
    return f"Slurm is absent (no {', '.join(missing)}): install slurm-wlm" if missing else ""


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Cluster:
    """slurmctld and slurmd, ended with the block.

    Attributes
    ----------
    environment : what a user's shell has: PATH with this Python's programs, SLURM_CONF
    """

    def __init__(self, folder: Path, cores: int = 2) -> None:
        self.folder = folder
        self._n_waits = 0
        self.user = pwd.getpwuid(os.getuid()).pw_name
        host = socket.gethostname().split(".")[0]
        for name in ("state", "spool"):
            (folder / name).mkdir(parents=True)
        text = CONFIGURATION.format(
            host=host,
            folder=folder,
            cores=min(cores, os.cpu_count() or 1),
            user=self.user,
            controller_port=_free_port(),
            node_port=_free_port(),
        )
        configuration = folder / "slurm.conf"
        configuration.write_text(text, encoding="utf-8")
        programs = Path(sys.executable).parent
        self.environment = environment() | {
            "SLURM_CONF": str(configuration),
            "PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin",
        }

    def __enter__(self) -> Self:
        try:
            for daemon in ("slurmctld", "slurmd"):
                program = _find(daemon)
                assert program is not None
                subprocess.run(
                    [program, "-f", str(self.folder / "slurm.conf")],
                    env=self.environment, check=True, timeout=30, capture_output=True,
                )  # fmt: skip
            self.wait()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def wait(self, jobs: Iterable[str] = ()) -> None:
        """Wait until jobs have ended, however; without any, until a node takes jobs.

        A job that depends on them tells it through a FIFO: it runs when Slurm says so.

        Raises
        ------
        AssertionError
            If that does not come.
        """
        self._n_waits += 1
        fifo = self.folder / f"ended-{self._n_waits}"
        os.mkfifo(fifo)
        reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        try:
            ids = [job.partition("_")[0] for job in jobs]
            after = [f"--dependency=afterany:{':'.join(dict.fromkeys(ids))}"] if ids else []
            self.command("sbatch", "--output=/dev/null", "--open-mode=append", *after,
                         "--wrap", f"echo > {fifo}")  # fmt: skip
            came = is_readable(reading, PATIENCE)
        finally:
            os.close(reading)
        assert came, f"{ids or 'a node'}: waited in vain\n{self._told()}"

    def _told(self) -> str:
        logs = [self.folder / f"{name}.log" for name in ("slurmctld", "slurmd")]
        texts = [path.read_text()[-2000:] for path in logs if path.is_file()]
        return "\n".join([self.command("squeue", check=False), *texts])

    def _end(self) -> None:
        """End the jobs, then the daemons by their pid files."""
        with contextlib.suppress(Exception):
            self.command("scancel", "--user", self.user, check=False)
            for line in self.command("scontrol", "listpids", check=False).splitlines()[1:]:
                if line.split()[0].isdigit():
                    has_ended(int(line.split()[0]), 10)
        for daemon in ("slurmd", "slurmctld"):
            path = self.folder / f"{daemon}.pid"
            if not path.is_file():
                continue
            pid = int(path.read_text())
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
                if not has_ended(pid, 10):
                    os.kill(pid, signal.SIGKILL)

    def command(self, *words: str | Path, cwd: Path | None = None, check: bool = True) -> str:
        """Run a command as a user on the login node; return its output."""
        done = subprocess.run(
            [str(word) for word in words],
            env=self.environment, cwd=cwd, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{words} ended with {done.returncode}: {done.stderr}")
        return done.stdout.strip()

    def state(self, job: str) -> tuple[str, int, int]:
        """Return a job's state, its exit code and how often it was requeued."""
        text = self.command("scontrol", "show", "job", job, check=False)
        state = re.search(r"JobState=(\w+)", text)
        code = re.search(r"ExitCode=(\d+):", text)
        restarts = re.search(r"Restarts=(\d+)", text)
        if not (state and code and restarts):
            return "UNKNOWN", -1, -1
        return state[1], int(code[1]), int(restarts[1])

    def queue(self) -> list[str]:
        """Return the jobs that wait or run, array elements each."""
        return self.command("squeue", "-h", "-r", "-o", "%i").split()


if __name__ == "__main__":
    with Cluster(Path(sys.argv[1])) as running:
        print(running.environment["SLURM_CONF"], flush=True)
        signal.pause()
