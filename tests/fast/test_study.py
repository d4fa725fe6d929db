"""The study file: what is read, and the sentence for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlsel.core.errors import MlselError
from mlsel.study.preset import presets
from mlsel.study.study import load_study
from tests.support import run_mlsel, write_study


def test_paper_preset_is_the_papers_study() -> None:
    study = load_study()
    assert study.name == "paper"
    assert len(study.pool.temperatures) == 16
    assert (min(study.pool.temperatures), max(study.pool.temperatures)) == (900, 2200)
    assert (min(study.pool.pressures), max(study.pool.pressures)) == (1e-3, 5e4)
    assert study.system.n_atoms == 100
    assert study.pool.frames_per_run == 2000


@pytest.mark.parametrize("name", presets())
def test_presets_are_valid(name: str) -> None:
    assert load_study(name).name == name


def test_override_of_a_key_and_logarithmic_series() -> None:
    study = load_study("quick", ["pool.seed=7", "pool.pressures={from=1, to=100, n=3, log=true}"])
    assert study.pool.seed == 7
    assert study.pool.pressures == pytest.approx((1, 10, 100))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("pool.sed=7", ["unknown key pool.sed", "did you mean seed?", "temperatures"]),
        ("pol.seed=7", ["unknown key pol", "did you mean pool?"]),
        ("pool.seed=-1", ["pool.seed is -1", "at least 0"]),
        ("pool.seed=1.5", ["pool.seed is 1.5", "whole number"]),
        ("pool.seed=true", ["pool.seed is true", "whole number"]),
        ("pool.timestep=fast", ['pool.timestep is "fast"', "a number (fs) above 0"]),
        ("pool.temperatures=[0, 300]", ["pool.temperatures[0] is 0", "(K) above 0"]),
        ("pool.temperatures=[-5]", ["pool.temperatures[0] is -5", "above 0"]),
        ("pool.temperatures=[]", ["pool.temperatures is []", "one or more"]),
        ("pool.temperatures=[300, 300]", ["names one value twice"]),
        ("pool.temperatures={from=1, to=2}", ["pool.temperatures is", "n = whole number above 0"]),
        ("pool.pressures={from=0, to=2, n=2, log=true}", ["both ends must be above 0"]),
        ("pool.temperatures=nan", ["pool.temperatures is nan"]),
        ("system.cutoff=0", ["system.cutoff is 0", "(Å) above 0"]),
        ("pool.sampling_interval=0", ["pool.sampling_interval is 0", "at least 1"]),
        ("system.n_atoms=101", ["system.n_atoms is 101", "NaCl", "take 100 or 102"]),
        ("system.n_atoms=1", ["take 2"]),
        ('system.species=["Na", "Ci"]', ['"Ci"', "no element"]),
        ('system.species=["Na", "Na"]', ["twice"]),
        ("system.composition=[1, 1, 1]", ["3 numbers", "2 elements"]),
        ("pool.melt_temperature=0", ["pool.melt is 3 ps", "pool.melt_temperature is 0"]),
        ("pool=3", ["write section.key=value"]),
        ("pool.seed", ["write section.key=value"]),
        ("system.species.x=1", ["system.species.x", "is a value, not a section"]),
    ],
)
def test_a_mistake_gets_one_sentence(override: str, said: list[str]) -> None:
    with pytest.raises(MlselError) as caught:
        load_study("quick", [override])
    for words in said:
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_key_and_missing_study(tmp_path: Path) -> None:
    path = write_study(tmp_path, '[system]\nspecies = ["Na", "Cl"]\n')
    with pytest.raises(MlselError, match=r"tiny.toml: pool.temperatures is \[\], or not given"):
        load_study(str(path))
    with pytest.raises(MlselError, match=r"no study papr.*presets.*did you mean paper"):
        load_study("papr")
    with pytest.raises(MlselError, match=r"tiny.toml is not valid TOML"):
        load_study(str(write_study(tmp_path, "[system\n")))


def test_command_line_tells_one_sentence_on_one_rank(tmp_path: Path) -> None:
    done = run_mlsel("generate", "quick", "--set", "pool.sed=7", ranks=2, cwd=tmp_path)
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("mlsel: ")]
    assert len(told) == 1 and "did you mean seed?" in told[0]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
