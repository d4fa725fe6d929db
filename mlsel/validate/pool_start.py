"""The snapshot that runs start from where no potential of LAMMPS's is the reference.

It is a frame of the pool: with the pool's trajectories as the reference one of these, of their mean
volume; else a typical one, repeated. What is unphysical is told from the training data: distances
much shorter, and forces much larger, than in any configuration that a model was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core.arrays import FloatArray
from mlsel.core.errors import MlselError
from mlsel.core.files import write_json, write_text
from mlsel.core.provenance import digest
from mlsel.core.units import DENSITY
from mlsel.md.structures import lammps_data, start_structure
from mlsel.pool.block import Run
from mlsel.pool.pool import Pool
from mlsel.study.folder import StudyFolder
from mlsel.validate.distances import atom_types, closest_distances
from mlsel.validate.held_against import POOL, reference_kind
from mlsel.validate.stability import pair_names
from mlsel.validate.trajectories import SAME_TEMPERATURE, Stretch, at_state, stretches_of

if TYPE_CHECKING:
    from ase import Atoms

    from mlsel.study.study import Study

TYPICAL_VOLUME = 0.01
"""Relative distance from a run's median volume within which its frames are typical."""


@dataclass(frozen=True)
class Snapshot:
    """A start, and what it is in words."""

    atoms: Atoms
    text: str


@dataclass(frozen=True)
class TrainingBounds:
    """How near atoms are to each other in the training data, and how large forces are.

    Attributes
    ----------
    closest : (n_pairs,), Å
        Infinite where no two atoms of a pair are in one frame.
    largest_force : eV/Å, component
    """

    closest: FloatArray
    largest_force: float

    @classmethod
    def of(cls, data_sets: dict[str, Path], study: Study) -> TrainingBounds:
        """Read the training sets of a study."""
        species = study.system.species
        closest: FloatArray = np.full(len(pair_names(species)), np.inf)
        largest = 0.0
        for path in data_sets.values():
            with Pool(path) as data:
                for block in data.blocks("positions", "cell", "forces"):
                    types = atom_types(data.numbers(block.run), study)
                    periodic = data.periodic(block.run)
                    largest = max(largest, float(np.abs(block["forces"]).max()))
                    for x, cell in zip(block["positions"], block["cell"], strict=True):
                        found = closest_distances(x, cell, types, len(species), periodic)
                        closest = np.minimum(closest, found)
        return cls(closest, largest)


def training_sets(study: Study, place: StudyFolder) -> dict[str, Path]:
    """Return the data sets that the study's models are trained on, by name.

    Raises
    ------
    MlselError
        If there is none.
    """
    found = {name: place.data_set(name) for name in place.data_sets()}
    if not found:
        raise MlselError(
            f"{place.data} holds no data sets, from which the bounds of a stable run come: make "
            "some with `mlsel selection`."
        )
    return found


def data_digests(study: Study, place: StudyFolder) -> dict[str, str]:
    """Return what a start is made from beside the study: digests of the training sets."""
    digests = {}
    for name, path in training_sets(study, place).items():
        with Pool(path) as data:
            digests[name] = data.digest
    return digests


def write_start(study: Study, place: StudyFolder) -> dict[str, Any]:
    """Write validation/start.data and start.json; return the latter.

    Raises
    ------
    MlselError
        If the pool has no frame to start from.
    """
    from ase.data import atomic_masses

    snapshot = _snapshot(study, place)
    atoms = snapshot.atoms
    atoms.wrap()
    symbols = set(atoms.get_chemical_symbols())
    bounds = TrainingBounds.of(training_sets(study, place), study)
    present = [symbol for symbol in study.system.species if symbol in symbols]
    names = pair_names(study.system.species)
    data = lammps_data(atoms, tuple(present))
    volume = float(atoms.get_volume())
    known = dict(zip(names, bounds.closest.tolist(), strict=True))
    closest = [known[name] for name in pair_names(tuple(present))]
    start = {
        "numbers": atoms.numbers.tolist(),
        "species": present,
        "cell": np.asarray(atoms.cell[:]).tolist(),
        "volume": volume,
        "density": float(atomic_masses[atoms.numbers].sum()) * DENSITY / volume,
        "density_unit": "g cm-3",
        "from": snapshot.text,
        # 0 where no training frame has such a pair: then no distance is known to be too short.
        "closest": [distance if np.isfinite(distance) else 0.0 for distance in closest],
        "largest_force": bounds.largest_force,
        "largest_force_unit": "eV Angstrom-1",
        "digest": digest(data.encode()),
    }
    write_text(place.validation / "start.data", data)
    write_json(place.start, start)
    return start


def _snapshot(study: Study, place: StudyFolder) -> Snapshot:
    if reference_kind(study) != POOL and study.system.start != "grid":
        return Snapshot(start_structure(study.system), study.system.start)
    with Pool(place.pool) as pool:
        pool.require("positions", "energy")
        if reference_kind(study) == POOL:
            return _of_trajectories(pool, study)
        return _typical(pool, study)


def _of_trajectories(pool: Pool, study: Study) -> Snapshot:
    """The last frame of those nearest to the trajectories' mean volume, scaled to it."""
    state = at_state(pool, study)
    ids = np.concatenate([stretch.frame_ids for stretch in state.stretches])
    blocks = [(b.frame_ids, b["cell"]) for b in pool.blocks("cell", frame_ids=ids)]
    ids = np.concatenate([frame_ids for frame_ids, _ in blocks])
    volumes = np.abs(np.linalg.det(np.concatenate([cells for _, cells in blocks])))
    mean = float(volumes.mean())
    apart = np.abs(volumes / mean - 1)
    frame = int(ids[np.flatnonzero(apart <= apart.min() + 1e-9)[-1]])
    atoms = _atoms(pool, frame)
    atoms.set_cell(atoms.cell[:] * (mean / atoms.get_volume()) ** (1 / 3), scale_atoms=True)
    return Snapshot(atoms, f"frame {frame} of {pool.path.name}, of {state}")


def _typical(pool: Pool, study: Study) -> Snapshot:
    """A frame of the median energy of a run, about at its median volume, repeated to at most
    validation.n_atoms."""
    run = _run_to_start_from(pool, study)
    every = np.arange(pool.n_frames)
    ids = every[pool.locate(every)[0] == run.index]
    found, energies, volumes = [], [], []
    for block in pool.blocks("cell", "energy", frame_ids=ids):
        found.append(block.frame_ids)
        energies.append(block["energy"])
        volumes.append(np.abs(np.linalg.det(block["cell"])))
    ids, energy, volume = map(np.concatenate, (found, energies, volumes))
    middle = np.sort(volume)[len(volume) // 2]
    usual = np.flatnonzero(np.abs(volume / middle - 1) <= TYPICAL_VOLUME)
    order = usual[np.argsort(energy[usual], kind="stable")]
    frame = int(ids[order[len(order) // 2]])
    atoms = _atoms(pool, frame)
    text = f"frame {frame} of {pool.path.name} (run {run.name})"
    times = repeats(atoms.cell.lengths(), len(atoms), study.validation.n_atoms)
    if times != (1, 1, 1):
        text += f", repeated {' × '.join(map(str, times))}"
    return Snapshot(atoms.repeat(times), text)


def _run_to_start_from(pool: Pool, study: Study) -> Run:
    """The run with all species, if there is one, at the temperature, if one is known to be, that
    has most frames."""
    from ase.data import chemical_symbols

    periodic = [run for run in pool.runs if all(pool.periodic(run)) and run.n_atoms > 1]
    if not periodic:
        raise MlselError(
            f"{pool.path} has no frame that is periodic in three directions, which MD needs: name "
            "a structure file as system.start."
        )
    following: dict[int, list[Stretch]] = {}
    for stretch in stretches_of(pool):
        following.setdefault(stretch.run.index, []).append(stretch)
    patterns = study.validation.trajectories
    if patterns:
        named = [
            run
            for run in periodic
            if any(s.is_named(patterns) for s in following.get(run.index, []))
        ]
        if not named:
            raise MlselError(
                f"{study.source}: validation.trajectories names {', '.join(patterns)[:60]}, and no "
                f"run or file of {pool.path} with frames that follow each other has such a name."
            )
        periodic = named

    def rank(run: Run) -> tuple[bool, bool, int]:
        symbols = {chemical_symbols[z] for z in pool.numbers(run)}
        wanted = study.validation.temperature
        near = any(
            abs(s.temperature / wanted - 1) <= SAME_TEMPERATURE
            for s in following.get(run.index, [])
        )
        return symbols == set(study.system.species), near, run.n_frames

    return max(periodic, key=rank)


def _atoms(pool: Pool, frame: int) -> Any:
    from ase import Atoms

    block = next(pool.blocks("positions", "cell", frame_ids=[frame]))
    return Atoms(pool.numbers(block.run), block["positions"][0], cell=block["cell"][0], pbc=True)


def repeats(edges: FloatArray, n_atoms: int, at_most: int) -> tuple[int, int, int]:
    """Return how often a cell is repeated along its edges, the shortest first, to hold at most
    so many atoms; once where it has more itself.

    >>> repeats(np.array([5.0, 10.0, 10.0]), 20, 90)
    (3, 1, 1)
    >>> repeats(np.array([5.0, 6.0, 6.0]), 20, 500)
    (3, 3, 2)
    """
    times = np.ones(3, np.int64)
    while True:
        more = times.copy()
        more[int(np.argmin(times * edges))] += 1
        if n_atoms * int(np.prod(more)) > at_most:
            return int(times[0]), int(times[1]), int(times[2])
        times = more
