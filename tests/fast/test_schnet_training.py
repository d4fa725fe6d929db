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
from mlsel.core.files import write_json
from mlsel.training.frames import Frames, reference_energies, split
from mlsel.training.schnet.device import choose_device
from mlsel.training.schnet.metrics import read_metrics
from mlsel.training.schnet.model import SchNetModel
from mlsel.training.schnet.run import Run
from mlsel.training.schnet.trainer import SchNetTrainer
from mlsel.training.task import Task
from tests.support import Tolerance
from tests.support.training_data import frames, fully_labelled, write_pool

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
    assert curves["validation_loss"][best] == pytest.approx(
        0.01 * energy + 0.99 * forces, rel=Tolerance.FOUR_DIGITS
    )


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


def test_the_best_epoch_is_kept_and_patience_ends_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = trainer(max_epochs=40, patience=2, learning_rate=0.05).fit(
        [frames(8)], [frames(4, seed=2)], tmp_path
    )
    curve = read_metrics(tmp_path / "metrics.csv")
    best = int(curve["validation_loss"].argmin())
    assert model.facts["best_epoch"] == best + 1
    assert len(curve["epoch"]) < 40 and len(curve["epoch"]) == best + 1 + 2
    assert "not converged" not in caplog.text
    trainer(max_epochs=2).fit([frames(8)], [frames(4, seed=2)], tmp_path / "short")
    assert "short: stopped at max_epochs (2)" in caplog.text and "not converged" in caplog.text
    part = frames(4, seed=2)
    assert part.forces is not None
    error = model.predict(part).forces - part.forces
    assert np.sqrt((error**2).mean()) == pytest.approx(
        curve["validation_force_rmse"][best], rel=Tolerance.FOUR_DIGITS
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
    np.testing.assert_allclose(fast.forces, exact.forces, rtol=0, atol=2 * Tolerance.FIVE_DIGITS)
    np.testing.assert_allclose(fast.energy, exact.energy, rtol=0, atol=Tolerance.FOUR_DIGITS)
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
    assert stress[0, 1] == pytest.approx(slope, abs=Tolerance.SEVEN_DIGITS)


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


def test_a_model_of_before_there_were_several_baselines_is_not_stale(tmp_path: Path) -> None:
    one = trainer()
    one.beside = ""  # as a study sets it
    data = write_pool(tmp_path / "data.h5", [frames(4)])
    task = Task("data", data, None, one, None, tmp_path / "model")
    task.out.mkdir()
    made_from = task.made_from()
    assert made_from["parameters"].pop("beside") == ""
    write_json(task.out / "model.json", made_from)
    assert task.is_done()
    one.beside = "zbl"
    with pytest.raises(MlselError, match="beside"):
        task.is_done()


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
    np.testing.assert_allclose(
        one["validation_loss"], two["validation_loss"], rtol=Tolerance.THREE_DIGITS
    )


def test_non_finite_labels_are_refused(tmp_path: Path) -> None:
    from mlsel.pool.pool import Pool
    from mlsel.training.frames import read_frames

    part = frames(3)
    assert part.forces is not None
    part.forces[1, 0, 2] = np.nan
    with (
        Pool(write_pool(tmp_path / "bad.h5", [part])) as pool,
        pytest.raises(MlselError, match="forces of frame 1 is not a finite number"),
    ):
        list(read_frames(pool))


def test_another_seed_starts_with_other_weights(tmp_path: Path) -> None:
    """Without a step to speak of, so that the order of the frames is not what differs."""
    made = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        trainer(seed=seed, max_epochs=1, learning_rate=1e-12).fit([frames(6)], [frames(2)], folder)
        made.append(weights(folder)["representation.interactions.0.in2f.weight"])
    assert float((made[0] - made[1]).abs().max()) > 1e-3


def test_held_out_frames_are_not_trained_on() -> None:
    train, held_out = split([frames(10), frames(6, seed=2)], 0.25, 1)
    energies = [np.concatenate([p.energy for p in part if p.energy is not None])
                for part in (train, held_out)]  # fmt: skip
    assert [len(part) for part in energies] == [12, 4]
    assert not set(energies[0]) & set(energies[1])


def test_the_weight_is_the_energys(tmp_path: Path) -> None:
    """Both losses by their formula: w (ΔE)² + (1 − w) (ΔF)², of a cell and of a component."""
    part = [frames(4)]
    trainer(max_epochs=1, learning_rate=1e-12, energy_weight=0.2).fit(part, part, tmp_path)
    curve = {name: values[0] for name, values in read_metrics(tmp_path / "metrics.csv").items()}
    energy = 8 * curve["validation_energy_rmse"]
    loss = 0.2 * energy**2 + 0.8 * curve["validation_force_rmse"] ** 2
    assert curve["validation_loss"] == pytest.approx(loss, rel=Tolerance.FOUR_DIGITS)
    assert curve["train_loss"] == pytest.approx(loss, rel=Tolerance.FOUR_DIGITS)


def penalties(wrong: Any, delta: float | None) -> float:
    """The mean of squares, or of Huber's penalty of this delta, by its two branches."""
    size = np.abs(wrong)
    if delta is None:
        return float((size**2).mean())
    return float(np.where(size <= delta, size**2, 2 * delta * size - delta**2).mean())


@pytest.mark.parametrize("delta", [None, 0.05])
def test_the_loss_by_its_formula(tmp_path: Path, delta: float | None) -> None:
    """All four terms, from what the trained model predicts for the held-out frames."""
    held_out = fully_labelled(frames(3, seed=2))
    assert held_out.energy is not None and held_out.forces is not None
    assert held_out.atomic_energies is not None and held_out.virial is not None
    made = trainer(
        max_epochs=2,
        energy_weight=0.2,
        energy_per_atom=True,
        atomic_energy_weight=0.5,
        stress_weight=0.3,
        output_per_element=True,
        loss="squared" if delta is None else "huber",
        huber_delta=delta or 1.0,
    )
    model = made.fit([fully_labelled(frames(6))], [held_out], tmp_path)
    curves = read_metrics(tmp_path / "metrics.csv")
    best = int(curves["validation_loss"].argmin())
    found = model.double().predict(held_out)
    assert found.virial is not None
    n = held_out.n_atoms
    energy, forces = (found.energy - held_out.energy) / n, found.forces - held_out.forces
    atomic = found.atomic_energies - held_out.atomic_energies
    virial = (found.virial - held_out.virial) / n
    loss = (
        0.2 * penalties(energy, delta)
        + 0.8 * penalties(forces, delta)
        + 0.5 * penalties(atomic, delta)
        + 0.3 * penalties(virial, delta)
    )
    assert curves["validation_loss"][best] == pytest.approx(loss, rel=Tolerance.THREE_DIGITS)
    for name, wrong in (("atomic_energy", atomic), ("virial", virial), ("energy", energy)):
        rmse = np.sqrt((wrong**2).mean())
        assert curves[f"validation_{name}_rmse"][best] == pytest.approx(
            rmse, rel=Tolerance.THREE_DIGITS
        )
    means = [held_out.atomic_energies[:, held_out.numbers == z].mean() for z in (11, 17)]
    np.testing.assert_allclose(list(model.references.values()), means, rtol=0.2)


def test_the_gradient_of_every_term_is_that_of_finite_differences() -> None:
    from mlsel.training.schnet.architecture import Architecture
    from mlsel.training.schnet.graphs import Graphs
    from mlsel.training.schnet.loss import Loss
    from mlsel.training.schnet.network import Network, potential

    part = fully_labelled(frames(2))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        architecture = Architecture(2, 8, 8, 6, (8,), 4.0, "shifted_softplus", True)
        model = potential(architecture, (11, 17)).double()
    network = Network(model, (11, 17), tabulate=True)
    graphs = Graphs([part], (11, 17), 4.0, torch.float64)
    network.adopt(graphs)
    batch, parameters = graphs.batch([0, 1]), network.parameters()
    generator = torch.Generator().manual_seed(1)
    way = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in parameters]
    for loss in (Loss(0.1, True, 0.7, 0.4), Loss(0.1, False, 0.7, 0.4, delta=0.3)):
        gradient = torch.autograd.grad(loss(network, batch)[0], parameters)
        slope = sum(float((g * d).sum()) for g, d in zip(gradient, way, strict=True))
        values = []
        for step in (1e-5, -2e-5, 1e-5):  # forth, back, and where it was
            with torch.no_grad():
                for p, d in zip(parameters, way, strict=True):
                    p.add_(d, alpha=step)
                values.append(float(loss(network, batch)[0]))
        found = (values[0] - values[1]) / 2e-5
        assert found == pytest.approx(slope, rel=Tolerance.FINITE_DIFFERENCE)


def test_a_network_for_each_element_resumes_and_predicts(tmp_path: Path) -> None:
    train, validation = [frames(6)], [frames(2, seed=2)]
    options = {"output_per_element": True, "activation": "shifted_softplus", "max_epochs": 2}
    trainer(**options).fit(train, validation, tmp_path / "whole")
    run = Run(trainer(**options), train, validation, tmp_path / "parts")
    run.do_epoch()
    trainer(**options).fit(train, validation, tmp_path / "parts")
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert sum("outnets.1" in name for name in one) == sum("outnets.0" in name for name in one) > 0
    model = SchNetModel.load(tmp_path / "whole")
    atoms = validation[0].atoms(0)
    atoms.calc = model.calculator()
    prediction = model.predict(validation[0])
    np.testing.assert_allclose(
        atoms.get_forces(), prediction.forces[0], rtol=0, atol=Tolerance.SIX_DIGITS
    )
    exact = model.double().predict(validation[0])
    np.testing.assert_allclose(
        prediction.forces, exact.forces, rtol=0, atol=2 * Tolerance.FIVE_DIGITS
    )


def test_labels_that_are_not_there_or_do_not_fit_are_told(tmp_path: Path) -> None:
    from mlsel.training.task import Task

    data = write_pool(tmp_path / "train.h5", [frames(4)])
    task = Task("train", data, None, trainer(stress_weight=0.1), None, tmp_path / "m")
    with pytest.raises(
        MlselError, match=r"learns the virial, .* set training\.schnet\.stress_weight to 0"
    ):
        task.perform(lambda report: None)
    part = fully_labelled(frames(4))
    assert part.atomic_energies is not None
    wrong = replace(part, atomic_energies=part.atomic_energies + 0.01)
    with pytest.raises(MlselError, match=r"add up to .* eV where its energy is"):
        trainer(atomic_energy_weight=1.0).fit([wrong], [part], tmp_path / "w")
    made = trainer(atomic_energy_weight=1.0, max_epochs=1)
    Task("train", data, None, made, None, tmp_path / "a").perform(lambda report: None)
    assert "validation_atomic_energy_rmse" in read_metrics(tmp_path / "a" / "metrics.csv")
