"""Locks of folders: one holder at a time, whatever was left behind, and only mine is removed."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlsel.core import lock as module
from mlsel.core import stopping
from mlsel.core.errors import MlselError, Stopped
from mlsel.core.lock import FolderLock, Place, holder_of

N_STARTS = 24
_NO_PROCESS = 2**22 + 1
"""A process id above what Linux gives."""


def write_lock(folder: Path, **changes: Any) -> Path:
    """A lock as a job of this host would have left it, with some entries changed."""
    place = Place.here()
    known = {
        "host": place.host,
        "boot": place.boot,
        "namespace": place.namespace,
        "pid": _NO_PROCESS,
        "started": "17",
        "job": "",
        "start": "0",
        "token": "another",
    }
    path = folder / ".lock"
    path.write_text(json.dumps(known | changes))
    return path


def takes(folder: Path) -> None:
    """Take the lock, see that it is this process's, give it back, and see that nothing is left."""
    lock = FolderLock(folder)
    lock.acquire()
    holder = holder_of(lock.path)
    assert holder is not None and holder.pid == os.getpid()
    assert [path.name for path in folder.iterdir()] == [".lock"]
    lock.release()
    assert not list(folder.iterdir())


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What happens at each wait; when nothing is left to happen the minute has passed."""
    steps: list[Callable[[], None]] = []
    clock = [0.0]

    def sleep(_: float) -> None:
        if steps:
            steps.pop(0)()
        else:
            clock[0] += module.STALE_AFTER + 1

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return steps


def test_a_second_job_is_refused(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    lock.acquire()
    with pytest.raises(MlselError, match=f"another job works in .*process {os.getpid()} on host"):
        FolderLock(tmp_path).acquire()
    lock.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "left",
    [
        pytest.param({}, id="its process has ended"),
        pytest.param({"pid": os.getpid(), "started": "17"}, id="its process id was given again"),
    ],
)
def test_a_lock_left_behind_here_is_taken_over_at_once(
    left: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited"))
    write_lock(tmp_path, **left)
    takes(tmp_path)


def test_an_earlier_start_of_the_same_job_left_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lock(tmp_path, host="node7", boot="x", job="99", start="0")
    monkeypatch.setenv("SLURM_JOB_ID", "99")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    takes(tmp_path)


def test_a_lock_that_was_half_written_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text('{"host": "no')
    takes(tmp_path)


def test_a_guard_left_behind_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / module.GUARD).write_text("")
    takes(tmp_path)


@pytest.mark.parametrize(
    "far",
    [
        pytest.param({"host": "node7", "boot": "x"}, id="another host"),
        pytest.param({"namespace": "pid:[1]"}, id="a container of the same name"),
        pytest.param({"boot": "x"}, id="the same name, another boot"),
    ],
)
@pytest.mark.parametrize("ahead", [0.0, 3600.0], ids=["", "from the future"])
def test_a_job_that_cannot_be_looked_up_is_watched(
    far: dict[str, Any], ahead: float, tmp_path: Path, waits: list[Callable[[], None]]
) -> None:
    path = write_lock(tmp_path, pid=os.getpid(), **far)
    then = time.time() + ahead
    os.utime(path, (then, then))
    waits += [lambda: None, lambda: os.utime(path, (then + 10, then + 10))]
    with pytest.raises(MlselError, match="another job works in"):
        FolderLock(tmp_path).acquire()
    assert not waits, "it was renewed and seen to be"
    takes(tmp_path)  # nothing more comes: after a minute it is stale


def test_a_signal_ends_the_waiting(
    tmp_path: Path, waits: list[Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lock(tmp_path, host="node7", boot="x")
    monkeypatch.setattr(stopping, "asked", lambda: True)
    with pytest.raises(Stopped):
        FolderLock(tmp_path).acquire()
    assert [path] == list(tmp_path.iterdir())


def test_a_job_that_lost_its_lock_ends_and_leaves_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(module, "end_all_ranks", ended.append)
    monkeypatch.setattr(os, "_exit", ended.append)
    lock = FolderLock(tmp_path)
    lock.acquire()
    path = write_lock(tmp_path, token="the new one")
    monkeypatch.setattr(module, "HEARTBEAT", 0.0)
    lock._renew()
    assert ended == [1, 1]
    assert "no longer this job's" in caplog.text
    lock.release()
    holder = holder_of(path)
    assert holder is not None and holder.token == "the new one"


def test_the_lock_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = FolderLock(tmp_path)
    lock.acquire()
    os.utime(lock.path, (1.0, 1.0))
    waited = iter([False, True])  # one heartbeat, then released
    monkeypatch.setattr(lock._stop, "wait", lambda _: next(waited))
    lock._renew()
    assert lock.path.stat().st_mtime > 1.0
    lock.release()


def test_without_file_locks_none_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_lock_file", lambda _: False)
    takes(tmp_path)
    path = write_lock(tmp_path)
    with pytest.raises(MlselError, match=r"no file locks|another job works"):
        FolderLock(tmp_path).acquire()
    assert path.exists()
    part = FolderLock(tmp_path, "1-of-2")
    with pytest.raises(MlselError, match=r"remove the file"):
        part.acquire()
    assert not part.path.exists()


def _start(folder: Path, gate: Any, tried: Any, outcome: Any) -> None:
    gate.wait()
    lock = FolderLock(folder)
    try:
        lock.acquire()
    except MlselError:
        outcome.put("refused")
        tried.wait()
        return
    outcome.put("held")
    tried.wait()  # all have tried before it is given back
    lock.release()


@pytest.mark.parametrize("left", [False, True], ids=["free", "left behind"])
def test_of_simultaneous_starts_one_holds(left: bool, tmp_path: Path) -> None:
    if left:
        write_lock(tmp_path)
    context = multiprocessing.get_context("fork")
    gate, tried = context.Barrier(N_STARTS), context.Barrier(N_STARTS)
    outcome = context.Queue()
    starts = [
        context.Process(target=_start, args=(tmp_path, gate, tried, outcome))
        for _ in range(N_STARTS)
    ]
    for process in starts:
        process.start()
    found = [outcome.get() for _ in starts]
    for process in starts:
        process.join()
    assert sorted(found) == ["held"] + ["refused"] * (N_STARTS - 1)
    assert not list(tmp_path.iterdir())
