"""Baselines: the sum of an include and a model is the sum of its parts, everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlsel.core.errors import MlselError
from mlsel.md.include import IncludePotential
from mlsel.study.sections.training import BaselineSection
from mlsel.study.study import load_study
from mlsel.training.base import Prediction, TrainedModel
from mlsel.training.baseline import (
    COULOMB_ACCURACY,
    Baseline,
    SumModel,
    overlaid,
    read_baseline,
)
from mlsel.training.command import main as train
from mlsel.training.core import Core, read_core
from mlsel.training.description import model_digest
from mlsel.training.frames import Frames
from mlsel.training.registry import load_model
from tests.support import Tolerance
from tests.support.training_data import frames as pair_frames
from tests.support.training_data import write_pool

COULOMB = 14.399645  # e² / 4π ε₀, eV Å
LENNARD_JONES = ["pair_style lj/cut 6.0", "pair_coeff * * 0.05 2.6"]
WIDE = {"zbl": (2.0, 4.0)}
CHARGED = {"zbl": (2.0, 4.0), "charges": {"Na": 1.0, "Cl": -1.0}}


class LennardJones(TrainedModel):
    """In place of a trained model: what LAMMPS itself says of a pair style."""

    kind = "lennard-jones"
    numbers = (11, 17)
    folder = Path("somewhere")
    facts: dict[str, Any] = {}  # noqa: RUF012  as every model has

    def predict(self, frames: Frames) -> Prediction:
        with IncludePotential("\n".join(LENNARD_JONES), ("Na", "Cl")) as potential:
            found = potential.evaluate(frames.numbers, frames.positions, frames.cell)
        return Prediction(found.energy, found.forces, found.atomic_energies, found.virial)

    def lammps_commands(self, species: Sequence[str]) -> list[str]:
        return LENNARD_JONES

    def calculator(self) -> Any:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> TrainedModel:
        raise NotImplementedError


def frames(n: int = 3) -> Frames:
    made = []
    for seed in range(n):
        atoms = bulk("NaCl", "rocksalt", 5.7, cubic=True) * (2, 1, 1)
        atoms.rattle(0.25, seed=seed)
        made.append(atoms)
    first = made[0]
    return Frames(
        np.asarray(first.numbers, np.int64),
        np.stack([atoms.positions for atoms in made]),
        np.stack([atoms.cell.array for atoms in made]),
        energy=np.linspace(-1.0, 1.0, n),
        forces=np.stack([np.full((len(first), 3), 0.1 * k) for k in range(n)]),
    )


def baseline(settings: dict[str, Any]) -> Baseline:
    made = Baseline.of(BaselineSection(**settings), ("Na", "Cl"))
    assert made is not None
    return made


def test_models_of_the_same_baseline_share_what_it_says_of_kept_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = replace(frames(), kept={})
    asked: list[Baseline] = []
    real = Baseline.evaluate

    def counted(self: Baseline, *args: Any) -> Any:
        asked.append(self)
        return real(self, *args)

    monkeypatch.setattr(Baseline, "evaluate", counted)
    for settings in (WIDE, CHARGED, WIDE, CHARGED):
        model = SumModel(baseline(settings), LennardJones())
        shared, alone = model.predict(data.unlabelled()), model.predict(frames())
        np.testing.assert_array_equal(shared.energy, alone.energy)
        np.testing.assert_array_equal(shared.forces, alone.forces)
    assert len(asked) == 4 + 2


@pytest.mark.parametrize("settings", [WIDE, CHARGED], ids=["zbl", "zbl and charges"])
def test_the_sum_is_the_sum_of_its_parts(settings: dict[str, Any]) -> None:
    """What `predict` adds up, ASE gives, and LAMMPS runs as hybrid/overlay."""
    known, data = baseline(settings), frames()
    model = SumModel(known, LennardJones())
    found = model.predict(data)
    alone, added = LennardJones().predict(data), known.evaluate(data)
    tolerance = Tolerance.ROUNDING
    np.testing.assert_allclose(found.energy, alone.energy + added.energy, rtol=tolerance)
    commands = "\n".join(model.lammps_commands(("Na", "Cl")))
    with IncludePotential(commands, ("Na", "Cl")) as together:
        in_lammps = together.evaluate(data.numbers, data.positions, data.cell)
    np.testing.assert_allclose(in_lammps.energy, found.energy, rtol=tolerance)
    np.testing.assert_allclose(in_lammps.forces, found.forces, atol=Tolerance.ROUNDING)
    assert found.virial is not None
    np.testing.assert_allclose(in_lammps.virial, found.virial, atol=Tolerance.EIGHT_DIGITS)
    atoms = Atoms(data.numbers, data.positions[1], cell=data.cell[1], pbc=True)
    atoms.calc = model.calculator()
    assert atoms.get_potential_energy() == pytest.approx(found.energy[1], rel=tolerance)
    np.testing.assert_allclose(atoms.get_forces(), found.forces[1], atol=Tolerance.ROUNDING)


@pytest.mark.parametrize("tilt", [0.0, 2.0])
def test_md_by_another_sum_agrees_within_their_accuracies(tilt: float) -> None:
    """Labels stay what Ewald's sum says; PPPM of MD differs by no more than both may be off."""
    data = frames(1)
    cell = data.cell.copy()
    cell[0, 1, 0] = cell[0, 2, 1] = tilt
    data = replace(data, cell=cell)
    known = baseline({**CHARGED, "kspace_style": "pppm 1e-5"})
    model = SumModel(known, LennardJones())
    predicted, commands = model.predict(data), model.lammps_commands(("Na", "Cl"))
    assert [line for line in commands if "kspace" in line] == ["kspace_style pppm 1e-5"]
    np.testing.assert_array_equal(
        predicted.forces, SumModel(baseline(CHARGED), LennardJones()).predict(data).forces
    )
    with IncludePotential("\n".join(commands), ("Na", "Cl")) as in_md:
        found = in_md.evaluate(data.numbers, data.positions, data.cell)
    # LAMMPS's accuracy is relative to the force of two unit charges 1 Å apart
    accuracy = COULOMB_ACCURACY * COULOMB
    off = np.sqrt(np.square(found.forces - predicted.forces).sum(-1).mean())
    assert 0 < off < 2 * accuracy
    assert abs(found.energy - predicted.energy)[0] / len(data.numbers) < accuracy  # eV, at 1 Å


def test_the_sum_of_md_comes_and_goes_without_training(tmp_path: Path) -> None:
    data = write_pool(tmp_path / "train.h5", [pair_frames(8, side=4)])
    words = ["quick", "--data", str(data), "--model", "pair", "-o", str(tmp_path / "m")]
    words += ["--set", "training.baseline.charges={Na=1,Cl=-1}"]
    pppm = ["--set", "training.baseline.kspace_style=pppm 1e-5"]
    assert train(words) == 0
    image, before = (tmp_path / "m/model.json").read_bytes(), model_digest(tmp_path / "m")
    assert "kspace_style ewald 1e-05" in load_model(tmp_path / "m").lammps_commands(("Na", "Cl"))
    assert train([*words, *pppm]) == 0
    assert "kspace_style pppm 1e-5" in load_model(tmp_path / "m").lammps_commands(("Na", "Cl"))
    assert (tmp_path / "m/model.json").read_bytes() == image
    assert model_digest(tmp_path / "m") != before
    assert train(words) == 0
    assert model_digest(tmp_path / "m") == before
    # a model of what a baseline leaves is none without it
    kept = (tmp_path / "m/baseline.json").read_text()
    for text, sentence in ((kept.replace("1.0", "2.0"), "is another: "), ("", "is gone: ")):
        (tmp_path / "m/baseline.json").unlink()
        if text:
            (tmp_path / "m/baseline.json").write_text(text)
        with pytest.raises(MlselError, match=sentence):
            load_model(tmp_path / "m")
    assert train(words) == 0
    load_model(tmp_path / "m")


def test_labels_and_prediction_are_inverse(caplog: pytest.LogCaptureFixture) -> None:
    known, data = baseline(CHARGED), frames()
    baseline({"charges": {"Na": 1.0, "Cl": -0.5}}).taken_from(data)
    assert caplog.messages == [
        "the baseline's charges give 16 atoms a charge of +4 e: the sum adds a uniform background"
    ]
    left = known.taken_from(data)
    added = known.evaluate(data)
    assert left.energy is not None and left.forces is not None
    assert data.energy is not None and data.forces is not None
    np.testing.assert_allclose(left.energy + added.energy, data.energy, atol=Tolerance.SAME_NUMBERS)
    np.testing.assert_allclose(left.forces + added.forces, data.forces, atol=Tolerance.SAME_NUMBERS)


@pytest.mark.parametrize("distance", [0.5, 0.8, 1.4, 2.1, 3.0, 3.9])
def test_the_wall_pushes_apart_down_to_half_an_angstrom(distance: float) -> None:
    """Forces against finite differences, and a barrier that only rises inwards."""
    known = baseline(WIDE)
    step = 1e-5 * distance

    def pair(r: float) -> tuple[float, float]:
        places = np.array([[[0.0, 0, 0], [r, 0, 0]]])
        data = Frames(np.array([11, 17]), places, 20 * np.eye(3)[None])
        found = known.evaluate(data)
        return float(found.energy[0]), float(found.forces[0, 1, 0])

    slope = (pair(distance - step)[0] - pair(distance + step)[0]) / (2 * step)
    energy, force = pair(distance)
    assert force == pytest.approx(slope, rel=Tolerance.FINITE_DIFFERENCE)
    assert force > 0 and energy > 0


def test_a_guard_rail_is_zero_in_the_data_and_a_wall_below(tmp_path: Path) -> None:
    data = frames()
    core = Core.of_frames([data])
    core.write(tmp_path)
    assert read_core(tmp_path) == core
    found = core.evaluate(data)
    assert not found.energy.any() and not found.forces.any()
    shortest = core.distances["Na-Cl"]
    atoms = data.atoms(0)
    apart = [data.atoms(k).get_all_distances(mic=True) for k in range(len(data))]
    unlike = np.not_equal.outer(atoms.numbers, atoms.numbers)
    assert shortest == pytest.approx(min(d[unlike].min() for d in apart), abs=Tolerance.FIVE_DIGITS)

    def placed(numbers: tuple[int, int], r: float) -> Frames:
        places = np.array([[[0.0, 0, 0], [r, 0, 0]]])
        return Frames(np.array(numbers), places, 20 * np.eye(3)[None])

    def pair(numbers: tuple[int, int], r: float) -> tuple[float, float]:
        known = core.evaluate(placed(numbers, r))
        return float(known.energy[0]), float(known.forces[0, 1, 0])

    model, both = SumModel(core, LennardJones()), placed((11, 17), shortest - 0.3)
    text = "\n".join(model.lammps_commands(("Na", "Cl")))
    with IncludePotential(text, ("Na", "Cl")) as potential:
        in_lammps = potential.evaluate(both.numbers, both.positions, both.cell)
    np.testing.assert_allclose(
        in_lammps.energy, model.predict(both).energy, rtol=Tolerance.ROUNDING
    )
    np.testing.assert_allclose(
        in_lammps.forces, model.predict(both).forces, rtol=Tolerance.ROUNDING
    )
    last = 0.0
    for r in shortest - np.array([0.05, 0.2, 0.4, 1.0]):
        energy, force = pair((11, 17), r)
        assert energy > last and force > 0
        last = energy
    # each pair of elements has its own: two Na of this distance feel theirs already
    assert core.distances["Na-Na"] > shortest + 0.2
    assert pair((11, 11), shortest)[0] > 0 == pair((11, 17), shortest)[0]


def test_a_guard_rail_comes_and_goes_without_training(tmp_path: Path) -> None:
    data = write_pool(tmp_path / "train.h5", [pair_frames(12)])
    words = ["quick", "--data", str(data), "--model", "pair", "-o", str(tmp_path / "m")]
    assert train(words) == 0
    image = (tmp_path / "m" / "model.json").read_bytes()
    bare = load_model(tmp_path / "m").lammps_commands(("Na", "Cl"))
    assert train([*words, "--set", "training.core=zbl"]) == 0
    guarded = load_model(tmp_path / "m")
    assert guarded.lammps_commands(("Na", "Cl"))[0].startswith("pair_style hybrid/overlay zbl ")
    assert (tmp_path / "m" / "model.json").read_bytes() == image
    (tmp_path / "m" / "core.json").write_text('{"distances": 3}')
    with pytest.raises(MlselError, match=r"core.json is damaged: remove it"):
        load_model(tmp_path / "m")
    (tmp_path / "m" / "core.json").unlink()
    assert train([*words, "--set", "training.core=zbl"]) == 0
    assert train(words) == 0
    assert load_model(tmp_path / "m").lammps_commands(("Na", "Cl")) == bare
    with pytest.raises(MlselError, match=r"training.core is .zbl. beside training.baseline.zbl"):
        load_study("quick", ["training.core=zbl", "training.baseline.zbl=[2.0, 4.0]"])


@pytest.mark.slow
def test_the_production_preset_trains_what_runs_in_lammps(tmp_path: Path) -> None:
    data = write_pool(tmp_path / "train.h5", [pair_frames(8)])
    words = ["--set", "training.schnet.max_epochs=2", "--set", "training.schnet.cutoff=4.0"]
    words += ["--model", "schnet-small", "--data", str(data), "-o", str(tmp_path / "m")]
    assert train(["production", *words]) == 0
    model, part = load_model(tmp_path / "m"), pair_frames(2, seed=4)
    assert isinstance(model, SumModel)
    assert model.lammps_commands(("Na", "Cl"))[2] == (
        "pair_style hybrid/overlay zbl 2 4 coul/long 10 schnet"
    )
    prediction = model.predict(part)
    assert np.isfinite(prediction.forces).all()
    atoms = part.atoms(1)
    atoms.calc = model.calculator()
    np.testing.assert_allclose(
        atoms.get_forces(), prediction.forces[1], rtol=0, atol=Tolerance.SIX_DIGITS
    )


def test_a_frame_that_makes_no_sense_is_refused_by_number() -> None:
    data = frames()
    positions = data.positions.copy()
    positions[2, 1] = positions[2, 0] + [1e-7, 0, 0]
    broken = Frames(data.numbers, positions, data.cell)
    with pytest.raises(MlselError, match=r"gives frame 2 an energy of"):
        baseline(WIDE).evaluate(broken)
    # of frames of a pool these are their numbers in it, not their places among those of a size
    of_pool = replace(broken, frame_ids=np.array([4, 7, 9]))
    with pytest.raises(MlselError, match=r"gives frame 9 of a\.h5 an energy of"):
        baseline(WIDE).taken_from(of_pool.take([1, 2]), Path("a.h5"))
    slab = replace(data, periodic=(True, True, False), frame_ids=np.array([4, 7, 9]))
    with pytest.raises(MlselError, match=r"says nothing of frame 4 of a\.h5: Cannot use non-per"):
        baseline(CHARGED).taken_from(slab, Path("a.h5"))


def test_kept_beside_a_model(tmp_path: Path) -> None:
    known = baseline(CHARGED)
    known.write(tmp_path)
    assert read_baseline(tmp_path) == known
    (tmp_path / "baseline.json").write_text('{"zbl": 3}')
    with pytest.raises(MlselError, match="damaged"):
        read_baseline(tmp_path)


def test_an_include_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.lmp"
    path.write_text("# species: Na Cl\npair_style born 6.0 &\n\npair_coeff * * 0.2 0.3 2.5 0 0\n")
    known = baseline({"include": str(path)})
    assert known.species == ("Na", "Cl")
    with pytest.raises(MlselError, match=r"own.lmp has no kspace_style that it could replace"):
        baseline({"include": str(path), "kspace_style": "pppm 1e-5"})
    with pytest.raises(MlselError, match="for the atom types Na Cl, not Cl Na"):
        known.text(("Cl", "Na"))
    data = frames(1)
    model = SumModel(known, LennardJones())
    with IncludePotential("\n".join(model.lammps_commands(("Na", "Cl"))), ("Na", "Cl")) as both:
        found = both.evaluate(data.numbers, data.positions, data.cell)
    np.testing.assert_allclose(found.energy, model.predict(data).energy, rtol=Tolerance.ROUNDING)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("{ zbl = [4.0, 2.0] }", r"training.baseline.zbl is \[4, 2\]: it must be two distances"),
        ("{ charges = { Nq = 1 } }", 'names "Nq", which is no element'),
        ('{ include = "a", zbl = [2.0, 4.0] }', "give one or the other"),
        ('{ zbl = [2.0, 4.0], kspace_style = "pppm 1e-5" }', "a kspace_style and no charges"),
        ('{ charges = { Na = 1 }, kspace_style = "pppm" }', "LAMMPS and its relative accuracy"),
        ('{ charges = { Na = 1 }, kspace_style = "pppm 1" }', "above 0 and at most 0.1"),
        ('{ charges = { Na = 1 }, kspace_style = "msm 1e-5" }', "begin with ewald or pppm"),
        ("{ charges = { Na = 0 } }", "charges are 0 all of them"),
        ("{ zbl = [2.0, 200.0] }", "above 0 and at most 20"),
    ],
)
def test_wrong_settings_are_told(setting: str, sentence: str) -> None:
    with pytest.raises(MlselError, match=sentence):
        load_study("quick", [f"training.baseline={setting}"])


def test_wrong_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MlselError, match="no such file"):
        baseline({"include": "nowhere.lmp"})
    Path("empty.lmp").touch()
    with pytest.raises(MlselError, match=r"empty\.lmp, which has no line pair_style"):
        baseline({"include": "empty.lmp"})
    with pytest.raises(MlselError, match="are those of Na, and the frames hold Cl: give each"):
        baseline({"charges": {"Na": 1.0}}).text(("Na", "Cl"))
    with pytest.raises(MlselError, match="has no pair_style"):
        overlaid(["kspace_style ewald 1e-5"], LENNARD_JONES)
    with pytest.raises(MlselError, match="pair style of the model itself"):
        overlaid(LENNARD_JONES, LENNARD_JONES)


@pytest.mark.parametrize("kind", ["pair", "schnet", "gap"])
def test_a_model_trained_on_what_a_baseline_leaves(kind: str, tmp_path: Path) -> None:
    """By the command; the sum in LAMMPS is what `predict` says, and --again heeds the baseline."""
    data = write_pool(tmp_path / "train.h5", [pair_frames(12, side=4)])
    words = ["quick", "--data", str(data), "--model", kind, "-o", str(tmp_path / "model")]
    words += [
        word
        for setting in (
            'training.kinds=["schnet","gap","pair"]',
            "training.baseline={zbl=[1.5,3.0],charges={Na=1,Cl=-1}}",
            "training.schnet.max_epochs=2",
            "training.schnet.dtype=float64",
            "training.gap.n_sparse=[8]",
            "training.gap.n_train=2",
        )
        for word in ("--set", setting)
    ]
    assert train(words) == 0
    model = load_model(tmp_path / "model")
    assert isinstance(model, SumModel)
    part = pair_frames(2, seed=5, side=4)
    found = model.predict(part)
    commands = "\n".join(model.lammps_commands(("Na", "Cl")))
    with IncludePotential(commands, ("Na", "Cl")) as together:
        in_lammps = together.evaluate(part.numbers, part.positions, part.cell)
    # what a model's file for LAMMPS rounds to (tables, float32) is tested where it is written
    np.testing.assert_allclose(in_lammps.energy, found.energy, rtol=Tolerance.SIX_DIGITS)
    np.testing.assert_allclose(in_lammps.forces, found.forces, atol=Tolerance.FOUR_DIGITS)
    at = next(k for k, word in enumerate(words) if word.startswith("training.baseline"))
    with pytest.raises(MlselError, match="baseline"):
        train([*words[: at - 1], *words[at + 1 :]])
