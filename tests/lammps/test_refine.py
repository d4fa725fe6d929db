"""`mlsel refine`: rounds of MD, labels and training, resumed, and what goes wrong."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlsel.core.arrays import FloatArray
from mlsel.core.errors import MlselError
from mlsel.core.parallel import world
from mlsel.md import deck
from mlsel.md.include import Evaluation, IncludePotential
from mlsel.pool.pool import Pool
from mlsel.pool.subset import write_subset
from mlsel.pool.writer import PoolWriter
from mlsel.refine.bounds import Held, Watch
from mlsel.refine.exploration import ExplorationRun, FrameWatcher, Lost
from mlsel.refine.harvest import check_method, harvest
from mlsel.refine.rounds import Refinement
from mlsel.refine.stage import refine_study
from mlsel.refine.state import items
from mlsel.refine.table import read
from mlsel.report.stage import write_report
from mlsel.selection import make_selector
from mlsel.selection.stage import select_study
from mlsel.study.folder import StudyFolder
from mlsel.study.study import Study, load_study
from mlsel.training.frames import read_frames
from mlsel.training.registry import load_model
from mlsel.training.stage import train_study
from tests.support import TINY_STUDY, Tolerance, run_mlsel, write_study
from tests.support.crash_points import Trial, contents

# Bounds so narrow that a sound model meets them, too.
REFINE = """
[selection]
methods = ["random"]
test_methods = ["random"]
n_train = 12
n_validation = 2
n_test = 4
[training]
kinds = ["pair"]
[refine]
models = ["random/pair"]
temperatures = [2600]
replicas = 2
duration = 0.1
checkpoint_interval = 0.05
sampling_interval = 10
near = 1.0
force = 1.0
labels = 3
labels_per_round = 2
rounds = 2
method = "random"
"""


CALCULATOR = """
from ase.calculators.calculator import Calculator
from mlsel.md.deck import read_potential
from mlsel.md.include import IncludePotential

class Salt(Calculator):
    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=(), changes=()):
        species = "Na", "Cl"
        with IncludePotential(read_potential("nacl-tosi-fumi", species), species) as potential:
            found = potential.evaluate(atoms.numbers, atoms.positions[None], atoms.cell[None])
        self.results = {"energy": found.energy[0], "forces": found.forces[0]}

def make():
    return Salt()
"""


@pytest.fixture(scope="module")
def trained(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pool, a data set and a pair potential."""
    folder = tmp_path_factory.mktemp("refine") / "tiny"
    shutil.copytree(tiny_folder, folder)
    study = load(folder.parent)
    select_study(study, folder, world())
    train_study(study, folder, world())
    return folder


def load(folder: Path, *overrides: str) -> Study:
    return load_study(str(write_study(folder, TINY_STUDY + REFINE)), overrides)


def copied(trained: Path, folder: Path) -> Path:
    shutil.copytree(trained, folder / "tiny")
    return folder / "tiny"


def test_rounds_label_and_learn_what_is_new(trained: Path, tmp_path: Path) -> None:
    folder = copied(trained, tmp_path)
    study = load(tmp_path)
    refine_study(study, folder, world())
    place = folder / "refine/random/pair"
    assert json.loads((place / "outcome.json").read_text())["labels"] == 3  # the budget
    species = ("Na", "Cl")
    reference = IncludePotential(deck.read_potential("nacl-tosi-fumi", species), species)
    for k, n_new, n_all in ((1, 2, 14), (2, 1, 15)):
        found = json.loads((place / f"round-{k}/round.json").read_text())
        assert found["n_labelled"] == n_new
        with Pool(place / f"round-{k}/data.h5") as pool:
            assert pool.n_frames == n_all
            new = np.arange(n_all - n_new, n_all)
            for block in pool.blocks("positions", "cell", "energy", "forces", frame_ids=new):
                says = reference.evaluate(
                    pool.numbers(block.run), block["positions"], block["cell"]
                )
                assert block["energy"] == pytest.approx(says.energy, abs=Tolerance.SUMS)
                assert block["forces"] == pytest.approx(says.forces, abs=Tolerance.SUMS)
        assert (place / f"round-{k}/model/model.json").is_file()
    lines = (folder / "refine/refine.csv").read_text().splitlines()
    assert [line.split(",")[1:3] for line in lines[1:]] == [["1", "0"], ["2", "2"], ["3", "3"]]
    before = contents(folder)
    refine_study(study, folder, world())
    assert contents(folder) == before
    (item,) = items(study, folder)
    ended = "budget spent after 3 rounds, 3 labels; shortest run 0.1 ps, now 0.1 ps"
    assert (item.state, item.text) == ("done", ended)
    with Pool(folder / "data/test.h5") as pool:
        (part,) = read_frames(pool)
        off = load_model(place / "round-1/model").predict(part).forces - np.asarray(part.forces)
    (course,) = read(folder)
    assert course.rmse[1] == pytest.approx((off**2).mean() ** 0.5, rel=Tolerance.SEVEN_DIGITS)
    assert course.max[1] == pytest.approx(np.abs(off).max(), rel=Tolerance.SEVEN_DIGITS)
    assert (course.labels, course.ended, course.method) == ((0, 2, 3), "budget spent", "random")
    text = write_report(folder).read_text(encoding="utf-8")
    assert "From random 0 of 1 became stable (1 seed: no order of methods can be told)." in text
    assert (folder / "figures/labels-spent.svg").is_file()


def test_errors_are_of_the_test_set_that_there_is(trained: Path, tmp_path: Path) -> None:
    folder = copied(trained, tmp_path)
    wide = ("refine.near=0.8", "refine.force=5", "refine.temperatures=[1300]")
    study = load(tmp_path, *wide)
    refine_study(study, folder, world())
    place, test = StudyFolder(folder), folder / "data/test.h5"
    errors = place.refinement("random/pair") / "round-1/errors.json"
    of_first, (course,) = json.loads(errors.read_text()), read(folder)
    assert course.rmse == (of_first["rmse"],)
    with Pool(place.pool) as pool:
        write_subset(pool, [5, 1], test)
    assert np.isnan([*read(folder)[0].rmse, *read(folder)[0].max]).all()  # for the report
    (item,) = items(study, folder)
    assert item.state == "begun" and item.text.startswith("its errors are of another test set")
    refine_study(study, folder, world())
    with Pool(test) as pool:
        (part,) = read_frames(pool)
        digest = pool.digest
    off = load_model(place.model("random/pair")).predict(part).forces - np.asarray(part.forces)
    (course,) = read(folder)
    assert course.rmse == pytest.approx([(off**2).mean() ** 0.5], rel=Tolerance.SEVEN_DIGITS)
    assert json.loads(errors.read_text())["test"] == digest
    assert f"{course.rmse[0]:.4g}"[:5] in place.refined.read_text()
    assert items(study, folder)[0].state == "done"
    test.unlink()  # what is not here has not changed
    assert items(study, folder)[0].state == "done" and read(folder) == [course]
    del of_first["test"]  # as a version wrote it that did not say
    errors.write_text(json.dumps(of_first))
    assert read(folder)[0].rmse == (of_first["rmse"],)


def test_a_refinement_from_before_a_key_goes_on(trained: Path, tmp_path: Path) -> None:
    study = load(tmp_path)
    refinement = Refinement(study, copied(trained, tmp_path), "random/pair")
    made_from = refinement.made_from()
    before = {key: value for key, value in made_from["refine"].items() if key != "watch"}
    refinement.record.write({**made_from, "refine": before})
    assert refinement.record.settle(made_from)


def test_after_the_last_round_nothing_is_chosen(trained: Path, tmp_path: Path) -> None:
    folder = copied(trained, tmp_path)
    study = load(tmp_path, "refine.rounds=1", "refine.labels=10", "training.core=zbl")
    train_study(study, folder, world())  # puts the guard rail beside the model that is there
    refine_study(study, folder, world())
    place = folder / "refine/random/pair"
    ended = json.loads((place / "outcome.json").read_text())
    assert (ended["ended"], ended["rounds"], ended["labels"]) == ("rounds done", 2, 2)
    assert json.loads((place / "round-2/round.json").read_text())["n_labelled"] == 0
    assert not (place / "round-2/found.h5").exists()
    assert (place / "round-1/model/core.json").is_file()  # the guard rail goes with each model


def test_nothing_new_is_stable(trained: Path, tmp_path: Path) -> None:
    folder = copied(trained, tmp_path)
    wide = ("refine.near=0.8", "refine.force=5", "refine.temperatures=[1300]")
    refine_study(load(tmp_path, *wide), folder, world())
    place = folder / "refine/random/pair"
    assert json.loads((place / "outcome.json").read_text()) == {
        "format_version": 1, "ended": "stable", "labels": 0, "rounds": 1,
    }  # fmt: skip
    with pytest.raises(MlselError, match=r"refine\.near \(0\.8 there, 1\.0 now\)"):
        refine_study(load(tmp_path), folder, world())


def test_rounds_of_an_include_that_was_edited_are_refused(trained: Path, tmp_path: Path) -> None:
    folder, include = copied(trained, tmp_path), tmp_path / "mine.lmp"
    text = "# species: Na Cl\n" + deck.read_potential("nacl-tosi-fumi", ("Na", "Cl"))
    include.write_text(text)
    wide = ("refine.near=0.8", "refine.force=5", "refine.temperatures=[1300]")
    study = load(tmp_path, *wide, f'refine.labeller="{include}"')
    refine_study(study, folder, world())
    include.write_text(text.replace("0.317", "0.318"))
    assert "labeller_content" in items(study, folder)[0].text
    with pytest.raises(MlselError, match=r"made otherwise .*labeller_content"):
        refine_study(study, folder, world())


def test_rounds_of_code_that_was_edited_are_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, module = copied(trained, tmp_path), tmp_path / "mine_ase.py"
    module.write_text(CALCULATOR)
    monkeypatch.syspath_prepend(tmp_path)
    wide = ("refine.near=0.8", "refine.force=5", "refine.temperatures=[1300]")
    study = load(tmp_path, *wide, "refine.labeller=ase:mine_ase:make")
    refine_study(study, folder, world())
    settings = folder / "refine/random/pair/settings.json"
    written = json.loads(settings.read_text())
    assert items(study, folder)[0].state == "done"
    module.write_text(f"{CALCULATOR}# edited\n")
    monkeypatch.delitem(sys.modules, "mine_ase")
    assert "labeller_code" in items(study, folder)[0].text
    with pytest.raises(MlselError, match=r"made otherwise .*labeller_code"):
        refine_study(study, folder, world())
    del written["labeller_code"]  # as a version that did not look at code wrote it
    settings.write_text(json.dumps({**written, "labeller_content": ""}))
    assert items(study, folder)[0].state == "done"
    monkeypatch.delitem(sys.modules, "mine_ase")
    module.unlink()  # as in a copy of the folder on another machine
    settings.write_text(json.dumps({**written, "labeller_code": "of another"}))
    assert items(study, folder)[0].state == "done"


@pytest.mark.parametrize("method", ["force", "atomic-energy", "global-energy"])
def test_methods_that_choose_by_labels_see_what_the_model_says(
    method: str, trained: Path, tmp_path: Path
) -> None:
    data, model = trained / "data/random.h5", trained / "models/random/pair"
    with Pool(data) as pool:
        (part,) = read_frames(pool, range(6))
        check_method(method, pool)
    said = load_model(model).predict(part)
    run = SimpleNamespace(folder=Path("run"), numbers=tuple(part.numbers.tolist()))
    harvest([(run, part.positions, part.cell)], 3, method, 7, data, model, tmp_path / "found.h5")  # type: ignore[list-item]
    with PoolWriter(tmp_path / "said.h5") as writer:
        of_atoms = ["positions", "forces", "atomic_energies"]
        made = writer.add_run("run", part.numbers, 6, of_atoms, {"energy": "eV"})
        labels = {name: getattr(said, name) for name in ("energy", *of_atoms[1:])}
        made.append(range(6), range(6), positions=part.positions, cell=part.cell, **labels)
    with Pool(tmp_path / "said.h5") as pool, Pool(data) as given:
        expected = make_selector(method).select(pool, 3, 7, given=given).frame_ids
    with Pool(tmp_path / "found.h5") as found:
        assert set(found.fields) == {"positions", "source_frame", "source_run"}
        assert found.values("source_frame").tolist() == expected.tolist()
    assert not (tmp_path / "new.h5").exists()


def refused(trained: Path, folder: Path, *overrides: str) -> str:
    with pytest.raises(MlselError) as caught:
        refine_study(load(folder, *overrides), copied(trained, folder), world())
    assert len(str(caught.value)) <= 400
    assert not (folder / "tiny/refine/random/pair/known-labelled.h5").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("refine.method='committee'", "which looks at more than new frames and"),
        ("refine.method='forces'", "there is no method forces (did you mean force?)"),
        ("refine.watch={ sigma = 0.1 }", "which tells none of them"),
        ("training.pair.cutoff=5.0", "made otherwise than the study now says: parameters.cutoff"),
        ("refine.duration=0.001", "refine.duration is 1 steps and refine.sampling_interval 10"),
        ("refine.labeller='other.lmp'", "gives a training frame an energy +0.5 eV/atom from that"),
    ],
)
def test_what_would_end_a_round_is_told_first(
    override: str, sentence: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = deck.read_potential("nacl-tosi-fumi", ("Na", "Cl"))
    (tmp_path / "other.lmp").write_text(f"# species: Na Cl\n{text}\npair_modify shift no\n")
    evaluate = IncludePotential.evaluate

    def shifted(self: IncludePotential, numbers: Any, *words: Any) -> Evaluation:
        found = evaluate(self, numbers, *words)
        return replace(found, energy=found.energy + 0.5 * len(numbers))

    monkeypatch.setattr(IncludePotential, "evaluate", shifted)
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(trained, tmp_path, override)


def test_a_run_that_is_lost_at_once_offers_nothing(tmp_path: Path) -> None:
    watch = Watch(Held(np.full(3, 0.1), 1e3), ("Na", "Cl"), 0.9, 1.5, 0.5, 1.1, 1.5)
    run = ExplorationRun(tmp_path, tmp_path, load(tmp_path), watch, 2000.0, None, 1, (11, 17))
    with run.recording(SimpleNamespace(step=0), 0, lambda steps: None):  # type: ignore[arg-type]
        raise Lost("a pair Na-Na at 0.01 Å")
    run.perform(world(), lambda steps: None)
    outcome = json.loads(run.product.read_text())
    assert (outcome["time"], outcome["n_new"], outcome["ended_by"]) == (
        0.0, 0, "a pair Na-Na at 0.01 Å",
    )  # fmt: skip
    assert [part.shape for part in run.new_frames()] == [(0, 2, 3), (0, 3, 3)]


def prepared(trained: Path, folder: Path) -> Callable[[], object]:
    here = copied(trained, folder)
    study = load(folder, "refine.rounds=1", "refine.replicas=1")
    return lambda: refine_study(study, here, world())


def test_killed_and_started_again(trained: Path, tmp_path: Path) -> None:
    assert Trial(partial(prepared, trained), tmp_path).kills(2) >= 2


@pytest.mark.slow
def test_killed_at_all_points(trained: Path, tmp_path: Path) -> None:
    trial = Trial(partial(prepared, trained), tmp_path)
    assert trial.kills() >= len(trial.points)
    assert trial.refusals(20) >= 20


def test_a_run_that_warms_up_is_not_lost(trained: Path, tmp_path: Path) -> None:
    study = load(tmp_path, "refine.timestep=2.0", "refine.thermostat_time=0.1")
    watch = Watch(Held(np.full(3, 0.1), 1e3, (400.0, 500.0)), ("Na", "Cl"), 0.9, 1.5, 0.5, 1.1, 1.5)
    run = ExplorationRun(tmp_path, tmp_path, study, watch, 2000.0, None, 1, (11, 17))
    kept = []

    def keep(step: int, temperature: float, edge: float = 10.0) -> None:
        session = SimpleNamespace(
            step=step,
            thermo=lambda: {"Temp": temperature, "PotEng": -7.0, "Fmax": 1.0},
            cell=lambda: edge * np.eye(3),
            unwrapped_positions=lambda: np.array([[0.0, 0, 0], [3.0, 0, 0]]),
        )
        rows = SimpleNamespace(add=lambda *row: kept.append(row))
        FrameWatcher(run, session, rows, lambda steps: None)._keep()  # type: ignore[arg-type]

    keep(999, 700.0)  # 2 ps
    for step, temperature in ((1000, 700.0), (10, 4100.0)):
        with pytest.raises(Lost, match=r"\(bounds 1000 and 4000 K\)"):
            keep(step, temperature)
    with pytest.raises(Lost, match=r"a volume of 864 Å³/atom \(400 to 500"):
        keep(2000, 2000.0, 12.0)
    assert len(kept) == 1


@pytest.mark.parametrize("growth", [1.03, 1 / 1.03])
def test_a_box_that_grows_or_shrinks_is_harvested_and_ends(growth: float, tmp_path: Path) -> None:
    """What neither distances nor forces see, in a trajectory whose volumes are known."""
    study = load(tmp_path, "refine.volume=1.2", "refine.lost_volume=1.5")
    watch = Watch(Held(np.full(3, 0.1), 1e3, (7.5, 7.5)), ("Na", "Cl"), 0.9, 1.5, 0.5, 1.2, 1.5)
    run = ExplorationRun(tmp_path, tmp_path / "run", study, watch, 2000.0, 1.0, 1, (11, 17))
    run.folder.mkdir()
    volumes = 15 * growth ** np.arange(50.0)

    class Session:
        step = 0

        def run(self, n: int, setup: bool = True) -> None:
            self.step += n

        def thermo(self) -> dict[str, float]:
            return {"Temp": 2000.0, "PotEng": -7.0, "Fmax": 1.0}

        def cell(self) -> FloatArray:
            edge = float(np.cbrt(volumes[self.step // run.interval - 1]))
            return edge * np.eye(3)

        def unwrapped_positions(self) -> FloatArray:
            return np.array([[0.0, 0, 0], [1.2, 0, 0]])

    with run.recording(Session(), 0, lambda steps: None) as watcher:  # type: ignore[arg-type]
        watcher.advance("run", 50 * run.interval)
    run.perform(world(), lambda steps: None)
    outcome = json.loads(run.product.read_text())
    beyond = np.abs(np.log(volumes / 15))
    last = volumes[np.argmax(beyond > np.log(1.5))] / 2
    told = "Å³/atom (7.5 to 7.5 Å³/atom in the training set)"
    assert outcome["ended_by"] == f"a volume of {last:.3g} {told}"
    new = volumes[(beyond > np.log(1.2)) & (beyond < np.log(1.5))]
    assert outcome["n_new"] == len(new) == 7
    assert outcome["first_new"] == f"a volume of {new[0] / 2:.3g} {told}"
    _, cells = run.new_frames()
    assert np.linalg.det(cells) == pytest.approx(new)


def test_volumes_and_images_count_where_frames_are_periodic(tmp_path: Path) -> None:
    with PoolWriter(tmp_path / "both.h5") as writer:
        for name, edge, periodic in (("bulk", 4.0, True), ("molecule", 3.0, False)):
            run = writer.add_run(
                name, np.array([11, 17]), 1, ["positions", "forces"], periodic=(periodic,) * 3
            )
            places = np.array([[[0.0, 0, 0], [0, 0, 2.5]]])
            run.append([0], [0], positions=places, cell=[edge * np.eye(3)], forces=places)
    held = Held.of(tmp_path / "both.h5", ("Na", "Cl"))
    assert held.volumes == pytest.approx((32.0, 32.0))
    assert held.closest.tolist() == [np.inf, 1.5, np.inf]


def test_what_the_training_set_holds(trained: Path) -> None:
    data = trained / "data/random.h5"
    held = Held.of(data, ("Na", "Cl"))
    with Pool(data) as pool:
        (block,) = pool.blocks("positions", "cell", "forces")
        assert held.force == np.abs(block["forces"]).max()
        volumes = np.linalg.det(block["cell"]) / 64
        assert held.volumes == pytest.approx((volumes.min(), volumes.max()))
        x, cell = block["positions"], block["cell"]
        numbers = pool.numbers(block.run)
    # all images within one cell, atom by atom
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 3)
    shortest = np.inf
    for frame in range(len(x)):
        apart = x[frame][:, None] - x[frame][None]
        d = np.linalg.norm(apart[..., None, :] + shifts @ cell[frame], axis=-1).min(-1)
        shortest = min(shortest, d[numbers == 11][:, numbers == 17].min())
    assert held.closest[1] == pytest.approx(shortest, abs=Tolerance.SAME_NUMBERS)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("refine.models=['force/*']", 'refine.models names "force/*", and the trained models'),
        ("refine.lost=1.0", "refine.lost is 1 and refine.near 1"),
        ("refine.lost_volume=1.05", "refine.lost_volume is 1.05 and refine.volume 1.1"),
        ("refine.labels=0", "refine.labels is 0"),
        ("refine.labeller=ase:nowhere:make", "can't be imported"),
        ("refine.labeller=missing.lmp", "no such LAMMPS include"),
    ],
)
def test_bad_input(override: str, sentence: str, trained: Path, tmp_path: Path) -> None:
    write_study(tmp_path, TINY_STUDY + REFINE)
    ended = run_mlsel("refine", "tiny.toml", "-o", copied(trained, tmp_path), "--set", override,
                      cwd=tmp_path)  # fmt: skip
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()[-1]) <= 420
