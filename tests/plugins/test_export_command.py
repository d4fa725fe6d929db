"""`python -m mlsel.export_model`: units, and sentences for what is no model.

The cases that were found in use: spk_kcal (a model in kcal/mol came out 23 times too large) and
spk_cli (tracebacks, and an option that the command did not have).
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsel.core.errors import MlselError
from mlsel.export_model import export_schnet, read_metadata
from mlsel.export_model.__main__ import main
from mlsel.export_model.parts import torchscript
from mlsel.export_model.units import ENERGIES, LENGTHS, in_angstrom, in_ev
from tests.plugins.potentials import atomwise, potential, schnetpack_says
from tests.plugins.support import Agreement, evaluate_lammps, melts
from tests.plugins.test_export import SENTENCE, check_lammps
from tests.support import Tolerance

EV = ("--energy-unit", "eV", "--length-unit", "Ang")


def saved(folder: Path, model: Any = None, name: str = "best_model") -> Path:
    import torch

    torch.save(potential() if model is None else model, folder / name)
    return folder / name


def export(model: Path, *options: str, species: str = "Na Cl") -> Path:
    output = model.parent / "model.pt"
    assert main([str(model), str(output), *species.split(), *options]) == 0
    return output


def refused(model: Path, *options: str, species: str = "Na Cl") -> str:
    with pytest.raises(MlselError) as error:
        export(model, *options, species=species)
    assert not (model.parent / "model.pt").exists()
    assert len(str(error.value).replace(str(model.parent), "")) <= SENTENCE
    return str(error.value)


def configure(folder: Path, **data: Any) -> None:
    """config.yaml as spktrain leaves it, what matters here."""
    from omegaconf import OmegaConf

    output = {"_target_": "schnetpack.task.ModelOutput", "name": "${globals.energy_key}"}
    config = {
        "run": {"work_dir": "${hydra:runtime.cwd}", "id": "${uuid:1}"},
        "globals": {"energy_key": "energy", "unit": "kcal/mol"},
        "task": {"outputs": [output]},
        "data": {"datapath": "${run.work_dir}/x.db", "distance_unit": None, **data},
    }
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("told", ["config.yaml", "interpolation", "options", "number"])
def test_a_model_in_kcal_per_mol(told: str, tmp_path: Path) -> None:
    """spk_kcal. The right value is that of SpkCalculator(energy_unit="kcal/mol")."""
    model, atoms = potential(), melts()[0]
    path = saved(tmp_path, model)
    options: tuple[str, ...] = ()
    if told == "options":
        options = ("--energy-unit", "kcal/mol", "--length-unit", "Ang")
    elif told == "number":
        options = ("--energy-unit", repr(ENERGIES["kcal/mol"]), "--length-unit", "1.0")
    else:
        unit = "kcal/mol" if told == "config.yaml" else "${globals.unit}"
        configure(tmp_path, property_units={"energy": unit}, distance_unit="Ang")
    right = schnetpack_says(model, atoms, "kcal/mol")
    assert right.energy == pytest.approx(
        schnetpack_says(model, atoms).energy / 23.0605, rel=Tolerance.FOUR_DIGITS
    )
    check_lammps(export(path, *options), "compressed", atoms, right)


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("mode", ["compressed", "torchscript"])
def test_a_model_in_hartree_and_bohr(mode: str, tmp_path: Path) -> None:
    import torch

    from tests.plugins.potentials import modules

    offsets = modules().transform.AddOffsets(
        "energy", add_mean=True, property_mean=torch.tensor([-7.25])
    )
    model, atoms = potential(cutoff=9.5, postprocessors=[offsets]), melts()[0]
    configure(tmp_path, property_units={"energy": "Ha"}, distance_unit="Bohr")
    path = export(saved(tmp_path, model))
    assert read_metadata(path)["cutoff"] == pytest.approx(9.5 * 0.529177, rel=Tolerance.SIX_DIGITS)
    check_lammps(path, mode, atoms, schnetpack_says(model, atoms, "Ha", "Bohr"))


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("mode", ["compressed", "torchscript"])
def test_the_units_of_the_interface(mode: str, tmp_path: Path) -> None:
    """energy_offset is in eV whatever the model's unit is."""
    model, atoms = potential(), melts()[0]
    path = export_schnet(
        model, tmp_path / "model.pt", ["Na", "Cl"], energy_unit="kJ/mol", energy_offset=-2.0
    )
    found = evaluate_lammps(atoms, f"schnet {mode} threads 1", f"{path} Na Cl")
    right = schnetpack_says(model, atoms, "kJ/mol").energy - 2.0 * len(atoms)
    assert found.energy == pytest.approx(right, rel=Agreement.ENERGY_SAME_MODEL.value)


def test_the_database_tells_where_the_configuration_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from ase.db import connect

    database = tmp_path / "x.db"
    with connect(database) as connection:
        connection.metadata = {
            "_distance_unit": "Bohr", "_property_unit_dict": {"total_energy": "Hartree"},
        }  # fmt: skip
    path = saved(tmp_path, potential(cutoff=9.5))
    configure(tmp_path, datapath=str(database))
    text = (tmp_path / "config.yaml").read_text()
    name = "name: ${globals.energy_key}"
    assert "names no unit of it" in refused(path)  # the property's name is another
    (tmp_path / "config.yaml").write_text(
        text.replace(name, f"{name}\n    target_property: total_energy")
    )
    with caplog.at_level("INFO"):
        export(path)
    assert "from Hartree and Bohr" in caplog.text


def test_units_that_nothing_tells_are_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path)
    sentence = refused(path)
    assert "no config.yaml beside it" in sentence
    assert "--energy-unit" in sentence
    assert "--length-unit" in sentence
    assert "--energy-unit" not in refused(path, "--energy-unit", "eV")
    configure(tmp_path, property_units={"energy": "eV"})
    sentence = refused(path)
    assert "--length-unit" in sentence
    assert "--energy-unit" not in sentence
    configure(tmp_path, property_units={"energy": "${globals.none}"}, distance_unit="Ang")
    assert "cannot be read for the model's units" in refused(path)
    (tmp_path / "config.yaml").write_text("a: [")
    assert "cannot be read for the model's units" in refused(path)
    export(path, *EV)


@pytest.mark.parametrize("unit", ["Ang", "kcal", "ev", "-1", "0", "nan", ""])
def test_no_unit_of_energy(unit: str, tmp_path: Path) -> None:
    configure(tmp_path, property_units={"energy": unit or "?"}, distance_unit="Ang")
    assert "config.yaml has" in refused(saved(tmp_path))
    with pytest.raises(MlselError, match="energy_unit has "):
        export_schnet(potential(), tmp_path / "model.pt", ["Na"], energy_unit=unit)


def test_units_are_those_of_schnetpack() -> None:
    with torchscript():
        from schnetpack.units import convert_units

    for unit in ("eV", "kcal/mol", "kJ/mol", "Ha", "Hartree", "Ry", "Rydberg"):
        assert in_ev(unit, "") == pytest.approx(
            convert_units(unit, "eV"), rel=Tolerance.SAME_NUMBERS
        )
    for unit in ("Ang", "Angstrom", "nm", "Bohr"):
        assert in_angstrom(unit, "") == pytest.approx(
            convert_units(unit, "Ang"), rel=Tolerance.SAME_NUMBERS
        )
    assert {"meV", "a0"} <= ENERGIES.keys() | LENGTHS.keys()


def checkpoint(folder: Path) -> Path:
    return saved(folder, {"state_dict": potential().state_dict(), "epoch": 1}, "last.ckpt")


def task(folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # schnetpack's task has Lightning warn of itself
        from schnetpack.task import AtomisticTask

        made = AtomisticTask(potential(), [], optimizer_args={"lr": 1e-3})
    return saved(folder, made, "best_model.task")


def deployed(folder: Path) -> Path:
    """What schnetpack's own command writes."""
    command = Path(sys.executable).with_name("spkdeploy")
    target = folder / "deployed"
    subprocess.run(
        [sys.executable, str(command), str(saved(folder)), str(target)],
        check=True, capture_output=True,
    )  # fmt: skip
    return target


def written(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


OTHERS: dict[str, Callable[[Path], Path]] = {
    "last.ckpt is a checkpoint of a training: give the best_model": checkpoint,
    "is a state dict": lambda folder: saved(folder, potential().state_dict(), "sd.pt"),
    "is schnetpack's training task: give the best_model beside it": task,
    "is TorchScript, as spkdeploy writes it": deployed,
    "is a file for pair_style schnet already": lambda folder: export_schnet(
        potential(), folder / "mine.pt", ["Na", "Cl"]
    ),
    "config.yaml is no file of torch.save": lambda folder: written(
        folder, "config.yaml", b"a: 1\n"
    ),
    "empty is no file of torch.save": lambda folder: written(folder, "empty", b""),
    "holds a list, no model of schnetpack": lambda folder: saved(folder, [1, 2], "list"),
    "holds a Linear, no model of schnetpack": lambda folder: saved(folder, linear(), "linear"),
    "There is no model": lambda folder: folder / "best_modell",
    "needs Python code that is not installed here": lambda folder: written(
        folder, "theirs", b"\x80\x02cno_such_package\nModel\nq\x00."
    ),
}


def linear() -> Any:
    import torch

    return torch.nn.Linear(2, 2)


@pytest.mark.parametrize("sentence", OTHERS)
def test_what_to_give_instead(sentence: str, tmp_path: Path) -> None:
    """spk_cli: checkpoints, state dicts, YAML; and their kind."""
    assert sentence in refused(OTHERS[sentence](tmp_path), *EV)


def test_a_folder_of_a_training(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert "is a folder: give the best_model" in refused(tmp_path / "run", *EV)
    saved(tmp_path / "run")
    assert "is a folder: give" in refused(tmp_path / "run", *EV)


def test_an_activation_that_tables_do_not_know(tmp_path: Path) -> None:
    """spk_cli, its first part: the sentence names an option, which the command has."""
    import torch

    path = saved(tmp_path, potential(activation=torch.nn.functional.relu))
    sentence = refused(path, *EV)
    assert "activation relu" in sentence
    assert "--no-tables" in sentence
    assert read_metadata(export(path, *EV, "--no-tables"))["compressed"] is None


def test_what_the_model_cannot_comes_before_the_units(tmp_path: Path) -> None:
    """spk_cli, its last part."""
    path = saved(tmp_path)
    assert "Md, number 101, is beyond the model's embedding" in refused(path, species="Na Md")
    path = saved(tmp_path, potential([atomwise(aggregation_mode="avg")]))
    assert "aggregation_mode" in refused(path)
    path = saved(tmp_path, potential(kind="SO3net", lmax=1))
    assert "representation is SO3net: SchNet and PaiNN" in refused(path)


def test_painn_by_the_command(tmp_path: Path) -> None:
    model = potential(kind="PaiNN")
    path = export(saved(tmp_path, model), *EV)
    assert read_metadata(path)["model"] == "PaiNN"


def test_the_command_ends_with_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mlsel.export_model", "last.ckpt", "model.pt", "Na"]
    checkpoint(tmp_path)
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("mlsel: last.ckpt is a checkpoint")
    assert "Traceback" not in ended.stderr


def test_a_model_of_an_older_schnetpack(tmp_path: Path) -> None:
    """Before 2.1 a representation had no electronic_embeddings."""
    model = potential()
    del model.representation.electronic_embeddings
    path = export(saved(tmp_path, model), *EV)
    from mlsel.export_model.written_file import WrittenFile

    right = schnetpack_says(potential(), melts()[0])
    found = WrittenFile(path).torchscript(melts()[0], 1)
    assert np.abs(found.forces - right.forces).max() < 1e-10
