"""The error that reaches a user as one sentence."""

from __future__ import annotations


class MlselError(Exception):
    """A user's mistake, told in one sentence."""
