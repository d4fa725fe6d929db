"""A bound for calls of a library that may never return.

Some damaged HDF5 files make the HDF5 library itself walk in a circle, in C, where neither an
exception nor a signal's Python handler is ever heard: free space of no size in a heap of texts is
one such place. What ends a circle is a signal whose handler runs in the midst of it. It counts
processor time, not the time of day: a slow disk is waited for as long as it takes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

SECONDS = 120.0
"""Of processor time; what is bounded takes milliseconds."""
AGAIN = 1.0
"""s, until the next signal, should a thread have got one that can't do anything about it."""
EXIT = 2
"""As for other bad input."""


def end(text: str) -> None:
    """End the process, with a sentence: nothing else can be done from within a library."""
    os.write(2, f"mlsel: {text}\n".encode())
    os._exit(EXIT)


class _Bound:
    """What is being waited for; only one thing at a time is."""

    text = ""


def _hear(_: int) -> None:
    if _Bound.text:
        end(_Bound.text)


@cache
def _install() -> Any:
    """Make the handler known to the system itself: Python's own runs handlers only between its
    instructions. Returns what must not be collected."""
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
    handler = kind(_hear)
    system = ctypes.CDLL(None)
    system.signal.argtypes = [ctypes.c_int, kind]
    system.signal.restype = ctypes.c_void_p
    system.signal(signal.SIGVTALRM, handler)
    return handler


@contextmanager
def told_if_endless(text: str) -> Iterator[None]:
    """End the process with this sentence if the block takes more than SECONDS of processor time.

    Within another such block, or in a thread beside the main one, nothing is bounded.
    """
    if _Bound.text or threading.current_thread() is not threading.main_thread():
        yield
        return
    _install()
    _Bound.text = text
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        _Bound.text = ""
