"""What fix pair reads of a pair style: sigma, deviation and below of each atom."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import write

from mlsel.core.errors import MlselError
from mlsel.core.parallel import world
from mlsel.export_model import export_schnet, read_metadata
from mlsel.refine.stage import refine_study
from mlsel.selection.stage import select_study
from mlsel.study.study import Study, load_study
from mlsel.training.frames import Frames
from mlsel.training.gap.evaluator import open_gap
from mlsel.training.schnet.model import SchNetModel
from mlsel.training.schnet.trainer import SchNetTrainer
from mlsel.training.stage import train_study
from tests.plugins import support
from tests.plugins.support import Agreement, Array, environment
from tests.support import TINY_STUDY, write_study
from tests.support.training_data import frames

SINGLE_PRECISION = 1e-3
"""Relative, of a σ whose features are of float32."""
SPECIES = ("Na", "Cl")
SHORTEST = np.array([[3.4, 2.9], [2.9, 3.6]])


def peratom(
    atoms: Any, style: str, coeff: str, asked: str, more: str = "", steps: int = 0
) -> tuple[Array, support.Evaluation]:
    """The columns that `fix u all pair 2 {asked}` has after some steps, and what LAMMPS says."""
    lmp = support.open_lammps()
    try:
        lmp.commands_string(support.box_commands(atoms))
        lmp.commands_string(f"pair_style {style}\npair_coeff * * {coeff}\n{more}")
        n = len(atoms)
        types = [1 if number == support.NUMBERS["Na"] else 2 for number in atoms.numbers]
        lmp.create_atoms(n, list(range(1, n + 1)), types, atoms.positions.ravel().tolist())
        lmp.commands_string(f"fix u all pair 2 {asked}\nfix m all nve\nrun {steps}")
        columns = asked.count(" 1")
        found = np.array(lmp.gather("f_u", 1, columns)).reshape(n, columns)
        forces = np.array(lmp.gather_atoms("f", 1, 3)).reshape(n, 3)
        nothing = np.empty(0)
        return found, support.Evaluation(lmp.get_thermo("pe"), forces, nothing, nothing, nothing)
    finally:
        lmp.close()


@pytest.fixture(scope="module")
def committee(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three models, the third with its species the other way round."""
    folder = tmp_path_factory.mktemp("committee")
    rigidity = np.random.default_rng(1).normal(size=(1, 49, 49)) / 50
    first = export_schnet(
        support.schnet(), folder / "a.pt", SPECIES, rigidity=rigidity, shortest_distances=SHORTEST
    )
    second = export_schnet(support.schnet(n_rbf=12), folder / "b.pt", SPECIES)
    third = export_schnet(support.schnet(n_filters=24), folder / "c.pt", SPECIES[::-1])
    return [first, second, third]


def test_deviation_is_that_of_the_models_forces(plugins: Path, committee: list[Path]) -> None:
    atoms = support.melts()[1]
    alone = [support.evaluate_lammps(atoms, "schnet", f"{one} Na Cl") for one in committee]
    forces = np.array([one.forces for one in alone])
    wanted = np.sqrt(((forces - forces.mean(0)) ** 2).sum(2).mean(0))
    coeff = " ".join([*map(str, committee), "Na Cl"])
    found, first = peratom(atoms, "schnet", coeff, "schnet deviation 1")
    np.testing.assert_allclose(found[:, 0], wanted, atol=Agreement.FORCE_SAME_MODEL.value)
    assert first.energy == pytest.approx(
        alone[0].energy, abs=0, rel=Agreement.ENERGY_SAME_FILE.value
    )
    np.testing.assert_array_equal(first.forces, alone[0].forces)

    mean = support.evaluate_lammps(atoms, "schnet drive mean", coeff)
    for name in ("energy", "forces", "virial", "atomic_energies", "atomic_virials"):
        of_all = np.mean([getattr(one, name) for one in alone], axis=0)
        scale = np.abs(of_all).max()
        atol = Agreement.VIRIAL_SAME_MODEL.value * scale
        np.testing.assert_allclose(getattr(mean, name), of_all, atol=atol, err_msg=name)
    found, _ = peratom(atoms, "schnet drive mean", coeff, "schnet deviation 1")
    np.testing.assert_allclose(found[:, 0], wanted, atol=Agreement.FORCE_SAME_MODEL.value)


def test_models_in_one_pass_give_what_each_gives_alone(
    plugins: Path, committee: list[Path], tmp_path: Path
) -> None:
    """Networks of other sizes and tables of more knots than the driver's; one and two ranks."""
    sharper = export_schnet(support.schnet(n_rbf=32, n_hidden=(24,)), tmp_path / "d.pt", SPECIES)
    n_knots = [read_metadata(one)["compressed"]["n_knots"] for one in (committee[0], sharper)]
    assert n_knots[1] > n_knots[0]
    atoms = support.melts()[1]
    alone = [
        support.evaluate_lammps(atoms, "schnet", f"{f} Na Cl") for f in (committee[0], sharper)
    ]
    mean = (alone[0].forces + alone[1].forces) / 2
    write(tmp_path / "melt.data", atoms, format="lammps-data", specorder=list(SPECIES),
          atom_style="atomic", masses=True)  # fmt: skip
    (tmp_path / "in.mean").write_text(
        f"units metal\nread_data melt.data\npair_style schnet drive mean\n"
        f"pair_coeff * * {committee[0]} {sharper} Na Cl\nrun 0 post no\n"
        "write_dump all custom mean.dump id fx fy fz modify sort id format float %.17g\n"
    )
    for n_ranks in (1, 2):
        ended = subprocess.run(
            ["mpirun", "-n", str(n_ranks), "lmp", "-in", "in.mean", "-log", "none"],
            cwd=tmp_path, env=environment(plugins), capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "a committee of 2, evaluated together" in ended.stdout
        forces = np.loadtxt(tmp_path / "mean.dump", skiprows=9)[:, 1:]
        np.testing.assert_allclose(forces, mean, atol=Agreement.FORCE_SAME_MODEL.value)


def test_below_is_how_much_nearer_than_in_the_data(plugins: Path, committee: list[Path]) -> None:
    from ase.neighborlist import neighbor_list

    atoms = support.melts()[2]
    i, j, d = neighbor_list("ijd", atoms, 4.0)
    kind = (atoms.numbers == support.NUMBERS["Cl"]).astype(int)
    wanted = np.zeros(len(atoms))
    np.maximum.at(wanted, i, SHORTEST[kind[i], kind[j]] - d)
    assert 0 < np.count_nonzero(wanted) < len(atoms)
    for mode in ("compressed", "torchscript"):
        found, _ = peratom(atoms, f"schnet {mode}", f"{committee[0]} Na Cl", "schnet below 1")
        np.testing.assert_allclose(
            found[:, 0], wanted, atol=Agreement.DISTANCE_SAME.value, err_msg=mode
        )


@pytest.fixture(scope="module", params=[False, True], ids=["shared", "per element"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("trained")
    trainer = SchNetTrainer(
        name="s", cutoff=4.0, batch_size=4, max_epochs=3, learning_rate=2e-3,
        output_per_element=request.param,
    )  # fmt: skip
    return trainer.fit([frames(12)], [frames(4, seed=2)], folder / "model")


def test_sigma_is_that_of_python(plugins: Path, trained: SchNetModel) -> None:
    atoms = support.melts()[1]
    wanted = SchNetModel.load(trained.folder).uncertainty(Frames(
        atoms.numbers, atoms.positions[None], atoms.cell.array[None]
    ))[0]  # fmt: skip
    coeff = f"{trained.folder / 'model.pt'} Na Cl"
    found, _ = peratom(atoms, "schnet", coeff, "schnet sigma 1")
    np.testing.assert_allclose(found[:, 0], wanted, rtol=SINGLE_PRECISION)
    assert found.min() > 0
    calculator = trained.calculator()
    np.testing.assert_array_equal(calculator.get_property("sigma", atoms), wanted)
    # an atom that is not the model's has none
    found, _ = peratom(
        atoms, "hybrid/overlay schnet zero 4.0", "schnet " + coeff.replace("Cl", "NULL"),
        "schnet sigma 1", "pair_coeff * * zero",
    )  # fmt: skip
    np.testing.assert_array_equal(found[:, 0] > 0, atoms.numbers == support.NUMBERS["Na"])


def test_an_unusual_environment_has_a_larger_sigma(trained: SchNetModel) -> None:
    usual = frames(4, seed=7)
    pushed = replace(usual, positions=usual.positions.copy())
    vector = pushed.positions[:, 1] - pushed.positions[:, 0]
    pushed.positions[:, 1] -= vector * 0.6
    before, after = (trained.uncertainty(one)[:, :2] for one in (usual, pushed))
    assert (after.max(1) > before.max(1)).all()


def test_sigma_of_a_gap_is_that_of_python(plugins: Path, gap: Path) -> None:
    ours = open_gap(gap)
    assert ours is not None
    atoms = support.melts()[1]
    wanted = np.sqrt(ours.variances(Frames(
        atoms.numbers, atoms.positions[None], atoms.cell.array[None]
    ))[0])  # fmt: skip
    found, _ = peratom(atoms, "quip", f"{gap} 11 17", "quip sigma 1")
    np.testing.assert_allclose(found[:, 0], wanted, rtol=Agreement.FORCE_SAME_MODEL.value)
    assert (wanted > 0).all()


DECK = """
variable tag index one
units metal
box tilt large
read_data melt.data
{style}
fix u all pair 2 {asked}
fix m all nve
timestep 0.0005
compute worst all reduce max f_u{column}
thermo_style custom step c_worst
run 4
write_dump all custom ${{tag}}.dump id f_u{star} modify sort id format float %.15g
"""


@pytest.mark.parametrize("name", ["schnet", "quip"])
def test_ranks_agree(
    name: str, plugins: Path, committee: list[Path], gap: Path, tmp_path: Path
) -> None:
    from ase.io import write

    files = " ".join(map(str, committee))
    given = {
        "schnet": (f"pair_style schnet\npair_coeff * * {files} Na Cl",
                   "schnet sigma 1 deviation 1 below 1", "[2]", "[*]"),
        "quip": (f"pair_style quip\npair_coeff * * {gap} 11 17", "quip sigma 1", "", ""),
    }[name]  # fmt: skip
    style, asked, column, star = given
    write(tmp_path / "melt.data", support.melts()[2], format="lammps-data",
          specorder=list(SPECIES), atom_style="atomic", masses=True)  # fmt: skip
    text = DECK.format(style=style, asked=asked, column=column, star=star)
    (tmp_path / "in.deck").write_text(text)
    tables = []
    for n_ranks in (1, 2):
        ended = subprocess.run(
            ["mpirun", "-n", str(n_ranks), "lmp", "-in", "in.deck", "-var", "tag", str(n_ranks)],
            cwd=tmp_path, env=environment(plugins), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
        tables.append(np.loadtxt(tmp_path / f"{n_ranks}.dump", skiprows=9))
    assert (tables[0][:, 1:] > 0).any(0).all()
    np.testing.assert_allclose(tables[1], tables[0], atol=Agreement.FORCE_SAME_MODEL.value)


def refused(atoms: Any, style: str, coeff: str, asked: str) -> str:
    with pytest.raises(Exception, match=style.split()[0]) as error:
        peratom(atoms, style, coeff, asked)
    return str(error.value)


def test_what_a_model_cannot_tell_is_refused(
    plugins: Path, committee: list[Path], gap: Path, gap_sum: Path, files: dict[str, Path]
) -> None:
    atoms = support.melts()[1]
    old = f"{files['schnet64']} Na Cl"
    assert "holds no rigidity" in refused(atoms, "schnet", old, "schnet sigma 1")
    assert "does not tell the shortest distances" in refused(atoms, "schnet", old, "schnet below 1")
    alone = f"{committee[0]} Na Cl"
    assert "alone" in refused(atoms, "schnet", alone, "schnet deviation 1")
    assert "compressed mode on CPUs" in refused(
        atoms, "schnet torchscript", alone, "schnet sigma 1"
    )
    assert "was not computed in step 0" in refused(atoms, "schnet", alone, "schnet sigma 0")
    several = " ".join([*map(str, committee), "Na Cl"])
    assert "compressed mode alone" in refused(
        atoms, "schnet torchscript", several, "schnet deviation 1"
    )
    assert "drive is last" in refused(atoms, "schnet drive last", several, "schnet deviation 1")
    assert "over triplets" in refused(atoms, "quip", f"{gap_sum} 11 17", "quip sigma 1")
    assert "QUIP's library" in refused(atoms, "quip library", f"{gap} 11 17", "quip sigma 1")


WATCH = """
[selection]
methods = ["random"]
test_methods = ["random"]
n_train = 8
n_validation = 2
n_test = 2
[training]
kinds = ["schnet", "pair"]
[training.schnet]
sizes = ["small"]
n_train = 8
energy_weights = [0.01]
max_epochs = 1
[refine]
temperatures = [900]
replicas = 1
duration = 0.02
sampling_interval = 10
near = 0.2
lost = 0.1
force = 1000.0
labels = 1
labels_per_round = 1
rounds = 1
method = "random"
"""


@pytest.mark.slow
def test_refine_harvests_where_a_number_passes_its_bound(
    plugins: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_folder, folder)

    def study(*overrides: str) -> Study:
        return load_study(str(write_study(tmp_path, TINY_STUDY + WATCH)), overrides)

    select_study(study(), folder, world())
    train_study(study(), folder, world())
    asked = "refine.watch={ below = 5.0, sigma = 1e-12 }"
    refine_study(study("refine.models=['random/schnet-*']", asked), folder, world())
    (place,) = folder.glob("refine/random/schnet-*")
    found = json.loads((place / "round-1/round.json").read_text())
    assert found["n_new"] == 2
    assert found["first_new"][0].startswith("sigma of an atom is ")
    potential = next(place.glob("round-1/md/*/potential.lmp")).read_text()
    assert "fix watch all pair 10 schnet below 1 sigma 1" in potential
    with pytest.raises(MlselError, match=r"refine.watch asks for below, sigma of .*none of them"):
        refine_study(study("refine.models=['random/pair']", asked), folder, world())
    with pytest.raises(MlselError, match=r"refine.watch names deviation"):
        study("refine.watch={ deviation = 1.0 }")
