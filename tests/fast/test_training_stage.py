"""The stages training and evaluate, as commands and as functions."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsel.core.errors import MlselError
from mlsel.core.parallel import world
from mlsel.evaluate.measurement import Against, measure, read_errors
from mlsel.evaluate.models import find_models
from mlsel.evaluate.stage import evaluate
from mlsel.evaluate.statistics import frame_errors
from mlsel.evaluate.tables import table
from mlsel.pool.pool import Pool
from mlsel.study.study import Study, load_study
from mlsel.training.command import main
from mlsel.training.frames import Frames
from mlsel.training.registry import kind_module, load_model, trainer_named, trainers
from mlsel.training.stage import tasks_of, train_study
from tests.support import Tolerance
from tests.support.training_data import frames, write_pool

OVERRIDES = (
    'selection.methods=["random","force"]',
    "learning.n=[]",
    'training.schnet.sizes=["small"]',
    "training.schnet.energy_weights=[0.01]",
    "training.schnet.n_train=6",
    "training.schnet.cutoff=4.0",
    "training.schnet.max_epochs=2",
    "training.gap.n_train=3",
    "training.gap.n_sparse=[8]",
    "training.gap.n_max=3",
    "training.gap.l_max=2",
    "training.gap.cutoff=4.0",
    "training.pair.cutoff=4.0",
)
N_TEST = 10


def study(*more: str) -> Study:
    return load_study("quick", [*OVERRIDES, *more])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder with data sets, trained and evaluated."""
    path = tmp_path_factory.mktemp("study")
    write_pool(path / "data" / "random.h5", [frames(8)])
    write_pool(path / "data" / "random-validation.h5", [frames(3, seed=2)])
    write_pool(path / "data" / "force.h5", [frames(8, seed=3)])
    parts = json.dumps([{"method": m, "n": N_TEST // 2} for m in ("random", "force")])
    write_pool(path / "data" / "test.h5", [frames(6, seed=4), frames(4, seed=5)], parts=parts)
    train_study(study(), path, world())
    evaluate(study(), path, world())
    return path


def test_every_model_of_every_data_set_is_there(folder: Path) -> None:
    made = {str(p.parent.relative_to(folder)) for p in folder.glob("models/*/*/model.json")}
    names = ("schnet-small-e0.01", "gap-8-f0.1", "pair")
    assert made == {f"models/{d}/{n}" for d in ("random", "force") for n in names}
    description = json.loads((folder / "models/random/schnet-small-e0.01/model.json").read_text())
    with Pool(folder / "data" / "random.h5") as pool:
        assert description["data"]["digest"] == pool.digest
    assert description["data"]["n_frames"] == 6
    assert "validation_digest" in description["data"]
    assert description["versions"].keys() >= {"mlsel", "torch", "schnetpack"}
    assert (folder / "models/random/schnet-small-e0.01/learning.png").is_file()


def test_models_that_max_epochs_stopped_are_marked(folder: Path) -> None:
    """In `mlsel status`, in the table of `mlsel evaluate`, and on the page."""
    from mlsel.report.stage import write_report
    from mlsel.training.state import items

    said = {item.name: item.text for item in items(study(), folder)}
    assert said["random/schnet-small-e0.01"] == "stopped at max_epochs (2)"
    assert said["random/pair"] == said["force/gap-8-f0.1"] == ""
    page = write_report(folder).read_text(encoding="utf-8")
    assert page.count("▲ stopped at max_epochs (2): not converged") == 2
    assert "2 of 2 models that learn in epochs were stopped at max_epochs" in page


def test_nothing_is_done_twice_and_stale_models_are_named(folder: Path) -> None:
    assert all(task.is_done() for task in tasks_of(study(), folder))
    changed = tasks_of(study("training.schnet.seed=5"), folder)
    stale = next(task for task in changed if task.name == "random/schnet-small-e0.01")
    with pytest.raises(MlselError, match=r"parameters.seed \(1 there, 5 now\)"):
        stale.is_done()


def test_models_open_by_their_folder(folder: Path) -> None:
    part = frames(2, seed=7)
    for path in sorted(folder.glob("models/random/*")):
        model = load_model(path)
        prediction = model.predict(part)
        assert prediction.forces.shape == (2, 8, 3)
        np.testing.assert_allclose(prediction.atomic_energies.sum(1), prediction.energy)
        assert model.lammps_commands(["Na", "Cl"])[0].startswith("pair_style ")
    with pytest.raises(MlselError, match="holds no finished model"):
        load_model(folder)


def test_errors_csv_is_a_plain_computation(folder: Path) -> None:
    """Every number of a model in errors.csv again, from all forces at once."""
    with (folder / "evaluation" / "errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with Pool(folder / "data" / "test.h5") as pool:
        tests = [
            Frames(
                pool.numbers(b.run),
                b["positions"],
                b["cell"],
                (True,) * 3,
                b["energy"],
                b["forces"],
            )
            for b in pool.blocks("positions", "cell", "energy", "forces")
        ]
        known = np.concatenate([b["atomic_energies"] for b in pool.blocks("atomic_energies")])
    for name in ("schnet-small-e0.01", "gap-8-f0.1", "pair"):
        model = load_model(folder / "models" / "force" / name)
        answers = [model.predict(part) for part in tests]
        f = np.concatenate([part.forces for part in tests if part.forces is not None])
        g = np.concatenate([answer.forces for answer in answers])
        e = np.concatenate([part.energy for part in tests if part.energy is not None]) / 8
        d = np.concatenate([answer.energy for answer in answers]) / 8
        numbers = tests[0].numbers
        atomic = np.concatenate([answer.atomic_energies for answer in answers]) - known
        for z in (11, 17):  # a constant of an element is no error
            atomic[:, numbers == z] -= atomic[:, numbers == z].mean()
        checked = 0
        for row in rows:
            if (row["dataset"], row["model"]) != ("force", name):
                continue
            half = N_TEST // 2
            which = {"all": slice(None), "random": slice(half), "force": slice(half, None)}
            part = which[row["part"]]
            atoms = numbers == {"Na": 11, "Cl": 17}.get(row["element"], numbers)
            a, b = f[part][:, atoms], g[part][:, atoms]
            error: Any = {
                "force_component": np.abs(a - b),
                "force_magnitude": np.abs(np.linalg.norm(a, axis=-1) - np.linalg.norm(b, axis=-1)),
                "force_vector": np.linalg.norm(a - b, axis=-1),
                "energy_per_atom": np.abs(e - d)[part],
                "atomic_energy": np.abs(atomic[part][:, atoms]),
            }[row["quantity"]]
            assert int(row["n"]) == error.size
            assert float(row["max"]) == pytest.approx(error.max(), rel=Tolerance.FIVE_DIGITS)
            if row["quantity"] == "atomic_energy":
                assert np.isnan(float(row["mae"]))
            else:
                assert float(row["mae"]) == pytest.approx(error.mean(), rel=Tolerance.FIVE_DIGITS)
            assert float(row["rmse"]) == pytest.approx(
                np.sqrt((error**2).mean()), rel=Tolerance.FIVE_DIGITS
            )
            checked += 1
        assert checked == 3 * (3 * 3 + 1 + 3)


def test_the_worst_frames_are_named(folder: Path) -> None:
    with (folder / "evaluation" / "worst.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == "gap-8-f0.1"]
    own = [row for row in rows if row["dataset"] == "random"]
    assert sorted(int(row["frame_id"]) for row in own) == list(range(N_TEST))
    sizes = [float(row["force_vector_error_eV_per_A"]) for row in own]
    assert sizes == sorted(sizes, reverse=True)
    assert own[0]["part"] == ("random" if int(own[0]["frame_id"]) < N_TEST // 2 else "force")


def test_figures_are_drawn(folder: Path) -> None:
    for name in ("figure-2", "random/gap-8-f0.1", "force/schnet-small-e0.01"):
        for kind in ("svg", "png"):
            assert (folder / "evaluation" / f"{name}.{kind}").stat().st_size > 5000
    from mlsel.evaluate.figure import draw

    with pytest.raises(MlselError, match="has no part energy: it has all, random, force"):
        draw(folder / "evaluation" / "errors.csv", folder / "x", part="energy")


def test_networks_share_the_neighbours_of_kept_frames(folder: Path) -> None:
    bare = frames(6, seed=4).unlabelled()
    kept: dict[Any, Any] = {}
    for dataset in ("random", "force", "random"):
        model = load_model(folder / "models" / dataset / "schnet-small-e0.01")
        shared, alone = model.predict(replace(bare, kept=kept)), model.predict(bare)
        np.testing.assert_array_equal(shared.forces, alone.forces)
        np.testing.assert_array_equal(shared.atomic_energies, alone.atomic_energies)
    assert len(kept) == 1


def test_an_interrupted_evaluation_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlsel.evaluate.stage as module

    product = folder / "evaluation" / "random" / "schnet-small-e0.01.h5"
    before = read_errors(product)[0]
    product.unlink()
    monkeypatch.setattr(module, "CHUNK", 4)
    asked: list[range] = []
    real = measure

    def dying(model: Any, frames: Sequence[Frames], against: Against) -> Any:
        ids = [i for part in frames for i in np.asarray(part.frame_ids).tolist()]
        asked.append(range(ids[0], ids[-1] + 1))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(model, frames, against)

    monkeypatch.setattr(module, "measure", dying)
    with pytest.raises(KeyboardInterrupt):
        evaluate(study(), folder, world())
    evaluate(study(), folder, world())
    assert asked == [range(4), range(4, 8), range(4, 8), range(8, 10)]
    after = read_errors(product)[0]
    np.testing.assert_allclose(before.sums, after.sums)
    np.testing.assert_array_equal(before.frame_id, after.frame_id)


def test_one_model_by_command(tmp_path: Path) -> None:
    data = write_pool(tmp_path / "train.h5", [frames(8)])
    words = ["paper", "--data", str(data), "--model", "schnet-small", "-o", str(tmp_path / "m")]
    words += ["--set", "training.schnet.max_epochs=1", "--set", "training.schnet.cutoff=4.0"]
    assert main(words) == 0
    before = (tmp_path / "m" / "model.json").stat().st_mtime_ns
    assert main(words) == 0
    assert (tmp_path / "m" / "model.json").stat().st_mtime_ns == before
    write_pool(data, [frames(8, seed=6)])
    with pytest.raises(MlselError, match=r"was made otherwise .* data\.digest"):
        main(words)
    assert main([*words, "--again"]) == 0
    with pytest.raises(MlselError, match=r"wants 9 frames and .* has 8: ask for 1 to 8"):
        main([*words[:-4], "-n", "9"])


def test_a_model_takes_no_folder_that_is_not_its_own(tmp_path: Path) -> None:
    """--again takes a model's folder away with all in it."""
    data, notes = write_pool(tmp_path / "train.h5", [frames(8)]), tmp_path / "mine" / "notes.txt"
    notes.parent.mkdir()
    words = ["quick", "--data", str(data), "--model", "pair", "-o", str(notes.parent)]
    assert main([*words, "--set", "training.pair.cutoff=4.0"]) == 0  # an empty one
    assert main([*words, "--set", "training.pair.cutoff=3.9", "--again"]) == 0
    shutil.rmtree(notes.parent)
    notes.parent.mkdir()
    notes.touch()
    for again in ([], ["--again"]):
        with pytest.raises(MlselError, match=r"mine is there already and holds notes\.txt, and no"):
            main([*words, *again])
    assert notes.is_file()


def test_bad_input_is_told(tmp_path: Path) -> None:
    section = study().training
    with pytest.raises(MlselError, match=r"no model schnet-huge.*: it has schnet-small-e0.01, gap"):
        trainer_named(section, "schnet-huge")
    with pytest.raises(MlselError, match=r"no kind of model shnet \(did you mean schnet\?\)"):
        kind_module("shnet")
    with pytest.raises(MlselError, match="must define trainers"):
        kind_module("mlsel.pool.pool")
    with pytest.raises(MlselError, match="is for one model"):
        main(["quick", "--model", "gap"])
    with pytest.raises(MlselError, match=r"lacks the data sets random, force: make them with"):
        tasks_of(study(), tmp_path)
    write_pool(tmp_path / "data" / "random.h5", [frames(1).take([])])
    write_pool(tmp_path / "data" / "force.h5", [frames(1).take([])])
    with pytest.raises(MlselError, match="a run has 0 frames"):
        tasks_of(study(), tmp_path)[0].is_done()
    with pytest.raises(MlselError, match="There is no test set"):
        evaluate(study(), tmp_path / "none", world())
    with pytest.raises(MlselError, match="holds no finished model"):
        find_models(tmp_path, "")


def test_several_initialisations_are_models_of_their_own() -> None:
    section = load_study("quick", ["training.seeds=3", "training.schnet.seed=7"]).training
    made = {trainer.name: trainer.parameters.get("seed") for trainer in trainers(section)}
    schnet, gap = "schnet-medium-e0.01", "gap-100-f0.1"
    assert made == {
        schnet: 7, f"{schnet}-s2": 8, f"{schnet}-s3": 9,
        gap: 1, f"{gap}-s2": 2, f"{gap}-s3": 3, "pair": None,
    }  # fmt: skip


def test_who_loses_to_the_pair_potential_is_marked() -> None:
    def rows(model: str, kind: str, rmse: float) -> list[dict[str, Any]]:
        head = {"dataset": "random", "model": model, "kind": kind, "part": "all", "element": "all"}
        numbers = {"max": 1.0, "rmse": rmse, "mae": 0.05, "q9999": 0.5, "q9999_error": 0.01}
        return [{**head, "quantity": q, **numbers} for q in ("force_component", "energy_per_atom")]

    lines = table(rows("a", "gap", 0.2) + rows("b", "gap", 0.05) + rows("pair", "pair", 0.1))
    marked = [line.split()[1] for line in lines.splitlines() if line.endswith("pair potential")]
    assert marked == ["a"]


def test_six_models_are_the_papers() -> None:
    names = [trainer.name for trainer in trainers(load_study("paper").training)]
    assert [name for name in names if name.startswith("schnet")] == [
        f"schnet-{size}-e{w}" for size in ("small", "medium", "large") for w in (0.01, 0.1)
    ]


def test_errors_of_known_forces() -> None:
    forces = np.zeros((2, 3, 3))
    other = forces.copy()
    other[0, 1], other[1, 2] = [1, 2, 2], [0, 0, -4]
    other[:, 0] = 0.1
    numbers = np.array([11, 17, 17])
    errors = frame_errors([5, 6], numbers, [11, 17], (forces, [0, 0]), (other, [0.3, -0.6]))
    assert errors.worst_atom.tolist() == [1, 2]
    assert errors.worst(2).tolist() == [1, 0]
    found = errors.forces("force_component")
    assert (found.n, found.max) == (18, 4)
    assert found.mae == pytest.approx(9.6 / 18)
    assert found.rmse == pytest.approx(np.sqrt(25.06 / 18))
    assert errors.energies().max == pytest.approx(0.2)
