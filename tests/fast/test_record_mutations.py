"""Records and tables of a study's folder that are damaged, by chance: read, or told."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
from pathlib import Path

import pytest

import mlsel.evaluate.command
import mlsel.selection.command
import mlsel.training.command
from mlsel.evaluate.figure import read
from mlsel.evaluate.seeds import write_tables
from mlsel.report.answer import answer
from mlsel.report.findings import Findings
from mlsel.report.stage import _what_was_run
from mlsel.report.tables import data_sets, errors
from mlsel.study.folder import StudyFolder
from mlsel.study.study import load_study, record_study, recorded_study
from mlsel.training.registry import load_model
from mlsel.workflow import status
from tests.support.mutations import damaged, damaged_json_bytes, damaged_text, run_cases
from tests.support.training_data import frames, write_pool

PAIR = ["--set", 'training.kinds=["pair"]', "--set", "training.pair.cutoff=4.0"]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("originals") / "study")


def make(folder: Path) -> Path:
    """A folder with a study, two data sets, a model each, and their errors, some of more seeds."""
    place = StudyFolder(folder)
    write_pool(place.pool, [frames(30)])
    words = ["--pool", str(place.pool), "--method", "random"]
    with contextlib.redirect_stdout(io.StringIO()):
        mlsel.selection.command.main([*words, "-n", "6", "-o", str(place.test_set)])
        for name, seed in (("random", "1"), ("other", "2")):
            data, out = str(place.data_set(name)), str(place.model(f"{name}/pair"))
            mlsel.selection.command.main([*words, "-n", "8", "--seed", seed, "-o", data])
            mlsel.training.command.main(["--data", data, "--model", "pair", "-o", out, *PAIR])
        mlsel.evaluate.command.main(["-o", str(folder)])
    record_study(load_study("quick"), folder)
    rows = read(place.errors, "force_component", "all", "all")
    seeds = [{**row, "model": f"pair-s{k}", "rmse": row["rmse"] * (1 + 0.01 * k)}
             for k in (2, 3, 4) for row in rows]  # fmt: skip
    write_tables([*rows, *seeds], place.evaluation)
    return folder


def one(originals: Path, folder: Path, chance: random.Random) -> None:
    here = folder / "study"
    if not here.is_dir():
        shutil.copytree(originals, here)
    place = StudyFolder(here)
    read_back = [p.relative_to(originals) for p in sorted(originals.rglob("*"))
                 if p.suffix in (".json", ".csv")]  # fmt: skip
    name = chance.choice(read_back)
    whole = (originals / name).read_bytes()
    if name.suffix == ".json":
        made = damaged_json_bytes(json.loads(whole), chance)
    else:
        made = damaged_text(whole.decode().replace(",", " , "), chance).replace(b" , ", b",")
        made = made if chance.random() < 0.8 else damaged(whole, chance)
    (here / name).write_bytes(made)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            deed = chance.choice((0, 0, 1, 1, 1, 2, 2, 3))  # the last takes longest
            if deed == 0:
                status.main([str(here), "--all"])
            elif deed == 1:
                found = Findings.of(here)
                for part in (answer, errors, data_sets, _what_was_run):
                    part(found)
            elif deed == 2:
                read(place.errors, "force_component", "all", "all")
                load_model(place.model("random/pair"))
                recorded_study(here)
            else:
                mlsel.evaluate.command.main(["-o", str(here)])
    finally:
        for changed in read_back:
            shutil.copyfile(originals / changed, here / changed)


def test_some_damaged_records(originals: Path, tmp_path: Path) -> None:
    run_cases(lambda chance: one(originals, tmp_path, chance), 40, seed=1).require()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 7))
def test_many_damaged_records(originals: Path, tmp_path: Path, seed: int) -> None:
    run_cases(lambda chance: one(originals, tmp_path, chance), 500, seed).require()
