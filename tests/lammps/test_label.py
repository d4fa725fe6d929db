"""`mlsel label`: by a LAMMPS include and by ASE's calculators, resumed, and what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from mlsel.core import files
from mlsel.core.errors import MlselError, StageIncomplete
from mlsel.core.lock import RENEWAL
from mlsel.evaluate.measurement import Against
from mlsel.pool.import_command import main as import_main
from mlsel.pool.info import describe
from mlsel.pool.pool import Pool
from mlsel.pool.subset import write_subset
from mlsel.pool.teacher import teacher_of
from mlsel.pool.writer import PoolWriter
from mlsel.refine.label import main
from mlsel.refine.labeller import Label, NotLabelled
from mlsel.study.study import load_study
from mlsel.training.base import Prediction
from mlsel.training.frames import Frames
from mlsel.training.pair.model import PairModel
from mlsel.training.registry import load_model, trainer_named
from mlsel.training.task import Task
from tests.support import Tolerance

FACTORIES = """
from ase.calculators.calculator import (
    Calculator, CalculatorSetupError, PropertyNotImplementedError, SCFError
)
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from pathlib import Path

def emt():
    return EMT()

class Fails(EMT):
    def calculate(self, atoms=None, *more):
        with Path("asked").open("a") as file:
            file.write(f"{atoms.positions[1, 1]!r}\\n")
        if len(Path("asked").read_text().splitlines()) == 3 and not Path("mended").exists():
            raise SCFError("no convergence in 60 steps")
        super().calculate(atoms, *more)

def fails():
    return Fails()

class Hartree(EMT):
    def calculate(self, *words):
        super().calculate(*words)
        self.results["forces"] = self.results["forces"] / 51.422

def hartree():
    return Hartree()

class NoShares(EMT):
    # Its energies are no shares of the energy, where an atom was moved to the right.
    def calculate(self, *words):
        super().calculate(*words)
        if self.atoms.positions[1, 1] > self.atoms.cell[1, 1] / 2:
            self.results["energies"] = self.results["energies"] + 0.25

def no_shares():
    return NoShares()

class ByInput(EMT):
    # Names a stress that it only has where its input asks for one, as ASE's Espresso does.
    def get_property(self, name, atoms=None, allow_calculation=True):
        if name == "stress":
            raise PropertyNotImplementedError("stress")
        return super().get_property(name, atoms, allow_calculation)

def by_input():
    return ByInput()

class EnergyOnly(Calculator):
    implemented_properties = ["energy"]

def energy_only():
    return EnergyOnly()

class Gradients(EMT):
    def calculate(self, *words):
        super().calculate(*words)
        self.results["forces"] = -self.results["forces"]

def gradients():
    return Gradients()

class Sorted(EMT):
    # Of the atoms in the order that an input file wanted.
    def calculate(self, *words):
        super().calculate(*words)
        self.results["forces"] = self.results["forces"][::-1]

def in_another_order():
    return Sorted()

class HartreeEnergies(EMT):
    def calculate(self, *words):
        super().calculate(*words)
        self.results["energy"] /= 27.211

def hartree_energies():
    return HartreeEnergies()

class Fewer(EMT):
    def calculate(self, *words):
        super().calculate(*words)
        self.results["forces"] = self.results["forces"][1:]
        if not Path("asked").exists():
            Path("asked").touch()
            raise SCFError("no convergence, " * 40)

def fewer():
    return Fewer()

def wrong():
    return 3

def raises():
    raise CalculatorSetupError("no executable")
"""
PAIRS = "# species: Cu Au\npair_style lj/cut 5.0\npair_coeff * * 0.4 2.3\npair_modify shift yes\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pool of two kinds of frames, some of it labelled, and a module of factories."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "factories.py").write_text(FACTORIES)
    monkeypatch.delitem(__import__("sys").modules, "factories", raising=False)
    with PoolWriter("frames.h5") as writer:
        for symbol in ("Cu", "Au"):
            atoms = bulk(symbol, cubic=True)
            run = writer.add_run(
                symbol, atoms.numbers, 4, ["positions", "forces"], {"energy": "eV", "mark": ""}
            )
            frames = [atoms.copy() for _ in range(4)]
            for k, frame in enumerate(frames):
                frame.rattle(0.1, seed=k)
                frame.calc = EMT()
            run.append(
                np.arange(4),
                np.arange(4),
                positions=[a.positions for a in frames],
                cell=[a.cell.array for a in frames],
                forces=[a.get_forces() for a in frames],
                energy=[a.get_potential_energy() for a in frames],
                mark=np.arange(4.0),
            )
    return tmp_path


def label(what: str, *more: str) -> int:
    return main(["frames.h5", "-o", "out.h5", "--with", what, *more])


def frames_of(path: str) -> list[tuple[Atoms, dict[str, np.ndarray]]]:
    found = []
    with Pool(path) as pool:
        for frame in range(len(pool)):
            (block,) = pool.blocks(*pool.fields, "cell", frame_ids=[frame])
            atoms = Atoms(
                pool.numbers(block.run), block["positions"][0], cell=block["cell"][0], pbc=True
            )
            found.append((atoms, {field: block[field][0] for field in pool.fields}))
    return found


def test_by_an_ase_calculator(folder: Path) -> None:
    assert label("ase:factories:emt") == 0
    found = frames_of("out.h5")
    assert len(found) == 8
    for (atoms, held), (_, before) in zip(found, frames_of("frames.h5"), strict=True):
        atoms.calc = EMT()
        assert held["energy"] == pytest.approx(
            atoms.get_potential_energy(), rel=Tolerance.SAME_NUMBERS
        )
        np.testing.assert_allclose(held["forces"], atoms.get_forces(), atol=Tolerance.SAME_NUMBERS)
        stress = atoms.get_stress(voigt=False)
        np.testing.assert_allclose(
            held["virial"], -stress * atoms.get_volume(), atol=Tolerance.SAME_NUMBERS
        )
        np.testing.assert_allclose(
            held["atomic_energies"].sum(), held["energy"], rtol=Tolerance.SUMS
        )
        assert held["mark"] == before["mark"]
    assert sorted(path.name for path in folder.glob("*out*")) == ["out.h5"]
    assert label("ase:factories:emt") == 0  # there already
    with pytest.raises(MlselError, match="choose another name"):
        label("ase:factories:hartree")


def test_by_a_lammps_include(folder: Path) -> None:
    Path("pairs.lmp").write_text(PAIRS)
    with PoolWriter("bare.h5") as writer, Pool("frames.h5") as pool:
        for run, block in zip(pool.runs, pool.blocks("positions", "cell"), strict=True):
            made = writer.add_run(run.name, pool.numbers(run), 4, ["positions"])
            made.append(range(4), range(4), positions=block["positions"], cell=block["cell"])
    assert main(["bare.h5", "-o", "out.h5", "--with", "pairs.lmp"]) == 0
    for atoms, held in frames_of("out.h5"):
        atoms.calc = LennardJones(epsilon=0.4, sigma=2.3, rc=5.0)  # ASE shifts it, too
        assert held["energy"] == pytest.approx(atoms.get_potential_energy(), rel=Tolerance.SUMS)
        np.testing.assert_allclose(held["forces"], atoms.get_forces(), atol=Tolerance.SUMS)
        stress = atoms.get_stress(voigt=False)
        np.testing.assert_allclose(
            held["virial"], -stress * atoms.get_volume(), atol=Tolerance.EIGHT_DIGITS
        )


def test_labels_of_an_include_that_was_edited_are_not_its_labels(folder: Path) -> None:
    edited = r"pairs\.lmp was edited since it made the labels of out\.h5"
    include, table = Path("pairs.lmp"), Path("pairs.txt")
    include.write_text(PAIRS.replace("pair_coeff * * 0.4 2.3", "include pairs.txt"))
    table.write_text("pair_coeff * * 0.2 2.3\n")
    assert label("pairs.lmp", "--part", "1/2") == 0
    table.write_text("pair_coeff * * 0.21 2.3\n")
    with pytest.raises(MlselError, match=edited):
        label("pairs.lmp", "--part", "2/2")
    table.write_text("pair_coeff * * 0.2 2.3\n")
    assert label("pairs.lmp", "--part", "2/2") == 0
    assert label("pairs.lmp") == 0  # there already
    for path in (include, table):
        text = path.read_text()
        path.write_text(text + "# edited\n")
        with pytest.raises(MlselError, match=edited):
            label("pairs.lmp")
        path.write_text(text)
    with h5py.File("out.h5", "r+") as file:  # as a version that did not look wrote it
        del file["parameters"].attrs["label_labeller_content"]
    assert label("pairs.lmp") == 0


def test_labels_of_code_that_was_edited_are_not_its_labels(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited = r"ase:factories:emt was edited since it made the labels of out\.h5: set it back"
    assert label("ase:factories:emt", "--part", "1/2") == 0
    module = folder / "factories.py"
    module.write_text(f"{FACTORIES}\nmore = 1\n")
    assert label("ase:factories:emt", "--part", "2/2") == 0  # what runs is what was imported
    monkeypatch.delitem(__import__("sys").modules, "factories")
    with pytest.raises(MlselError, match=edited):
        label("ase:factories:emt")
    module.write_text(FACTORIES)
    monkeypatch.delitem(__import__("sys").modules, "factories")
    assert label("ase:factories:emt") == 0  # there already
    with h5py.File("out.h5", "r+") as file:  # as a version that did not look at code wrote it
        file["parameters"].attrs["label_labeller_content"] = ""
    assert label("ase:factories:emt") == 0


def test_a_calculation_that_fails_is_told_left_out_and_tried_again(folder: Path) -> None:
    with pytest.raises(StageIncomplete, match=r"1 of 8 frames .*frame 2: SCFError: no conv"):
        label("ase:factories:fails")
    with Pool("out.h5") as pool:
        assert pool.values("source_frame").tolist() == [0, 1, 3, 4, 5, 6, 7]
    Path("mended").touch()
    before = Path("asked").read_text().splitlines()
    assert label("ase:factories:fails") == 0
    after = Path("asked").read_text().splitlines()
    assert len(set(after)) == 8, "each frame was asked for"
    assert after[len(before) :] and set(after[len(before) :]) == {before[2]}, "no label twice"
    with Pool("out.h5") as pool:
        assert len(pool) == 8


def test_atomic_energies_that_are_no_shares_are_left_out_and_told(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(MlselError, match="holds no"), Pool("frames.h5") as pool:
        pool.require("atomic_energies")
    moved = [k for k, (a, _) in enumerate(frames_of("frames.h5"))
             if a.positions[1, 1] > a.cell[1, 1] / 2]  # fmt: skip
    assert 0 < len(moved) < 8
    assert label("ase:factories:no_shares") == 0
    with Pool("out.h5") as pool:
        assert pool.partial_fields == ("atomic_energies",)
        for run in pool.runs:
            ids = [f for f in range(8) if pool.locate([f])[0] == run.index]
            assert ("atomic_energies" in pool.fields_of(run)) is not bool(set(ids) & set(moved))
        said = str(pool.attributes["label_left_out"])
    assert said.startswith(
        f"atomic_energies left out of {len(moved)} of 8 frames: its atomic energies do not add up "
        f"to the energy (frame {moved[0]}: "
    )
    sums = [float(word) for word in said.split() if word.replace(".", "").strip("-").isdigit()][-2:]
    assert sums[0] - sums[1] == pytest.approx(4 * 0.25, rel=Tolerance.SIX_DIGITS)
    assert said in caplog.text
    caplog.clear()
    assert label("ase:factories:no_shares") == 0  # there already
    assert said in caplog.text


def test_a_label_that_an_input_would_have_to_ask_for_is_left_out_and_told(folder: Path) -> None:
    assert label("ase:factories:by_input") == 0
    with Pool("out.h5") as pool:
        assert len(pool) == 8 and "virial" not in (*pool.fields, *pool.partial_fields)
        said = pool.attributes["label_left_out"]
    assert said == "virial left out of 8 of 8 frames: the calculator gives none"


@pytest.mark.parametrize("what", ["pairs.lmp", "ase:factories:emt"])
def test_only_frames_periodic_in_all_directions_have_a_virial(folder: Path, what: str) -> None:
    Path("pairs.lmp").write_text(PAIRS)
    atoms = bulk("Cu", cubic=True)
    with PoolWriter("both.h5") as writer:
        for name, periodic in (("bulk", (True,) * 3), ("slab", (True, True, False))):
            run = writer.add_run(name, atoms.numbers, 2, ["positions"], periodic=periodic)
            run.append([0, 1], [0, 1], positions=[atoms.positions] * 2, cell=[atoms.cell.array] * 2)
    assert main(["both.h5", "-o", "out.h5", "--with", what]) == 0
    with Pool("out.h5") as pool:
        assert [("virial" in pool.fields_of(r), all(pool.periodic(r))) for r in pool.runs] == [
            (True, True),
            (False, False),
        ]
        said = pool.attributes["label_left_out"]
    assert said == ("virial left out of 2 of 4 frames: they are not periodic in all directions")


def test_a_frame_that_lammps_gives_up_is_left_out(folder: Path) -> None:
    charged = PAIRS.replace("lj/cut 5.0", "lj/cut/coul/long 5.0") + "set group all charge 0.1\n"
    Path("charged.lmp").write_text(charged + "kspace_style ewald 1e-4\n")
    atoms = bulk("Cu", cubic=True)
    with PoolWriter("both.h5") as writer:
        for name, periodic in (("slab", (True, True, False)), ("bulk", (True,) * 3)):
            run = writer.add_run(name, atoms.numbers, 1, ["positions"], periodic=periodic)
            run.append([0], [0], positions=[atoms.positions], cell=[atoms.cell.array])
    with pytest.raises(StageIncomplete, match=r"1 of 2 .* \(frame 0: Cannot use non-periodic"):
        main(["both.h5", "-o", "out.h5", "--with", "charged.lmp"])
    with Pool("out.h5") as pool:
        assert pool.values("source_frame").tolist() == [1]


def test_a_tail_correction_is_in_no_atoms_energy(folder: Path) -> None:
    Path("tail.lmp").write_text(PAIRS.replace("shift", "tail").replace("0.4", "0.2"))
    assert label("tail.lmp") == 0
    with Pool("out.h5") as pool:
        assert "atomic_energies" not in (*pool.fields, *pool.partial_fields)
        assert "of 8 frames: its atomic energies do not" in pool.attributes["label_left_out"]


def test_parts_together_are_the_whole(folder: Path) -> None:
    assert label("ase:factories:emt", "--part", "1/2") == 0
    assert not Path("out.h5").exists()
    assert label("ase:factories:emt", "--part", "2/2") == 0
    with Pool("out.h5") as pool:
        assert len(pool) == 8


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("ase:factories:hartree", r"the new forces are 0\.0194 times those that frames\.h5 has"),
        (
            "ase:factories:hartree_energies",
            r"on 4 frames differences of the new energies are 0\.0367 times those that frames\.h5",
        ),
        ("ase:factories:gradients", r"the cosine between them is -1\.00, and must be 0\.2"),
        ("ase:factories:in_another_order", r"do not point where those of frames\.h5 do"),
        ("ase:factories:nobody", "can't be imported"),
        ("ase:slip:emt", "can't be imported: SyntaxError: invalid syntax"),
        ("ase:nowhere:emt", "can't be imported"),
        ("ase:factories", "write ase:MODULE:FUNCTION"),
        ("ase:factories:energy_only", "gives energy and no forces"),
        ("ase:factories:wrong", "returned int, which is no ASE calculator"),
        ("ase:factories:raises", r"raised CalculatorSetupError: no executable"),
        ("nowhere.lmp", "there is no such LAMMPS include"),
        ("unsaid.lmp", "does not say of which elements"),
        ("other.lmp", "is for Na, Cl, and a frame holds Cu"),
        ("unknown.lmp", "unknown.lmp names Xx on its line"),
    ],
)
def test_what_cannot_label_is_told(folder: Path, what: str, sentence: str) -> None:
    Path("unsaid.lmp").write_text("pair_style lj/cut 5.0\n")
    Path("other.lmp").write_text("# species: Na Cl\npair_style lj/cut 5.0\n")
    Path("unknown.lmp").write_text("# species: Xx\npair_style lj/cut 5.0\n")
    Path("slip.py").write_text("def emt(:\n")
    with pytest.raises(MlselError, match=sentence) as caught:
        label(what)
    assert len(str(caught.value)) <= 400
    assert not Path("out.h5").exists()


def test_labels_of_other_atoms_are_none_and_many_failures_are_told_in_short(folder: Path) -> None:
    with pytest.raises(StageIncomplete, match=r"8 of 8 .*frame 0: SCFError: no conv") as caught:
        label("ase:factories:fewer")
    assert "forces of the shape (3, 3), where 4 atoms have (4, 3)" in str(caught.value)
    assert len(str(caught.value)) <= 400
    with pytest.raises(MlselError, match="is a folder: give the name of a file"):
        main(["frames.h5", "-o", ".", "--with", "ase:factories:emt"])


@pytest.mark.parametrize("name", ["energy", "forces", "virial", "atomic_energies"])
def test_labels_that_are_no_numbers_are_none(name: str) -> None:
    label = Label(1.0, np.zeros((2, 3)), np.zeros((3, 3)), np.zeros(2))
    label.check(2)
    with pytest.raises(NotLabelled, match=f"{name}: NaN or infinite"):
        Label(**{**vars(label), name: getattr(label, name) * np.nan}).check(2)


# Atomic energies of a trained model


@pytest.fixture
def teacher(folder: Path) -> Path:
    """A pair potential of the frames' elements, and EMT's labels of them in labelled.h5."""
    assert main(["frames.h5", "-o", "labelled.h5", "--with", "ase:factories:emt"]) == 0
    trained = train("labelled.h5", "pair")
    assert trained == Path("pair")
    return trained


def train(data: str, out: str) -> Path:
    from mlsel.training.command import main as train_main

    what = ["--data", data, "--model", "pair", "-o", out, "--set", "training.pair.cutoff=4.5"]
    assert train_main(["quick", *what]) == 0
    return Path(out)


def taught(*more: str, pool: str = "labelled.h5", out: str = "taught.h5") -> int:
    return main([pool, "-o", out, "--atomic-energies-from", "pair", *more])


def test_a_models_atomic_energies_beside_the_frames_own_labels(
    teacher: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert taught() == 0
    model = load_model(teacher)
    for (atoms, held), (_, before) in zip(
        frames_of("taught.h5"), frames_of("labelled.h5"), strict=True
    ):
        frames = Frames(atoms.numbers, atoms.positions[None], atoms.cell.array[None])
        says = model.predict(frames)
        np.testing.assert_allclose(
            held["atomic_energies"], says.atomic_energies[0], atol=Tolerance.SAME_NUMBERS
        )
        assert held.keys() == before.keys()
        for name in held.keys() - {"atomic_energies", "source_frame", "source_run"}:
            np.testing.assert_array_equal(held[name], before[name])
    with Pool("taught.h5") as pool:
        assert teacher_of(pool).startswith("pair (")
        said = pool.attributes["atomic_energies_agreement"]
    assert "their sums differ from the energies by" in said
    assert said in caplog.text
    assert taught() == 0  # there already
    with pytest.raises(MlselError, match="choose another name"):
        main(["labelled.h5", "-o", "taught.h5", "--with", "ase:factories:emt"])


def test_beside_new_labels(teacher: Path) -> None:
    assert taught("--with", "ase:factories:emt", pool="frames.h5") == 0
    with Pool("taught.h5") as pool, Pool("labelled.h5") as labelled:
        np.testing.assert_allclose(
            pool.values("energy"), labelled.values("energy"), rtol=Tolerance.SAME_NUMBERS
        )
        assert "label_left_out" not in pool.attributes
        assert teacher_of(pool)


def test_what_is_chosen_from_it_says_so_and_no_training_takes_it_for_labels(
    teacher: Path,
) -> None:
    assert taught() == 0
    assert import_main(["taught.h5", "pool.h5"]) == 0
    with Pool("pool.h5") as pool:
        write_subset(pool, [1, 3], "set.h5")
    with Pool("set.h5") as data:
        assert teacher_of(data).startswith("pair (")
        assert not Against.of(data, {}).has_atomic
        assert f"atomic_energies_from: {teacher_of(data)}" in "\n".join(describe(data))
    study = load_study("quick", ["training.schnet.atomic_energy_weight=0.1"])
    trainer = trainer_named(study.training, "schnet")
    task = Task("set", Path("set.h5"), None, trainer, None, Path("out"))
    with pytest.raises(MlselError, match=r"are those of the model pair .* and no labels"):
        task.perform(lambda report: None)


def test_teachers_that_cannot_teach_are_told(teacher: Path, monkeypatch: Any) -> None:
    with pytest.raises(MlselError, match=r"--with WHAT .* --atomic-energies-from MODEL"):
        main(["labelled.h5", "-o", "taught.h5"])
    with pytest.raises(MlselError, match="holds no finished model"):
        main(["labelled.h5", "-o", "taught.h5", "--atomic-energies-from", "nowhere"])
    with PoolWriter("silver.h5") as writer:
        run = writer.add_run("a", np.array([47]), 1, ["positions"])
        run.append([0], [0], positions=[[[0, 0, 0]]], cell=[np.eye(3) * 4])
    with pytest.raises(MlselError, match="trained on Cu, Au and cannot say anything of Ag"):
        taught(pool="silver.h5")
    says = PairModel.predict
    cases: list[tuple[Callable[[Prediction], Prediction], str]] = [
        (lambda p: replace(p, atomic_energies=np.zeros((1, 0))), "gives no energy of each atom"),
        (lambda p: replace(p, energy=p.energy + 0.1), "they are no shares of its energy"),
        (lambda p: replace(p, forces=p.forces * 51.4), r"--atomic-energies-from are 5.* times the"),
    ]
    for change, sentence in cases:
        monkeypatch.setattr(PairModel, "predict", lambda *a, c=change: c(says(*a)))
        with pytest.raises(MlselError, match=sentence) as caught:
            taught()
        assert len(str(caught.value)) <= 400
        assert not Path("taught.h5").exists()
    monkeypatch.setattr(PairModel, "predict", lambda *a: replace(
        says(*a), atomic_energies=says(*a).atomic_energies * np.nan))  # fmt: skip
    with pytest.raises(StageIncomplete, match="atomic energies of pair are NaN"):
        taught()


def test_nobody_looks_for_the_lock_while_its_folder_goes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewals = []

    def take_away(*paths: Path) -> None:
        renewals.append([t for t in threading.enumerate() if t.name == RENEWAL])
        files.remove(*paths)

    monkeypatch.setattr(files, "take_away", take_away)
    assert label("ase:factories:emt") == 0
    assert renewals == [[]]
    assert not Path(".out.h5.labels").exists()
