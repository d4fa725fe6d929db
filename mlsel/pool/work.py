"""The sign and the unit of forces, and whether they belong to the energies, by the work of forces
between consecutive frames.

Between frames a and b that are near each other E(b) − E(a) = −½ (F(a) + F(b)) · Δx to the second
order in the displacements, less ½ (W(a) + W(b)) : ε where the cell is strained by ε. Where the
ratio of the two sides is the same from pair to pair it is 1, or the labels are wrong. Where it is
not, the frames are too far apart, and nothing is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core import units
from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.core.errors import shortened
from mlsel.pool.block import Run
from mlsel.pool.incoming import SOURCE_FILE

if TYPE_CHECKING:
    from mlsel.pool.pool import Pool

_LABELS = frozenset({"forces", "energy"})
PER_RUN, MOST = 32, 4096
"""Pairs of frames that are looked at, of one run and in all."""
FEWEST = 8
"""Pairs of a source, below which nothing is said."""
FARTHEST = 0.5
"""Å, the largest displacement of an atom."""
SAME_CELL, LARGEST_STRAIN = 1e-9, 0.02
"""Below the one the cell is the same; beyond the other a virial tells too little."""
SMALLEST_CELL = 1e-3
"""Å³: a cell of less is damaged."""
ALIKE, TOLERANCE = 0.75, 0.25
"""Of the pairs so many have the same ratio, within that part of it."""
STILL = 20.0
"""So many times smaller than the forces say are energies that are not the potential's. By
judgement: far more than the higher orders make where atoms move by less than FARTHEST."""
MAX_TOLD = 4
WRONG = 1.5
"""The ratio of what is told, or one over it: Ry for Hartree, the nearest unit, makes 2."""


@dataclass(frozen=True)
class Work:
    """What consecutive frames say of the forces of one source.

    Attributes
    ----------
    source : the file's name, or the run's where it is of none
    frames : (F,)
        Ids of the source's frames.
    n_atoms : of each of its frames; 0 where they have different numbers
    by_forces, by_energies : (P,)
        Differences of energy between the frames of a pair, eV.
    """

    source: str
    frames: IntArray
    n_atoms: int
    by_forces: FloatArray
    by_energies: FloatArray

    @property
    def ratios(self) -> FloatArray:
        """The forces' differences over the energies', of pairs of which these are not small."""
        counts = np.abs(self.by_energies) > 0.1 * np.abs(self.by_energies).max(initial=0.0)
        found: FloatArray = self.by_forces[counts] / self.by_energies[counts]
        return found

    @property
    def ratio(self) -> float:
        """Their median."""
        return float(np.median(self.ratios))

    @property
    def is_alike(self) -> bool:
        """Whether most pairs have the same ratio."""
        if len(self.ratios) < FEWEST:
            return False
        middle = np.median(self.ratios)
        near = np.abs(self.ratios - middle) <= TOLERANCE * np.abs(middle)
        return bool(near.mean() >= ALIKE)

    @property
    def is_still(self) -> bool:
        """Whether the energies hardly change where the forces say that they must."""
        forces, energies = np.linalg.norm(self.by_forces), np.linalg.norm(self.by_energies)
        return len(self.by_forces) >= FEWEST and bool(
            forces > STILL * energies and not self.is_alike
        )

    @property
    def is_known(self) -> bool:
        """Whether the frames are so near each other that they tell anything."""
        return self.is_alike or self.is_still

    @property
    def is_wrong(self) -> bool:
        return self.is_still or (self.is_alike and not 1 / WRONG <= self.ratio <= WRONG)

    def told(self) -> str:
        """Return a sentence on labels that are wrong."""
        name, n = shortened(self.source, 60), len(self.by_forces)
        if self.is_still:
            rms = [float(np.sqrt((one**2).mean())) for one in (self.by_energies, self.by_forces)]
            return (
                f"{name}: energies of {n} pairs of consecutive frames differ by {rms[0]:.2g} eV "
                f"(rms) where forces give {rms[1]:.2g} eV: are they the conserved ones of the MD, "
                "with the kinetic part?"
            )
        return (
            f"{name}: forces give {self.ratio:.3g} times the energy differences of {n} pairs of "
            f"consecutive frames, {self._reason()}"
        )

    def _reason(self) -> str:
        sign = "their sign is wrong" if self.ratio < 0 else ""
        hartree, kcal = (units.factor(unit, "energy") for unit in ("Hartree", "kcal/mol"))
        reasons = {
            1.0: "",
            1 / units.factor("Hartree/Bohr", "force"): "as if they were in Hartree/Bohr",
            1 / kcal: "as if they were in kcal/mol/Å, or energies in units 23 times as large",
            hartree: "as if energies were in Hartree",
        }
        if self.n_atoms > 1:
            reasons[float(self.n_atoms)] = "as if energies were per atom"
        near = min(reasons, key=lambda value: abs(np.log(abs(self.ratio) / value)))
        known = reasons[near] if abs(abs(self.ratio) / near - 1.0) < TOLERANCE else None
        if known is None:
            known = "another unit, or the energies are others'"
        return " and ".join(filter(None, (sign, known)))


def works(pool: Pool) -> list[Work]:
    """Compare forces with energies, source by source; what can't be compared is left out."""
    runs = [
        run for run in pool.runs if run.n_frames > 1 and set(pool.fields_of(run)) >= set(_LABELS)
    ]
    runs = runs[:: -(-len(runs) // MOST) or 1]
    if not runs:
        return []
    per_run = min(PER_RUN, max(1, MOST // len(runs)))
    run_of, row_of = pool.locate(np.arange(len(pool)))
    in_order = np.lexsort((row_of, run_of))
    starts = np.searchsorted(run_of[in_order], np.arange(len(pool.runs)))
    of_source: dict[int, list[tuple[Run, IntArray, FloatArray]]] = {}
    for run in runs:
        ids = in_order[starts[run.index] :][: run.n_frames]
        source, differences = _look(pool, run, ids, per_run)
        of_source.setdefault(source, []).append((run, ids, differences))
    found = []
    for source, parts in of_source.items():
        names = pool.attributes.get("sources", ())
        name = Path(str(names[source])).name if source >= 0 else parts[0][0].name
        frames, both = (np.concatenate([part[k] for part in parts]) for k in (1, 2))
        sizes = {run.n_atoms for run, _, _ in parts}
        n_atoms = sizes.pop() if len(sizes) == 1 else 0
        found.append(Work(name, frames, n_atoms, both[:, 0], both[:, 1]))
    return [work for work in found if work.is_known]


def _look(pool: Pool, run: Run, ids: IntArray, n: int) -> tuple[int, FloatArray]:
    """Return a run's source, and for up to n of its pairs the two differences, (P, 2) eV.

    A run of no source is one of its own.
    """
    first = np.unique(np.linspace(0, run.n_frames - 2, min(n, run.n_frames - 1)).astype(np.int64))
    rows = np.unique(np.concatenate([first, first + 1]))
    # optional: other runs may lack them
    fields = *_LABELS, "virial", SOURCE_FILE
    blocks = list(pool.blocks("positions", "cell", frame_ids=ids[rows], optional=fields))
    read = {field: np.concatenate([block[field] for block in blocks]) for field in blocks[0].fields}
    at = np.searchsorted(rows, first)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        differences = _differences(read, at, at + 1, np.array(pool.periodic(run)))
    sources = read.get(SOURCE_FILE, np.array([-1]))
    source = int(sources[0]) if sources.dtype.kind == "i" else -1
    has_name = 0 <= source < len(pool.attributes.get("sources", ()))
    return source if has_name else -1 - run.index, differences


def _differences(
    read: Mapping[str, Array], a: IntArray, b: IntArray, periodic: Array
) -> FloatArray:
    cell, forces, energy = read["cell"], read["forces"], read["energy"]
    moved = read["positions"][b] - read["positions"][a]
    strain = np.zeros((len(a), 3, 3))
    usable = np.ones(len(a), dtype=bool)
    if periodic.any():
        # Atoms that stand still relative to a strained cell have moved with it, and not by a force.
        boxes = np.where(periodic[:, None], cell, np.eye(3))
        flat = ~(np.abs(np.linalg.det(boxes)) > SMALLEST_CELL) | ~np.isfinite(boxes).all((1, 2))
        boxes[flat] = np.eye(3)
        usable = ~flat[a] & ~flat[b]
        fractional = [
            np.einsum("pni,pij->pnj", read["positions"][k], np.linalg.inv(boxes[k])) for k in (a, b)
        ]
        apart = fractional[1] - fractional[0]
        apart -= np.where(periodic, np.round(apart), 0.0)
        moved = np.einsum("pni,pij->pnj", apart, 0.5 * (boxes[a] + boxes[b]))
        strain = np.linalg.inv(boxes[a]) @ boxes[b] - np.eye(3)
    by_forces = -0.5 * ((forces[a] + forces[b]) * moved).sum(axis=(1, 2))
    largest, bearable = np.abs(strain).max(axis=(1, 2)), SAME_CELL
    if "virial" in read:
        virial, bearable = 0.5 * (read["virial"][a] + read["virial"][b]), LARGEST_STRAIN
        work = (virial * strain).sum(axis=(1, 2))
        by_forces = by_forces - np.where(largest > SAME_CELL, work, 0.0)
    found: FloatArray = np.stack([by_forces, energy[b] - energy[a]], axis=1)
    farthest = np.sqrt((moved**2).sum(axis=2)).max(axis=1)
    counts = (
        usable
        & (largest <= bearable)
        & (farthest > 0)
        & (farthest < FARTHEST)
        & np.isfinite(found).all(axis=1)
    )
    return found[counts]


def told(found: Sequence[Work]) -> list[str]:
    """Return a sentence for each source whose labels are wrong, and one for all that are right."""
    wrong = [work for work in found if work.is_wrong]
    right = sorted((work for work in found if not work.is_wrong), key=lambda work: work.ratio)
    sentences = [work.told() for work in wrong[:MAX_TOLD]]
    if len(wrong) > MAX_TOLD:
        sentences.append(f"the same of {len(wrong) - MAX_TOLD} sources more")
    if right:
        n = sum(len(work.by_forces) for work in right)
        sentences.append(
            f"forces give {right[0].ratio:.3g} to {right[-1].ratio:.3g} times the energy "
            f"differences of {n} pairs of consecutive frames: signs and units are right"
        )
    return sentences
