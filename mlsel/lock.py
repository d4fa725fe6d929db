"""A study's folder is used by one job at a time."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path

from mlsel.errors import MlselError

HEARTBEAT = 10.0
STALE_AFTER = 60.0


class FolderLock:
    """Holds DIR/.lock with host and process id while a job writes in DIR.

    The file's time is renewed every 10 s. A lock is stale, and taken over, if its process has
    ended on this host, or if it is another host's and was not renewed for a minute.

    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"
        self._stop = threading.Event()

    def acquire(self) -> None:
        """Take the lock, or raise MlselError if another job holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        mine = self.path.with_name(f".lock.{socket.gethostname()}.{os.getpid()}")
        mine.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        try:
            while True:
                try:
                    os.link(mine, self.path)  # atomic, on NFS too
                    break
                except FileExistsError:
                    self._refuse_or_clear(mine)
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

    def _refuse_or_clear(self, mine: Path) -> None:
        try:
            holder = json.loads(self.path.read_text())
            # Both times come from the file system's clock, which the hosts share.
            age = mine.stat().st_mtime - self.path.stat().st_mtime
        except FileNotFoundError:
            return  # given back just now
        except ValueError:
            holder, age = {"host": "?", "pid": 0}, STALE_AFTER + 1
        here = holder["host"] == socket.gethostname()
        if (here and not _is_running(holder["pid"])) or (not here and age > STALE_AFTER):
            self.path.unlink(missing_ok=True)
            return
        hint = (
            "wait for it or end it"
            if here
            else f"its last sign of life is {max(0, age):.0f} s old; after {STALE_AFTER:.0f} s "
            "without one the lock counts as left behind"
        )
        raise MlselError(
            f"another job works in {self.path.parent}: process {holder['pid']} on host "
            f"{holder['host']} ({self.path}); {hint}."
        )


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
