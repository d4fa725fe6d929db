"""The snapshot that all validation runs start from: density and structure of the reference.

The reference potential makes an NPT run at the study's validation temperature and pressure, like a
run of the pool (hot start, equilibration, sampling). It goes on, in parts, until the density is
known well enough. Its mean volume is the volume of all NVT runs; the frame whose volume is nearest
to it, scaled to it, is where they start. The shortest distance that each pair of species had in the
run is kept: much shorter ones are unphysical.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core.arrays import FloatArray
from mlsel.core.errors import MlselError
from mlsel.core.files import write_json, write_text
from mlsel.core.provenance import digest
from mlsel.md import deck
from mlsel.md.npt_run import MdRun
from mlsel.md.structures import lammps_data, start_structure
from mlsel.pool.pool import Pool
from mlsel.study.sections.pool import PoolSection
from mlsel.study.study import Study
from mlsel.validate.blocking import Mean
from mlsel.validate.density import Density
from mlsel.validate.distances import atom_types, closest_distances
from mlsel.validate.stability import pair_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpi4py import MPI

    from mlsel.study.sections.system import System

FRAME_INTERVAL = 0.1
"""ps between the frames whose volumes are averaged."""
HOT, HOT_TIME = 3.0, 5.0
"""Times the temperature, and ps: the hot start of a grid where [pool] sets none. A perfect crystal
can be heated a quarter beyond its melting point before it melts by itself."""
SETTLING = 2.0
"""ps, of equilibration of a part that goes on from the one before, with new velocities."""

log = logging.getLogger(__name__)


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


def hot_start(study: Study) -> tuple[float, float]:
    """Return temperature (K) and duration (ps) of the hot start, (0, 0) where there is none.

    What starts from a grid is melted, unless a solid is expected: a crystal that should have been
    a liquid would be compared with itself, and found the same.
    """
    section, pool = study.validation, study.pool
    if section.expect_solid:
        return 0.0, 0.0
    temperature, duration = pool.melt_temperature, pool.melt
    if study.system.start == "grid":
        if temperature <= section.temperature:
            temperature = HOT * section.temperature
        duration = duration or HOT_TIME
    return temperature, duration


def density_run(study: Study, folder: Path, part: int = 1) -> MdRun:
    """Return a part of the NPT run that gives density and structure, the first by default."""
    section, pool = study.validation, study.pool
    interval = max(1, round(FRAME_INTERVAL * 1000 / section.timestep))
    n_frames = max(1, round(section.density_time * 1000 / section.timestep / interval))
    checkpoint = round(section.checkpoint_interval * 1000 / section.timestep)
    hot, melt = hot_start(study) if part == 1 else (0.0, 0.0)
    small = PoolSection(
        temperatures=(section.temperature,),
        pressures=(section.pressure,),
        timestep=section.timestep,
        melt_temperature=hot,
        melt=melt,
        equilibration=pool.equilibration if part == 1 else min(SETTLING, pool.equilibration),
        frames_per_run=n_frames,
        sampling_interval=interval,
        checkpoint_interval=max(1, checkpoint),
        thermostat_time=pool.thermostat_time,
        barostat_time=pool.barostat_time,
        seed=section.seed + part - 1,
    )
    made = dataclasses.replace(study, system=large_system(study), pool=small)
    root = folder / "validation" / "start"
    if part > 1:
        root /= f"part-{part}"
    return MdRun(section.temperature, section.pressure, root, made)


def write_inputs(study: Study, run: MdRun, before: MdRun | None = None) -> None:
    """Write deck, potential and start structure of a part of the NPT run, unless it is there.

    Parameters
    ----------
    before : MdRun, optional
        The part that it goes on from.
    """
    run.tidy()
    if run.product.is_file():
        return
    atoms = start_structure(run.study.system) if before is None else _last_frame(before)
    data = lammps_data(atoms, run.study.system.species)
    write_text(run.root / "potential.lmp", reference_potential(study))
    write_text(run.folder / "start.data", data)
    write_text(run.folder / "in.lammps", run.deck_text())


def _last_frame(run: MdRun) -> Any:
    from ase import Atoms

    with Pool(run.product) as pool:
        block = next(pool.blocks("positions", "cell", frame_ids=[pool.n_frames - 1]))
        numbers = pool.numbers(pool.runs[0])
    atoms = Atoms(numbers, positions=block["positions"][0], cell=block["cell"][0], pbc=True)
    atoms.wrap()
    return atoms


def make_start(
    study: Study, folder: Path, comm: MPI.Intracomm, report: Callable[[int], None]
) -> None:
    """Make validation/start.data and start.json, unless they are there; collective.

    Raises
    ------
    MlselError
        If LAMMPS ended the reference's run, or it is not of the state that is expected, or not
        in equilibrium: there is then nothing to compare with.
    """
    there = folder / "validation" / "start.json"
    if comm.bcast(there.is_file() if comm.rank == 0 else None):
        return
    parts: list[MdRun] = []
    while True:
        run = density_run(study, folder, len(parts) + 1)
        if comm.rank == 0 and parts:
            write_inputs(study, run, parts[-1])
        if not comm.bcast(run.product.is_file() if comm.rank == 0 else None):
            message = run.perform(comm, report)
            if comm.bcast(message):
                raise MlselError(
                    f"the reference's own NPT run was ended by LAMMPS: {message} (look at "
                    f"{run.folder}/log.lammps)",
                    everywhere=True,
                )
        parts.append(run)
        problem, enough = "", False
        if comm.rank == 0:
            density = Density.of(parts)
            enough = density.is_known(study) or len(parts) >= study.validation.density_parts
            log.info("density after %.4g ps: %s", density.time, density)
            problem = density.problem(study, parts[-1]) if enough else ""
        if comm.bcast(problem):
            raise MlselError(comm.bcast(problem), everywhere=True)
        if comm.bcast(enough):
            break
    if comm.rank == 0:
        _write_start(study, density, folder / "validation")
    comm.Barrier()


def _write_start(study: Study, density: Density, folder: Path) -> None:
    from ase import Atoms

    volume = float(density.volume.value)
    closest: FloatArray = np.full(len(pair_names(study.system.species)), np.inf)
    pressures, nearest = [], (math.inf, density.parts[0], 0)
    for run in density.parts:
        with Pool(run.product) as pool:
            pressures.append(pool.values("pressure"))
            apart = np.abs(pool.values("volume") - volume)
            nearest = min(nearest, (float(apart.min()), run, int(apart.argmin())),
                          key=lambda entry: entry[0])  # fmt: skip
            types = atom_types(pool.numbers(pool.runs[0]), study)
            for part in pool.blocks("positions", "cell"):
                for positions, cell in zip(part["positions"], part["cell"], strict=True):
                    found = closest_distances(positions, cell, types, len(study.system.species))
                    closest = np.minimum(closest, found)
    _, run, frame = nearest
    with Pool(run.product) as pool:
        numbers = pool.numbers(pool.runs[0])
        block = next(pool.blocks("positions", "cell", frame_ids=[frame]))
    scale = (volume / abs(np.linalg.det(block["cell"][0]))) ** (1 / 3)
    cell = block["cell"][0] * scale
    atoms = Atoms(numbers, positions=block["positions"][0] * scale, cell=cell, pbc=True)
    atoms.wrap()
    data = lammps_data(atoms, study.system.species)
    compressibility = density.compressibility
    write_text(folder / "start.data", data)
    write_json(
        folder / "start.json",
        {
            "numbers": numbers.tolist(),
            "cell": cell.tolist(),
            "volume": volume,
            "volume_error": float(density.volume.error),
            "density": density.density,
            "density_error": density.density * density.relative_error / 100,
            "density_unit": "g cm-3",
            "compressibility": float(compressibility.value),
            "compressibility_error": float(compressibility.error),
            "compressibility_unit": "bar-1",
            "diffusion": None if math.isnan(density.diffusion) else density.diffusion,
            "diffusion_unit": "Angstrom+2 ps-1",
            "time": density.time,
            "pressure": float(np.concatenate(pressures).mean()),
            "part": run.root.name,
            "frame": frame,
            "closest": np.where(np.isfinite(closest), closest, 0.0).tolist(),
            "digest": digest(data.encode()),
        },
    )


def compressibility(study: Study, folder: Path) -> Mean:
    """Return the reference's compressibility, 1/bar; NaN where nothing tells it.

    A start.json of an earlier version has none: its run is then looked at.
    """
    known = read_start(folder)
    if "compressibility" in known:
        return Mean.of(known["compressibility"], known["compressibility_error"], math.nan)
    run = density_run(study, folder)
    if run.product.is_file():
        return Density.of([run]).compressibility
    return Mean.unknown()


def read_start(folder: Path) -> dict[str, Any]:
    """Return start.json."""
    path = folder / "validation" / "start.json"
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return known
