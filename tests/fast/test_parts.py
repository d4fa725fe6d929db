"""A study with parts: what a part is, what it shares, and what every command makes of it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import mlsel.run
from mlsel.core.errors import MlselError, StageIncomplete
from mlsel.core.parallel import world
from mlsel.evaluate import probes
from mlsel.evaluate.doubts import doubts
from mlsel.evaluate.models import Entry, find_models
from mlsel.evaluate.probes import is_probed, product_of
from mlsel.evaluate.stage import evaluate
from mlsel.evaluate.tested_on import require_test_set
from mlsel.generate import generate
from mlsel.md.pool_record import record_of_runs
from mlsel.pool.pool import Pool
from mlsel.refine.rounds import Refinement
from mlsel.report.stage import items as report_items
from mlsel.report.stage import write_report
from mlsel.selection.command import main as selection
from mlsel.study.choice import choose_study, kept_study
from mlsel.study.folder import StudyFolder
from mlsel.study.parts import measured_on, members, record_members
from mlsel.study.stage import Stage
from mlsel.study.study import ORDER, Study, load_study, record_study, recorded_study
from mlsel.workflow.order import in_order
from mlsel.workflow.slurm import submit, write_scripts
from mlsel.workflow.stages import IMPORT, STAGES, stages_of
from mlsel.workflow.status import main as status
from mlsel.workflow.status import states
from tests.fast.test_import_study import write_frames
from tests.support import TINY_STUDY
from tests.support.crash_points import Trial, Work
from tests.support.training_data import frames, write_pool

PARTS = """
[selection]
methods = ["random"]
test_methods = ["random"]
n_train = 8
n_validation = 2
n_test = 6
[training.baselines.wall]
zbl = [1.5, 3.0]
[evaluation]
test = "part:test"
[parts.test]
until = "selection"
pool.seed = 7
[parts.large.training.schnet]
sizes = ["large"]
[parts.large.training]
baselines = {}
[parts.colder.pool]
seed = 7
temperatures = { from = 1000, to = 1200, n = 2 }
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(TINY_STUDY + PARTS, encoding="utf-8")
    return "mine.toml"


def test_a_part_is_the_study_with_some_keys_replaced(file: str) -> None:
    study = load_study(file)
    test, large, colder = study.studies_of_parts.values()
    # sections key by key
    assert large.training.schnet.sizes == ("large",)
    assert large.training.schnet.n_train == study.training.schnet.n_train
    assert colder.pool.temperatures == (1000, 1200) and colder.pool.melt == study.pool.melt
    # a key's value whole, were it a table
    assert set(study.training.baselines) == {"wall"} == set(test.training.baselines)
    assert large.training.baselines == {}
    assert (test.part, test.until, test.name) == ("test", "selection", "mine-test")
    assert not (test.parts or study.part)


def test_a_key_that_is_set_reaches_the_parts_that_have_none_of_it(file: str) -> None:
    words = ["pool.seed=3", "parts.large.pool.melt=0.3", "parts.large.selection.n_train=9"]
    study = load_study(file, words)
    seeds = {name: part.pool.seed for name, part in study.studies_of_parts.items()}
    assert seeds == {"test": 7, "large": 3, "colder": 7}
    assert study.studies_of_parts["large"].pool.melt > study.pool.melt
    assert study.selection.n_train == 8 and study.studies_of_parts["large"].selection.n_train == 9
    # and the study that is kept says the same
    record_study(study, Path("mine"))
    assert recorded_study(Path("mine")) == study
    again = recorded_study(Path("mine"), ["pool.seed=4"])
    assert again is not None and again.studies_of_parts["large"].pool.seed == 4


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("parts.large.pool.sed=1", r"mine.toml, part large: unknown key pool.sed \(did you mean"),
        ("parts.large.selection.n_train=0", "part large: selection.n_train is 0: it must be"),
        ("parts.lrge.pool.seed=1", r"no part lrge \(did you mean large\?\).* test, large, colder"),
        ("parts.large.until=evaluat", r'part large: until is "evaluat" \(did you mean evaluate'),
        ("parts.large.name=other", "part large: a part can't have the key name"),
        ("parts.large.parts={}", "part large: a part can't have the key parts"),
        ("parts.large=3", "mine.toml: parts.large is 3: it must be a table"),
        ("parts.large.evaluation.test=part:tst", r'part large: evaluation.test is "part:tst" '),
        ("parts.test.selection.n_test=0", "part:test.* makes no test set: set parts.test"),
        ("parts.test.until=generate", "part:test.* makes no test set: set parts.test"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_part_is_told_when_the_study_is_read(
    word: str, sentence: str, file: str
) -> None:
    with pytest.raises(MlselError, match=sentence) as told:
        load_study(file, [word])
    assert len(str(told.value)) <= 400


@pytest.mark.parametrize("name", ["data", "Models", "logs", "runs", "slurm", '"../up"', '"a b"'])
def test_a_part_is_not_called_like_a_folder_of_a_study(name: str, file: str) -> None:
    text = Path(file).read_text(encoding="utf-8") + f"[parts.{name}]\n"
    Path(file).write_text(text, encoding="utf-8")
    with pytest.raises(MlselError, match="can't be a folder in the study's"):
        load_study(file)


def test_no_key_of_a_file_says_of_which_part_it_is(file: str) -> None:
    for key in ("part", "source"):
        Path("other.toml").write_text(f'{key} = "a"\n' + TINY_STUDY, encoding="utf-8")
        with pytest.raises(MlselError, match=f"unknown key {key}"):
            load_study("other.toml")


def test_the_study_of_the_documentation_has_its_parts() -> None:
    study = load_study(str(Path(__file__).parents[2] / "docs" / "study" / "study.toml"))
    parts = study.studies_of_parts
    assert len(parts) >= 13
    assert parts["positive"].evaluation.part == "positive-test"
    shared = {name for name, part in parts.items() if part.pool == parts["own"].pool
              and part.system == parts["own"].system}  # fmt: skip
    assert {"gap", "gap-soap", "learn-32", "learn-256"} <= shared
    assert all(part.pool == study.pool for part in (parts["medium"], parts["large"]))


# The folder of a part


def test_every_command_works_on_the_folder_of_a_part(
    file: str, caplog: pytest.LogCaptureFixture
) -> None:
    study = load_study(file)
    record_members(study, Path("mine"))
    large, place = study.studies_of_parts["large"], Path("mine/large")
    assert choose_study(None, place) == (large, place)
    # of the study that is named, the part that the folder is of
    assert choose_study(file, place, ["parts.large.pool.seed=4"])[0].pool.seed == 4
    assert choose_study(file, Path("mine"))[0] == study
    text = Path(file).read_text(encoding="utf-8")
    Path(file).write_text(text.replace('["large"]', '["medium"]'), encoding="utf-8")
    assert kept_study(place) == large
    assert "training.schnet.sizes" in caplog.text
    with pytest.raises(MlselError, match="of the part large of a study, and quick has no such"):
        choose_study("quick", place)


def test_what_is_kept_or_made_is_not_recorded_over(file: str) -> None:
    study = load_study(file)
    other = load_study(file, ["parts.large.selection.seed=5"])
    record_members(other, Path("mine"))
    write_pool(StudyFolder(Path("mine/colder")).pool, [frames(3)])
    StudyFolder(Path("mine/colder")).study.unlink()
    record_members(study, Path("mine"))
    assert recorded_study(Path("mine/large")) == other.studies_of_parts["large"]
    assert recorded_study(Path("mine/colder")) is None


# One pool for several


def copied(tiny_folder: Path, folder: Path) -> Study:
    """Return the study with parts, with the tiny study's pool in its folder."""
    shutil.copytree(tiny_folder, folder)
    study = load_study("mine.toml")
    record_study(study, folder)
    record_members(study, folder)
    return study


def test_a_pool_of_the_same_is_taken(
    file: str, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = copied(tiny_folder, Path("mine"))
    monkeypatch.setattr("mlsel.md.npt_run.MdRun.perform", lambda *_: pytest.fail("MD is done"))
    place = StudyFolder(Path("mine/large"))
    large = study.studies_of_parts["large"]
    generate(large, place.root, world())
    with Pool(place.pool) as pool, Pool("mine/pool.h5") as other:
        assert pool.digest == other.digest and len(pool) == 4 * 30
    assert all(s.is_done for s in states(large, place.root) if s.name == "generate")
    assert all(path.samefile(Path("mine") / path.relative_to(place.root))
               for path in place.runs.glob("*/run.h5"))  # fmt: skip
    shutil.rmtree("mine/runs")  # each folder is whole by itself
    generate(large, place.root, world())
    with Pool(place.pool) as pool:
        assert len(list(pool.blocks("positions"))) >= 1


def test_a_run_that_was_finished_since_is_taken_too(
    file: str, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = copied(tiny_folder, Path("mine"))
    run = Path("mine/runs/1300K-1bar/run.h5")
    run.rename("run.h5")
    large, place = study.studies_of_parts["large"], StudyFolder(Path("mine/large"))
    monkeypatch.setattr("mlsel.generate._perform", lambda *_: [("1300K-1bar", "not yet")])
    with pytest.raises(StageIncomplete):
        generate(large, place.root, world())
    assert sorted(p.name for p in (place.runs / "1300K-1bar").iterdir()) == [
        "in.lammps", "start.data"]  # fmt: skip
    Path("run.h5").rename(run)
    monkeypatch.setattr("mlsel.generate._perform", lambda *_: [])
    generate(large, place.root, world())
    with Pool(place.pool) as pool, Pool("mine/pool.h5") as other:
        assert pool.digest == other.digest


@pytest.mark.parametrize("word", ["parts.large.pool.seed=2", "parts.large.system.cutoff=9.0"])
def test_a_pool_of_something_else_is_not_taken(word: str, file: str, tiny_folder: Path) -> None:
    copied(tiny_folder, Path("mine"))
    other = load_study(file, [word]).studies_of_parts["large"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlsel.generate._perform", lambda *_: [("", "none was done")])
        patch.setattr("mlsel.generate._finish", lambda *_: None)
        with pytest.raises(StageIncomplete):
            generate(other, Path("mine/large"), world())
    assert not list(Path("mine/large").glob("runs/*/run.h5"))
    # and one that was taken is refused when the study says something else
    shutil.rmtree("mine/large")
    generate(load_study(file).studies_of_parts["large"], Path("mine/large"), world())
    with pytest.raises(MlselError, match="was made otherwise than the study now says"):
        generate(other, Path("mine/large"), world())


def test_a_pool_with_another_potential_of_the_same_name_is_not_taken(
    file: str, tiny_folder: Path
) -> None:
    study = copied(tiny_folder, Path("mine"))
    known = record_of_runs(Path("mine")).read()
    assert known is not None
    record_of_runs(Path("mine")).write({**known, "potential_digest": "other"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlsel.generate._perform", lambda *_: [("", "none was done")])
        patch.setattr("mlsel.generate._finish", lambda *_: None)
        with pytest.raises(StageIncomplete):
            generate(study.studies_of_parts["large"], Path("mine/large"), world())
    assert not list(Path("mine/large").glob("runs/*/run.h5"))


def test_a_kill_while_a_pool_is_taken(file: str, tiny_folder: Path, tmp_path: Path) -> None:
    """At every counted operation: between links, their record, the pool."""

    def prepare(place: Path) -> Work:
        study = load_study(file)
        if not (place.parent / "mine").is_dir():
            copied(tiny_folder, place.parent / "mine")
        # the part's folder is the one that is looked at; the study lies beside it
        return lambda: generate(study.studies_of_parts["large"], place, world())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlsel.md.npt_run.MdRun.perform", lambda *_: pytest.fail("MD is done"))
        trial = Trial(prepare, tmp_path)
        assert trial.kills() >= len(trial.points) >= 4
    assert sum(kind.startswith("link ") for kind in trial.whole.kinds) == 4 * 5 + 2


def test_a_file_is_copied_where_it_can_have_one_name(
    file: str, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, os.strerror(1))

    study = copied(tiny_folder, Path("mine"))
    monkeypatch.setattr("mlsel.core.files.os.link", refuse)
    generate(study.studies_of_parts["large"], Path("mine/large"), world())
    with Pool("mine/large/pool.h5") as pool, Pool("mine/pool.h5") as other:
        assert pool.digest == other.digest
    assert not Path("mine/large/runs/1300K-1bar/run.h5").samefile("mine/runs/1300K-1bar/run.h5")


# A study of files of frames: all stages without LAMMPS

FILES = """
[system]
species = ["Na", "Cl"]
[pool]
import = ["aimd/*.extxyz"]
[selection]
methods = ["random", "force"]
test_methods = ["random"]
bins = 4
n_train = 6
n_validation = 2
n_test = 4
[training]
kinds = ["tests.support.counting_kind"]
[validation]
reference = "none"
[evaluation]
test = "part:test"
[parts.test]
until = "selection"
pool.import = ["other/*.extxyz"]
[parts.twin]
until = "evaluate"
training.schnet.seed = 9
evaluation.probe = true
[parts.units]
until = "import"
pool.import_options.energy_unit = "kcal/mol"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of it was made but the study's own errors and what follows."""
    root = tmp_path_factory.mktemp("parts")
    with contextlib.chdir(root):
        write_frames(Path("aimd/a.extxyz"), 30, 1, "Na2Cl2")
        write_frames(Path("other/a.extxyz"), 30, 2, "Na2Cl2")
        Path("files.toml").write_text(FILES, encoding="utf-8")
        mlsel.run.main(["files.toml", "--until", "training"])
        mlsel.run.main(["-o", "files/twin"])
    return root


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True, copy_function=shutil.copy2)
    monkeypatch.chdir(tmp_path)
    return Path("files")


def test_all_parts_are_made(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    study, folder = load_study("files.toml"), Path("files")
    assert Path("files/pool.h5").samefile("files/twin/pool.h5")
    assert not Path("files/pool.h5").samefile("files/units/pool.h5")
    for one in members(study, folder):
        assert kept_study(one.folder) == one.study
        done = [s.name for s in states(one.study, one.folder) if s.is_done]
        assert done == [s.name for s in stages_of(one.study)] or not one.study.part
    assert StudyFolder(folder / "twin").probe.is_file()
    assert not (folder / "test/models").exists() and not (folder / "units/data").exists()
    assert status([str(folder)]) == 1  # the study's errors are not made
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[-3:]] == [
        ["part", name, "done"] for name in ("test", "twin", "units")
    ]


def undone_errors(study: Study, folder: Path) -> set[str]:
    """What `mlsel status` lists of evaluate."""
    return {item.name for item in {s.name: s for s in states(study, folder)}["evaluate"].undone}


def test_errors_are_of_the_test_set_that_the_study_names(folder: Path) -> None:
    """Whoever asks whether they are fresh asks of that one: status, report, refine, the probe."""
    study = load_study("files.toml")
    twin, place = study.studies_of_parts["twin"], folder / "twin"
    test = folder / "test/data/test.h5"
    assert measured_on(study, folder) == test == measured_on(twin, place)
    assert Refinement(twin, place, "random/counting").test == test
    assert doubts(twin, place) == [] and undone_errors(twin, place) == set()
    own = load_study("files.toml", ["evaluation.test="]).studies_of_parts["twin"]
    assert undone_errors(own, place) == {"random/counting", "force/counting", "probe.csv"}
    assert "another test set than test.h5" in doubts(own, place)[0]
    # another seed of the part's frames: the same file, another test set
    word = "parts.test.selection.seed=5"
    selection(["files.toml", "-o", str(folder / "test"), "--again", "--set", word])
    assert undone_errors(twin, place) == {"random/counting", "force/counting", "probe.csv"}
    assert "another test set than files/test/data/test.h5" in doubts(twin, place)[0]
    # neither the study that is named nor what is kept says so: the frames are not used
    for asked, where in ((study, folder), (twin, place)):
        with pytest.raises(MlselError, match=r"files/test: random and .* of selection were made"):
            evaluate(asked, where, world())


def test_a_data_set_anywhere_is_measured_on(folder: Path) -> None:
    study = load_study("files.toml", ["evaluation.test=any.h5"])
    with pytest.raises(MlselError, match=r"no test set any.h5: evaluation.test of the study names"):
        evaluate(study, folder, world())
    shutil.copy(folder / "units/pool.h5", "any.h5")
    evaluate(study, folder, world())
    assert undone_errors(study, folder) == set() != undone_errors(load_study("files.toml"), folder)
    test = folder / "data/test.h5"
    assert require_test_set(study, folder, test) == test  # --test


def test_a_test_set_that_is_not_there_is_told(folder: Path) -> None:
    (folder / "test/data/test.h5").unlink()
    with pytest.raises(MlselError, match=r"run` of the study makes it, or .*-o files/test`"):
        evaluate(load_study("files.toml"), folder, world())


def test_the_report_links_those_of_the_parts(folder: Path) -> None:
    study = load_study("files.toml", ["parts.twin.until=report"])
    (folder / "twin/report.html").write_text("…")
    page = write_report(folder, study).read_text(encoding="utf-8")
    assert '<a href="twin/report.html">twin</a>' in page
    assert "test (no report: it ends with selection)" in page
    newer = (folder / "report.html").stat().st_mtime_ns + 10**9
    os.utime(folder / "twin/report.html", ns=(newer, newer))
    (item,) = report_items(study, folder)
    assert item.text == "older than twin/report.html"


def test_a_probe_is_made_once(folder: Path) -> None:
    twin, place = load_study("files.toml").studies_of_parts["twin"], folder / "twin"
    test = measured_on(twin, place)
    with Pool(test) as pool:
        entries = find_models(place, pool.digest)
    assert is_probed(twin, place, entries)
    kept = {product_of(entry): product_of(entry).read_bytes() for entry in entries}
    product_of(entries[0]).unlink()
    with pytest.MonkeyPatch.context() as patch:
        probed: list[str] = []
        judged = probes._probed

        def told(entry: Entry, *more: Any) -> probes.Probed:
            probed.append(entry.title)
            return judged(entry, *more)

        patch.setattr(probes, "_probed", told)
        probes.probe_study(twin, place, world())
    assert probed == [entries[0].title]
    assert {path: path.read_bytes() for path in kept} == kept
    assert not is_probed(twin, place, entries[:1])  # another model has come since
    hotter = load_study("files.toml", ["validation.temperature=900"]).studies_of_parts["twin"]
    assert not is_probed(hotter, place, entries)


# What `mlsel run` does of them, in which order


def test_names_of_the_stages() -> None:
    """`until` knows them before the stages are there."""
    names = [stage.name for stage in STAGES]
    assert [name for each in ORDER for name in each if name != IMPORT.name] == names


def test_the_order_of_a_study_with_parts(file: str) -> None:
    study = load_study(file)

    def told(until: str) -> list[tuple[str, str, str]]:
        found = in_order(members(study, Path("mine")), until)
        return [(one.title, stages[0].name, stages[-1].name) for one, stages in found]

    assert told("report") == [
        ("part test", "generate", "selection"),  # what others are measured on
        ("study", "generate", "validate"),
        ("part large", "generate", "report"),
        ("part colder", "generate", "report"),
        ("study", "report", "report"),  # it tells of the parts' reports
    ]
    assert told("generate") == [
        (title, "generate", "generate")
        for title in ("part test", "study", "part large", "part colder")
    ]
    assert [s.name for s in stages_of(study.studies_of_parts["test"])] == ["generate", "selection"]


class Stages:
    """Stages that do nothing, but some."""

    def __init__(self, incomplete: Sequence[str], refused: Sequence[str] = ()) -> None:
        self.done: list[str] = []
        self._incomplete, self._refused = incomplete, refused

    def run(self, stage: Stage, study: Study, *_: object) -> None:
        what = f"{study.part or 'study'} {stage.name}"
        self.done.append(what)
        if what in self._incomplete:
            raise StageIncomplete(f"2 of 4 of {what} failed.", everywhere=True)
        if what in self._refused:
            raise MlselError("no frame is there.", everywhere=True)


def test_what_is_incomplete_stops_no_other_part(
    file: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stages = Stages(["test generate"], ["test selection"])
    monkeypatch.setattr(Stage, "run", lambda stage, *more: stages.run(stage, *more))
    caplog.set_level(logging.INFO)
    with pytest.raises(StageIncomplete) as told:
        mlsel.run.main([file])
    assert "part test, generate (2 of 4" in str(told.value)
    assert "part test, selection (no frame is there.)" in str(told.value)
    assert stages.done[:3] == ["test generate", "test selection", "study generate"]
    assert stages.done[-1] == "study report" and "colder report" in stages.done
    heads = [r.getMessage() for r in caplog.records if r.getMessage().startswith("=== ")]
    assert [line.partition(" (")[0] for line in heads] == [
        "=== part test, in mine/test", "=== study, in mine", "=== part large, in mine/large",
        "=== part colder, in mine/colder", "=== study, in mine"]  # fmt: skip


def test_a_mistake_before_anything_is_incomplete_stops_all(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = Stages([], ["study selection"])
    monkeypatch.setattr(Stage, "run", lambda stage, *more: stages.run(stage, *more))
    with pytest.raises(MlselError, match="no frame is there"):
        mlsel.run.main([file])
    assert stages.done[-1] == "study selection"


def test_until_is_a_stage_of_some_part(file: str) -> None:
    with pytest.raises(MlselError, match="--until refine: the stages of this study are generate"):
        mlsel.run.main([file, "--until", "refine"])
    with pytest.raises(MlselError, match="--until import"):
        mlsel.run.main([file, "--until", "import"])


def test_a_part_in_a_line(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    study = load_study(file)
    record_study(study, Path("mine"))
    write_pool(Path("mine/large/data/random.h5"), [frames(8)])
    assert status(["mine"]) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("part ")]
    assert lines[0].endswith("not begun; `mlsel status mine/test` lists it")
    assert "undone: generate, selection 1 of 3, training, evaluate" in lines[1] and len(lines) == 3


def test_the_jobs_of_a_study_and_its_parts(
    file: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_scripts(tmp_path / "slurm")
    study, folder = load_study(file, ["parts.colder.until=validate"]), tmp_path / "mine"
    words = [file, "-o", str(folder), "--set", "parts.colder.until=validate"]
    submit(study, folder, tmp_path / "slurm", words, dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    jobs = {}
    for line in lines:
        script = Path(next(word for word in line.split() if word.endswith(".sbatch"))).stem
        part = Path(line.partition("-o ")[2].split()[0]).name
        jobs[part, script] = line
    assert [name for name, _ in jobs][:2] == ["test", "test"]
    assert list(jobs)[-1] == ("mine", "report")
    assert {script for name, script in jobs if name == "test"} == {"generate", "select"}
    assert {script for name, script in jobs if name == "colder"} == {
        script for name, script in jobs if name == "large"}  # fmt: skip
    # another's test set must be there; a pool of the same is waited for, and so are reports
    assert ":<test:select>" in jobs["mine", "evaluate"].partition("afterany")[0]
    assert ":<test:select>" in jobs["large", "evaluate"] and "<generate>" in jobs["mine", "select"]
    assert "--dependency=afterany:<generate>" in jobs["large", "generate"]
    assert "dependency" not in jobs["colder", "generate"]
    assert "afterany:<large:report>:<colder:report>" in jobs["mine", "report"].replace("'", "")
    assert "--set" not in jobs["large", "train"] and not folder.exists()
    submitted = [name for name, _ in jobs]
    assert submitted.index("mine") < submitted.index("large") < submitted.index("colder")
