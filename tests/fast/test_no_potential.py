"""Validation where the reference is no potential of LAMMPS's: what it is held against, and how."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase import units as ase_units
from ase.io import write

from mlsel.core.arrays import FloatArray
from mlsel.core.errors import MlselError
from mlsel.core.units import BAR
from mlsel.pool.importing import import_trajectories
from mlsel.pool.pool import Pool
from mlsel.study.study import Study, load_study
from mlsel.validate.alone import NOT_COMPARED, judge_alone
from mlsel.validate.held_against import reference_kind
from mlsel.validate.pool_reference import at_lags_of, measure
from mlsel.validate.pool_start import TrainingBounds, repeats
from mlsel.validate.results import Results
from mlsel.validate.stability import BOLTZMANN
from mlsel.validate.trajectories import at_state, stretches_of
from tests.support import Tolerance

BOX = 8.0


def study(*overrides: str) -> Study:
    settings = ["validation.reference=pool", "validation.temperature=1000"]
    settings += ["validation.rdf_cutoff=6.0", "validation.rdf_bins=30", *overrides]
    settings += ['system.species=["Cu","Ag"]', 'system.potential=""', 'pool.import=["x.extxyz"]']
    settings += ["pool.temperatures=[]", "pool.pressures=[]", "validation.frame_time=0.1"]
    settings += ["pool.frames_per_run=2000"]  # quick's are of MD runs, of which there are none
    return load_study("quick", settings)


def gas(
    n_frames: int, seed: int, *, temperature: float = 1000.0, box: float = BOX, step: float = 0.3
) -> list[Atoms]:
    """Atoms that each take steps of their own: 3 of copper, 2 of silver, wrapped into the box."""
    rng = np.random.default_rng(seed)
    place, frames = rng.uniform(0, box, (5, 3)), []
    for _ in range(n_frames):
        place = place + step * rng.standard_normal(place.shape)
        atoms = Atoms("Cu3Ag2", positions=place % box, cell=[box] * 3, pbc=True)
        atoms.info |= {"REF_energy": -1.0, "temperature": temperature + rng.normal()}
        atoms.info["REF_stress"] = 0.01 * np.eye(3)
        atoms.arrays["REF_forces"] = rng.standard_normal((5, 3))
        frames.append(atoms)
    return frames


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trajectories at one state, one hotter, one denser, frames in no order."""
    place = tmp_path_factory.mktemp("pool")
    files = {
        "one": gas(120, 1),
        "two": gas(80, 2),
        "hot": gas(40, 3, temperature=1500.0),
        "dense": gas(30, 4, box=7.0),
        "shuffled": [gas(1, 10 + k)[0] for k in range(20)],
    }
    for name, frames in files.items():
        write(place / f"{name}.extxyz", frames)
    import_trajectories([place / f"{name}.extxyz" for name in files], place / "pool.h5")
    return place / "pool.h5"


def test_frames_that_follow_each_other_at_the_state(pool: Path) -> None:
    with Pool(pool) as opened:
        found = {(s.run.name, len(s)) for s in stretches_of(opened)}
        assert found == {("one", 120), ("two", 80), ("hot", 40), ("dense", 30)}
        state = at_state(opened, study())
        assert [s.run.name for s in state.stretches] == ["one", "two"]
        assert (state.n_frames, state.left_out) == (200, 30)
        assert "200 frames of 5 atoms in 2 trajectories (one 0–119, two 120–199)" in str(state)
        named = at_state(opened, study('validation.trajectories=["hot*"]', HOT))
        assert [s.run.name for s in named.stretches] == ["hot"]


HOT = "validation.temperature=1500"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("validation.temperature=700", r"no trajectory is within 5% of .*700 K.*1000, 1500 K"),
        ('validation.trajectories=["none"]', r"no run or file .* has such a name: there are one"),
        ('validation.trajectories=["hot"]', r"no trajectory is within 5% .*some at 1500 K"),
    ],
)
def test_no_frames_at_the_state_is_told(pool: Path, override: str, sentence: str) -> None:
    with Pool(pool) as opened, pytest.raises(MlselError, match=sentence) as told:
        at_state(opened, study(override))
    assert len(str(told.value)) <= 400


def test_an_rdf_is_that_of_lammps(pool: Path, tmp_path: Path) -> None:
    """In a box so small that atoms see their own images."""
    from mpi4py import MPI

    from mlsel.md.session import LammpsSession
    from mlsel.md.structures import lammps_data

    asked = study('validation.trajectories=["one"]', "validation.rdf_cutoff=9.7")
    with Pool(pool) as opened:
        results, _ = measure(opened, at_state(opened, asked), asked)
        block = next(opened.blocks("positions", "cell", frame_ids=range(1)))
        atoms = Atoms("Cu3Ag2", positions=block["positions"][0], cell=block["cell"][0], pbc=True)
    (tmp_path / "x.data").write_text(lammps_data(atoms, ("Cu", "Ag")), encoding="utf-8")
    with LammpsSession(MPI.COMM_SELF) as session:
        session.execute(
            [
                *("units metal", "atom_style charge", f"read_data {tmp_path / 'x.data'}"),
                *("pair_style zero 9.7", "pair_coeff * *", "comm_modify cutoff 11"),
                "compute rdf all rdf 30 1 1 1 2 2 2 cutoff 9.7",
            ]
        )
        session.run(0)
        table = session.global_array("rdf")
    assert results.g.shape == (120, 3, 30)
    np.testing.assert_allclose(results.g[0], table[:, 1::2].T, atol=Tolerance.ROUNDING)
    np.testing.assert_allclose(results.coordination[0], table[:, 2::2].T, rtol=Tolerance.SUMS)


def test_diffusion_through_the_boundaries_and_pressure(pool: Path) -> None:
    with Pool(pool) as opened:
        results, compressibility = measure(opened, at_state(opened, study()), study())
    # A walk of steps of 0.3 Å along each axis every 0.1 ps has D = 0.3² / (2 · 0.1 ps).
    slope = results.msd.mean(axis=(0, 1)) / results.msd_lag / 6
    assert slope[0] == pytest.approx(0.45 * 4 / 5, rel=0.1)  # less the centre of mass, of 5 atoms
    ideal = 4 * BOLTZMANN * 1000 / BOX**3
    expected = (ideal - 0.01) * BAR
    assert results.production["pressure"] == pytest.approx(np.full(200, expected))
    assert pytest.approx(160.21766, rel=Tolerance.SIX_DIGITS) == BAR / 1e4 and ase_units.GPa > 0
    assert np.isnan(compressibility.value)  # of a volume that is constant
    silent = dataclasses.replace(
        study(), validation=dataclasses.replace(study().validation, frame_time=0.0)
    )
    with Pool(pool) as opened:
        assert measure(opened, at_state(opened, silent), silent)[0].msd_lag.size == 0


def test_displacements_at_the_reference_s_lags(pool: Path) -> None:
    with Pool(pool) as opened:
        reference, _ = measure(opened, at_state(opened, study()), study())
    fine = np.arange(0.004, 0.402, 0.004)
    run = dataclasses.replace(reference, msd_lag=fine, msd=np.tile(6 * fine, (3, 2, 1)))
    moved = at_lags_of(run, reference)
    assert moved.msd_lag.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(moved.msd, np.tile(6 * moved.msd_lag, (3, 2, 1)))


def test_bounds_are_those_of_the_training_data(pool: Path) -> None:
    with Pool(pool) as opened:
        closest, largest = np.full(3, np.inf), 0.0
        for block in opened.blocks("positions", "forces"):
            largest = max(largest, np.abs(block["forces"]).max())
            box = float(opened.values("volume")[block.frame_ids[0]]) ** (1 / 3)
            apart = block["positions"][:, :, None] - block["positions"][:, None]
            r = np.linalg.norm(apart - box * np.round(apart / box), axis=-1)
            r[:, np.arange(5), np.arange(5)] = np.inf
            pairs = (r[:, :3, :3], r[:, :3, 3:], r[:, 3:, 3:])
            closest = np.minimum(closest, [p.min() for p in pairs])
    bounds = TrainingBounds.of({"pool": pool}, study())
    assert bounds.closest == pytest.approx(closest) and bounds.largest_force == largest


def test_a_cell_is_repeated_to_at_most_so_many_atoms() -> None:
    edges = np.array([5.0, 6.0, 11.0])
    assert repeats(edges, 20, 19) == (1, 1, 1)
    a, b, c = repeats(edges, 20, 1000)
    assert 20 * a * b * c <= 1000 and min(a * 5, b * 6, c * 11) > 15


def alone(pool: Path, **changes: object) -> Results:
    """A run of 0.1 ps frames with a short NVE, whose total energy is constant."""
    with Pool(pool) as opened:
        results, _ = measure(opened, at_state(opened, study()), study())
    numbers = {name: values.copy() for name, values in results.samples.numbers.items()}
    numbers["total_energy"] = -5.0 + 1e-6 * np.random.default_rng(1).standard_normal(200)
    samples = dataclasses.replace(results.samples, numbers=numbers)
    made = dataclasses.replace(
        results, name="force/pair", kind="pair", samples=samples, phase_ends=(0, 100, 200)
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_words_without_a_reference(pool: Path) -> None:
    tolerances = study().validation.tolerances
    closest = [1e-3, 1e-3, 1e-3]

    def word(run: Results, known: list[float] = closest) -> tuple[str, str]:
        verdict = judge_alone(run, known, tolerances, "no reference")
        assert NOT_COMPARED in verdict.unseen and verdict.held_against == "no reference"
        return verdict.word, "; ".join(verdict.reasons)

    good = alone(pool)
    assert word(good) == ("stable within what was run", "")
    numbers = dict(good.samples.numbers)
    numbers["total_energy"] = numbers["total_energy"] + 0.01 * np.arange(200)
    drifting = dataclasses.replace(good.samples, numbers=numbers)
    found, reasons = word(alone(pool, samples=drifting))
    assert found == "unphysical" and "energy drift in NVE +20 meV/atom/ps" in reasons
    found, reasons = word(good, [5.0, 5.0, 5.0])  # a gas comes as near as it likes
    assert found == "unphysical" and "neighbours far below the onset" in reasons
    forces: FloatArray = np.where(np.arange(200) == 150, 9.0, 1.0)
    numbers = {**good.samples.numbers, "largest_force": forces}
    pushed = dataclasses.replace(good.samples, numbers=numbers)
    found, reasons = word(alone(pool, samples=pushed, largest_force=6.0))
    assert found == "unphysical" and "a force of 9 eV/Å (bound 6 eV/Å), after 15.1 ps" in reasons
    assert word(alone(pool, ended_at=90, ended_by="Lost atoms"))[0] == "blown up"


def test_a_study_says_what_it_is_held_against() -> None:
    assert reference_kind(load_study("quick")) == "lammps"
    assert reference_kind(study()) == "pool"
    with pytest.raises(MlselError, match=r'"pool" .* or "none" .*models = \[\]') as told:
        reference_kind(study("validation.reference=auto"))
    assert len(str(told.value)) <= 400
    assert reference_kind(study("validation.reference=auto", "validation.models=[]")) == ""
    with pytest.raises(MlselError, match=r"system\.potential is not given"):
        reference_kind(study("validation.reference=lammps"))
