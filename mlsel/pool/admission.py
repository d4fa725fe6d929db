"""Who of other people's frames becomes a frame of the pool, an element reference, or neither."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core.arrays import Array
from mlsel.core.errors import MlselError
from mlsel.pool.extras import Extra, Extras
from mlsel.pool.incoming import Incoming, distinct
from mlsel.pool.labels import LABELS, Decision, Found

CONVERGED = ("scf_converged", "converged", "scf_convergence")
"""Names under which codes and their readers say whether the electrons converged."""
MAX_NAMED = 3
"""Frames that a warning names."""


@dataclass
class Admitted:
    """Frames that become the pool's and go into one run.

    Attributes
    ----------
    labels : key and values (F, …) of each label
    extras : all else, as it is stored, (F, …)
    """

    frames: Incoming
    labels: dict[str, tuple[str, Array]]
    extras: dict[str, tuple[Extra, Array]]

    @property
    def kind(self) -> tuple[Any, ...]:
        """What frames of one run have in common."""
        frames = self.frames
        shapes = tuple(sorted((name, value.shape[1:]) for name, (_, value) in self.extras.items()))
        labels = tuple(label for label in LABELS if label in self.labels)
        return frames.source, frames.numbers.tobytes(), frames.periodic, labels, shapes


class Admission:
    """Decides on frames, and takes note of what is odd in them."""

    def __init__(
        self, decision: Decision, extras: Extras, sources: Sequence[Path], keep_isolated: bool
    ) -> None:
        self.decision = decision
        self._extras = extras
        self.sources = sources
        self._keep_isolated = keep_isolated
        self.references: dict[int, float] = {}
        self._odd: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._n_odd: Counter[str] = Counter()
        self._told: list[str] = []
        self.n_skipped = 0

    def again(self) -> Admission:
        """Return one that decides the same and has noted nothing."""
        return Admission(self.decision, self._extras, self.sources, self._keep_isolated)

    def admit(self, frames: Incoming) -> Iterator[Admitted]:
        """Yield those of some frames that become the pool's, in parts that have the same labels."""
        found = self.decision.labels(frames)
        for key in frames.filled_in:
            self._note(f"have {key} that the reader or a constraint filled in: no label", frames)
        isolated = frames.are_isolated_atoms()
        choices = np.array([isolated.astype(np.int64), *(one.choice for one in found.values())])
        for pattern, chosen in distinct(choices):
            part = frames.take(chosen)
            labels = _chosen(found, chosen)
            if pattern[0]:
                for k in range(len(part)):
                    one = np.arange(len(part)) == k
                    own = {label: (key, values[one]) for label, (key, values) in labels.items()}
                    yield from self._admit_isolated(part.take(one), own)
            else:
                yield from self._admit(part, labels)

    def _admit_isolated(
        self, frame: Incoming, labels: dict[str, tuple[str, Array]]
    ) -> Iterator[Admitted]:
        if "energy" in labels or not self._keep_isolated:
            self._refer(frame, labels)
            if not self._keep_isolated:
                return
            if "forces" in self.decision.keys and "forces" not in labels:
                labels["forces"] = "symmetry (an isolated atom)", np.zeros((1, 1, 3))
        yield from self._admit(frame, labels)

    def _admit(self, frames: Incoming, labels: dict[str, tuple[str, Array]]) -> Iterator[Admitted]:
        missing = [label for label in self.decision.required if label not in labels]
        if missing:
            keys = self.decision.keys[missing[0]]
            is_there = any(frames.find(key) is not None for key in keys)
            self._note(f"have {'no finite' if is_there else 'no'} {missing[0]}", frames)
            if self.decision.options.without == "skip":
                self.n_skipped += len(frames)
                return
        self._look(frames)
        used = {key for _, (key, _) in sorted(labels.items())}
        yield Admitted(frames, labels, self._extras.of_frames(frames, used))

    def refer(self, path: Path, references: Mapping[int, float]) -> None:
        """Take the energies of isolated atoms, eV, that a source keeps beside its frames."""
        from ase.data import chemical_symbols

        for number, energy in references.items():
            if self._take(number, energy):
                self._told.append(
                    f"{path} has another energy of an isolated {chemical_symbols[number]} than "
                    "other sources: the lowest is kept"
                )

    def _take(self, number: int, energy: float) -> bool:
        """Keep the lowest energy of an element; return whether there was another."""
        known = self.references.setdefault(number, energy)
        self.references[number] = min(known, energy)
        return abs(known - energy) > 1e-6

    def _refer(self, frame: Incoming, labels: dict[str, tuple[str, Array]]) -> None:
        number = int(frame.numbers[0])
        if "energy" not in labels:
            self._note("are isolated atoms without an energy: left out", frame)
            return
        energy = float(labels["energy"][1][0])
        if self._take(number, energy):
            self._note("are isolated atoms of one element with another energy: the lowest", frame)

    def _look(self, frames: Incoming) -> None:
        self._note("have a left-handed cell", frames, np.linalg.det(frames.cell) < 0)
        if 0 < sum(frames.periodic) < 3:
            self._note("are periodic in some directions only", frames)
        for key in CONVERGED:
            found = frames.find(key)
            if found is not None and not isinstance(found[1], list):
                failed = ~found[1].reshape(len(frames), -1).astype(bool).all(axis=1)
                self._note(f"did not converge ({key}): their labels may be wrong", frames, failed)

    def _note(self, what: str, frames: Incoming, which: Array | None = None) -> None:
        index = frames.index if which is None else frames.index[which]
        if not len(index):
            return
        self._n_odd[what] += len(index)
        named = [(frames.source, int(k)) for k in np.sort(index)[:MAX_NAMED]]
        self._odd[what] = sorted([*self._odd[what], *named])[:MAX_NAMED]

    def _named(self, what: str) -> list[str]:
        return [f"{self.sources[source]}, frame {index}" for source, index in self._odd[what]]

    def warnings(self) -> list[str]:
        """Return what is odd, a sentence each, with the first frames."""
        return self._told + [
            f"{n} frame{'s' if n > 1 else ''} {what} "
            f"({'; '.join(self._named(what))}{'; …' if n > len(self._odd[what]) else ''})"
            for what, n in sorted(self._n_odd.items())
        ]

    def refuse_missing(self, n_frames: int) -> None:
        """Raise if frames lack what others have, and nothing was said of that."""
        lacking = [what for what in self._n_odd if what.startswith("have no ")]
        if self.decision.options.without != "refuse" or not lacking:
            return
        told = "; ".join(
            f"{self._n_odd[what]} of {n_frames} frames {what} (first: {self._named(what)[0]})"
            for what in sorted(lacking)
        )
        raise MlselError(
            f"{told}: --without-labels skip leaves them out, --without-labels keep keeps them."
        )


def _chosen(found: dict[str, Found], chosen: Array) -> dict[str, tuple[str, Array]]:
    """Return key and values of the labels of chosen frames, which all have the same."""
    labels = {}
    for label, one in found.items():
        key = int(one.choice[chosen.argmax()])
        if key >= 0:
            labels[label] = one.keys[key], one.values if chosen.all() else one.values[chosen]
    return labels
