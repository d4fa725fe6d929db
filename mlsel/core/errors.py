"""The errors that reach a user as one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MlselError(Exception):
    """A user's mistake, told in one sentence.

    Parameters
    ----------
    sentence : str
    everywhere : bool
        Whether every rank raises it: rank 0 alone then tells it, and none needs ending.

    Attributes
    ----------
    is_everywhere : bool
    exit_code : int
    """

    exit_code = 2

    def __init__(self, sentence: str = "", *, everywhere: bool = False) -> None:
        super().__init__(sentence)
        self.is_everywhere = everywhere


class StageIncomplete(MlselError):
    """A stage came to its end but not everything in it succeeded: told, and exit code 1."""

    exit_code = 1


class Stopped(MlselError):
    """A stage was asked by a signal to stop, and did so where it can go on: exit code 75.

    75 is EX_TEMPFAIL of sysexits.h: to be tried again. If nothing was achieved since the start
    the code is 1, so that a job which starts itself anew does not do so for ever.
    """

    exit_code = 75

    def __init__(
        self,
        text: str = "stopped by a signal; the same command goes on from here.",
        *,
        has_progress: bool = True,
        everywhere: bool = False,
    ) -> None:
        super().__init__(text, everywhere=everywhere)
        self.has_progress = has_progress
        self.exit_code = 75 if has_progress else 1


def nearest(word: str, known: Iterable[str]) -> str:
    """Return " (did you mean …?)" for a word close to a known one, else nothing."""
    match = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {match[0]}?)" if match else ""


LONGEST = 400
"""Characters of a message."""


def shortened(text: str, length: int = LONGEST) -> str:
    """Return a text on one line and no longer than this: what is too much is cut from its middle.

    >>> shortened("one\\ntwo"), shortened("abcdefghij", 7)
    ('one\\\\ntwo', 'abcd…ij')
    """
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    if len(text) <= length:
        return text
    end = (length - 1) // 3
    return f"{text[: length - 1 - end]}…{text[len(text) - end :]}"
