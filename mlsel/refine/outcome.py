"""What a round of a refinement found, and how a refinement ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlsel.core.record import read_json, shape_told

STABLE, SPENT, ENDED = "stable", "budget spent", "rounds done"
NO_FRAME = "lost before a frame was kept"


@dataclass(frozen=True)
class Outcome:
    """What a round found.

    Attributes
    ----------
    times : ps, of each run
    ended_by : of each run, "" if it reached its end
    n_new : frames that are new, of all runs
    n_labelled : that were chosen to be labelled
    """

    times: tuple[float, ...]
    ended_by: tuple[str, ...]
    n_new: int
    n_labelled: int

    @classmethod
    def read(cls, path: Path) -> Outcome:
        """Read round.json.

        Raises
        ------
        MlselError
            If it is damaged.
        """
        value = read_json(path)
        with shape_told(path, "remove it and give `mlsel refine` again"):
            return cls(
                tuple(map(float, value["times"])),
                tuple(map(str, value["ended_by"])),
                int(value["n_new"]),
                int(value["n_labelled"]),
            )

    def as_dict(self) -> dict[str, Any]:
        """Return it as round.json has it."""
        return {
            "times": self.times,
            "ended_by": self.ended_by,
            "n_new": self.n_new,
            "n_labelled": self.n_labelled,
        }

    @property
    def is_stable(self) -> bool:
        """Whether every run reached its end and met nothing new."""
        return not any(self.ended_by) and not self.n_new

    @property
    def n_lost(self) -> int:
        """Runs that did not reach their end."""
        return sum(bool(ended) for ended in self.ended_by)

    def told(self, duration: float) -> str:
        """Say it in a line.

        >>> Outcome((20.0, 3.21), ("", "a pair Na-Na at 1.50 Å"), 8, 4).told(20.0)
        '1 of 2 runs reached 20 ps (shortest 3.21 ps; a pair Na-Na at 1.50 Å), 8 new frames, \
4 chosen for labels'
        """
        n = len(self.times)
        text = f"{n - self.n_lost} of {n} runs reached {duration:g} ps"
        if self.n_lost:
            first = next(ended for ended in self.ended_by if ended)
            text += f" (shortest {min(self.times):.3g} ps; {first})"
        text += f", {self.n_new} new frames"
        if self.n_labelled:
            text += f", {self.n_labelled} chosen for labels"
        return text
