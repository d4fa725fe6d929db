"""A folder is used by one job at a time, or by jobs that each do another part of it."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from mlsel.core.errors import MlselError

log = logging.getLogger(__name__)

HEARTBEAT = 10.0
STALE_AFTER = 60.0
_NO_PROCESS = 2**22 + 1  # above what Linux gives


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, by its file.

    Attributes
    ----------
    job, start : the batch job and how often it was started anew; "" if it is in none
    renewed : the file's time, s
    inode : the file itself, which another job's would not have
    """

    path: Path
    host: str
    pid: int
    job: str
    start: str
    renewed: float
    inode: int

    def has_ended(self) -> bool:
        """Whether it is known to have ended: its process here, or this job's earlier start."""
        if self.host in (socket.gethostname(), "?"):
            return not _is_running(self.pid)
        # A batch system does not run a job twice at a time.
        job, start = _batch_job()
        return bool(self.job) and self.job == job and self.start != start

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host}" + (f", job {self.job}" * bool(self.job))


class FolderLock:
    """Holds DIR/.lock with host and process id while a job writes in DIR.

    The file's time is renewed every 10 s. A lock is stale, and taken over, if its process has
    ended on this host, if it is an earlier start of the same batch job, or if it is another
    host's and is not renewed for a minute, which is waited for.

    Parameters
    ----------
    folder : path
    part : str, optional
        A part of the work, as `parts.Part.label` says: the file is .lock-<part>. Jobs with other
        parts of as many may work beside it, but none with the same and none that does all.
    """

    def __init__(self, folder: Path, part: str = "") -> None:
        self._part = part
        self.path = folder / (f".lock-{part}" if part else ".lock")
        self._stop = threading.Event()

    def acquire(self) -> None:
        """Take the lock, or raise MlselError if another job holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        mine = self.path.with_name(f".mine.{socket.gethostname()}.{os.getpid()}")
        job, start = _batch_job()
        known = {"host": socket.gethostname(), "pid": os.getpid(), "job": job, "start": start}
        mine.write_text(json.dumps(known))
        try:
            while True:
                try:
                    os.link(mine, self.path)  # atomic, on NFS too
                    break
                except FileExistsError:
                    self._refuse_or_clear(self.path, mine)
            # Each makes its own file before it looks for the others': two can't miss each other.
            for other in self._others():
                self._refuse_or_clear(other, mine)
        except BaseException:
            if self.path.exists() and self.path.samefile(mine):
                self.path.unlink()
            raise
        finally:
            mine.unlink()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give the lock back."""
        self._stop.set()
        self._thread.join()
        self.path.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            if self.path.exists():
                os.utime(self.path)

    def _others(self) -> list[Path]:
        """Locks that exclude this one: that of all, and parts of another number of parts."""
        n_parts = self._part.partition("-of-")[2]
        return [
            path
            for path in lock_files(self.path.parent)
            if path != self.path
            and not (self._part and path.name.startswith(".lock-")
                     and path.name.partition("-of-")[2] == n_parts)
        ]  # fmt: skip

    def _refuse_or_clear(self, path: Path, mine: Path) -> None:
        """Remove a lock that was left behind, waiting to see whether it was; or raise."""
        first = holder_of(path)
        told = False
        while True:
            holder = holder_of(path)
            if holder is None or first is None:
                return  # given back just now
            if holder.has_ended():
                break
            # Both times come from the file system's clock, which the hosts share.
            os.utime(mine)
            age = mine.stat().st_mtime - holder.renewed
            here = holder.host == socket.gethostname()
            if here or holder.inode != first.inode or holder.renewed > first.renewed:
                raise MlselError(
                    f"another job works in {path.parent}: {holder} ({path}); wait for it or end it."
                )
            if age > STALE_AFTER:
                break
            if not told:
                log.info("%s: %s gave no sign for %.0f s; waiting for one", path, holder, age)
                told = True
            time.sleep(min(1.0, STALE_AFTER / 10))
        # Another job may clear it too and take it at once: what is removed is what was seen.
        aside = mine.with_name(f"{mine.name}.cleared")
        try:
            path.rename(aside)
        except FileNotFoundError:
            return
        if aside.stat().st_ino != holder.inode:
            os.link(aside, path)
        aside.unlink()


def lock_files(folder: Path) -> list[Path]:
    """Return the locks in a folder."""
    return sorted([*folder.glob(".lock"), *folder.glob(".lock-*-of-*")])


def holder_of(path: Path) -> Holder | None:
    """Return who holds a lock, None if it is gone."""
    try:
        found = path.stat()
        text = path.read_text()
    except FileNotFoundError:
        return None
    try:
        known = json.loads(text)
        host, pid = known["host"], int(known["pid"])
        job, start = str(known.get("job", "")), str(known.get("start", ""))
    except (ValueError, KeyError, TypeError):
        host, pid, job, start = "?", _NO_PROCESS, "", ""
    return Holder(path, host, pid, job, start, found.st_mtime, found.st_ino)


def _batch_job() -> tuple[str, str]:
    """Return the Slurm job that this process is in, and how often that was requeued."""
    return os.environ.get("SLURM_JOB_ID", ""), os.environ.get("SLURM_RESTART_COUNT", "0")


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # one that was killed but not yet reaped holds nothing
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state != "Z"
