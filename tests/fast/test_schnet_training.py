"""Training a SchNet: what it learns, resuming, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlsel.core.errors import MlselError
from mlsel.training.base import Frames, reference_energies, split
from mlsel.training.schnet.metrics import read_metrics
from mlsel.training.schnet.model import SchNetModel
from mlsel.training.schnet.trainer import SchNetTrainer, choose_device
from tests.support.training_data import frames, write_pool

ANGSTROM_FORCE = 1e-3  # eV/Å: what an overfitted network must reach
PAIR_SHARE = 0.02  # of the forces' scatter: what is left of a pair potential


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trainer(**changes: Any) -> SchNetTrainer:
    given: dict[str, Any] = {
        "name": "schnet-small",
        "cutoff": 4.0,
        "batch_size": 4,
        "max_epochs": 4,
        "learning_rate": 2e-3,
        **changes,
    }
    return SchNetTrainer(**given)


def weights(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / "weights.pt", weights_only=True)
    return loaded


def test_stopped_and_started_again_it_is_the_same_model(tmp_path: Path) -> None:
    train, validation = [frames(10)], [frames(4, seed=2)]
    options = {"decay_factor": 0.5, "decay_patience": 1, "average": 0.9}
    trainer(**options).fit(train, validation, tmp_path / "whole")
    for stop in (1, 3, None):
        trainer(**options, stop_after=stop).fit(train, validation, tmp_path / "parts")
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    (tmp_path / "parts" / "metrics.csv").write_text("")  # as a kill after a checkpoint leaves it
    trainer(**options).fit(train, validation, tmp_path / "parts")
    curves = [read_metrics(tmp_path / name / "metrics.csv") for name in ("whole", "parts")]
    for name in curves[0].keys() - {"rate"}:
        np.testing.assert_array_equal(curves[0][name], curves[1][name])


def test_the_papers_options_train_and_run(tmp_path: Path) -> None:
    """Shifted softplus in the output network, a learning rate with a floor, energies of an atom."""
    made = trainer(
        activation="shifted_softplus",
        energy_per_atom=True,
        decay_factor=0.01,
        decay_patience=1,
        decay_to=1e-6,
        learning_rate=1e-4,
        max_epochs=12,
        average=0.99,  # so that the held-out loss hardly falls
        patience=50,
    )
    train, held_out = frames(10), frames(4, seed=2)
    model = made.fit([train], [held_out], tmp_path)
    assert (tmp_path / "model.pt").is_file()
    assert model.facts["architecture"]["activation"] == "shifted_softplus"
    curves = read_metrics(tmp_path / "metrics.csv")
    assert curves["learning_rate"].min() >= 1e-6
    best = int(np.argmin(curves["validation_loss"]))
    assert held_out.energy is not None and held_out.forces is not None
    prediction = SchNetModel.load(tmp_path).predict(held_out)
    energy = np.mean(((prediction.energy - held_out.energy) / held_out.n_atoms) ** 2)
    forces = np.mean((prediction.forces - held_out.forces) ** 2)
    assert curves["validation_loss"][best] == pytest.approx(0.01 * energy + 0.99 * forces, rel=1e-4)


def test_the_learning_rate_stops_at_its_floor(tmp_path: Path) -> None:
    """A held-out set that can't be learnt, so that each epoch lowers the rate."""
    far = frames(4, seed=2)
    assert far.forces is not None
    wrong = replace(far, forces=-far.forces)
    options = {"decay_factor": 0.1, "decay_patience": 1, "decay_to": 1e-5, "max_epochs": 8}
    trainer(**options, patience=50).fit([frames(10)], [wrong], tmp_path)
    rates = read_metrics(tmp_path / "metrics.csv")["learning_rate"]
    assert rates[0] == 2e-3 and rates[-1] == 1e-5 and (np.diff(rates) <= 0).all()


def test_the_seed_decides(tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        trainer(seed=seed, max_epochs=1).fit([frames(6)], [frames(2, seed=2)], folder)
    a, b, c = (weights(folder)["representation.interactions.0.in2f.weight"] for folder in folders)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(state, torch.random.get_rng_state())  # nobody else's numbers are used


@pytest.mark.slow
def test_four_configurations_are_learnt_by_heart(tmp_path: Path) -> None:
    part = [frames(4)]
    model = trainer(
        size="medium", max_epochs=1500, patience=1500, decay_factor=0.5, decay_patience=60
    ).fit(part, part, tmp_path)
    curve = read_metrics(tmp_path / "metrics.csv")
    assert curve["validation_force_rmse"].min() < ANGSTROM_FORCE
    assert part[0].forces is not None
    error = model.predict(part[0]).forces - part[0].forces
    assert np.sqrt((error**2).mean()) < ANGSTROM_FORCE


@pytest.mark.slow
def test_a_pair_potential_is_learnt(tmp_path: Path) -> None:
    """SchNet can represent a sum over pairs: frames it has not seen come out right."""
    unseen = frames(40, seed=3)
    model = trainer(
        n_gaussians=32, max_epochs=400, patience=400, decay_factor=0.5, decay_patience=30
    ).fit([frames(120)], [frames(20, seed=2)], tmp_path)
    assert unseen.forces is not None
    error = model.predict(unseen).forces - unseen.forces
    assert np.sqrt((error**2).mean()) < PAIR_SHARE * unseen.forces.std()


def test_the_best_epoch_is_kept_and_patience_ends_it(tmp_path: Path) -> None:
    model = trainer(max_epochs=40, patience=2, learning_rate=0.05).fit(
        [frames(8)], [frames(4, seed=2)], tmp_path
    )
    curve = read_metrics(tmp_path / "metrics.csv")
    best = int(curve["validation_loss"].argmin())
    assert model.facts["best_epoch"] == best + 1
    assert len(curve["epoch"]) < 40 and len(curve["epoch"]) == best + 1 + 2
    part = frames(4, seed=2)
    assert part.forces is not None
    error = model.predict(part).forces - part.forces
    assert np.sqrt((error**2).mean()) == pytest.approx(
        curve["validation_force_rmse"][best], rel=1e-4
    )


def test_reference_energies_are_found_by_least_squares() -> None:
    numbers = [np.array([11, 17]), np.array([11, 17, 17])]
    parts = [
        Frames(z, np.zeros((2, len(z), 3)), np.zeros((2, 3, 3)), energy=np.full(2, e))
        for z, e in zip(numbers, (-3.0, -5.0), strict=True)
    ]
    assert reference_energies(parts) == {11: -1.0, 17: -2.0}


def test_prediction_and_reference_agree(tmp_path: Path) -> None:
    """Tables in float32 against every filter in float64; ASE's calculator; a triclinic stress."""
    model = trainer(max_epochs=2).fit([frames(8)], [frames(2, seed=2)], tmp_path)
    part = frames(3, seed=5)
    fast, exact = model.predict(part), model.double().predict(part)
    np.testing.assert_allclose(fast.forces, exact.forces, rtol=0, atol=2e-5)
    np.testing.assert_allclose(fast.energy, exact.energy, rtol=0, atol=1e-4)
    np.testing.assert_allclose(fast.atomic_energies.sum(1), fast.energy)

    from ase import Atoms

    atoms = Atoms(part.numbers, part.positions[0], cell=part.cell[0], pbc=True)
    atoms.calc = model.double().calculator()
    assert atoms.get_potential_energy() == pytest.approx(exact.energy[0])
    np.testing.assert_allclose(atoms.get_forces(), exact.forces[0])
    stress = atoms.get_stress(voigt=False)
    strain = np.array([[0, 1e-5, 0], [0, 0, 0], [0, 0, 0]])
    energies = []
    for sign in (1, -1):
        strained = atoms.copy()
        strained.calc = atoms.calc
        strained.set_cell(atoms.cell.array @ (np.eye(3) + sign * strain), scale_atoms=True)
        energies.append(strained.get_potential_energy())
    slope = (energies[0] - energies[1]) / 2e-5 / atoms.get_volume()
    assert stress[0, 1] == pytest.approx(slope, abs=1e-7)


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    train, validation = [frames(6)], [frames(2, seed=2)]
    trainer(stop_after=1).fit(train, validation, tmp_path)
    with pytest.raises(MlselError, match=r"learning_rate \(0.002 there, 0.01 now\)"):
        trainer(learning_rate=0.01).fit(train, validation, tmp_path)
    with pytest.raises(MlselError, match="another training"):
        trainer().fit([frames(6, seed=9)], validation, tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(MlselError, match="damaged"):
        trainer().fit(train, validation, tmp_path)


def test_bad_input_is_told(tmp_path: Path) -> None:
    with pytest.raises(MlselError, match="0 frames: training needs at least 2"):
        split([], 0.1, 1)
    with pytest.raises(MlselError, match="1 frame: training needs"):
        trainer().fit([frames(1)], [], tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(MlselError, match="torch sees no CUDA device"):
            choose_device("cuda")
    model = trainer(max_epochs=1).fit([frames(4)], [frames(2, seed=2)], tmp_path / "m")
    other = frames(1)
    foreign = Frames(other.numbers + 1, other.positions, other.cell)
    with pytest.raises(MlselError, match=r"trained on Na, Cl and cannot say anything of Mg, Ar"):
        model.predict(foreign)
    with pytest.raises(MlselError, match="cannot say anything of K"):
        model.lammps_commands(["Na", "K"])
    with pytest.raises(MlselError, match="holds no SchNet"):
        SchNetModel.load(tmp_path / "nowhere")
    (tmp_path / "m" / "weights.pt").write_bytes(b"\x80\x04 evil")
    with pytest.raises(MlselError, match="does not hold a SchNet that can be read"):
        SchNetModel.load(tmp_path / "m")


def test_a_diverging_training_is_told(tmp_path: Path) -> None:
    with pytest.raises(MlselError, match="no longer a number in epoch"):
        trainer(learning_rate=1e20).fit([frames(8)], [frames(2, seed=2)], tmp_path)


def test_metrics_have_names_and_units(tmp_path: Path) -> None:
    trainer(max_epochs=2).fit([frames(6)], [frames(2, seed=2)], tmp_path)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,learning_rate,train_loss")
    assert len({line.count(",") for line in lines}) == 1 and "eV/Å" in lines[1]
    assert len(lines) == 4
    facts = json.loads((tmp_path / "network.json").read_text())
    assert facts["interpolation_error"] < 2e-5


def test_without_a_compiler_it_learns_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, validation = [frames(6)], [frames(2, seed=2)]
    trainer(max_epochs=2).fit(train, validation, tmp_path / "tables")
    trainer(max_epochs=2, tabulate=False).fit(train, validation, tmp_path / "plain")
    one, two = (read_metrics(tmp_path / name / "metrics.csv") for name in ("tables", "plain"))
    np.testing.assert_allclose(one["validation_loss"], two["validation_loss"], rtol=1e-3)


def test_non_finite_labels_are_refused(tmp_path: Path) -> None:
    from mlsel.pool.pool import Pool
    from mlsel.training.base import read_frames

    part = frames(3)
    assert part.forces is not None
    part.forces[1, 0, 2] = np.nan
    with (
        Pool(write_pool(tmp_path / "bad.h5", [part])) as pool,
        pytest.raises(MlselError, match="forces of frame 1 is not a finite number"),
    ):
        list(read_frames(pool))
