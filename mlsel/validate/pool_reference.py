"""The pool's trajectories at a state as a reference: what a validation run measures, of frames.

Radial distribution functions are counted and normed as LAMMPS's `compute rdf` does; positions are
followed through the boundaries of the box from frame to frame. What a pool does not say (pressures
without virials, displacements without the time between frames) stays unknown and is named so.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core import units
from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.provenance import versions
from mlsel.pool.pool import Pool
from mlsel.study.sections.pool import BY_CORRELATION
from mlsel.validate.blocking import Mean
from mlsel.validate.density import compressibility_of
from mlsel.validate.diffusion import mean_square_displacement
from mlsel.validate.distances import atom_types, pair_counts
from mlsel.validate.results import Measured, Results
from mlsel.validate.stability import BOLTZMANN, pair_names
from mlsel.validate.trajectories import AtState, Stretch, displacement

if TYPE_CHECKING:
    from mlsel.study.study import Study

MOST_BLOCKS = 256
"""Of frames over which an RDF is averaged, so that its error can be told."""


@dataclass
class _Series:
    """What was counted frame after frame."""

    counts: list[FloatArray]
    closest: list[FloatArray]
    volumes: list[float]
    energies: list[float]
    virials: list[float]
    paths: list[FloatArray]


def frame_time(study: Study) -> float:
    """Return the time between the pool's frames, ps; 0 where nobody said it."""
    if study.validation.frame_time or study.pool.import_:
        return study.validation.frame_time
    if study.pool.sampling == BY_CORRELATION:  # each run has its own
        return 0.0
    return study.pool.sampling_interval * study.pool.timestep / units.FS_PER_PS


def measure(pool: Pool, state: AtState, study: Study) -> tuple[Results, Mean]:
    """Return what the trajectories of a state are like, and their compressibility (1/bar).

    The latter comes from the fluctuations of the volume and is unknown where that is constant.
    """
    section, species = study.validation, study.system.species
    edges = np.linspace(0, section.rdf_cutoff, section.rdf_bins + 1)
    types = atom_types(state.numbers, study)
    series = _Series([], [], [], [], [], [])
    for stretch in state.stretches:
        _count(pool, stretch, types, edges, len(species), series)
    volumes = np.array(series.volumes)
    g, coordination = _functions(series, types, edges, len(species), volumes)
    n = len(volumes)
    n_blocks = min(n, MOST_BLOCKS)
    first = np.linspace(0, n, n_blocks + 1).astype(int)[:-1]
    sizes = np.diff([*first, n])[:, None, None]
    lag, msd = _displacements(series.paths, types, state.numbers, frame_time(study))
    step = np.arange(1, n + 1)
    unknown = np.full(n, np.nan)
    side = float(volumes.mean()) ** (1 / 3)
    results = Results(
        name="reference",
        kind="reference",
        species=tuple(species),
        numbers=state.numbers,
        cell=side * np.eye(3),
        temperature=section.temperature,
        timestep=frame_time(study),
        phase_ends=(0, n, n),
        ended_at=-1,
        ended_by="",
        closest=np.zeros(len(pair_names(species))),
        samples=Measured(
            step,
            {
                "temperature": np.full(n, state.temperature),
                "pressure": _pressures(series, len(types), section.temperature),
                "potential_energy": np.array(series.energies),
                "total_energy": unknown,
            },
            np.array(series.closest),
        ),
        r=0.5 * (edges[1:] + edges[:-1]),
        g=np.add.reduceat(g, first, axis=0) / sizes,
        coordination=np.add.reduceat(coordination, first, axis=0) / sizes,
        frame_steps=step,
        frames=np.empty((0, 0, 3)),
        sound_step=-1,
        sound_positions=np.empty((0, 3)),
        provenance={
            "pool_digest": pool.digest,
            "frames": json.dumps([list(map(int, s.frame_ids[[0, -1]])) for s in state.stretches]),
            "settings": json.dumps(study.as_dict("system", "validation")),
            "versions": json.dumps(versions("numpy", "h5py", "vesin")),
        },
        msd_lag=lag,
        msd=msd,
        watch=np.empty((0, 4)),
    )
    return results, compressibility_of(volumes, section.temperature)


def _count(
    pool: Pool,
    stretch: Stretch,
    types: IntArray,
    edges: FloatArray,
    n_types: int,
    series: _Series,
) -> None:
    path: list[FloatArray] = []
    before: tuple[FloatArray, FloatArray] | None = None
    wanted = ("positions", "cell")
    for block in pool.blocks(*wanted, optional=("energy", "virial"), frame_ids=stretch.frame_ids):
        energies = block.fields.get("energy", np.full(len(block), np.nan))
        virials = block.fields.get("virial")
        for k in range(len(block)):
            positions, cell = block["positions"][k], block["cell"][k]
            counts, closest = pair_counts(positions, cell, types, n_types, edges)
            series.counts.append(counts)
            series.closest.append(np.where(np.isfinite(closest), closest, edges[-1]))
            series.volumes.append(float(abs(np.linalg.det(cell))))
            series.energies.append(float(energies[k]))
            series.virials.append(np.nan if virials is None else float(np.trace(virials[k])))
            moved = positions if before is None else displacement(*before, positions, cell)
            path.append(moved if before is None else path[-1] + moved)
            before = positions, cell
    series.paths.append(np.array(path))


def _functions(
    series: _Series, types: IntArray, edges: FloatArray, n_types: int, volumes: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """g and running integral of each frame, (F, n_pairs, n_bins), as `compute rdf` has them."""
    n_of = np.bincount(types, minlength=n_types).astype(np.float64)
    rows, columns = np.triu_indices(n_types)
    around = np.where(rows == columns, n_of[columns] - 1, n_of[columns])
    centres = np.maximum(n_of[rows], 1)[None, :, None]
    found = np.array(series.counts) / centres
    shells = np.diff(4 / 3 * np.pi * edges**3)
    uniform = around[None, :, None] / volumes[:, None, None] * shells
    g = np.divide(found, uniform, out=np.zeros_like(found), where=uniform > 0)
    return g, np.cumsum(found, axis=2)


def _pressures(series: _Series, n_atoms: int, temperature: float) -> FloatArray:
    """bar, (F,): ((N − 1) k T + tr(virial) / 3) / V, T the thermostat's, momentum at rest."""
    kinetic = (n_atoms - 1) * BOLTZMANN * temperature
    total = kinetic + np.array(series.virials) / 3
    pressures: FloatArray = total / np.array(series.volumes) * units.BAR
    return pressures


def _displacements(
    paths: Sequence[FloatArray], types: IntArray, numbers: IntArray, interval: float
) -> tuple[FloatArray, FloatArray]:
    """Lags and mean-square displacements, of the trajectories at least half as long as the longest;
    none where the time between frames is not known."""
    from ase.data import atomic_masses

    n_types = len(np.unique(types))
    nothing = np.empty(0), np.empty((0, n_types, 0))
    if not interval:
        return nothing
    longest = max(map(len, paths))
    found = [
        mean_square_displacement(path, types, interval, atomic_masses[numbers])
        for path in paths
        if 2 * len(path) >= longest
    ]
    n_lags = min(len(lag) for lag, _ in found)
    if not n_lags:
        return nothing
    return found[0][0][:n_lags], np.concatenate([msd[:, :, :n_lags] for _, msd in found])


def at_lags_of(run: Results, reference: Results) -> Results:
    """Return a run whose displacements are told at the lags of the reference, as far as it goes.

    Frames of a pool are not as far apart in time as a run's; between two of its lags a mean-square
    displacement is nearly straight.
    """
    if not len(run.msd_lag) or not len(reference.msd_lag):
        return run
    lag = reference.msd_lag[reference.msd_lag <= run.msd_lag[-1] * (1 + 1e-9)]
    knots = np.concatenate([[0.0], run.msd_lag])
    values = np.concatenate([np.zeros((*run.msd.shape[:2], 1)), run.msd], axis=2)
    msd = np.apply_along_axis(lambda row: np.interp(lag, knots, row), 2, values)
    return dataclasses.replace(run, msd_lag=lag, msd=msd)
