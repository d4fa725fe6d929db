"""Stopping on request: SIGTERM or SIGUSR1 lets a stage finish its current unit and end.

Batch systems send a signal before they kill. A stage that hears it goes on to the next point from
which it can be resumed (the checkpoint of a run, the end of an epoch, a data set, a chunk) and ends
with `Stopped`, exit code 75. A second signal ends it at once, as does SIGKILL: then it goes on
from the point before. SIGUSR1 is heard too because srun takes SIGTERM for an order to kill.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from mlsel.core.errors import Stopped

if TYPE_CHECKING:
    from mpi4py import MPI

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class _State:
    """What one process has heard. Signals are the process's, so there is one."""

    def __init__(self) -> None:
        self.asked = False
        self.units_done = 0
        self.on_stop: list[Callable[[], None]] = []


_state = _State()


@contextmanager
def heard() -> Iterator[None]:
    """Hear the signals during the block; outside the main thread they are left as they are."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(SIGNALS[0]) is _hear:  # the second: a stage within `run`
        yield
        return
    before = {number: signal.signal(number, _hear) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _state.asked = False
        _state.units_done = 0


def _hear(number: int, _: FrameType | None) -> None:
    _state.asked = True
    signal.signal(number, signal.SIG_DFL)
    for action in _state.on_stop:
        action()


def asked() -> bool:
    """Whether this process was asked to stop."""
    return _state.asked


def count_unit() -> None:
    """Note that something was achieved that will not have to be done again."""
    _state.units_done += 1


def units_done() -> int:
    """How much was achieved since the start."""
    return _state.units_done


@contextmanager
def calling(action: Callable[[], None]) -> Iterator[None]:
    """Call `action` when the process is asked to stop during the block, or was before."""
    _state.on_stop.append(action)
    try:
        if _state.asked:
            action()
        yield
    finally:
        _state.on_stop.remove(action)


def check(comm: MPI.Intracomm) -> None:
    """End here if rank 0 was asked to stop; collective, where there is nothing to lose.

    Raises
    ------
    Stopped
        On every rank alike.
    """
    stop, has_progress = comm.bcast((asked(), units_done() > 0) if comm.rank == 0 else None)
    if stop:
        raise Stopped(
            "stopped by a signal; the same command goes on from here."
            if has_progress
            else "stopped by a signal before anything was done.",
            has_progress=has_progress,
            everywhere=True,
        )


def check_at_checkpoint(comm: MPI.Intracomm) -> None:
    """Like `check` where a checkpoint was just written, inside a task of `parallel.share`."""
    if comm.bcast(asked() if comm.rank == 0 else None):
        raise Stopped
