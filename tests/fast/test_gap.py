"""GAP through gap_fit: arguments, memory, the product, and what goes wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mlsel.core.errors import MlselError
from mlsel.core.files import write_json
from mlsel.training.frames import Frames
from mlsel.training.gap.evaluator import open_gap
from mlsel.training.gap.gap_fit import PROGRAM, find_program
from mlsel.training.gap.memory import GIB
from mlsel.training.gap.model import GapModel, xml_label
from mlsel.training.gap.trainer import GapTrainer
from mlsel.training.pair.trainer import PairTrainer
from mlsel.training.task import Task
from tests.support import Tolerance
from tests.support.training_data import frames, write_pool

CHEAP = {"n_max": 3, "l_max": 2, "n_sparse": 10, "cutoff": 4.0, "atom_sigma": 0.6}


def trainer(**changes: Any) -> GapTrainer:
    return GapTrainer(name="gap-10", **{**CHEAP, **changes})


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> GapModel:
    told: list[tuple[float, str]] = []
    maker = trainer(on_report=lambda share, text: told.append((share, text)))
    model = maker.fit([frames(6)], [], tmp_path_factory.mktemp("gap"))
    assert [share for share, _ in told] == sorted({share for share, _ in told})
    assert len(told) > 4 and told[-1][0] > 0.9
    return model


def test_predictions_are_quippys(fitted: GapModel) -> None:
    from ase import Atoms
    from quippy.potential import Potential

    quip = Potential("IP GAP", param_filename=str(fitted.folder / "gap.xml"))
    part = frames(2, seed=4)
    assert open_gap(fitted.folder / "gap.xml") is not None
    prediction = fitted.predict(part)
    for row in range(2):
        atoms = Atoms(part.numbers, part.positions[row], cell=part.cell[row], pbc=True)
        atoms.calc = quip
        limit = Tolerance.ROUNDING
        assert prediction.energy[row] == pytest.approx(atoms.get_potential_energy(), rel=limit)
        np.testing.assert_allclose(prediction.forces[row], atoms.get_forces(), atol=limit)
        np.testing.assert_allclose(prediction.atomic_energies[row], atoms.get_potential_energies())
        again = atoms.copy()
        again.calc = fitted.calculator()
        np.testing.assert_allclose(again.get_stress(), atoms.get_stress(), atol=limit)
    np.testing.assert_allclose(prediction.atomic_energies.sum(1), prediction.energy)


def test_it_learns_something(fitted: GapModel) -> None:
    part = frames(4, seed=8)
    assert part.forces is not None and part.energy is not None
    prediction = fitted.predict(part)
    assert np.std(prediction.forces - part.forces) < 0.5 * np.std(part.forces)
    assert np.abs(prediction.energy - part.energy).max() / part.n_atoms < 0.1


def test_the_product_is_clean_and_says_what_it_is(fitted: GapModel) -> None:
    names = {path.name for path in fitted.folder.iterdir()}
    assert names == {"gap.xml", "gap.json", "gap_fit.log"}
    label = xml_label(fitted.folder / "gap.xml")
    assert fitted.lammps_commands(["Cl", "Na"]) == [
        "pair_style quip",
        f'pair_coeff * * "{(fitted.folder / "gap.xml").resolve()}" '
        f'"Potential xml_label={label}" 17 11',
    ]
    with pytest.raises(MlselError, match="cannot say anything of K"):
        fitted.lammps_commands(["K"])


def test_two_fits_are_the_same_file(fitted: GapModel, tmp_path: Path) -> None:
    again = trainer().fit([frames(6)], [], tmp_path)
    files = [model.folder / "gap.xml" for model in (fitted, again)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_paper_is_in_the_arguments() -> None:
    arguments = GapTrainer(name="gap").arguments({11: -3.7, 17: -3.7})
    soap = next(a for a in arguments if a.startswith("gap="))
    for word in ("n_max=8", "l_max=6", "atom_sigma=0.825", "zeta=4", "cutoff=6.5",
                 "cutoff_transition_width=0.5", "delta=1.0", "n_sparse=1000"):  # fmt: skip
        assert f" {word} " in f"{soap} "
    assert "e0={Na:-3.700000000:Cl:-3.700000000}" in arguments
    assert "default_sigma={0.003 0.1 0 0}" in arguments


def test_a_pair_term_halves_the_error(fitted: GapModel, tmp_path: Path) -> None:
    both = trainer(two_body=True, sparse_method="cur_points")
    (gap,) = (a for a in both.arguments({11: 0.0, 17: 0.0}) if a.startswith("gap="))
    assert gap.startswith("gap={distance_2b cutoff=4.0 ") and " : soap n_max=3 " in gap
    assert gap.endswith("sparse_method=cur_points add_species=T}")
    model = both.fit([frames(6)], [], tmp_path)
    part = frames(4, seed=8)
    assert part.forces is not None
    alone, together = (np.std(m.predict(part).forces - part.forces) for m in (fitted, model))
    assert together < 0.5 * alone
    np.testing.assert_allclose(
        model.predict(part).forces,
        model.predict_with_quippy(part).forces,
        atol=Tolerance.EIGHT_DIGITS,
    )


def test_memory_is_that_of_gap_fit_itself() -> None:
    """What gap_fit printed for 4 × 100 atoms: 44976 derivatives of 953 numbers, 346 MB."""
    assert GapTrainer(name="gap", n_sparse=40)._bytes(4, 400, 44976 // 3, 2) == pytest.approx(
        346e6 + 100 * 2**20, rel=0.01
    )


def test_too_much_memory_is_refused_before_the_start(tmp_path: Path) -> None:
    big = GapTrainer(name="gap", memory_limit=1.2e8)
    with pytest.raises(MlselError, match=r"gap_fit needs about 0.. GiB for 6 frames and this mach"):
        big.fit([frames(6)], [], tmp_path)
    assert not any(tmp_path.iterdir())
    assert GapTrainer(name="gap").memory([frames(6)]) < GIB


def fake(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("kill -9 $$", r"killed by signal 9 \(SIGKILL\), as happens when memory runs out"),
        ("echo SYSTEM ABORT: no such thing; exit 1",
         r"ended with code 1 and left no potential \(SYSTEM ABORT: no such thing\)"),
        ("echo '<GAP_1><Potential label=' > .gap.xml.partial", "is no whole XML file"),
        ("echo '<GAP_1/>' > .gap.xml.partial", "is no GAP: it has no labelled Potential"),
    ],
)  # fmt: skip
def test_failures_of_gap_fit_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    monkeypatch.setenv(PROGRAM, fake(tmp_path / "gap_fit", body))
    with pytest.raises(MlselError, match=said):
        trainer().fit([frames(2)], [], tmp_path / "out")
    assert not (tmp_path / "out" / "gap.xml").exists()


def test_a_missing_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROGRAM, str(tmp_path / "nowhere"))
    with pytest.raises(MlselError, match=f"gap_fit is not at .*nowhere: set {PROGRAM}"):
        find_program()


def test_other_elements_are_refused(fitted: GapModel) -> None:
    part = frames(1)
    with pytest.raises(MlselError, match="cannot say anything of Mg, Ar"):
        fitted.predict(Frames(part.numbers + 1, part.positions, part.cell))
    with pytest.raises(MlselError, match="holds no GAP"):
        GapModel.load(fitted.folder.parent / "nowhere")


def strained_copper(n: int, seed: int) -> Frames:
    """Strained and shaken copper with EMT's labels; ASE's stress is positive in tension."""
    from ase.build import bulk
    from ase.calculators.emt import EMT

    rng, made = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True)
        strain = np.diag(0.03 * rng.uniform(-1, 1, 3)) + 0.03 * rng.uniform(-1, 1, (3, 3))
        atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
        atoms.rattle(0.1, rng=rng)
        atoms.calc = EMT()
        made.append(atoms)
    return Frames(
        made[0].numbers,
        np.array([atoms.positions for atoms in made]),
        np.array([atoms.cell[:] for atoms in made]),
        energy=np.array([atoms.get_potential_energy() for atoms in made]),
        forces=np.array([atoms.get_forces() for atoms in made]),
        virial=np.array([-atoms.get_volume() * atoms.get_stress(voigt=False) for atoms in made]),
    )


def test_virials_make_the_stress_better(tmp_path: Path) -> None:
    train, test = strained_copper(12, 1), strained_copper(20, 2)
    assert test.virial is not None
    errors = []
    for sigma in (0.0, 0.02):
        maker = GapTrainer("gap", n_sparse=30, n_max=4, l_max=3, cutoff=4.5, virial_sigma=sigma)
        virial = maker.fit([train], [], tmp_path / f"{sigma}").predict(test).virial
        assert virial is not None
        errors.append(np.std(virial - test.virial))
    # A virial of the wrong sign, which has happened to others, would make them worse.
    assert errors[1] < 0.7 * errors[0]


def test_virials_that_nobody_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MlselError, match="none of the 4 training frames has a virial"):
        trainer(virial_sigma=0.02).fit([frames(4)], [], tmp_path / "gap")


def test_isolated_atoms_are_the_references(tmp_path: Path) -> None:
    """e0 is theirs where the data set has one for every element, and an older fit is stale."""
    data, out = write_pool(tmp_path / "data.h5", [frames(4)]), tmp_path / "gap"
    names = ("gap", "pair")
    tasks = [
        Task("data", data, None, maker, None, tmp_path / name)
        for name, maker in zip(names, (trainer(), PairTrainer()), strict=True)
    ]
    for task in tasks:  # as an earlier mlsel left them
        task.out.mkdir()
        made_from = task.made_from()
        assert made_from.pop("references") == {"from": "least squares"}
        write_json(task.out / "model.json", made_from)
    give_references(data, {11: -1.5})
    assert all(task.is_done() for task in tasks)
    give_references(data, {11: -1.5, 17: -2.25, 29: -3.0})
    assert tasks[1].is_done()
    with pytest.raises(MlselError, match="references"):
        tasks[0].is_done()
    assert not tasks[0].is_done(again=True)
    tasks[0].perform(lambda _: None)
    told = json.loads((out / "model.json").read_text())
    assert told["references"] == {"from": "isolated atoms", "energies": {"11": -1.5, "17": -2.25}}
    assert json.loads((out / "gap.json").read_text())["reference_energies"] == {
        "11": -1.5,
        "17": -2.25,
    }
    e0 = re.findall(r'e0 Z="(\d+)" value="([^"]+)"', (out / "gap.xml").read_text())
    assert {int(z): float(e) for z, e in e0 if float(e)} == {11: -1.5, 17: -2.25}
    assert tasks[0].is_done()


def give_references(path: Path, energies: dict[int, float]) -> None:
    with h5py.File(path, "r+") as file:
        file["parameters"].pop("element_references", None)
        group = file["parameters"].create_group("element_references")
        group["species"], group["energy"] = list(energies), list(energies.values())
