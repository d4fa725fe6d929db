"""Files of models: what the export refuses, and that a damaged file is a sentence in LAMMPS."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsel.core.errors import MlselError
from mlsel.export_model import SLOPE_ERROR_WANTED, export_painn, export_schnet, read_metadata
from tests.plugins.support import evaluate_lammps, melts, open_lammps
from tests.support import Tolerance


def test_metadata(files: dict[str, Path]) -> None:
    for name, dtype in (("schnet64", "float64"), ("schnet32", "float32")):
        metadata = read_metadata(files[name])
        assert metadata["species"] == ["Na", "Cl"]
        assert metadata["cutoff"] == 6.0
        assert metadata["dtype"] == dtype
        for error in metadata["compressed"]["table_errors"]:
            assert error["slope"] <= SLOPE_ERROR_WANTED[dtype] * error["largest_slope"]
    assert read_metadata(files["painn64"])["compressed"] is None


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("mode", ["compressed", "torchscript"])
def test_offsets_are_added_in_double(mode: str, models: dict[str, Any], tmp_path: Path) -> None:
    path = export_schnet(
        models["schnet"], tmp_path / "model.pt", ("Na", "Cl"), energy_offset={"Na": -1e6, "Cl": 2.5}
    )
    plain = export_schnet(models["schnet"], tmp_path / "plain.pt", (11, 17))
    atoms = melts()[0]
    energies = [
        evaluate_lammps(atoms, f"schnet {mode} threads 1", f"{file} Na Cl").energy
        for file in (plain, path)
    ]
    assert energies[1] - energies[0] == pytest.approx(32 * (-1e6 + 2.5), rel=Tolerance.LAST_DIGITS)


def test_export_refuses(models: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(MlselError, match="this exports SchNet"):
        export_schnet(models["painn"], path, ("Na", "Cl"))
    with pytest.raises(MlselError, match="this exports PaiNN"):
        export_painn(models["schnet"], path, ("Na", "Cl"))
    with pytest.raises(MlselError, match="no chemical element"):
        export_schnet(models["schnet"], path, ("Na", "Xx"))
    with pytest.raises(MlselError, match="named once"):
        export_schnet(models["schnet"], path, ("Na", "Na"))
    with pytest.raises(MlselError, match="float32, float64"):
        export_schnet(models["schnet"], path, ("Na", "Cl"), dtype="float16")
    with pytest.raises(MlselError, match="energy_offset names"):
        export_schnet(
            models["schnet"], path, ("Na", "Cl"), energy_offset={"Na": 1.0}, compress=False
        )
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MlselError, match="There is no model"):
        read_metadata(path)
    path.write_bytes(b"something else")
    with pytest.raises(MlselError, match="no potential that mlsel exported"):
        read_metadata(path)


def refuse(path: Path, mode: str = "", elements: str = "Na Cl") -> str:
    """The message with which LAMMPS refuses a file."""
    lmp = open_lammps()
    try:
        lmp.commands_string(
            "units metal\nregion cell block 0 9 0 9 0 9\ncreate_box 2 cell\nmass * 1.0\n"
            f"pair_style schnet {mode} threads 1"
        )
        with pytest.raises(Exception) as error:
            lmp.command(f"pair_coeff * * {path} {elements}")
        return str(error.value)
    finally:
        lmp.close()


def rewritten(source: Path, target: Path, change: Any) -> Path:
    """A copy with other metadata, checksums right."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith("extra/mlsel.json"):
                metadata = json.loads(data)
                change(metadata)
                data = json.dumps(metadata).encode()
            new.writestr(entry.filename, data)
    return target


CHANGES = {
    "lacks cutoff": lambda m: m.pop("cutoff"),
    "a cutoff of": lambda m: m.update(cutoff=-1.0),
    "another cutoff": lambda m: m.update(cutoff=4.0),
    "wrong kind": lambda m: m.update(cutoff="far"),
    "format version": lambda m: m.update(format_version=99),
    "not in the units": lambda m: m["units"].update(energy="kcal"),
    "has dtype": lambda m: m.update(dtype="float16"),
    "species": lambda m: m.update(species=["Na"]),
    "layers": lambda m: m.update(n_layers=7),
    "n_filters": lambda m: m["compressed"].update(n_filters=10**9),
    "another shape": lambda m: m["compressed"].update(n_knots=66),
    "lacks the array": lambda m: m["compressed"]["arrays"].pop("layer1/table"),
    "lacks a part": lambda m: m["compressed"]["arrays"]["layer0/in2f"].update(offset=10**12),
    "activation": lambda m: m["compressed"].update(activation="relu6"),
    "end in one number": lambda m: m["compressed"].update(readout=[48, 48, 2]),
}


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("mode", ["compressed", "torchscript"])
@pytest.mark.parametrize("message", CHANGES)
def test_wrong_metadata_is_a_sentence(
    message: str, mode: str, files: dict[str, Path], tmp_path: Path
) -> None:
    path = rewritten(files["schnet32"], tmp_path / "model.pt", CHANGES[message])
    assert message in refuse(path, mode)


DISAGREEMENTS = {
    "the file tells of cutoff 4, its model of 6": lambda m: m.update(cutoff=4.0),
    "the file tells of n_layers 1, its model of 2": lambda m: m.update(n_layers=1, widths=[64] * 2),
    "the file tells of numbers of Float": lambda m: m.update(dtype="float32"),
    "17 of Double expected": lambda m: m.update(widths=[17, 64, 64]),
    "embed gave a Double tensor": lambda m: m.update(widths=[128, 64, 64]),
}
"""What the metadata tells, and the model, which has no tables to compare it with, does not."""


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("message", DISAGREEMENTS)
def test_the_model_must_agree(message: str, files: dict[str, Path], tmp_path: Path) -> None:
    path = rewritten(files["painn64"], tmp_path / "model.pt", DISAGREEMENTS[message])
    with pytest.raises(Exception, match="ERROR") as error:
        evaluate_lammps(melts()[0], "schnet torchscript threads 1", f"{path} Na Cl")
    assert message in str(error.value)


@pytest.mark.usefixtures("plugins")
def test_wrong_use_is_a_sentence(files: dict[str, Path], tmp_path: Path) -> None:
    assert "there is no file" in refuse(tmp_path / "none.pt")
    assert "knows nothing of K" in refuse(files["schnet32"], elements="Na K")
    assert "2 atom types" in refuse(files["schnet32"], elements="Na")
    assert "no tables" in refuse(files["painn64"], mode="compressed")


@pytest.mark.usefixtures("plugins")
def test_damaged_files_never_crash(files: dict[str, Path], tmp_path: Path) -> None:
    """Cut off, overwritten, and with flipped bytes at random places."""
    whole = files["schnet32"].read_bytes()
    rng = np.random.default_rng(1)
    path = tmp_path / "model.pt"
    for case in range(60):
        data = bytearray(whole)
        if case % 3 == 0:
            del data[int(rng.integers(len(data))) :]
        elif case % 3 == 1:
            for place in rng.integers(len(data), size=20):
                data[place] ^= int(rng.integers(1, 256))
        else:  # the directory at the end, where a reader follows offsets
            for place in rng.integers(len(data) - 6000, len(data), size=3):
                data[place] = int(rng.integers(256))
        path.write_bytes(bytes(data))
        mode = ("compressed", "torchscript")[case // 3 % 2]
        try:
            message = refuse(path, mode)
        except pytest.fail.Exception:
            continue  # the damage hit a part that does not matter: padding, names
        assert message.startswith("ERROR")
