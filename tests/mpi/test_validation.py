"""Validation as a user runs it: ranks, kills, potentials that are wrong, wrong input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsel.core.errors import MlselError
from mlsel.core.parallel import world
from mlsel.pool.pool import Pool
from mlsel.study.study import load_study
from mlsel.validate.criteria import UNITS
from mlsel.validate.nvt_run import ValidationRun
from mlsel.validate.results import read_results
from mlsel.validate.stage import validate
from mlsel.validate.start import density_run
from mlsel.validate.verdict import AGREES, UNPHYSICAL, Verdict
from tests.mpi.test_generate import hashes
from tests.support import Tolerance, run_deck, run_mlsel

STUDY = """
[system]
species = ["Na", "Cl"]
potential = "nacl-tosi-fumi"
[pool]
temperatures = [1400]
pressures = [1]
melt_temperature = 3000
melt = 0.3
equilibration = 0.3
[validation]
models = []
n_atoms = 64
density_time = 0.5
density_parts = 1
equilibration = 0.1
duration = 0.5
nve = 0.1
block = 0.05
sampling_interval = 10
trajectory_interval = 10
checkpoint_interval = 0.1
rdf_cutoff = 6.0
rdf_bins = 60
"""
"""Real MD, very short: 64 ions, half a picosecond."""

UNLIKE = "pair_coeff 1 2  0.2110   0.317    2.755"


def altered(folder: Path, name: str, amplitude: float) -> str:
    """Write the reference with another repulsion of unlike ions; return the --set for it."""
    from mlsel.md import deck

    text = deck.read_potential("nacl-tosi-fumi", ("Na", "Cl"))
    assert UNLIKE in text
    path = folder / f"{name}.lmp"
    path.write_text(text.replace(UNLIKE, f"pair_coeff 1 2  {amplitude}  0.317  2.755"))
    return f"validation.potentials.{name}={path}"


def write_study(folder: Path, text: str = STUDY) -> Path:
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return path


def make(folder: Path, *overrides: str) -> list[Verdict]:
    """Run the stage in this process."""
    study = load_study(str(write_study(folder)), overrides)
    return validate(study, folder / "tiny", world())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study validated without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    make(folder)
    return folder / "tiny"


def test_resumed_from_every_checkpoint(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off right after each checkpoint: averages go on, nothing is counted twice, and all
    files are the same to the last bit."""
    written = ValidationRun.checkpoint

    class CutOff(Exception):
        pass

    def write_and_stop(self: ValidationRun, *arguments: Any) -> None:
        written(self, *arguments)
        raise CutOff

    monkeypatch.setattr(ValidationRun, "checkpoint", write_and_stop)
    n_cuts = 0
    for _ in range(50):
        try:
            make(tmp_path)
            break
        except CutOff:
            n_cuts += 1
    assert n_cuts == 2 * (1 + 5 + 1)
    assert hashes(tmp_path / "tiny") == hashes(whole)


def test_the_deck_alone_gives_the_same(whole: Path) -> None:
    """`lmp -in validation/reference/in.lammps`: the same positions, the same RDF of each block."""
    run_deck("validation/reference/in.lammps", whole)
    dumped = (whole / "trajectory.lammpstrj").read_text().split("ITEM: TIMESTEP\n")[1:]
    with Pool(whole / "validation" / "reference" / "trajectory.h5") as pool:
        block = next(pool.blocks("step", "positions"))
    assert len(dumped) == len(block)
    for i, text in enumerate(dumped):
        lines = text.splitlines()
        atoms = np.array([line.split() for line in lines[8:]], dtype=float)
        assert int(lines[0]) == block["step"][i]
        np.testing.assert_allclose(
            atoms[:, 2:5], block["positions"][i], rtol=0, atol=Tolerance.SAME_NUMBERS
        )
    results = read_results(whole / "validation" / "reference" / "results.h5")
    lines = [row for row in (whole / "rdf.dat").read_text().splitlines() if row[0] != "#"]
    rows = [line.split() for line in lines if len(line.split()) > 2]
    table = np.array(rows, dtype=float).reshape(len(results.g), len(results.r), -1)
    np.testing.assert_allclose(
        table[:, :, 2::2], np.moveaxis(results.g, 1, 2), atol=2 * Tolerance.FIVE_DIGITS
    )
    np.testing.assert_allclose(
        table[:, :, 1], np.tile(results.r, (len(table), 1)), rtol=Tolerance.FIVE_DIGITS
    )
    for leftover in ("trajectory.lammpstrj", "rdf.dat"):
        (whole / leftover).unlink()


def test_rdfs_are_those_that_mdanalysis_finds(whole: Path) -> None:
    """Every bin within 1 %, from the trajectory file and MDAnalysis's own distances."""
    import MDAnalysis
    from MDAnalysis.analysis.rdf import InterRDF

    results = read_results(whole / "validation" / "reference" / "results.h5")
    path = whole / "validation" / "reference" / "trajectory.h5"
    universe = MDAnalysis.Universe.empty(64)
    universe.load_new(str(path), format="H5MD", convert_units=False)
    numbers = results.numbers
    for index, (first, second) in enumerate(((11, 11), (11, 17), (17, 17))):
        one, other = (universe.atoms[numbers == z] for z in (first, second))
        same = first == second
        rdf = InterRDF(
            one, other, nbins=60, range=(0.0, 6.0), exclusion_block=(1, 1) if same else None
        )
        rdf.run()
        g = results.g[:, index].mean(axis=0)
        np.testing.assert_allclose(rdf.results.bins, results.r, rtol=Tolerance.ROUNDING)
        np.testing.assert_allclose(g, rdf.results.rdf, rtol=0.01)
        assert g.max() > 1.5


def test_verdicts(whole: Path, tmp_path: Path) -> None:
    """The reference with another seed agrees; too weak repulsions are found."""
    verdicts = {
        v.name: v
        for v in make(
            tmp_path,
            altered(tmp_path, "collapsing", 0.002),
            altered(tmp_path, "soft", 0.09),
            "validation.duration=1.0",
            "validation.density_time=10",
        )
    }
    assert verdicts["reference"].word == verdicts["reference-2"].word == AGREES
    assert verdicts["reference"].stable_time == pytest.approx(1.2)
    collapsed = verdicts["collapsing"]
    assert collapsed.word == "blown up" and collapsed.stable_time < 0.3
    soft = verdicts["soft"]
    assert soft.word == UNPHYSICAL
    contacts = soft.numbers["inner_weight"]
    assert contacts.sigmas > 2 and contacts.size > 0.01 and contacts.of == "Na-Cl"
    folder = tmp_path / "tiny" / "validation"
    results = read_results(folder / "collapsing" / "results.h5")
    assert results.ended_by and results.ended_at > 0
    if results.sound_step >= 0:
        assert results.sound_positions.shape == (64, 3)
        assert results.sound_step < round(collapsed.stable_time * 1000)
    there = json.loads((folder / "verdicts.json").read_text())
    assert [v["name"] for v in there["verdicts"]] == list(verdicts)
    assert set(there["definitions"]) >= {"stable_time", "sigmas", *UNITS}
    assert len((folder / "verdicts.csv").read_text().splitlines()) == 5


def test_several_ranks_for_each_run_and_nothing_done_twice(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    everything = ["--set", "validation.ranks_per_run=0", "--set", "validation.duration=0.2"]
    done = run_mlsel("validate", study, *everything, ranks=2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 runs to do" in done.stderr
    before = hashes(tmp_path / "tiny")
    inodes = {p: p.stat().st_ino for p in (tmp_path / "tiny").rglob("*.h5")}
    done = run_mlsel("validate", study, *everything, ranks=1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "to do" not in done.stderr
    assert hashes(tmp_path / "tiny") == before
    assert inodes == {p: p.stat().st_ino for p in (tmp_path / "tiny").rglob("*.h5")}
    done = run_mlsel("validate", study, "--set", "validation.ranks_per_run=2", ranks=3)
    assert done.returncode == 2 and "ranks_per_run is 2, but there are 3 ranks" in done.stderr


def test_lennard_jones_argon(tmp_path: Path) -> None:
    """Another system, one species, no charges."""
    (tmp_path / "argon.lmp").write_text(
        "# Argon (A. Rahman, Phys. Rev. 136, A405 (1964)): 119.8 K, 3.405 Angstrom\n"
        "# species: Ar\n"
        "pair_style lj/cut 6.0\npair_coeff 1 1 0.0103235 3.405\n"
    )
    text = STUDY.replace('["Na", "Cl"]', '["Ar"]').replace(
        "nacl-tosi-fumi", f"{tmp_path}/argon.lmp"
    )
    text = text.replace("melt_temperature = 3000", "melt_temperature = 300")
    text += 'temperature = 120\ntimestep = 5.0\nrepeats = 0\npotentials = { other = "%s" }\n' % (
        tmp_path / "argon.lmp"
    )
    study = load_study(str(write_study(tmp_path, text)), ["validation.trajectory_interval=10"])
    verdicts = validate(study, tmp_path / "tiny", world())
    assert [v.name for v in verdicts] == ["reference", "other"]
    rdf = verdicts[1].numbers["rdf"]
    assert (rdf.of, rdf.size) == ("Ar-Ar", 0.0)  # the same potential from the same velocities


COLD = ("validation.temperature=800", "system.spacing=2.85", "validation.density_time=2.5",
        "validation.duration=0.2")  # fmt: skip


def test_a_reference_that_never_melted_is_refused(tmp_path: Path) -> None:
    """A crystal of 64 ions heated a little: nothing is compared with it."""
    with pytest.raises(MlselError) as caught:
        make(tmp_path, *COLD, "pool.melt_temperature=810", "pool.melt=0.1")
    text = str(caught.value)
    assert re.search(r"the reference never melted: D is .* Na-Cl 2\.[78]\d Å high [4-9]", text)
    assert len(text) <= 400
    assert not (tmp_path / "tiny" / "validation" / "start.json").is_file()
    (tmp_path / "solid").mkdir()
    verdicts = make(tmp_path / "solid", *COLD, "validation.expect_solid=true")
    assert verdicts[0].word != UNPHYSICAL


def test_a_grid_melts_first(tmp_path: Path) -> None:
    """Without pool.melt_temperature the start is melted all the same, and the deck says so."""
    study = load_study(str(write_study(tmp_path)), ["pool.melt_temperature=0", "pool.melt=0"])
    text = density_run(study, tmp_path).deck_text()
    assert re.search(r"start_temperature +index 4200\.0 ", text)
    assert re.search(r"melt_steps +index 5000\b", text)
    solid = load_study(str(write_study(tmp_path)), ["validation.expect_solid=true"])
    assert re.search(r"melt_steps +index 0\b", density_run(solid, tmp_path).deck_text())


def test_the_density_run_goes_on_until_it_is_known(tmp_path: Path) -> None:
    """Parts follow each other from the last frame, at most as many as the study allows."""
    make(tmp_path, "validation.density_error=0.001", "validation.density_parts=3",
         "validation.duration=0.2")  # fmt: skip
    place = tmp_path / "tiny" / "validation"
    runs = sorted(path.relative_to(place) for path in place.glob("start/**/run.h5"))
    assert [path.parts[1] for path in runs] == ["part-2", "part-3", "runs"]
    start = json.loads((place / "start.json").read_text())
    assert start["time"] == pytest.approx(1.5)
    volumes = []
    for path in ("start/runs", "start/part-2/runs", "start/part-3/runs"):
        with Pool(place / path / "1400K-1bar" / "run.h5") as pool:
            volumes.append(pool.values("volume"))
    assert start["volume"] == pytest.approx(np.concatenate(volumes).mean())
    # ⟨δV²⟩/(⟨V⟩ k_B T), of a melt about 5e-5/bar; 15 frames tell it within a factor of ten
    assert 5e-6 < start["compressibility"] < 5e-4
    known = np.concatenate(volumes).var() / start["volume"] / (1.380649e-23 * 1400) * 1e-30 * 1e5
    assert start["compressibility"] == pytest.approx(known, rel=Tolerance.SIX_DIGITS)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("validation.duration=0", "validation.duration is 0: it must be a number (ps) above 0"),
        ("validation.potentials.mine=none.lmp", 'potentials.mine is "none.lmp": give the path of'),
        ("validation.potentials.mine=kcl-tosi-fumi", "is for K Cl, in this order"),
        ('validation.models=["random/gap*"]', 'names "random/gap*", but '),
        ("validation.trajectory_interval=15", "no multiple of validation.sampling_interval"),
        ("validation.n_atoms=65", "take 64 or 66"),
        ("validation.duraton=1", "did you mean duration"),
    ],
)
def test_wrong_input_gets_a_sentence(
    override: str, words: str, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(MlselError) as caught:
        study = load_study(str(write_study(tmp_path)), [override])
        folder = tmp_path / "tiny" if "n_atoms" in override else whole
        validate(study, folder, world())
    assert words in str(caught.value)


def test_changed_inputs_are_named(whole: Path, tmp_path: Path) -> None:
    for override, words in (
        ("validation.temperature=1500", r"validation.temperature \(1400.0 there, 1500.0 now\)"),
        ("validation.duration=0.4", r"duration \(0.5 there, 0.4 now\)"),
    ):
        study = load_study(str(write_study(tmp_path)), [override])
        with pytest.raises(MlselError, match=words):
            validate(study, whole, world())
