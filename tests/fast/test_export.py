"""Export: each program finds the labels under its names, and a frame has all that it came with."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import read, write
from ase.stress import voigt_6_to_full_3x3_stress

from mlsel.__main__ import main
from mlsel.core.errors import MlselError
from mlsel.pool.importing import import_trajectories
from tests.support import Tolerance

N_FRAMES = 12


def brought(k: int) -> Atoms:
    """A frame as an ab initio code leaves it: of one of two compositions, with much beside."""
    rng = np.random.default_rng(k)
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    if k % 3 == 0:
        del atoms[6:]
    n = len(atoms)
    atoms.positions += rng.normal(0, 0.1, (n, 3))
    atoms.info.update(config_type=("melt", "solid")[k % 2], charge=0, dft_run=f"{k:03}", f=1 / 3)
    atoms.info["nested"] = {"a": [1, 2], "b": "c"}
    atoms.set_initial_magnetic_moments(rng.normal(size=n))
    atoms.set_tags(np.arange(n))
    forces, stress = rng.normal(0, 1, (n, 3)), rng.normal(0, 0.01, 6)
    atoms.calc = SinglePointCalculator(atoms, energy=-30.0 - k, forces=forces, stress=stress)
    return atoms


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames that a selection took from an imported pool."""
    folder = tmp_path_factory.mktemp("export")
    write(folder / "dft.traj", [brought(k) for k in range(N_FRAMES)])
    import_trajectories([folder / "dft.traj"], folder / "pool.h5")
    words = ["--method", "force", "-n", "6", "--seed", "1", "-o", str(folder / "chosen.h5")]
    assert main(["selection", "--pool", str(folder / "pool.h5"), *words]) == 0
    return folder / "chosen.h5"


def labels(atoms: Atoms, program: str) -> tuple[float, Any, Any]:
    """Energy, forces and stress, found as the program finds them."""
    if program == "mace":
        stress = np.reshape(atoms.info["REF_stress"], (3, 3))
        return atoms.info["REF_energy"], atoms.arrays["REF_forces"], stress
    if program == "nequip":
        stress = atoms.get_stress(voigt=False)
        return atoms.get_potential_energy(), atoms.get_forces(), stress
    forces = atoms.arrays["force"]
    assert atoms.calc is not None
    energy = atoms.info.get("energy", atoms.calc.results.get("energy"))
    return energy, forces, -np.reshape(atoms.info["virial"], (3, 3)) / atoms.get_volume()


def assert_labels(found: tuple[float, Any, Any], k: int) -> None:
    there = brought(k)
    assert found[0] == -30.0 - k
    np.testing.assert_array_equal(found[1], there.get_forces())
    np.testing.assert_allclose(
        found[2],
        there.get_stress(voigt=False),
        rtol=Tolerance.SAME_NUMBERS,
        atol=0.1 * Tolerance.LAST_DIGITS,
    )


@pytest.mark.parametrize("program", ["mace", "nequip", "gap", "nep"])
def test_case_stress_and_provenance_lost(program: str, chosen: Path, tmp_path: Path) -> None:
    """import → selection → export → ASE, bit for bit."""
    target = tmp_path / "train.xyz"
    assert main(["export", str(chosen), str(target), "--for", program]) == 0
    frames = read(target, ":")
    assert len(frames) == 6
    for atoms in frames:
        k = int(atoms.info["source_index"])
        there = brought(k)
        assert_labels(labels(atoms, program), k)
        np.testing.assert_array_equal(atoms.positions, there.positions)
        np.testing.assert_array_equal(atoms.cell.array, there.cell.array)
        for key in ("config_type", "charge", "f", "nested", "dft_run"):
            assert atoms.info[key] == there.info[key]
        for key in ("numbers", "initial_magmoms", "tags"):
            np.testing.assert_array_equal(atoms.arrays[key], there.arrays[key])
        assert atoms.info["source_file"].endswith("dft.traj")
        assert atoms.info["source_frame"] == k


@pytest.mark.parametrize("name", ["x.traj", "x.db", "x.xyz.gz", "x.extxyz"])
def test_case_export_name(name: str, chosen: Path, tmp_path: Path) -> None:
    """The suffix names the format, and what is written comes back by import, too."""
    assert main(["export", str(chosen), str(tmp_path / name)]) == 0
    frames = read(tmp_path / name, ":")
    assert len(frames) == 6
    if name == "x.xyz.gz":
        with gzip.open(tmp_path / name, "rt") as file:
            assert file.readline().strip() in ("6", "8")
    import_trajectories([tmp_path / name], tmp_path / "back.h5")
    assert main(["export", str(tmp_path / "back.h5"), str(tmp_path / "back.xyz")]) == 0
    for atoms in read(tmp_path / "back.xyz", ":"):
        k = int(atoms.info["source_index_of_source"])
        assert_labels(labels(atoms, "mace"), k)
        assert atoms.info["dft_run"] == f"{k:03}"


def test_schnetpacks_database(chosen: Path, tmp_path: Path) -> None:
    words = ["export", str(chosen), str(tmp_path / "x.db"), "--for", "schnetpack"]
    assert main(words) == 0
    database = connect(tmp_path / "x.db")
    assert database.metadata["_property_unit_dict"] == {
        "energy": "eV",
        "forces": "eV/Ang",
        "stress": "eV/Ang/Ang/Ang",
    }
    for row in database.select():
        k = row.data["source_index"]
        assert row.data["energy"].shape == (1,) and row.data["stress"].shape == (1, 3, 3)
        assert_labels((row.data["energy"][0], row.data["forces"], row.data["stress"][0]), k)
        stress = voigt_6_to_full_3x3_stress(row.stress)
        assert_labels((row.energy, row.forces, stress), k)
        np.testing.assert_array_equal(row.data["initial_magmoms"], row.initial_magmoms)


def test_deepmds_folders(chosen: Path, tmp_path: Path) -> None:
    for _ in range(2):
        words = ["export", str(chosen), str(tmp_path / "systems"), "--for", "deepmd", "--force"]
        assert main(words) == 0
    n = 0
    for system in (tmp_path / "systems").iterdir():
        of = {path.stem: np.load(path) for path in (system / "set.000").iterdir()}
        types = np.loadtxt(system / "type.raw", dtype=int)
        symbols = np.array((system / "type_map.raw").read_text().split())
        for i, k in enumerate(of["source_index"]):
            there = brought(k)
            assert symbols[types].tolist() == there.get_chemical_symbols()
            np.testing.assert_array_equal(of["coord"][i], there.positions.ravel())
            np.testing.assert_array_equal(of["box"][i], there.cell.array.ravel())
            stress = -of["virial"][i].reshape(3, 3) / there.get_volume()
            assert_labels((of["energy"][i], of["force"][i].reshape(-1, 3), stress), k)
            assert json.loads(of["nested"][i]) == there.info["nested"]
            n += 1
    assert n == 6


def test_n2p2s_input_data(chosen: Path, tmp_path: Path) -> None:
    assert main(["export", str(chosen), str(tmp_path / "input.data"), "--for", "n2p2"]) == 0
    blocks = (tmp_path / "input.data").read_text().split("begin\n")[1:]
    assert len(blocks) == 6
    for block in blocks:
        lines = [line.split() for line in block.strip().splitlines()]
        (index,) = (word for word in lines[0] if word.startswith("source_index="))
        there = brought(int(index.partition("=")[2]))
        atoms = [line for line in lines if line[0] == "atom"]
        rows = np.array([line[1:4] + line[-3:] for line in atoms], dtype=float)
        np.testing.assert_array_equal(rows, np.hstack([there.positions, there.get_forces()]))
        assert [line[4] for line in atoms] == there.get_chemical_symbols()
        cell = np.array([line[1:] for line in lines if line[0] == "lattice"], dtype=float)
        np.testing.assert_array_equal(cell, there.cell.array)
        assert ["energy", repr(there.get_potential_energy())] in lines and lines[-1] == ["end"]


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("x.foo", [], "no format has this suffix: write .xyz"),
        ("x.xyz", ["--for", "schnetpack"], "schnetpack reads .db"),
        ("x.db", ["--for", "mace"], "mace reads extended XYZ"),
        ("x.xyz", ["--for", "deepmd"], "deepmd reads a folder"),
        ("x.xyz", ["--chemiscope"], "chemiscope reads .json and .json.gz"),
    ],
)
def test_a_name_that_does_not_fit_gets_a_sentence(
    name: str, words: list[str], said: str, chosen: Path, tmp_path: Path
) -> None:
    with pytest.raises(MlselError, match=said):
        main(["export", str(chosen), str(tmp_path / name), *words])
    assert not list(tmp_path.iterdir())


def test_what_collides_with_a_label_is_kept_beside_it(tmp_path: Path) -> None:
    """A model's energy under the name that NequIP reads must not pass for the label, nor go."""
    atoms = Atoms("NaCl", [[0, 0, 0], [2.4, 0, 0]], info={"REF_energy": -6.0, "energy": -1.0})
    write(tmp_path / "a.xyz", atoms, format="extxyz")
    words = ["import", str(tmp_path / "a.xyz"), str(tmp_path / "p.h5"), "--energy-key"]
    assert main([*words, "REF_energy"]) == 0
    words = ["export", str(tmp_path / "p.h5"), str(tmp_path / "b.xyz"), "--for", "nequip"]
    assert main(words) == 0
    back = read(tmp_path / "b.xyz")
    assert isinstance(back, Atoms)
    assert back.get_potential_energy() == -6.0 and back.info["energy_of_source"] == -1.0
    with pytest.raises(MlselError, match="GPUMD reads no frame without"):
        main(["export", str(tmp_path / "p.h5"), str(tmp_path / "c.xyz"), "--for", "nep"])


def test_arrays_that_ase_does_not_know_are_kept(tmp_path: Path) -> None:
    atoms = Atoms("NaCl", [[0, 0, 0], [2.4, 0, 0]], info={"REF_energy": -6.0, "note": "1e3"})
    atoms.info["box"] = 3
    atoms.arrays["site"] = np.array([3, 1])
    atoms.arrays["kind"] = np.array(["a", "b"])
    write(tmp_path / "a.xyz", atoms, format="extxyz")
    assert main(["import", str(tmp_path / "a.xyz"), str(tmp_path / "p.h5")]) == 0
    for name in ("b.xyz", "b.traj", "b.db"):
        assert main(["export", str(tmp_path / "p.h5"), str(tmp_path / name)]) == 0
        back = read(tmp_path / name)
        assert isinstance(back, Atoms)
        data = connect(tmp_path / name).get(1).data if name == "b.db" else {}
        of = {**back.arrays, **back.info, **data}
        assert of["site"].tolist() == [3, 1] and list(of["kind"]) == ["a", "b"]
    words = ["export", str(tmp_path / "p.h5"), str(tmp_path / "d"), "--for", "deepmd"]
    assert main(words) == 0
    assert np.load(tmp_path / "d/system-0000/set.000/site.npy").tolist() == [[3, 1]]
    assert np.load(tmp_path / "d/system-0000/set.000/box.npy").shape == (1, 9)
    assert np.load(tmp_path / "d/system-0000/set.000/box_of_source.npy").tolist() == [3]
    assert (tmp_path / "d/system-0000/nopbc").is_file()


def test_chemiscope_has_structures_and_what_all_frames_have(chosen: Path, tmp_path: Path) -> None:
    """As its documentation wants it: sizes agree, and each property has a value a structure."""
    assert main(["export", str(chosen), str(tmp_path / "a.json.gz"), "--chemiscope"]) == 0
    with gzip.open(tmp_path / "a.json.gz", "rt", encoding="utf-8") as file:
        found = json.load(file)
    assert found["meta"]["name"] == "chosen" and len(found["structures"]) == 6
    assert main(["export", str(chosen), str(tmp_path / "a.extxyz")]) == 0
    for structure, atoms in zip(
        found["structures"], read(tmp_path / "a.extxyz", index=":"), strict=True
    ):
        assert structure["size"] == len(atoms) == len(structure["x"])
        assert structure["names"] == atoms.get_chemical_symbols()
        np.testing.assert_allclose(
            structure["z"], atoms.positions[:, 2], atol=Tolerance.FIVE_DIGITS
        )
        np.testing.assert_allclose(
            structure["cell"], atoms.cell.array.ravel(), atol=Tolerance.FIVE_DIGITS
        )
    for name, known in found["properties"].items():
        assert known["target"] == "structure" and len(known["values"]) == 6, name
    assert {"energy per atom", "largest force", "config_type"} <= found["properties"].keys()
    assert "nested" not in found["properties"]
