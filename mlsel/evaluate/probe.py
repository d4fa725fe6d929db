"""The two-ion probe: what a model says when two atoms are pushed together, without MD.

In frames of the test set one pair of each two species is moved along its line, both atoms by as
much, from about the first peak of their distances to half the shortest distance that the test set
holds. A potential that can be run gives an energy that only rises inwards; one that has a hole
there lets atoms fall into it sooner or later, however small its force errors are.

    mlsel evaluate [STUDY] [-o DIR] --probe

writes DIR/evaluation/probe.csv, a row for each model and pair of species, and the figure probe.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.errors import MlselError
from mlsel.core.files import write_text
from mlsel.core.neighbours import NeighborList
from mlsel.core.plotting import save
from mlsel.core.provenance import digest
from mlsel.core.record import Record
from mlsel.evaluate.models import Entry, find_models
from mlsel.evaluate.tested_on import require_test_set
from mlsel.study.folder import StudyFolder

if TYPE_CHECKING:
    from mlsel.pool.pool import Pool
    from mlsel.study.study import Study

log = logging.getLogger(__name__)

N_FRAMES = 8
N_DISTANCES = 48
BOLTZMANN = 8.617333262e-5  # eV/K
NEAR = 6.0
"""Å: pairs farther apart than this are no neighbours."""
COLUMNS = {
    "dataset": "",
    "model": "",
    "pair": "",
    "shortest": "Angstrom",
    "barrier": "eV",
    "barrier_over_kT": "",
    "hole": "eV",
    "error": "eV",
}
"""The columns of probe.csv and their units."""

Energies = Callable[[IntArray, FloatArray, FloatArray, tuple[bool, bool, bool]], FloatArray]
"""Numbers (N,), positions (F, N, 3) Å, cells (F, 3, 3) Å, periodic to energies (F,) eV."""


@dataclass(frozen=True)
class Approach:
    """Two atoms of a frame, moved together along their line.

    Attributes
    ----------
    pair : two symbols, joined
    shortest : Å, the shortest distance of such a pair in the test set
    distances : (D,), Å, falling
    positions : (D, N, 3), Å
    """

    pair: str
    shortest: float
    numbers: IntArray
    periodic: tuple[bool, bool, bool]
    cell: FloatArray
    distances: FloatArray
    positions: FloatArray

    def energy(self, energies: Energies) -> FloatArray:
        """Return the energy at each distance above that at the first, (D,), eV."""
        cells = np.repeat(self.cell[None], len(self.distances), axis=0)
        found: FloatArray = energies(self.numbers, self.positions, cells, self.periodic)
        found -= found[0]
        return found


@dataclass(frozen=True)
class Probe:
    """What the approaches of one pair of species came to, for one model.

    Attributes
    ----------
    barrier : eV, the least over the frames: how high the energy rises before it falls where it is
        nearer than the shortest distance
    hole : eV, the most over the frames: how deep it falls there; 0 if it never does
    error : eV, root mean square of energies against the reference's down to the shortest distance,
        NaN without a reference
    """

    pair: str
    shortest: float
    barrier: float
    hole: float
    error: float


def approaches(pool: Pool) -> list[Approach]:
    """Return the approaches of all pairs of species in some frames of a test set.

    Raises
    ------
    MlselError
        If no two atoms of the pool are neighbours.
    """
    from ase.data import chemical_symbols

    frames = np.unique(np.linspace(0, pool.n_frames - 1, N_FRAMES).astype(np.int64))
    shortest = _shortest(pool)
    made = []
    for block in pool.blocks("positions", "cell", frame_ids=frames):
        numbers, periodic = pool.numbers(block.run), pool.periodic(block.run)
        for positions, cell in zip(block["positions"], block["cell"], strict=True):
            first, second, distance, vector = _neighbours(positions, cell, periodic)
            for a, b in combinations_with_replacement(sorted(set(numbers.tolist())), 2):
                if (a, b) not in shortest:
                    continue
                kinds = np.sort(np.stack([numbers[first], numbers[second]]), axis=0)
                own = np.flatnonzero((kinds[0] == a) & (kinds[1] == b) & (first != second))
                if not len(own):
                    continue
                # Each atom's nearest of the other kind make the first peak; its median is at it.
                peak = np.median(distance[own[np.argsort(distance[own])[: max(1, len(own) // 8)]]])
                pick = own[np.argmin(np.abs(distance[own] - peak))]
                distances = np.geomspace(distance[pick], 0.5 * shortest[a, b], N_DISTANCES)
                shift = 0.5 * (distance[pick] - distances)[:, None] * vector[pick]
                shift /= distance[pick]
                moved = np.repeat(positions[None], len(distances), axis=0)
                moved[:, first[pick]] += shift
                moved[:, second[pick]] -= shift
                pair = f"{chemical_symbols[a]}-{chemical_symbols[b]}"
                made.append(
                    Approach(pair, shortest[a, b], numbers, periodic, cell, distances, moved)
                )
    if not made:
        raise MlselError(f"no two atoms of {pool.path} are within {NEAR:g} Å: nothing to probe.")
    return made


def judge(approach: Sequence[Approach], energies: Energies, reference: Energies | None) -> Probe:
    """Return what a model says of the approaches of one pair of species."""
    barriers, holes, squares = [], [], [np.empty(0)]
    for one in approach:
        energy = one.energy(energies)
        barrier, hole = barrier_and_hole(energy, one.distances < one.shortest)
        barriers.append(barrier)
        holes.append(hole)
        if reference is not None:
            known = one.distances >= one.shortest
            squares.append(np.square(energy - one.energy(reference))[known])
    each = np.concatenate(squares)
    error = float(np.sqrt(each.mean())) if len(each) else float("nan")
    first = approach[0]
    return Probe(first.pair, first.shortest, min(barriers), max(holes), error)


def barrier_and_hole(energy: FloatArray, inside: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return how high an energy rises before it falls, and the deepest fall, within `inside`.

    Outside, where the data are, an energy may go up and down. A NaN is the deepest hole there is.

    Examples
    --------
    >>> inside = np.array([False, False, False, True, True, True])
    >>> barrier_and_hole(np.array([0.0, 0.2, 0.7, 0.1, -2.0, 9.0]), inside)
    (0.7, 2.7)
    >>> barrier_and_hole(np.array([0.0, -0.1, 0.1, 0.4, 2.0, 5.0]), inside)
    (5.0, 0.0)
    """
    if not np.isfinite(energy).all():
        return 0.0, float("inf")
    top = np.maximum.accumulate(energy)
    fall = np.where(inside, top - energy, 0.0)
    first = int(np.argmax(fall > 0)) if (fall > 0).any() else len(energy) - 1
    return float(top[first]), float(fall.max())


def made_from(study: Study, folder: Path, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return what decides the table of a study's probes, where these are its models."""
    return {
        "models": {entry.title: entry.identity for entry in entries},  # and the test set
        "reference": digest(_reference_text(study, folder).encode()),
        "temperature": study.validation.temperature,
    }


def is_probed(study: Study, folder: Path, entries: Sequence[Entry]) -> bool:
    """Whether the table is there, of these models and the test set that they are entered for."""
    place = StudyFolder(folder)
    recorded = Record(place.probe_record).read()
    return place.probe.is_file() and recorded == made_from(study, folder, entries)


def _reference_text(study: Study, folder: Path) -> str:
    """The potential that made the pool, "" where none of the study's did."""
    from mlsel.md.deck import read_potential

    if not StudyFolder(folder).runs_record.is_file():
        return ""
    return read_potential(study.system.potential, study.system.species)


def probe_study(study: Study, folder: Path, test: Path | None = None) -> list[Path]:
    """Probe every finished model of a study's folder; return the table and the figure.

    Raises
    ------
    MlselError
        If there is no test set or no finished model, or what they come from is stale.
    """
    from mlsel.pool.pool import Pool
    from mlsel.training.registry import load_model
    from mlsel.training.state import require_models

    require_models(study, folder)
    place = StudyFolder(folder)
    test = require_test_set(study, folder, test)
    with Pool(test) as pool:
        entries = find_models(folder, pool.digest)
        made = approaches(pool)
    names = [entry.title for entry in entries]
    pairs = list(dict.fromkeys(one.pair for one in made))
    by_pair = {pair: [one for one in made if one.pair == pair] for pair in pairs}
    kT = BOLTZMANN * study.validation.temperature
    rows: list[dict[str, Any]] = []
    curves: dict[str, dict[str, FloatArray]] = {pair: {} for pair in pairs}
    with _reference(study, folder) as reference:
        if reference is not None:
            for pair in pairs:
                curves[pair]["reference"] = by_pair[pair][0].energy(reference)
        for name in names:
            energies = _of_model(load_model(place.model(name)))
            for pair in pairs:
                found = judge(by_pair[pair], energies, reference)
                curves[pair][name] = by_pair[pair][0].energy(energies)
                rows.append(
                    {
                        "dataset": name.partition("/")[0],
                        "model": name.partition("/")[2],
                        "pair": pair,
                        "shortest": found.shortest,
                        "barrier": found.barrier,
                        "barrier_over_kT": found.barrier / kT,
                        "hole": found.hole,
                        "error": found.error,
                    }
                )
                log.info(
                    "%-40s %-6s rises by %.3g eV (%.3g kT) before it falls, hole %.3g eV",
                    name, pair, found.barrier, found.barrier / kT, found.hole,
                )  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
                     for row in rows)  # fmt: skip
    write_text(place.probe, text.getvalue())
    figure = _draw(curves, {pair: by_pair[pair][0] for pair in pairs}, place.evaluation / "probe")
    Record(place.probe_record).write(made_from(study, folder, entries))
    return [place.probe, *figure]


@contextmanager
def _reference(study: Study, folder: Path) -> Iterator[Energies | None]:
    """Yield the potential that made the pool, None where none of the study's did."""
    from mlsel.md.include import IncludePotential

    text, system = _reference_text(study, folder), study.system
    if not text:
        yield None
        return
    with IncludePotential(text, system.species, system.potential) as potential:
        yield lambda *frames: potential.evaluate(*frames).energy


def _of_model(model: Any) -> Energies:
    from mlsel.training.frames import Frames

    def energies(
        numbers: IntArray,
        positions: FloatArray,
        cells: FloatArray,
        periodic: tuple[bool, bool, bool],
    ) -> FloatArray:
        return np.asarray(model.predict(Frames(numbers, positions, cells, periodic)).energy)

    return energies


def _neighbours(
    positions: FloatArray, cell: FloatArray, periodic: tuple[bool, bool, bool]
) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    found = NeighborList(cutoff=NEAR, full_list=False, sorted=True)
    first, second, distance, vector = found.compute(positions, cell, periodic, "ijdD")
    return first.astype(np.int64), second.astype(np.int64), distance, vector


def _shortest(pool: Pool) -> dict[tuple[int, int], float]:
    """Return the shortest distance of each pair of elements, Å, over some hundred frames."""
    frames = np.unique(np.linspace(0, pool.n_frames - 1, 256).astype(np.int64))
    found: dict[tuple[int, int], float] = {}
    for block in pool.blocks("positions", "cell", frame_ids=frames):
        numbers, periodic = pool.numbers(block.run), pool.periodic(block.run)
        for positions, cell in zip(block["positions"], block["cell"], strict=True):
            first, second, distance, _ = _neighbours(positions, cell, periodic)
            kinds = np.sort(np.stack([numbers[first], numbers[second]]), axis=0)
            for a, b in {(int(a), int(b)) for a, b in kinds.T}:
                own = distance[(kinds[0] == a) & (kinds[1] == b)].min()
                found[a, b] = min(found.get((a, b), np.inf), float(own))
    return found


def _draw(
    curves: dict[str, dict[str, FloatArray]], of_pair: dict[str, Approach], output: Path
) -> list[Path]:
    """Draw the first approach of each pair of species."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}):
        figure, axes = plt.subplots(
            1, len(curves), figsize=(3.8 * len(curves), 3.8), layout="constrained", squeeze=False
        )
        for axis, (pair, by_model) in zip(axes[0], curves.items(), strict=True):
            one = of_pair[pair]
            for k, (name, energy) in enumerate(by_model.items()):
                is_reference = name == "reference"
                axis.plot(
                    one.distances,
                    energy,
                    color="black" if is_reference else f"C{k % 10}",
                    lw=2.0 if is_reference else 1.1,
                    label=name,
                )
            axis.axvline(one.shortest, color="0.7", lw=0.8, ls=":")
            axis.set_xlabel(f"{pair} distance / Å")
            axis.set_ylim(-4, 12)
        axes[0][0].set_ylabel("energy above the start / eV")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        figure.suptitle(
            "two atoms pushed together; dotted: the shortest distance in the test set", fontsize=10
        )
        made = save(figure, output)
        plt.close(figure)
    return made
