"""A line a claim: what was measured, the bound, and whether it holds."""

from __future__ import annotations


class Claims:
    """Prints each claim as it is measured and remembers whether one fell short.

    Under MPI only rank 0 states any.
    """

    def __init__(self, speaks: bool = True) -> None:
        self._short = 0
        if speaks:
            print(f"{'claim':70} {'value':>10} {'bound':>10}")

    def at_least(self, claim: str, value: float, bound: float) -> None:
        """State that a value is at least a bound."""
        self._line(claim, value, f"≥ {bound:g}", value >= bound)

    def at_most(self, claim: str, value: float, bound: float) -> None:
        """State that a value is at most a bound."""
        self._line(claim, value, f"≤ {bound:g}", value <= bound)

    def note(self, text: str) -> None:
        """Print what stands beside the claims."""
        print(f"# {text}", flush=True)

    def _line(self, claim: str, value: float, bound: str, holds: bool) -> None:
        self._short += not holds
        verdict = "holds" if holds else "falls short"
        print(f"{claim:70} {value:10.4g} {bound:>10}  {verdict}", flush=True)

    def end(self) -> int:
        """Return the exit code."""
        return 1 if self._short else 0
