"""The snapshot that all validation runs start from: density and structure of the reference.

The reference potential makes an NPT run at the study's validation temperature and pressure, like a
run of the pool (hot start, equilibration, sampling). Its mean volume is the volume of all NVT runs;
the frame whose volume is nearest to it, scaled to it, is where they start. The shortest distance
that each pair of species had in the run is kept: much shorter ones are unphysical.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlsel.core.errors import MlselError
from mlsel.core.files import write_json, write_text
from mlsel.core.provenance import digest
from mlsel.md import deck
from mlsel.md.npt_run import MdRun
from mlsel.md.structures import lammps_data, start_structure
from mlsel.pool.pool import Pool
from mlsel.study.study import PoolSection, Study

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpi4py import MPI

    from mlsel.study.study import System

FloatArray = npt.NDArray[np.float64]
FRAME_INTERVAL = 0.1
"""ps between the frames whose volumes are averaged."""


def reference_potential(study: Study) -> str:
    """Return the reference's LAMMPS commands, with the kspace_style for large cells."""
    text = deck.read_potential(study.system.potential, study.system.species)
    if study.validation.kspace_style:
        text += f"kspace_style {study.validation.kspace_style}\n"
    return text


def large_system(study: Study) -> System:
    """Return the study's system with the number of atoms of validation."""
    system = dataclasses.replace(study.system, n_atoms=study.validation.n_atoms)
    problem = system.check()
    if problem:
        raise MlselError(
            f"{study.source}: {problem.replace('system.n_atoms', 'validation.n_atoms')}."
        )
    return system


def density_run(study: Study, folder: Path) -> MdRun:
    """Return the NPT run that gives density and structure."""
    section, pool = study.validation, study.pool
    interval = max(1, round(FRAME_INTERVAL * 1000 / section.timestep))
    n_frames = max(1, round(section.density_time * 1000 / section.timestep / interval))
    checkpoint = round(section.checkpoint_interval * 1000 / section.timestep)
    small = PoolSection(
        temperatures=(section.temperature,),
        pressures=(section.pressure,),
        timestep=section.timestep,
        melt_temperature=pool.melt_temperature,
        melt=pool.melt,
        equilibration=pool.equilibration,
        frames_per_run=n_frames,
        sampling_interval=interval,
        checkpoint_interval=max(1, checkpoint),
        thermostat_time=pool.thermostat_time,
        barostat_time=pool.barostat_time,
        seed=section.seed,
    )
    made = dataclasses.replace(study, system=large_system(study), pool=small)
    return MdRun(section.temperature, section.pressure, folder / "validation" / "start", made)


def write_inputs(study: Study, run: MdRun) -> None:
    """Write deck, potential and start structure of the NPT run, unless it is there."""
    run.tidy()
    if run.product.is_file():
        return
    data = lammps_data(start_structure(run.study.system), run.study.system.species)
    write_text(run.root / "potential.lmp", reference_potential(study))
    write_text(run.folder / "start.data", data)
    write_text(run.folder / "in.lammps", run.deck_text())


def make_start(
    study: Study, folder: Path, comm: MPI.Intracomm, report: Callable[[int], None]
) -> None:
    """Make validation/start.data and start.json, unless they are there; collective.

    Raises
    ------
    MlselError
        If LAMMPS ended the reference's run: there is then nothing to compare with.
    """
    run = density_run(study, folder)
    there = folder / "validation" / "start.json"
    if comm.bcast(there.is_file() if comm.rank == 0 else None):
        return
    if not comm.bcast(run.product.is_file() if comm.rank == 0 else None):
        message = run.perform(comm, report)
        if comm.bcast(message):
            raise MlselError(
                f"the reference's own NPT run was ended by LAMMPS: {message} (look at "
                f"{run.folder}/log.lammps)",
                everywhere=True,
            )
    if comm.rank == 0:
        _write_start(study, run, folder / "validation")
    comm.Barrier()


def _write_start(study: Study, run: MdRun, folder: Path) -> None:
    from ase import Atoms

    with Pool(run.product) as pool:
        volumes = pool.values("volume")
        pressure = float(pool.values("pressure").mean())
        frame = int(np.abs(volumes - volumes.mean()).argmin())
        block = next(pool.blocks("positions", "cell", frame_ids=[frame]))
        numbers = pool.numbers(pool.runs[0])
        types = _types(numbers, study)
        closest = np.full(1, np.inf)
        for part in pool.blocks("positions", "cell"):
            for positions, cell in zip(part["positions"], part["cell"], strict=True):
                found = closest_distances(positions, cell, types, len(study.system.species))
                closest = np.minimum(closest, found)
    scale = (volumes.mean() / volumes[frame]) ** (1 / 3)
    cell = block["cell"][0] * scale
    atoms = Atoms(numbers, positions=block["positions"][0] * scale, cell=cell, pbc=True)
    atoms.wrap()
    data = lammps_data(atoms, study.system.species)
    write_text(folder / "start.data", data)
    write_json(
        folder / "start.json",
        {
            "numbers": numbers.tolist(),
            "cell": cell.tolist(),
            "volume": float(volumes.mean()),
            "volume_error": float(volumes.std() / np.sqrt(len(volumes))),
            "density": float(atoms.get_masses().sum() * 1.66053907 / volumes.mean()),
            "density_unit": "g cm-3",
            "pressure": pressure,
            "frame": frame,
            "closest": np.where(np.isfinite(closest), closest, 0.0).tolist(),
            "digest": digest(data.encode()),
        },
    )


def _types(numbers: npt.NDArray[np.int64], study: Study) -> npt.NDArray[np.int64]:
    from ase.data import chemical_symbols

    return np.array([study.system.species.index(chemical_symbols[z]) for z in numbers])


def closest_distances(
    positions: FloatArray, cell: FloatArray, types: npt.NDArray[np.int64], n_types: int
) -> FloatArray:
    """Return the shortest distance of each pair of types, (n_pairs,), Å, nearest images.

    Exact in orthogonal cells; the pairs are (0, 0), (0, 1), …, (1, 1), …

    >>> closest_distances(np.array([[0.0, 0, 0], [9.0, 0, 0], [5.0, 0, 0]]), 10 * np.eye(3),
    ...     np.array([0, 1, 1]), 2).tolist()
    [inf, 1.0, 4.0]
    """
    squares = np.full((n_types, n_types), np.inf)
    inverse = np.linalg.inv(cell)
    for start in range(0, len(positions), 128):
        part = slice(start, start + 128)
        apart = positions[part, None] - positions[None]
        apart -= np.rint(apart @ inverse) @ cell
        of_pair = np.einsum("ijd,ijd->ij", apart, apart)
        rows = np.arange(len(of_pair))
        of_pair[rows, start + rows] = np.inf
        for a in range(n_types):
            for b in range(n_types):
                chosen = of_pair[types[part] == a][:, types == b]
                if chosen.size:
                    squares[a, b] = min(squares[a, b], chosen.min())
    distances: FloatArray = np.sqrt(squares[np.triu_indices(n_types)])
    return distances


def read_start(folder: Path) -> dict[str, Any]:
    """Return start.json."""
    path = folder / "validation" / "start.json"
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return known
