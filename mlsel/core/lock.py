"""A folder is used by one job at a time, or by jobs that each do another part of it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mlsel.core import stopping
from mlsel.core.errors import MlselError, Stopped
from mlsel.core.parallel import end_all_ranks

log = logging.getLogger(__name__)

HEARTBEAT = 10.0
STALE_AFTER = 60.0
GUARD = ".lock-guard"


@dataclass(frozen=True)
class Place:
    """Where a process runs: a process id means something in one namespace of one boot only."""

    host: str
    boot: str
    namespace: str

    @classmethod
    def here(cls) -> Place:
        boot = namespace = ""
        with suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        with suppress(OSError):
            namespace = Path("/proc/self/ns/pid").readlink().name
        return cls(socket.gethostname(), boot, namespace)


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, by its file.

    Attributes
    ----------
    pid, started : the process, and when it started (clock ticks since boot; "": not known)
    job, restart : the batch job and how often it was started anew; "" if it is in none
    token : what tells this holder from all others; "" if the file is not whole
    renewed : the file's time, s
    """

    path: Path
    place: Place
    pid: int
    started: str
    job: str
    restart: str
    token: str
    renewed: float

    @property
    def is_near(self) -> bool:
        """Whether its process can be looked up here."""
        return self.place == Place.here()

    def has_ended(self) -> bool:
        """Whether it is known to have ended: its process here, or this job's earlier start."""
        if not self.token:
            return True  # its writer died over it: see `FolderLock`
        if self.is_near:
            return _start_of(self.pid) != self.started
        # A batch system does not run a job twice at a time.
        job, restart = _batch_job()
        return bool(self.job) and self.job == job and self.restart != restart

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        return f"process {self.pid} on host {self.place.host}{job}"


RENEWAL = "renewal of a lock"
"""The thread's name."""


class FolderLock:
    """Holds DIR/.lock while a job writes in DIR.

    The file says which process holds it and is renewed every 10 s. A lock is stale, and taken
    over, if its process has ended (same host, boot and namespace of process ids), if it is an
    earlier start of the same batch job, or if it is not renewed for a minute, which is waited
    for. Whoever looks at locks, makes or removes them holds the kernel's lock of DIR/.lock-guard
    meanwhile, so that two can't take over the same one, and a file that is not whole has no
    living writer. On a file system without such locks, none is taken over.

    A job that slept for so long that its lock was taken over ends at once when it wakes.

    Parameters
    ----------
    folder : path
    part : str, optional
        A part of the work, as `shards.Part.label` says: the file is .lock-<part>. Jobs with other
        parts of as many may work beside it, but none with the same and none that does all.
    """

    def __init__(self, folder: Path, part: str = "") -> None:
        self._part = part
        self.path = folder / (f".lock-{part}" if part else ".lock")
        self._token = uuid.uuid4().hex
        self._stop = threading.Event()

    def acquire(self) -> None:
        """Take the lock.

        Raises
        ------
        MlselError
            If another job holds it.
        Stopped
            If a signal comes while another job's sign of life is waited for.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        watched: dict[str, _Watch] = {}
        while not self._try(watched):
            if stopping.asked():
                raise Stopped("stopped by a signal before anything was done.", has_progress=False)
            time.sleep(min(1.0, STALE_AFTER / 10))
        self._thread = threading.Thread(target=self._renew, name=RENEWAL, daemon=True)
        self._thread.start()

    def retire(self) -> None:
        """Renew it no longer: its folder is about to be taken away, which can take a minute."""
        self._stop.set()
        self._thread.join()

    def release(self) -> None:
        """Give the lock back, if it is still this job's."""
        self.retire()
        with suppress(FileNotFoundError), _guarded(self.path.parent):
            if self._is_mine():
                self.path.unlink()

    def _try(self, watched: dict[str, _Watch]) -> bool:
        """Take the lock, unless a sign of life must be waited for first."""
        with _guarded(self.path.parent) as guard:
            if not guard.is_exclusive:
                self._write()  # each makes its own file before it looks for the others'
            try:
                for holder in map(holder_of, self._excluding()):
                    if holder is None or holder.token == self._token:
                        continue
                    if not self._is_left(holder, guard, watched):
                        return False
                    holder.path.unlink(missing_ok=True)
            except BaseException:
                if not guard.is_exclusive:
                    self.path.unlink()
                raise
            if guard.is_exclusive:
                self._write()
            return True

    def _excluding(self) -> list[Path]:
        """Locks that exclude this one: its own, that of all, parts of another number of parts."""
        n_parts = self._part.partition("-of-")[2]
        return [
            path
            for path in lock_files(self.path.parent)
            if path == self.path
            or not (self._part and path.name.startswith(".lock-")
                    and path.name.partition("-of-")[2] == n_parts)
        ]  # fmt: skip

    def _is_left(self, holder: Holder, guard: _Guard, watched: dict[str, _Watch]) -> bool:
        """Whether a lock was left behind; raise if its job lives, False if that is not known yet.

        Clocks differ, so a job that can't be looked up lives if its file is renewed while we
        watch; what the file system's own clock says of its age shortens the wait.
        """
        watch = watched.get(holder.token)
        if not guard.is_exclusive:
            raise MlselError(
                f"{holder.path} is held by {holder}. This file system has no file locks, so that "
                "a lock left behind is not taken over: if that job has ended, remove the file."
            )
        if holder.has_ended():
            return True
        if holder.is_near or (watch is not None and holder.renewed != watch.renewed):
            raise MlselError(
                f"another job works in {self.path.parent}: {holder} ({holder.path}); wait for it "
                "or end it."
            )
        if watch is None:
            age = min(max(guard.now - holder.renewed, 0.0), STALE_AFTER)
            watch = _Watch(holder.renewed, time.monotonic() + STALE_AFTER - age)
            watched[holder.token] = watch
            if age < STALE_AFTER:
                log.info("%s: waiting up to %.0f s for a sign of %s", holder.path,
                         STALE_AFTER - age, holder)  # fmt: skip
        return time.monotonic() >= watch.until

    def _write(self) -> None:
        place, (job, restart) = Place.here(), _batch_job()
        known = {
            "host": place.host,
            "boot": place.boot,
            "namespace": place.namespace,
            "pid": os.getpid(),
            "started": _start_of(os.getpid()),
            "job": job,
            "start": restart,
            "token": self._token,
        }
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            raise MlselError(
                f"another job works in {self.path.parent} ({self.path}); wait for it or end it."
            ) from None
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(known, file)
        except OSError:
            self.path.unlink(missing_ok=True)
            raise

    def _is_mine(self) -> bool:
        holder = holder_of(self.path)
        return holder is not None and holder.token == self._token

    def _renew(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            with suppress(OSError):  # a server that is away for a moment
                if not self._is_mine():
                    self._end()
                    return
                os.utime(self.path)

    def _end(self) -> None:
        """End the job: another may write in the folder."""
        log.error(
            "mlsel: %s is no longer this job's: it gave no sign for over %.0f s and another job "
            "took over, or the file was removed. This one ends; give the command again later.",
            self.path,
            STALE_AFTER,
        )
        end_all_ranks(1)
        os._exit(1)


def lock_files(folder: Path) -> list[Path]:
    """Return the locks in a folder."""
    return sorted([*folder.glob(".lock"), *folder.glob(".lock-*-of-*")])


def holder_of(path: Path) -> Holder | None:
    """Return who holds a lock, None if it is gone."""
    try:
        renewed = path.stat().st_mtime
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    try:
        known = {key: str(value) for key, value in json.loads(text).items()}
        place = Place(known["host"], known.get("boot", ""), known.get("namespace", ""))
        pid = int(known["pid"])
    except (ValueError, KeyError, AttributeError):
        return Holder(path, Place("?", "", ""), 0, "", "", "", "", renewed)
    job, restart = known.get("job", ""), known.get("start", "")
    token = known.get("token", text)  # locks of mlsel 0.1 have none
    return Holder(path, place, pid, known.get("started", ""), job, restart, token, renewed)


@dataclass(frozen=True)
class _Watch:
    """A lock that is watched: its time when first seen, and until when (this process's clock)."""

    renewed: float
    until: float


@dataclass(frozen=True)
class _Guard:
    """The file system's time, s, and whether no other process looks at this folder's locks."""

    now: float
    is_exclusive: bool


@contextmanager
def _guarded(folder: Path) -> Iterator[_Guard]:
    """Look at a folder's locks alone."""
    path = folder / GUARD
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            is_exclusive = _lock_file(descriptor)
            if not is_exclusive or _is_same_file(path, descriptor):
                break
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the one before us removed it
    try:
        os.utime(descriptor)
        yield _Guard(os.fstat(descriptor).st_mtime, is_exclusive)
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock_file(descriptor: int) -> bool:
    """Take the kernel's lock of an open file; False where the file system has none."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if stopping.asked():
                raise Stopped(
                    "stopped by a signal before anything was done.", has_progress=False
                ) from None
            time.sleep(0.005)
        except OSError:
            return False


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _batch_job() -> tuple[str, str]:
    """Return the Slurm job that this process is in, and how often that was requeued."""
    return os.environ.get("SLURM_JOB_ID", ""), os.environ.get("SLURM_RESTART_COUNT", "0")


def _start_of(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; "" if it has ended.

    One that was killed but not yet reaped has ended: it holds nothing.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        return ""
