"""A study that is edited between stages: what was made of the old one is told, and not used."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlsel.run
from mlsel.core.errors import MlselError
from mlsel.core.parallel import world
from mlsel.core.provenance import digest
from mlsel.evaluate.probes import probe_study
from mlsel.evaluate.stage import evaluate
from mlsel.md.deck import files_since, read_potential
from mlsel.md.pool_record import record_of_runs
from mlsel.pool.stage import import_study
from mlsel.refine.stage import refine_study
from mlsel.report.findings import Findings
from mlsel.selection.command import main as selection
from mlsel.selection.stage import select_study
from mlsel.study.folder import StudyFolder
from mlsel.study.schema import key_of
from mlsel.study.study import Study, load_study, recorded_study
from mlsel.training.registry import trainers
from mlsel.training.stage import train_study
from mlsel.validate.runs import runs_of
from mlsel.validate.snapshot import made_from_of, record_of
from mlsel.validate.stage import validate
from mlsel.workflow.status import main as status
from mlsel.workflow.status import states
from tests.fast.test_import_study import write_frames
from tests.support.training_data import frames, write_pool

STUDY = """
[system]
species = ["Na", "Cl"]
[pool]
import = ["{files}/*.extxyz"]
[selection]
methods = ["random", "force"]
test_methods = ["random"]
bins = 4
n_train = 6
n_validation = 2
n_test = 4
[learning]
n = [3]
[training]
kinds = ["tests.support.counting_kind"]
[validation]
reference = "none"
[refine]
models = ["random/counting"]
labeller = "nacl-tosi-fumi"
"""


def stages_after(name: str) -> list[Callable[[Study, Path], object]]:
    """The stages that build on one, each as f(study, folder)."""
    every: dict[str, Callable[..., object]] = {
        "import": import_study,
        "selection": select_study,
        "training": train_study,
        "evaluate": evaluate,
        "probe": probe_study,
        "validate": validate,
        "refine": refine_study,
    }
    later = list(every)[list(every).index(name) + 1 :]
    return [lambda s, f, stage=every[key]: stage(s, f, world()) for key in later]  # type: ignore[misc]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study file, and what import, selection and training make of it."""
    root = tmp_path_factory.mktemp("edited")
    write_frames(root / "aimd" / "a.extxyz", 40, 1, "Na2Cl2")
    (root / "mine.toml").write_text(STUDY.format(files=root / "aimd"), encoding="utf-8")
    study = load_study(str(root / "mine.toml"))
    for stage in (import_study, select_study, train_study):
        stage(study, root / "mine", world())
    return root


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "mine", tmp_path / "mine"))


@pytest.mark.parametrize(
    ("stage", "key", "sentence"),
    [
        ("import", 'pool.import_options.energy_unit="kcal/mol"',
         r'pool\.h5 of import was made .*energy_unit \("eV" there, "kcal/mol".*`mlsel import'),
        ("selection", "selection.seed=2", r"random and 6 more of selection were made .*seed \("),
        ("selection", "selection.bins=3", r"force and . more of selection .*bins \(4 there, 3 now"),
        ("training", "training.schnet.seed=2",
         r"random/counting.* of training .*parameters\.seed \(1 .*`mlsel training"),
        ("training", "training.core=zbl",
         r'counting has not what .*training\.core \("" there, "zbl" now.*`mlsel training.*seconds'),
    ],
)  # fmt: skip
def test_no_stage_goes_on_from_what_is_stale(
    stage: str, key: str, sentence: str, made: Path, folder: Path
) -> None:
    study = load_study(str(made / "mine.toml"), [key])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    undone = [found.name for found in states(study, folder) if not found.is_done]
    assert undone[0] == stage  # what `mlsel status` says
    for later in stages_after(stage):
        with pytest.raises(MlselError, match=sentence) as told:
            later(study, folder)
        assert len(str(told.value)) <= 400 and "set these keys back" in str(told.value)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == before


def test_every_stage_refuses_elements_that_the_study_does_not_have(
    made: Path, folder: Path
) -> None:
    study = load_study(str(made / "mine.toml"), ['system.species=["Cl"]'])
    (pool,) = states(study, folder)[0].items
    assert (pool.state, pool.text) == ("stale", "holds Cl, Na, and the study is of Cl")
    moved = load_study(study.source, ['system.species=["Cl"]', 'pool.import=["gone/*"]'])
    sentence = r"holds Cl, Na, and the study is of Cl: name the study"
    for stage in stages_after("import"):
        with pytest.raises(MlselError, match=sentence):
            stage(study, folder)
    for asked in (study, moved):
        with pytest.raises(MlselError, match=sentence):
            import_study(asked, folder, world())


def test_what_is_not_stale_is_gone_on_with(made: Path, folder: Path) -> None:
    study = load_study(str(made / "mine.toml"))
    assert all(s.is_done for s in states(study, folder) if s.name in ("import", "selection"))
    for key in ("validation.temperature=900", "learning.levels=[0.1]", "training.core=zbl"):
        train_study(load_study(study.source, [key]), folder, world())
    # files that are elsewhere have not changed, nor has what the pool was made of
    moved = load_study(study.source, ['pool.import=["gone/*.extxyz"]', "training.core=zbl"])
    train_study(moved, folder, world())


def test_runs_of_other_settings_or_another_potential_are_told(tmp_path: Path) -> None:
    include = tmp_path / "own.lmp"
    include.write_text(read_potential("nacl-tosi-fumi", ("Na", "Cl")), encoding="utf-8")
    words = [f"system.potential={include}", "selection.n_test=0"]
    study, folder = load_study("quick", words), tmp_path / "mine"
    write_pool(StudyFolder(folder).pool, [frames(20)])
    record_of_runs(folder).write(
        {**study.as_dict("system", "pool"), "potential_digest": digest(include.read_bytes())}
    )
    other = load_study("quick", [*words, "pool.seed=2"])
    with pytest.raises(MlselError, match=r"runs of generate .*pool\.seed \(1 .* folder \(-o\)"):
        select_study(other, folder, world())
    include.write_text(include.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
    with pytest.raises(MlselError, match=r"runs of generate was made .*potential_digest"):
        select_study(study, folder, world())
    assert states(study, folder)[0].items[0].state == "stale"
    include.unlink()  # as in a copy of the folder on another machine
    with pytest.raises(MlselError, match="Asked for 64 frames"):
        select_study(study, folder, world())


def test_a_file_that_a_potential_names_is_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pairs, folder = Path("pairs.lmp"), Path("mine")
    pairs.write_text("pair_coeff * * 0.2 0.3 2.5 0 0\n", encoding="utf-8")
    Path("own.lmp").write_text("pair_style born 6.0\ninclude pairs.lmp\n", encoding="utf-8")
    words = ["system.potential=own.lmp", "selection.n_test=0", "validation.models=[]"]
    study = load_study("quick", [*words, "validation.potentials.other=own.lmp"])
    write_pool(StudyFolder(folder).pool, [frames(20)])
    potential = read_potential("own.lmp", ("Na", "Cl"))
    made_from = {**study.as_dict("system", "pool"), "potential_digest": digest(potential.encode())}
    record = record_of_runs(folder)
    record.write({**made_from, **files_since(potential, record)})
    for run in runs_of(study, folder):
        run.record.write(run.identity())
    record_of(StudyFolder(folder)).write(made_from_of(study, StudyFolder(folder)))

    def stale() -> dict[str, str]:
        found = [item for state in states(study, folder) for item in state.items]
        return {item.name: item.text for item in found if item.state == "stale"}

    with pytest.raises(MlselError, match="Asked for 64 frames"):
        select_study(study, folder, world())
    assert not stale()
    pairs.write_text("pair_coeff * * 0.21 0.3 2.5 0 0\n", encoding="utf-8")
    with pytest.raises(MlselError, match=r"runs of generate .*potential_files\.pairs\.lmp \("):
        select_study(study, folder, world())
    assert set(stale()) == {"runs", "start", "reference", "reference-2", "other"}
    assert "the potential changed" in stale()["other"]
    pairs.unlink()  # as in a copy of the folder on another machine
    assert not stale()
    record.write(made_from)  # as a version that did not look wrote it
    pairs.write_text("pair_coeff * * 0.22 0.3 2.5 0 0\n", encoding="utf-8")
    assert "runs" not in stale()


def test_a_kept_study_that_its_file_differs_from_is_told(
    made: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who edits the file and doesn't name it would wait for nothing."""
    file, text = made / "mine.toml", (made / "mine.toml").read_text(encoding="utf-8")
    assert selection(["-o", str(folder)]) == 0
    assert "differs" not in caplog.text
    try:
        file.write_text(text.replace("bins = 4", "bins = 5"), encoding="utf-8")
        assert selection(["-o", str(folder)]) == 0
        assert status([str(folder)]) == 1
        Findings.of(folder)
        file.write_text(text + "[", encoding="utf-8")
        assert selection(["-o", str(folder)]) == 0
    finally:
        file.write_text(text, encoding="utf-8")
    told = [record.getMessage() for record in caplog.records if "differs" in record.getMessage()]
    assert len(told) == 4
    assert all("selection.bins (4 there, 5 now)" in line for line in told[:3])
    assert "TOML" in told[3] and all("name it, as STUDY" in line for line in told)


def test_a_run_of_all_stages_keeps_the_study(
    made: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlsel.study.stage.Stage.run", lambda *_: None)
    words = [str(made / "mine.toml"), "-o", str(folder), "--set", "learning.levels=[0.2]"]
    mlsel.run.main([*words, "--until", "training"])
    kept = recorded_study(folder)
    assert kept is not None and kept.learning.levels == ()
    mlsel.run.main(words)
    assert recorded_study(folder) == load_study(words[0], [words[-1]])


QUIET = {
    "training.schnet.device": "the same network on another device",
}
"""Keys of a kind of model that another value of makes no other model."""


def other(value: Any, key: str, choices: Any) -> Any:
    """Another value that is allowed, in TOML's notation."""
    special = {
        "training.schnet.sizes": '["small"]', "training.schnet.n_gaussians": "{small=9}",
        "training.schnet.decay_factor": "0.5", "training.schnet.sparse_method": '"cur_points"',
    }  # fmt: skip
    if key in special:
        return special[key]
    if isinstance(value, bool):
        return str(not value).lower()
    if choices:
        return f'"{next(choice for choice in choices if choice != value)}"'
    if isinstance(value, tuple):
        return f"[{', '.join(str(2 * each) for each in value)}]"
    return str(value + 1) if isinstance(value, int) else str(value * 0.5 or 0.25)


def models_of(study: Study) -> dict[str, Any]:
    return {t.name: (t.parameters, t.n_train) for t in trainers(study.training)}


@pytest.mark.parametrize("kind", ["schnet", "gap", "pair"])
def test_every_key_of_a_kind_decides_its_models(kind: str) -> None:
    """Else a model of another value would be used as if it were of this one."""
    base = [f'training.kinds=["{kind}"]', "training.schnet.loss=huber",
            "training.schnet.decay_factor=0.9", "training.gap.two_body=true",
            "training.gap.fit=own"]  # fmt: skip
    study = load_study("paper", base)
    section = getattr(study.training, kind)
    before, silent = models_of(study), []
    for declared in dataclasses.fields(section):
        key = f"training.{kind}.{key_of(declared.name)}"
        value = other(getattr(section, declared.name), key, declared.metadata.get("choices"))
        if models_of(load_study("paper", [*base, f"{key}={value}"])) == before:
            silent.append(key)
    assert silent == [key for key in QUIET if key.startswith(f"training.{kind}.")]
