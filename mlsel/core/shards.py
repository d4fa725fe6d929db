"""Parts of a stage: what an element of an array of jobs does of it.

The tasks of a stage (its models, its runs) have a fixed order that follows from the study; part K
of N has the tasks K, K + N, K + 2N … of them, counted from 1. N is the number of tasks unless said.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlsel.core.errors import MlselError


@dataclass(frozen=True)
class Part:
    """Part `number` of `n` (None: of as many as there are tasks)."""

    number: int
    n: int | None = None

    def of(self, tasks: Sequence[str]) -> list[str]:
        """Return the tasks of this part.

        Raises
        ------
        MlselError
            If there are fewer tasks than the part's number, where each is a part.

        Examples
        --------
        >>> Part(2).of(["a", "b", "c"]), Part(1, 2).of(["a", "b", "c"])
        (['b'], ['a', 'c'])
        """
        if self.n is None and self.number > len(tasks):
            raise MlselError(
                f"--part {self.number} is asked for, but this stage has {len(tasks)} parts "
                f"({', '.join(tasks[:3])}{', …' if len(tasks) > 3 else ''}): give 1 to "
                f"{len(tasks)}. An array of another study, or of one that was changed?"
            )
        return list(tasks[self.number - 1 :: self.n or len(tasks)])

    def label(self, tasks: Sequence[str]) -> str:
        """Return the part's name: no two jobs may have it at a time.

        >>> Part(2).label(["a", "b", "c"])
        '2-of-3'
        """
        return f"{self.number}-of-{self.n or len(tasks)}"


def add_part_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --part K or K/N."""
    parser.add_argument(
        "--part",
        type=_part,
        metavar="K[/N]",
        help=f"do only part K of N (default: each {what} is a part), as an element of an array "
        "of jobs does; `mlsel status --all` tells the numbers",
    )


def _part(text: str) -> Part:
    match = re.fullmatch(r"(\d+)(?:/(\d+))?", text)
    number, n = (int(x) if x else None for x in match.groups()) if match else (None, None)
    if not number or n == 0 or (n is not None and number > n):
        raise argparse.ArgumentTypeError(
            f"{text!r}: give a number from 1, or K/N with K from 1 to N, for instance 7/30"
        )
    return Part(number, n)
