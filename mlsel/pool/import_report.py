"""What became of each value of the frames that were imported."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from mlsel.pool.labels import LABELS


@dataclass
class Report:
    """What `mlsel import` prints."""

    n_frames: int = 0
    n_read: int = 0
    n_runs: int = 0
    compositions: Counter[str] = field(default_factory=Counter)
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    not_kept: Counter[str] = field(default_factory=Counter)
    references: dict[int, float] = field(default_factory=dict)
    left_out: int = 0
    n_copies: int = 0
    warnings: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the report."""
        from ase.data import chemical_symbols

        shown = [f"{formula} ({n})" for formula, n in self.compositions.most_common(6)]
        more = len(self.compositions) - len(shown)
        lines = [
            f"{self.n_frames} frames in {self.n_runs} run{'s' if self.n_runs != 1 else ''}: "
            f"{', '.join(shown)}{f' and {more} more compositions' if more > 0 else ''}",
        ]
        for label in LABELS:
            keys = self.labels.get(label)
            for key, n in keys.items() if keys else ():
                lines.append(f"  {label:16} from {key}: {n} of {self.n_frames} frames")
            if not keys:
                lines.append(f"  {label:16} none")
        for title, counts in (("kept as found", self.kept), ("not kept", self.not_kept)):
            names = [f"{name} ({n})" for name, n in sorted(counts.items())]
            lines.append(f"{title}: {', '.join(names) or 'nothing else'}")
        if self.references:
            energies = [f"{chemical_symbols[z]} {e:.6g} eV" for z, e in self.references.items()]
            lines.append(f"isolated atoms, kept as element references: {', '.join(energies)}")
        if self.left_out:
            lines.append(f"left out: {self.left_out} of {self.n_read} frames, without a label")
        if self.n_copies:
            lines.append(
                f"copies: {self.n_copies} of {self.n_frames} frames have the atoms, positions and "
                "cell of another: a selection takes one of each (`mlsel check` names them)"
            )
        return lines + [f"warning: {warning}" for warning in self.warnings]
