"""The error that reaches a user as one sentence."""

from __future__ import annotations


class MlselError(Exception):
    """A user's mistake, told in one sentence.

    Attributes
    ----------
    is_everywhere : bool
        Whether every rank raised it (rank 0 alone then tells it, and none needs ending).
    """

    is_everywhere = False


class StageIncomplete(MlselError):
    """A stage came to its end but not everything in it succeeded: told, and exit code 1."""
