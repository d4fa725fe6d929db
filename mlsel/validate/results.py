"""results.h5: what was measured in a validation run. This module alone knows its layout.

    /samples/{step,time,temperature,pressure,potential_energy,total_energy}    (n_samples,)
    /samples/closest                  Å, (n_samples, n_pairs), the shortest distance of each pair
    /rdf/r                            Å, (n_bins,), middles of the bins
    /rdf/g, /rdf/coordination         (n_blocks, n_pairs, n_bins), means of each block
    /msd/lag                          ps, (n_lags,)
    /msd/value                        Å², (n_parts, n_species, n_lags), of parts of the run
    /watch/{step,mean,largest,outside} disagreement of the committee in each frame, eV/Å, and the
                                      share of atoms on which it is larger than on training data
    /sound/{step,position}            the last frame before the run left its bounds, if it did

Units stand in the attribute `unit`; names of pairs and species, the phases' last steps, bounds and
what made the file are attributes of the root. trajectory.h5 is H5MD, as pools are; its positions go
on through the boundaries of the box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.errors import MlselError
from mlsel.core.files import FORMAT
from mlsel.core.hdf5_file import creating_hdf5, reading_hdf5
from mlsel.core.provenance import digest
from mlsel.core.record import check_format
from mlsel.pool.writer import PoolWriter
from mlsel.study.study import Study
from mlsel.validate.diffusion import Positions
from mlsel.validate.stability import Bounds, pair_names

WATCH = ("mean", "largest", "outside")
"""Columns of what a committee says of a frame."""
LARGEST_FORCE = "largest_force"
"""A number of the samples where no potential is the reference: the largest force component."""
UNITS = {
    "step": "",
    "time": "ps",
    "temperature": "K",
    "pressure": "bar",
    "potential_energy": "eV",
    "total_energy": "eV",
    "closest": "Angstrom",
    LARGEST_FORCE: "eV Angstrom-1",
}


@dataclass(frozen=True)
class Measured:
    """Numbers at the samples of a run.

    Attributes
    ----------
    step : int, (n_samples,)
    numbers : by name, (n_samples,)
        temperature K, pressure bar, potential_energy and total_energy eV.
    closest : (n_samples, n_pairs), Å
    """

    step: IntArray
    numbers: Mapping[str, FloatArray]
    closest: FloatArray

    def __getitem__(self, name: str) -> FloatArray:
        return self.numbers[name]

    def part(self, after: int, until: int) -> Measured:
        """Return the samples of steps in (after, until]."""
        chosen = (self.step > after) & (self.step <= until)
        numbers = {name: values[chosen] for name, values in self.numbers.items()}
        return Measured(self.step[chosen], numbers, self.closest[chosen])


@dataclass(frozen=True)
class Results:
    """A validation run as it was measured.

    Attributes
    ----------
    name, kind : which potential
    species, numbers : elements in the order of types; atomic numbers of the atoms
    cell : (3, 3), Å
    temperature : K, of the thermostat
    timestep : ps
    phase_ends : last steps of equilibration, averaged NVT, NVE, as planned
    ended_at, ended_by : step and message of an early end; −1 and ""
    closest : (n_pairs,), Å, the bounds on distances
    samples : Measured
    r : (n_bins,), Å
    g, coordination : (n_blocks, n_pairs, n_bins)
    frame_steps, frames : (n_frames,), (n_frames, N, 3) Å; empty when read from a file
    sound_step, sound_positions : the last frame before the run left its bounds; −1 and empty
    provenance : attributes
    msd_lag, msd : (n_lags,) ps, (n_parts, n_species, n_lags) Å²
    largest_force : eV/Å, the bound on force components
    watch : (n_frames, 4), step and what `uncertainty.Committee.summary` found; empty if unasked
    """

    name: str
    kind: str
    species: tuple[str, ...]
    numbers: IntArray
    cell: FloatArray
    temperature: float
    timestep: float
    phase_ends: tuple[int, ...]
    ended_at: int
    ended_by: str
    closest: FloatArray
    samples: Measured
    r: FloatArray
    g: FloatArray
    coordination: FloatArray
    frame_steps: IntArray
    frames: Positions
    sound_step: int
    sound_positions: FloatArray
    provenance: Mapping[str, Any]
    msd_lag: FloatArray
    msd: FloatArray
    watch: FloatArray
    largest_force: float = math.inf

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @property
    def volume(self) -> float:
        """Å³."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def pairs(self) -> tuple[str, ...]:
        return pair_names(self.species)

    @property
    def production(self) -> Measured:
        """The samples that are averaged."""
        return self.samples.part(self.phase_ends[0], self.phase_ends[1])

    @property
    def nve(self) -> Measured:
        """The samples of the NVE run."""
        return self.samples.part(self.phase_ends[1], self.phase_ends[2])

    @property
    def averaged_time(self) -> float:
        """ps of averaged NVT that were done."""
        last = int(self.samples.step[-1]) if len(self.samples.step) else 0
        return max(0, min(last, self.phase_ends[1]) - self.phase_ends[0]) * self.timestep

    @property
    def bounds(self) -> Bounds:
        energies = self.samples["potential_energy"]
        first = float(energies[0]) if len(energies) else 0.0
        return Bounds(
            self.closest, self.temperature, first, self.n_atoms, self.pairs, self.largest_force
        )

    @cached_property
    def unsound(self) -> tuple[int, str]:
        """The first step out of bounds and what was (−1 and "" if the run stayed sound)."""
        bounds, samples = self.bounds, self.samples
        forces = samples.numbers.get(LARGEST_FORCE, np.zeros(len(samples.step)))
        for row, step in enumerate(samples.step):
            reason = bounds.broken(
                samples["temperature"][row],
                samples["potential_energy"][row],
                samples.closest[row],
                forces[row],
            )
            if reason:
                return int(step), reason
        return (self.ended_at, self.ended_by) if self.ended_by else (-1, "")


def write_trajectory(path: Path, results: Results, study: Study) -> None:
    """Write the frames as an H5MD file that `Pool` opens, with thermo at the frames' steps."""
    n = len(results.frames)
    at = np.searchsorted(results.samples.step, results.frame_steps)
    orthogonal = not np.any(results.cell - np.diag(np.diag(results.cell)))
    observables = {"temperature": "K", "pressure": "bar", "energy": "eV"}
    thermo = {
        "temperature": results.samples["temperature"][at],
        "pressure": results.samples["pressure"][at],
        "energy": results.samples["potential_energy"][at],
    }
    with PoolWriter(path, {"study": study.name, **results.provenance}) as pool:
        run = pool.add_run(
            results.name.replace("/", "--"),
            results.numbers,
            n,
            ("positions",),
            observables,
            orthogonal=orthogonal,
        )
        for start in range(0, n, 1024):
            part = slice(start, start + 1024)
            steps = results.frame_steps[part]
            run.append(
                steps,
                steps * results.timestep,
                cell=np.repeat(results.cell[None], len(steps), axis=0),
                positions=results.frames[part],
                **{name: values[part] for name, values in thermo.items()},
            )


def write_results(path: Path, results: Results) -> None:
    """Write results.h5, whole or not at all."""
    with creating_hdf5(path) as (file, _):
        file.attrs["format_version"] = FORMAT
        samples = file.create_group("samples")
        columns = {
            "step": results.samples.step,
            "time": results.samples.step * results.timestep,
            **results.samples.numbers,
            "closest": results.samples.closest,
        }
        for name, values in columns.items():
            _put(samples, name, values, UNITS[name])
        _put(file, "rdf/r", results.r, "Angstrom")
        _put(file, "rdf/g", results.g)
        _put(file, "rdf/coordination", results.coordination)
        _put(file, "msd/lag", results.msd_lag, "ps")
        _put(file, "msd/value", results.msd, "Angstrom+2")
        if len(results.watch):
            for name, values in zip(("step", *WATCH), results.watch.T, strict=True):
                unit = "eV Angstrom-1" if name in ("mean", "largest") else ""
                _put(file, f"watch/{name}", values, unit)
        if results.sound_step >= 0:
            _put(file, "sound/step", np.array(results.sound_step))
            _put(file, "sound/position", results.sound_positions, "Angstrom")
        file.attrs.update(
            {
                "name": results.name,
                "kind": results.kind,
                "species": list(results.species),
                "pairs": list(results.pairs),
                "numbers": results.numbers,
                "cell": results.cell,
                "cell_unit": "Angstrom",
                "temperature_set": results.temperature,
                "timestep": results.timestep,
                "phases": ["equilibrate", "production", "nve"],
                "phase_ends": results.phase_ends,
                "ended_at": results.ended_at,
                "ended_by": results.ended_by,
                "closest_bound": results.closest,
                "force_bound": results.largest_force,
                "digest": digest(
                    {name: digest(np.ascontiguousarray(v).tobytes()) for name, v in columns.items()}
                ),
                **results.provenance,
            }
        )


_KNOWN = (
    "name", "kind", "species", "pairs", "numbers", "cell", "cell_unit", "temperature_set",
    "timestep", "phases", "phase_ends", "ended_at", "ended_by", "closest_bound", "force_bound",
)  # fmt: skip


def read_results(path: Path) -> Results:
    """Read results.h5.

    Raises
    ------
    MlselError
        If there is none, or it is none of ours.
    """
    if not path.is_file():
        raise MlselError(f"There is no {path}: make it with `mlsel validate`.")
    try:
        with reading_hdf5(path) as file:
            attributes = dict(file.attrs)
            check_format(path, attributes.get("format_version", 1))
            columns = {name: values[()] for name, values in file["samples"].items()}
            step, closest = columns.pop("step"), columns.pop("closest")
            columns.pop("time")
            sound = file.get("sound")
            return Results(
                name=str(attributes["name"]),
                kind=str(attributes["kind"]),
                species=tuple(map(str, attributes["species"])),
                numbers=attributes["numbers"],
                cell=attributes["cell"],
                temperature=float(attributes["temperature_set"]),
                timestep=float(attributes["timestep"]),
                phase_ends=tuple(map(int, attributes["phase_ends"])),
                ended_at=int(attributes["ended_at"]),
                ended_by=str(attributes["ended_by"]),
                closest=attributes["closest_bound"],
                largest_force=float(attributes.get("force_bound", math.inf)),
                samples=Measured(step, columns, closest),
                r=file["rdf/r"][()],
                g=file["rdf/g"][()],
                coordination=file["rdf/coordination"][()],
                frame_steps=np.empty(0, np.int64),
                frames=np.empty((0, 0, 3)),
                sound_step=int(sound["step"][()]) if sound else -1,
                sound_positions=sound["position"][()] if sound else np.empty((0, 3)),
                provenance={k: v for k, v in attributes.items() if k not in _KNOWN},
                watch=(
                    np.column_stack([file[f"watch/{name}"][()] for name in ("step", *WATCH)])
                    if "watch" in file
                    else np.empty((0, 1 + len(WATCH)))
                ),
                msd_lag=file["msd/lag"][()],
                msd=file["msd/value"][()],
            )
    except (OSError, KeyError) as error:
        raise MlselError(
            f"{path} can't be read as the results of a validation ({error}): remove its folder "
            "and make it again."
        ) from None


def _put(group: Any, name: str, values: npt.ArrayLike, unit: str = "") -> None:
    dataset = group.create_dataset(name, data=values)
    if unit:
        dataset.attrs["unit"] = unit
