"""One line on a terminal that tells how far a stage is; nothing where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


class Progress:
    """A line on stderr, renewed in place at most twice a second.

    Parameters
    ----------
    total : float
        The work to do, in any unit.
    describe : callable
        describe(done, rate per second) -> what the line says beside percent and time left.
    done : float
        Work that needn't be done; it does not count for the rate.
    """

    def __init__(
        self, total: float, describe: Callable[[float, float], str], done: float = 0.0
    ) -> None:
        self.total = total
        self.done = self._done_before = done
        self._describe = describe
        self._start = self._shown = time.monotonic()
        self._quiet = not sys.stderr.isatty()

    def advance(self, amount: float) -> None:
        """Count work as done."""
        self.done += amount
        now = time.monotonic()
        if self._quiet or now - self._shown < 0.5:
            return
        self._shown = now
        rate = self.rate
        left = duration((self.total - self.done) / rate) if rate else "?"
        share = self.done / self.total if self.total else 1.0
        text = f"{share:4.0%}  {self._describe(self.done, rate)}  {left} left"
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def skip(self, amount: float) -> None:
        """Count work as done before the start: it does not count for the rate."""
        self._done_before += amount
        self.advance(amount)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @property
    def done_here(self) -> float:
        """Work done since the start."""
        return self.done - self._done_before

    @property
    def rate(self) -> float:
        """Work a second, since the start."""
        return self.done_here / max(1e-9, self.elapsed)

    def end(self) -> None:
        """Take the line away."""
        if not self._quiet:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return a time for people.

    >>> duration(5), duration(125), duration(7300)
    ('5 s', '2 min 05 s', '2 h 01 min')
    """
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
