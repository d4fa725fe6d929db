"""`[pool] import`: a study of files instead of MD runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

import mlsel.generate
import mlsel.run
from mlsel.core.errors import MlselError
from mlsel.pool import import_command
from mlsel.pool.pool import Pool
from mlsel.pool.stage import items
from mlsel.report.stage import write_report
from mlsel.selection.state import items as selected
from mlsel.study.folder import StudyFolder
from mlsel.study.study import load_study, recorded_study
from mlsel.validate.state import items as validated
from mlsel.workflow import slurm, status

STUDY = """
[system]
species = ["Ti", "Al"]
[pool]
import = ["aimd/*.extxyz"]
[selection]
methods = ["random"]
test_methods = ["random"]
n_train = 6
n_validation = 2
n_test = 2
[training]
kinds = ["pair"]
[validation]
models = []
"""


def write_frames(path: Path, n: int, seed: int, symbols: str = "Ti2Al2") -> None:
    generator = np.random.default_rng(seed)
    path.parent.mkdir(exist_ok=True)
    frames = []
    for _ in range(n):
        atoms = Atoms(symbols, positions=generator.uniform(0, 6, (4, 3)), cell=[6, 6, 6], pbc=True)
        results = {"energy": generator.normal(), "forces": generator.normal(size=(4, 3))}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    write(path, frames)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFolder:
    """A folder with a study file and two files of frames; nothing is made yet."""
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "aimd" / "b.extxyz", 8, 1)
    write_frames(tmp_path / "aimd" / "a.extxyz", 7, 2)
    Path("mine.toml").write_text(STUDY, encoding="utf-8")
    return StudyFolder(Path("mine"))


def state(study: str = "mine.toml") -> tuple[str, str]:
    (item,) = items(load_study(study), Path("mine"))
    return item.state, item.text


def test_a_study_of_files_begins_with_their_import(
    place: StudyFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert state() == ("missing", "2 files to import")
    mlsel.run.main(["mine.toml", "--until", "selection"])
    with Pool(place.pool) as pool:
        assert [Path(name).name for name in pool.attributes["sources"]] == ["a.extxyz", "b.extxyz"]
        assert len(pool) == 15
        digest = pool.digest
    write_report(place.root)
    page = place.report.read_text(encoding="utf-8")
    assert "the study mine" in page
    for words in ("The paper", "NaCl", "1400 K"):
        assert words not in page
    capsys.readouterr()
    assert status.main(["mine"]) == 1
    told = capsys.readouterr().out
    assert "import     done 1 of 1" in told and "selection  done 3 of 3" in told
    before = place.pool.stat().st_mtime_ns
    import_command.main(["-o", "mine"])  # the study that the folder is of
    assert place.pool.stat().st_mtime_ns == before
    import_command.main(["aimd/a.extxyz", "aimd/b.extxyz", "other.h5"])
    with Pool("other.h5") as pool:
        assert pool.digest == digest


def test_changed_files_are_named_and_all_made_of_them(place: StudyFolder) -> None:
    mlsel.run.main(["mine.toml", "--until", "selection"])
    write_frames(Path("aimd/a.extxyz"), 7, 3)
    assert state()[0] == "stale" and "aimd/a.extxyz" in state()[1]
    with pytest.raises(
        MlselError, match=r"aimd/a\.extxyz.*`mlsel import mine.toml --again` makes"
    ) as told:
        mlsel.run.main(["mine.toml"])
    assert len(str(told.value)) <= 400
    import_command.main(["mine.toml", "--again"])
    assert state() == ("done", "15 frames of 2 files")
    states = {item.name: item.state for item in selected(load_study("mine.toml"), place.root)}
    assert set(states.values()) == {"stale"}
    with pytest.raises(MlselError, match=r"random\.h5 was made otherwise"):
        mlsel.run.main(["mine.toml"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda: write_frames(Path("aimd/c.extxyz"), 2, 4), r"aimd/c\.extxyz \(null there"),
        (lambda: Path("aimd/a.extxyz").unlink(), r"aimd/a\.extxyz .*null now"),
        (
            lambda: Path("mine.toml").write_text(
                STUDY + "[pool.import_options]\nenergy_unit = 'kcal/mol'\n", encoding="utf-8"
            ),
            r'energy_unit \("eV" there, "kcal/mol" now\)',
        ),
    ],
    ids=["new", "gone", "option"],
)
def test_other_files_or_options_are_named(place: StudyFolder, change: object, named: str) -> None:
    import_command.main(["mine.toml"])
    assert callable(change)
    change()
    assert state()[0] == "stale"
    with pytest.raises(MlselError, match=named):
        import_command.main(["mine.toml"])


def test_files_that_were_moved_or_are_elsewhere_have_not_changed(place: StudyFolder) -> None:
    import_command.main(["mine.toml"])
    Path("aimd").rename("gone")
    assert state() == ("done", "15 frames; its files are not here")
    import_command.main(["mine.toml"])
    moved = ["mine.toml", "--set", 'pool.import=["gone/*"]']
    before = place.pool.stat().st_mtime_ns
    import_command.main(moved)
    assert place.pool.stat().st_mtime_ns == before


def test_a_file_is_hashed_again_where_its_time_may_hide_a_change(place: StudyFolder) -> None:
    import_command.main(["mine.toml"])
    path = Path("aimd/a.extxyz")
    before, text = path.stat(), path.read_bytes()
    path.write_bytes(text.replace(b"energy=", b"energy=-", 1)[: len(text)])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert state()[0] == "stale"


def test_a_copy_with_the_size_and_the_time_of_what_it_replaces_is_another(
    place: StudyFolder,
) -> None:
    path, long_ago = Path("aimd/a.extxyz"), 10**18
    os.utime(path, ns=(long_ago, long_ago))
    import_command.main(["mine.toml"])
    assert state()[0] == "done"
    text = path.read_bytes()
    path.write_bytes(text.replace(b"energy=", b"energy=-", 1)[: len(text)])
    os.utime(path, ns=(long_ago, long_ago))  # as `cp -p` would
    assert state()[0] == "stale"
    path.write_bytes(text)
    os.utime(path, ns=(long_ago, long_ago))
    assert state()[0] == "done"
    known = json.loads(place.import_record.read_text())
    del known["aimd/a.extxyz"]["touched"]  # as a version that did not look wrote it
    known["aimd/a.extxyz"]["digest"] = "known"
    place.import_record.write_text(json.dumps(known))
    assert state()[0] == "stale"  # by the hash that is known: the file is not read


def test_options_are_those_of_the_command(place: StudyFolder) -> None:
    options = 'energy_unit = "kcal/mol"\nwithout_labels = "skip"\nenergy_key = ["energy"]\n'
    Path("mine.toml").write_text(f"{STUDY}[pool.import_options]\n{options}", encoding="utf-8")
    import_command.main(["mine.toml"])
    words = ["--energy-unit", "kcal/mol", "--without-labels", "skip", "--energy-key", "energy"]
    import_command.main(["aimd/a.extxyz", "aimd/b.extxyz", "other.h5", *words])
    with Pool(place.pool) as made, Pool("other.h5") as other:
        assert made.digest == other.digest
        assert made.attributes["import_options"] == other.attributes["import_options"]
    recorded = recorded_study(place.root)
    assert recorded is not None and recorded.pool.import_ == ("aimd/*.extxyz",)
    assert recorded.pool.import_options.energy_key == ("energy",)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"aimd/*.extxyz"', '"amd/*.extxyz"', r'pool.import names "amd/\*.extxyz"'),
        ('"Ti", "Al"', '"Ti"', r"aimd/a.extxyz, frame 0 holds Al, which the study does not have"),
        (
            "[selection]",
            "sampling_interval = 10\n[selection]",
            r"and sampling_interval, which is",
        ),
        ("[selection]", "pressures = [1]\n[selection]", r"\[pool\] has both import and pressures"),
        (
            'import = ["aimd/*.extxyz"]',
            "",
            r"temperatures is \[\], or not given: give .* as pool.import",
        ),
        ('import = ["aimd/*.extxyz"]', "temperatures=[1]\npressures=[1]", r"potential is missing"),
        ("[pool]", "[pool.import_options]\nwithout_labels = 'no'\n[pool]", "without_labels is"),
    ],
)
def test_what_is_wrong_is_told(place: StudyFolder, old: str, new: str, sentence: str) -> None:
    Path("mine.toml").write_text(STUDY.replace(old, new), encoding="utf-8")
    with pytest.raises(MlselError, match=sentence) as told:
        import_command.main(["mine.toml"])
    assert len(str(told.value)) <= 400
    assert not place.pool.exists()


def test_generate_and_import_are_told_apart(place: StudyFolder) -> None:
    with pytest.raises(MlselError, match=r"`mlsel import` takes the place of generate"):
        mlsel.generate.main(["mine.toml"])
    with pytest.raises(MlselError, match=r"quick imports no files"):
        import_command.main(["quick", "-o", "other"])
    with pytest.raises(MlselError, match=r"the stages of this study are import, selection"):
        mlsel.run.main(["mine.toml", "--until", "generate"])


def test_jobs_begin_with_the_import(place: StudyFolder) -> None:
    study = load_study("mine.toml")
    jobs = slurm.jobs_of(study, status.states(study, place.root))
    assert [job.script for job in jobs] == ["import", "select", "train", "evaluate", "report"]
    assert jobs[1].after == ("import",)


def test_what_md_is_held_against_is_asked_before_anything_runs(place: StudyFolder) -> None:
    Path("mine.toml").write_text(STUDY.replace("models = []", "repeats = 0"), encoding="utf-8")
    with pytest.raises(MlselError, match=r'validation.reference = "pool" .* or "none"'):
        mlsel.run.main(["mine.toml"])
    assert not place.pool.exists()
    (item,) = validated(load_study("mine.toml"), place.root)
    assert (item.state, item.text) == ("missing", "validation.reference is not set")
    study = load_study("mine.toml", ["validation.reference=none"])
    jobs = {job.script: job for job in slurm.jobs_of(study, status.states(study, place.root))}
    # Bounds come from the data sets, and the start from the pool.
    assert jobs["start"].after == ("import", "select")
    assert jobs["validate"].parts == (1,)


def test_what_is_unclear_is_told_by_the_studys_keys(
    place: StudyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    atoms = Atoms("Ti2Al2", positions=np.eye(4, 3), cell=[6, 6, 6], pbc=True)
    atoms.info |= {"REF_energy": -1.0, "dft_energy": -2.0}
    write("aimd/a.extxyz", [atoms], format="extxyz")
    with pytest.raises(
        MlselError, match=r"meant with pool\.import_options\.energy_key, "
    ) as caught:
        import_command.main(["mine.toml"])
    assert "--" not in str(caught.value) and len(str(caught.value)) <= 400
    Path("aimd/a.extxyz").unlink()
    (frame,) = read("aimd/b.extxyz", ":1")
    frame.calc.results |= {
        "free_energy": frame.calc.results["energy"] - 0.5,
        "forces": np.ones((4, 3)) * 1e-3,
    }
    write("aimd/b.extxyz", frame)
    with caplog.at_level("INFO"):
        import_command.main(["mine.toml"])
    assert 'pool.import_options.energy_key = ["free_energy"] takes it' in caplog.text
    assert 'pool.import_options.force_unit = "Hartree/Bohr"' in caplog.text
