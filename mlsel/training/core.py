"""A guard rail for models that are there already: no two atoms far nearer than the data had them.

For each pair of elements the screened nuclear repulsion of Ziegler, Biersack and Littmark is added
below the shortest distance of the training frames, with a switch of `WIDTH`. Training frames, and
whatever keeps their distances, have the same energies and forces with and without it. It keeps
atoms apart once they are too near; it is no cure for what brought them there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core.errors import MlselError
from mlsel.core.files import write_json
from mlsel.training.baseline import Baseline
from mlsel.training.description import CORE_FILE
from mlsel.training.frames import Frames, symbols

FILE = CORE_FILE
WIDTH = 0.2
"""Å, over which it is switched off."""
MARGIN = 0.01
"""Å from its end to the shortest distance."""
REACH = 4.0
"""Å: two elements that never were nearer than this are taken to have been this near."""


@dataclass(frozen=True)
class Core(Baseline):
    """The guard rail of a model, a baseline that is zero at all distances of its training frames.

    Attributes
    ----------
    distances : mapping of "Na-Cl" to float
        The shortest distance of each pair of elements, Å, the lighter element first.
    """

    distances: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_frames(cls, frames: Sequence[Frames]) -> Core:
        """Return the guard rail that the distances of some frames allow."""
        from vesin import NeighborList

        find = NeighborList(cutoff=REACH, full_list=False)
        numbers = sorted({int(z) for part in frames for z in part.numbers})
        shortest = dict.fromkeys(combinations_with_replacement(numbers, 2), REACH)
        for part in frames:
            for positions, cell in zip(part.positions, part.cell, strict=True):
                i, j, d = find.compute(positions, cell, part.periodic, "ijd")
                ends = np.sort(np.stack((part.numbers[i], part.numbers[j])), axis=0)
                for pair in shortest:
                    own = d[(ends[0] == pair[0]) & (ends[1] == pair[1])]
                    shortest[pair] = min(shortest[pair], float(own.min(initial=REACH)))
        near = [pair for pair, distance in shortest.items() if distance <= WIDTH + MARGIN]
        if near:
            raise MlselError(
                f"{symbols(near[0])} are {shortest[near[0]]:.3g} Å apart in a training frame, too "
                f"near for training.core, which needs more than {WIDTH + MARGIN:g} Å: leave such "
                "frames out."
            )
        return cls(distances={_name(pair): round(r, 6) for pair, r in shortest.items()})

    def text(self, species: Sequence[str]) -> str:
        from ase.data import atomic_numbers

        numbers = [atomic_numbers[symbol] for symbol in species]
        styles, lines = [], []
        pairs = list(combinations_with_replacement(range(len(species)), 2))
        for k, (i, j) in enumerate(pairs, 1):
            end = self.distances[_name(sorted((numbers[i], numbers[j])))] - MARGIN
            styles.append(f"zbl {end - WIDTH:.6f} {end:.6f}")
            which = f"zbl {k}" if len(pairs) > 1 else "zbl"
            lines.append(f"pair_coeff {i + 1} {j + 1} {which} {numbers[i]} {numbers[j]}")
        return "\n".join([f"pair_style hybrid/overlay {' '.join(styles)}", *lines]) + "\n"

    @property
    def identity(self) -> dict[str, Any]:
        return {"style": "zbl", "width": WIDTH, "margin": MARGIN, "distances": dict(self.distances)}

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, self.identity)


def _name(pair: Sequence[int]) -> str:
    return symbols(pair).replace(", ", "-")


def read_core(folder: Path) -> Core | None:
    """Return the guard rail that lies beside a model, None if there is none.

    Raises
    ------
    MlselError
        If the file is damaged or of another width.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        core = Core(distances={str(k): float(r) for k, r in known["distances"].items()})
        if all(known[key] == value for key, value in core.identity.items()):
            return core
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise MlselError(f"{path} is damaged: remove it, `mlsel training` writes it anew.")
