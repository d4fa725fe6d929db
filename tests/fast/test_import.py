"""Import of what people bring: no label is lost, none made up, and what is unclear is refused."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.db import connect
from ase.io import read, write

from mlsel.__main__ import main
from mlsel.core import units
from mlsel.core.arrays import Array
from mlsel.core.errors import MlselError
from mlsel.pool.exporting import outgoing
from mlsel.pool.import_report import Report
from mlsel.pool.importing import import_trajectories
from mlsel.pool.labels import LabelOptions
from mlsel.pool.pool import Pool
from tests.support import Tolerance


def pair(k: int, *, energy: str = "REF_energy", forces: str = "REF_forces") -> Atoms:
    """Na and Cl at a distance that grows with k."""
    atoms = Atoms("NaCl", [[0, 0, 0], [2.4 + 0.05 * k, 0, 0]], cell=[9] * 3, pbc=True)
    atoms.info[energy] = -6.0 - 0.1 * k
    atoms.arrays[forces] = np.random.default_rng(k).normal(0, 1, (2, 3))
    return atoms


def bring(folder: Path, frames: list[Atoms], options: LabelOptions | None = None) -> Report:
    """Import frames through extended XYZ into folder/pool.h5."""
    write(folder / "in.extxyz", frames, format="extxyz")
    return import_trajectories([folder / "in.extxyz"], folder / "pool.h5", options)


def in_order(pool: Pool, field: str) -> list[Array]:
    """A field of all frames in the order of frame ids."""
    found: dict[int, Array] = {}
    for block in pool.blocks(field):
        found |= dict(zip(block.frame_ids.tolist(), block[field], strict=True))
    return [found[i] for i in range(len(pool))]


@pytest.mark.parametrize("first", [True, False])
def test_case_forces_lost_when_first_frame_lacks_them(first: bool, tmp_path: Path) -> None:
    info = {"REF_energy": -0.2, "config_type": "IsolatedAtom"}
    atom, frames = Atoms("Na", cell=[20] * 3, pbc=True, info=info), [pair(k) for k in range(6)]
    report = bring(tmp_path, [atom, *frames] if first else [*frames, atom])
    assert report.n_frames == 6 and report.references == {11: -0.2}
    with Pool(tmp_path / "pool.h5") as pool:
        assert pool.element_references == {11: -0.2}
        np.testing.assert_allclose(pool.values("energy"), [a.info["REF_energy"] for a in frames])
        for forces, there in zip(in_order(pool, "forces"), frames, strict=True):
            np.testing.assert_allclose(
                forces, there.arrays["REF_forces"], atol=Tolerance.SEVEN_DIGITS
            )


def test_isolated_atoms_are_frames_if_asked_for(tmp_path: Path) -> None:
    atom = Atoms("Na", cell=[20] * 3, pbc=True, info={"REF_energy": -0.2})
    write(tmp_path / "in.extxyz", [atom, pair(0)], format="extxyz")
    import_trajectories([tmp_path / "in.extxyz"], tmp_path / "pool.h5", keep_isolated=True)
    with Pool(tmp_path / "pool.h5") as pool:
        assert len(pool) == 2 and pool.element_references == {11: -0.2}
        assert not in_order(pool, "forces")[0].any()


@pytest.mark.parametrize("without", ["skip", "keep"])
def test_frames_without_labels_are_left_out_or_kept(without: str, tmp_path: Path) -> None:
    frames = [pair(k) for k in range(4)]
    del frames[0].arrays["REF_forces"]
    with pytest.raises(MlselError, match=r"1 of 4 frames have no forces \(first: .*frame 0\)"):
        bring(tmp_path, frames)
    report = bring(tmp_path, frames, LabelOptions(without=without))
    assert (report.n_frames, report.left_out) == ((3, 1) if without == "skip" else (4, 0))
    with Pool(tmp_path / "pool.h5") as pool:
        assert ("forces" in pool.fields) == (without == "skip")
        if without == "keep":
            with pytest.raises(MlselError, match="1 of 4 frames hold no forces"):
                pool.require("forces")


def labelled_by_model(k: int, *, with_reference: bool) -> Atoms:
    atoms = pair(k, energy="unused", forces="unused")
    del atoms.info["unused"], atoms.arrays["unused"]
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0 * k, forces=np.full((2, 3), 0.1))
    if with_reference:
        atoms.info["REF_energy"] = -100.0 - k
        atoms.arrays["REF_forces"] = np.full((2, 3), 5.0)
    return atoms


def test_case_labels_taken_from_first_frames_key(tmp_path: Path) -> None:
    frames = [labelled_by_model(k, with_reference=k > 0) for k in range(4)]
    with pytest.raises(MlselError, match="energy is under 2 keys with other values") as refused:
        bring(tmp_path, frames)
    assert "REF_energy in 3" in str(refused.value) and "energy in 4" in str(refused.value)
    options = LabelOptions(energy=("REF_energy",), forces=("REF_forces",), without="skip")
    report = bring(tmp_path, frames, options)
    assert report.labels["energy"] == {"REF_energy": 3} and report.left_out == 1
    with Pool(tmp_path / "pool.h5") as pool:
        assert pool.values("energy").tolist() == [-101, -102, -103]
    for atoms in frames[1:]:
        atoms.calc = None
    with pytest.raises(MlselError, match=r"energy is under 2 keys in 4 frames: .*--energy-key"):
        bring(tmp_path, frames)


def dump(path: Path, column: str, kinds: tuple[str, str]) -> Path:
    """Two frames of a LAMMPS text dump with forces and an energy per atom."""
    text = ""
    for step in (0, 10):
        text += f"ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n"
        text += f"0 8\n0 8\n0 8\nITEM: ATOMS id {column} x y z fx fy fz c_pe\n"
        text += f"1 {kinds[0]} 2.0 2 2 0.5 0 0 -3.1\n2 {kinds[1]} 4.{step} 2 2 -0.5 0 0 -3.2\n"
    path.write_text(text)
    return path


def test_a_dump_that_says_its_units_is_not_read_in_others(tmp_path: Path) -> None:
    path = dump(tmp_path / "a.dump", "element", ("Na", "Cl"))
    untold = import_trajectories([path], tmp_path / "untold.h5")
    assert any("does not say its units" in warning for warning in untold.warnings)
    plain = path.read_text()
    path.write_text(f"ITEM: UNITS\nreal\n{plain}")
    with pytest.raises(MlselError, match=r"units real, and .* eV and Å: give --energy-unit kcal"):
        import_trajectories([path], tmp_path / "b.h5")
    given = import_trajectories([path], tmp_path / "b.h5", LabelOptions(energy_unit="kcal/mol"))
    assert not any("its units" in warning for warning in given.warnings)
    with Pool(tmp_path / "b.h5") as pool:
        # 23.0605 kcal/mol are 1 eV (CODATA)
        np.testing.assert_allclose(
            in_order(pool, "forces")[0][0, 0], 0.5 / 23.0605, rtol=Tolerance.FIVE_DIGITS
        )
    path.write_text(f"ITEM: UNITS\nmetal\n{plain}")
    with pytest.raises(MlselError, match=r"units metal, and .*--energy-unit kcal/mol: give"):
        import_trajectories([path], tmp_path / "c.h5", LabelOptions(energy_unit="kcal/mol"))
    import_trajectories([path], tmp_path / "c.h5")
    path.write_text(f"ITEM: UNITS\nlj\n{plain}")
    with pytest.raises(MlselError, match="units 'lj': only frames in metal, real, electron"):
        import_trajectories([path], tmp_path / "d.h5")


def test_case_lammps_dump_energy_zero(tmp_path: Path) -> None:
    elements = dump(tmp_path / "elements.dump", "element", ("Na", "Cl"))
    import_trajectories([elements], tmp_path / "a.h5")
    with Pool(tmp_path / "a.h5") as pool:
        assert "energy" not in pool.fields and "forces" in pool.fields
    import_trajectories([elements], tmp_path / "b.h5", LabelOptions(atomic_energies=("c_pe",)))
    with Pool(tmp_path / "b.h5") as pool:
        np.testing.assert_allclose(pool.values("energy"), [-6.3, -6.3])
    types = dump(tmp_path / "types.dump", "type", ("1", "2"))
    with pytest.raises(MlselError, match=r"has types and no elements: .*--species"):
        import_trajectories([types], tmp_path / "c.h5")
    with pytest.raises(MlselError, match="atoms of type 2, --species names 1"):
        import_trajectories([types], tmp_path / "c.h5", species=["Na"])
    import_trajectories([types], tmp_path / "c.h5", species=["Na", "Cl"])
    with Pool(tmp_path / "c.h5") as pool:
        assert pool.numbers(pool.runs[0]).tolist() == [11, 17]


def test_case_stress_and_provenance_lost(tmp_path: Path) -> None:
    rng, frames = np.random.default_rng(1), []
    for k in range(12):
        atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
        atoms.positions += rng.normal(0, 0.1, (8, 3))
        atoms.info.update(config_type=("melt", "solid")[k % 2], charge=0, dft_run=f"run_{k:03}")
        atoms.set_initial_magnetic_moments(np.ones(8))
        stress = rng.normal(0, 0.01, 6)
        forces = rng.normal(0, 1, (8, 3))
        atoms.calc = SinglePointCalculator(atoms, energy=-30.0 - k, forces=forces, stress=stress)
        frames.append(atoms)
    report = bring(tmp_path, frames)
    assert report.labels["virial"] == {"stress (−volume × stress)": 12}
    assert report.kept.keys() == {"config_type", "charge", "dft_run", "initial_magmoms"}
    assert not report.not_kept
    with Pool(tmp_path / "pool.h5") as pool:
        assert pool.values("dft_run").tolist() == [f"run_{k:03}" for k in range(12)]
        assert pool.values("config_type")[:3].tolist() == ["melt", "solid", "melt"]
        assert pool.values("source_index").tolist() == list(range(12))
        assert pool.values("source_file").tolist() == [0] * 12
        assert list(pool.attributes["sources"]) == [str(tmp_path / "in.extxyz")]


def test_case_unused_keys_not_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:dft_force:R:3 '
    row += 'dft_energy=-6.0 dft_virial="1 0 0 0 1 0 0 0 1" other=[1,2]'
    source = tmp_path / "dft.extxyz"
    source.write_text(2 * f"2\n{row}\nNa 0 0 0 0.1 0 0\nCl 2.4 0 0 -0.1 0 0\n")
    assert main(["import", str(source), str(tmp_path / "pool.h5")]) == 0
    text = capsys.readouterr().out
    assert "energy           from dft_energy: 2 of 2 frames" in text
    assert "forces           from dft_force: 2 of 2 frames" in text
    assert "virial           from dft_virial (−dE/dε, as it is): 2 of 2" in text
    assert "kept as found: other (2)" in text and "not kept: nothing else" in text
    with Pool(tmp_path / "pool.h5") as pool:
        np.testing.assert_array_equal(pool.values("virial"), [np.eye(3)] * 2)


def test_case_empty_frame(tmp_path: Path) -> None:
    write(tmp_path / "a.extxyz", [pair(0), pair(1)], format="extxyz")
    with (tmp_path / "a.extxyz").open("a") as file:
        file.write('0\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3\n')
    with pytest.raises(MlselError, match=r"a\.extxyz, frame 2 has no atoms: leave it out"):
        import_trajectories([tmp_path / "a.extxyz"], tmp_path / "pool.h5")


def test_case_huge_column_count(tmp_path: Path) -> None:
    write(tmp_path / "a.extxyz", [pair(0)], format="extxyz")
    text = (tmp_path / "a.extxyz").read_text()
    huge = text.replace("REF_forces:R:3", f"REF_forces:R:{10**11}")
    (tmp_path / "huge.extxyz").write_text(huge)
    limit = 4 * 2**30
    done = subprocess.run(
        [sys.executable, "-m", "mlsel", "import", "huge.extxyz", "pool.h5"],
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Properties names 100000000004 columns" in done.stderr and len(done.stderr) < 420


def test_the_stress_of_emt_is_the_virial_of_its_energy(tmp_path: Path) -> None:
    """−dE/dε by finite differences: no sign, unit or order of Voigt's is taken on trust."""
    atoms = bulk("Cu", cubic=True)
    shear = [[0.02, 0, 0], [0.03, -0.01, 0], [0.01, 0.02, 0]]
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + np.array(shear)), scale_atoms=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = EMT()
    atoms.get_stress()
    expected, h = np.zeros((3, 3)), 1e-5
    for i, j in np.ndindex(3, 3):
        energies = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[i, j] += sign * h / 2
            strain[j, i] += sign * h / 2
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            moved.calc = EMT()
            energies.append(moved.get_potential_energy())
        expected[i, j] = -(energies[0] - energies[1]) / (2 * h)
    assert np.abs(expected[~np.eye(3, dtype=bool)]).min() > 0.01
    write(tmp_path / "a.traj", atoms)
    write(tmp_path / "a.extxyz", atoms)
    for name in ("a.traj", "a.extxyz"):
        import_trajectories([tmp_path / name], tmp_path / "pool.h5")
        with Pool(tmp_path / "pool.h5") as pool:
            np.testing.assert_allclose(
                pool.values("virial")[0], expected, atol=2 * Tolerance.FIVE_DIGITS
            )


def test_units_of_the_source(tmp_path: Path) -> None:
    atoms = pair(0)
    atoms.info["stress"] = np.eye(3)
    options = LabelOptions(
        energy_unit="Hartree", length_unit="Bohr", force_unit="Ry/Bohr", stress_unit="GPa"
    )
    report = bring(tmp_path, [atoms], options)
    hartree, bohr = 27.211386245988, 0.529177210903
    with Pool(tmp_path / "pool.h5") as pool:
        block = next(pool.blocks("positions", "forces", "energy", "virial", "cell"))
    np.testing.assert_allclose(block["energy"], [-6 * hartree])
    np.testing.assert_allclose(block["positions"][0], atoms.positions * bohr)
    np.testing.assert_allclose(
        block["forces"][0],
        atoms.arrays["REF_forces"] * hartree / 2 / bohr,
        rtol=Tolerance.SEVEN_DIGITS,
    )
    np.testing.assert_allclose(
        block["virial"][0], -np.eye(3) * (9 * bohr) ** 3 / 160.21766339999998
    )
    assert report.n_frames == 1


@pytest.mark.parametrize(
    ("lengths", "energy", "forces", "said"),
    [
        (0.1, -6.0, 1.0, "--length-unit nm"),
        (1 / 0.529, -6.0, 1.0, "--length-unit Bohr"),
        (1.0, -622.0, 1.0, "--energy-unit Hartree"),
        (1.0, -6.0, 40.0, "kcal/mol/Å"),
        (1.0, -6.0, 0.01, "Hartree/Bohr"),
    ],
)
def test_what_looks_like_another_unit_is_told(
    lengths: float, energy: float, forces: float, said: str, tmp_path: Path
) -> None:
    frames = [pair(k) for k in range(5)]
    assert not bring(tmp_path, frames).warnings
    for atoms in frames:
        atoms.set_cell(atoms.cell * lengths, scale_atoms=True)
        atoms.info["REF_energy"] = energy
        atoms.arrays["REF_forces"] *= forces
    assert any(said in warning for warning in bring(tmp_path, frames).warnings)


@pytest.mark.parametrize(
    ("energy", "forces", "said"),
    [
        (1.0, 1.0, []),
        (23.06, 23.06, ["forces of small.extxyz are", "in the same units"]),
        (1.0, 30.0, ["forces of small.extxyz are"]),
        (27.2, 1.0, ["frames of ClNa have -84.32 eV an atom in small.extxyz and -3.3 in large"]),
        (1.2, 1.0, []),
    ],
)
def test_a_file_of_another_unit_among_larger_ones_is_told(
    energy: float, forces: float, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the median of all frames it is not seen."""
    monkeypatch.chdir(tmp_path)
    small = [pair(k) for k in range(5)]
    for atoms in small:
        atoms.info["REF_energy"] *= energy
        atoms.arrays["REF_forces"] *= forces
    write("large.extxyz", [pair(k) for k in range(13)], format="extxyz")
    write("small.extxyz", small, format="extxyz")
    sources = [Path("large.extxyz"), Path("small.extxyz")]
    told = import_trajectories(sources, Path("pool.h5")).warnings
    assert len(told) == len(said) and all(len(sentence) <= 400 for sentence in told)
    for sentence, part in zip(told, said, strict=True):
        assert part in sentence
    assert not import_trajectories(sources[:1], Path("pool.h5")).warnings


def test_the_order_of_frames_changes_nothing(tmp_path: Path) -> None:
    """Shuffled compositions share runs, and every frame has its own values and source."""
    rng = np.random.default_rng(3)
    frames = []
    for k in range(60):
        n = int(rng.integers(1, 5))
        atoms = Atoms(f"Na{n}Cl{n}", rng.uniform(0, 9, (2 * n, 3)), cell=[9] * 3, pbc=True)
        atoms.info.update(REF_energy=-3.0 * n - k / 100, label=f"k{k}")
        atoms.arrays["REF_forces"] = rng.normal(size=(2 * n, 3))
        frames.append(atoms)
    sizes = len({len(atoms) for atoms in frames})
    for order in (range(60), rng.permutation(60)):
        shuffled = [frames[k] for k in order]
        assert bring(tmp_path, shuffled).n_runs == sizes
        with Pool(tmp_path / "pool.h5") as pool:
            assert len(pool.runs) == sizes
            assert pool.values("label").tolist() == [a.info["label"] for a in shuffled]
            assert pool.values("source_index").tolist() == list(range(60))
            for found, atoms in zip(in_order(pool, "positions"), shuffled, strict=True):
                np.testing.assert_allclose(found, atoms.positions, atol=Tolerance.SEVEN_DIGITS)


def test_several_sources_name_their_frames(tmp_path: Path) -> None:
    write(tmp_path / "a.extxyz", [pair(0), pair(1)], format="extxyz")
    write(tmp_path / "b@1.extxyz.gz", [pair(2)], format="extxyz")
    sources = [tmp_path / "a.extxyz", tmp_path / "b@1.extxyz.gz"]
    import_trajectories(sources, tmp_path / "pool.h5")
    with Pool(tmp_path / "pool.h5") as pool:
        assert pool.values("source_file").tolist() == [0, 0, 1]
        assert pool.values("source_index").tolist() == [0, 1, 0]
        assert list(pool.attributes["sources"]) == list(map(str, sources))
        assert len({run.name for run in pool.runs}) == 2


def test_schnetpacks_database_says_its_units(tmp_path: Path) -> None:
    database = connect(tmp_path / "a.db")
    data = {"energy": np.array([-1.0]), "forces": np.full((2, 3), 1.0)}
    bare = pair(0)
    bare.info, bare.arrays = {}, {k: bare.arrays[k] for k in ("numbers", "positions")}
    database.write(bare, data=data)
    database.metadata = {
        "_distance_unit": "Bohr",
        "_property_unit_dict": {"energy": "kcal/mol", "forces": "kcal/mol/Bohr"},
    }
    import_trajectories([tmp_path / "a.db"], tmp_path / "pool.h5")
    kcal = units.factor("kcal/mol", "energy")
    with Pool(tmp_path / "pool.h5") as pool:
        block = next(pool.blocks("positions", "forces", "energy", "cell"))
    np.testing.assert_allclose(block["energy"], [-kcal])
    np.testing.assert_allclose(block["forces"][0], np.full((2, 3), kcal / 0.529177210903))
    np.testing.assert_allclose(block["positions"][0], bare.positions * 0.529177210903)


@pytest.mark.parametrize(
    ("lengths", "forces", "options", "said"),
    [
        (
            "Bohr",
            "kcal/mol/Bohr",
            {"energy_unit": "Hartree"},
            "energy is in kcal/mol, and --energy",
        ),
        ("Bohr", "eV/Angstrom", {"length_unit": "nm"}, "distance is in Bohr, and --length-unit nm"),
        (None, "eV/Angstrom", {"force_unit": "Ry/Bohr"}, "forces is in eV/Angstrom, and --force"),
        ("Bohr", None, {"stress_unit": "GPa", "force_unit": "Ry/Bohr"}, ""),
        ("Bohr", None, {"stress_unit": "GPa"}, "per that length or per Å is not said"),
        ("Ang", None, {"stress_unit": "GPa"}, ""),
        ("Bohr", "kcal/mol/Bohr", {"energy_unit": "eV"}, ""),
    ],
)
def test_units_are_not_put_upon_those_that_a_database_says(
    lengths: str | None, forces: str | None, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    database = connect(tmp_path / "a.db")
    bare = Atoms("NaCl", np.eye(2, 3) * 2.8, cell=[9] * 3, pbc=True)
    database.write(bare, data={"energy": np.array([-1.0]), "forces": np.full((2, 3), 1.0)})
    database.metadata = {
        "_distance_unit": lengths,
        "_property_unit_dict": {"energy": "kcal/mol", **({"forces": forces} if forces else {})},
    }
    sources = [tmp_path / "a.db"], tmp_path / "pool.h5", LabelOptions(**options)
    if not said:
        assert import_trajectories(*sources).n_frames == 1
        return
    with pytest.raises(MlselError, match=said) as told:
        import_trajectories(*sources)
    assert len(str(told.value).replace(str(tmp_path), "")) < 350


def test_zero_forces_of_fixed_atoms_are_no_label(tmp_path: Path) -> None:
    atoms = pair(0)
    forces = np.array([[0, 0, 0], [0.3, 0, 0]])
    del atoms.info["REF_energy"], atoms.arrays["REF_forces"]
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=forces)
    atoms.set_constraint(FixAtoms([0]))
    report = bring(tmp_path, [atoms])
    assert "forces" not in report.labels
    assert any("filled in" in warning for warning in report.warnings)


def test_free_energy_and_energy_are_told_apart(tmp_path: Path) -> None:
    atoms = pair(0)
    del atoms.info["REF_energy"], atoms.arrays["REF_forces"]
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, free_energy=-1.5, forces=np.ones((2, 3)))
    write(tmp_path / "a.traj", atoms)
    report = import_trajectories([tmp_path / "a.traj"], tmp_path / "pool.h5")
    assert any("free_energy beside energy, up to 0.5 eV" in text for text in report.warnings)
    options = LabelOptions(energy=("free_energy",))
    import_trajectories([tmp_path / "a.traj"], tmp_path / "pool.h5", options)
    with Pool(tmp_path / "pool.h5") as pool:
        assert pool.values("energy").tolist() == [-1.5]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.replace('Lattice="9.0 0.0 0.0 0.0 9.0 0.0 0.0 0.0 9.0" ', ""), "has no cell"),
        (lambda s: s.replace("0.0 9.0 0.0 0.0 0.0 9.0", "9.0 9.0 0 0 0 0"), "cell"),
        (lambda s: s.replace("Lattice", "lattice"), "has the key lattice: it is written Lattice"),
        (lambda s: s.replace(":pos:", ":POS:"), "names no column pos: POS is written pos"),
        (lambda s: s.replace("REF_energy", "pbc"), "has the key pbc twice"),
        (lambda s: s.rsplit("\n", 2)[0] + "\n", "ends after 1 of 2 atoms: it was cut short"),
        (lambda s: s.replace("Na", "Qq"), "can't be read"),
        (lambda s: s.replace("2.40000000", "nan"), "NaN or infinite"),
        (lambda s: s.replace("2.4", "0.0"), "all 2 atoms at one point"),
        (lambda _: "", "is empty"),
        (lambda _: "hello\nworld\n", "begins with 'hello'"),
    ],
)
def test_odd_files_get_a_sentence(change: Callable[[str], str], said: str, tmp_path: Path) -> None:
    write(tmp_path / "a.extxyz", [pair(0)], format="extxyz")
    text = (tmp_path / "a.extxyz").read_text()
    assert change(text) != text
    (tmp_path / "a.extxyz").write_text(change(text))
    with pytest.raises(MlselError, match=said) as refused:
        import_trajectories([tmp_path / "a.extxyz"], tmp_path / "pool.h5")
    assert len(str(refused.value)) <= 400
    assert not (tmp_path / "pool.h5").exists()


def test_odd_values_are_kept_or_named(tmp_path: Path) -> None:
    """Names that collide with the pool's own, ragged lists, texts per atom, left-handed cells."""
    atoms = pair(0)
    atoms.info.update(volume=1.0, cell_="x", tags=[[1], [2, 3]], note="a b")
    atoms.set_cell(np.diag([9, 9, -9.0]))
    write(tmp_path / "in.traj", [atoms])
    report = import_trajectories([tmp_path / "in.traj"], tmp_path / "pool.h5")
    assert any("left-handed" in warning for warning in report.warnings)
    with Pool(tmp_path / "pool.h5") as pool:
        assert pool.values("volume")[0] == pytest.approx(729, rel=Tolerance.ROUNDING)
        assert pool.values("volume_of_source")[0] == 1.0
        assert pool.values("note")[0] == "a b"
        assert pool.values("tags")[0] == "[[1], [2, 3]]"
    again = read(tmp_path / "in.traj")
    assert isinstance(again, Atoms)
    assert set(report.kept) == set(again.info) - {"REF_energy"}


def test_texts_per_atom_are_kept(tmp_path: Path) -> None:
    atoms = pair(0)
    atoms.arrays["site"] = np.array(["octa", "tetra"])
    bring(tmp_path, [atoms])
    with Pool(tmp_path / "pool.h5") as pool:
        assert next(pool.blocks("site"))["site"].tolist() == [["octa", "tetra"]]


def test_case_duplicates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every frame twice, as in merged data sets: one of each, and none of those left out."""
    frames = [pair(k) for k in range(40)]
    assert bring(tmp_path, frames + frames).n_copies == 40
    pool, train, test = (str(tmp_path / name) for name in ("pool.h5", "train.h5", "test.h5"))
    main(["info", pool])
    assert "copies: 40 frames are copies of another" in capsys.readouterr().out
    words = ["selection", "--pool", pool, "--seed", "1", "-o"]
    for option in ("--exclude", "--given"):
        for path in (train, test):
            Path(path).unlink(missing_ok=True)
        assert main([*words, train, "--method", "force", "-n", "20"]) == 0
        assert main([*words, test, "--method", "random", "-n", "20", option, train]) == 0
        with Pool(train) as chosen, Pool(test) as others:
            of = [set((p.values("source_frame") % 40).tolist()) for p in (chosen, others)]
        assert len(of[0]) == len(of[1]) == 20 and not of[0] & of[1]
    with pytest.raises(MlselError, match="has 20 without copies after excluding 60"):
        main([*words, str(tmp_path / "x.h5"), "--method", "random", "-n", "21", "--exclude", train])
    # Given frames of another pool are known by their content, too.
    write(tmp_path / "some.extxyz", frames[:30], format="extxyz")
    import_trajectories([tmp_path / "some.extxyz"], tmp_path / "some.h5")
    given = ["--given", str(tmp_path / "some.h5")]
    last = tmp_path / "last.h5"
    assert main([*words, str(last), "--method", "random", "-n", "10", *given]) == 0
    with Pool(last) as chosen:
        assert set((chosen.values("source_frame") % 40).tolist()) == set(range(30, 40))


@pytest.mark.parametrize("info", [-100.0, "unknown", -1.0])
def test_one_key_in_two_places(info: float | str, tmp_path: Path) -> None:
    """ASE's calculator and Atoms.info can both have an energy: neither is lost without a word."""
    atoms = pair(0)
    atoms.info["energy"] = info
    del atoms.info["REF_energy"]
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    write(tmp_path / "in.traj", [atoms])
    if info == -1.0:
        assert import_trajectories([tmp_path / "in.traj"], tmp_path / "pool.h5").n_frames == 1
        return
    with pytest.raises(MlselError, match="two different values of energy, in ASE's results and"):
        import_trajectories([tmp_path / "in.traj"], tmp_path / "pool.h5")


def test_a_pool_is_imported_whole(tmp_path: Path) -> None:
    """A pool of mlsel's: labels, other values, order and element references, to the bit."""
    frames = [pair(k) for k in range(5)]
    for k, atoms in enumerate(frames):
        atoms.info["config_type"] = f"liquid {k}"
        atoms.info["temperature"] = 300.0 + k
        atoms.info["REF_virial"] = np.full((3, 3), 0.5 * k)
        atoms.info["bonds"] = {"a": [1, k]}
        atoms.arrays["magmoms"] = np.array([k, -1.0])
        atoms.arrays["dft_atomic_energies"] = np.array([-3.0, -3.0 - 0.1 * k])
    frames.insert(2, Atoms("NaCl2", np.eye(3) * 3, cell=[9] * 3, pbc=True, info={"REF_energy": -7}))
    frames[2].arrays["REF_forces"] = np.zeros((3, 3))
    frames.append(Atoms("Na", cell=[20] * 3, pbc=True, info={"REF_energy": -1.25}))
    bring(tmp_path, frames)
    report = import_trajectories([tmp_path / "pool.h5"], tmp_path / "again.h5")
    assert report.references == {11: -1.25}
    assert "not kept: nothing else" in report.lines()
    with Pool(tmp_path / "pool.h5") as first, Pool(tmp_path / "again.h5") as second:
        assert second.element_references == first.element_references == {11: -1.25}
        of = [list(outgoing(pool)) for pool in (first, second)]
        assert len(of[0]) == len(of[1]) == 6
        for one, other in zip(*of, strict=True):
            assert other.labels.keys() == one.labels.keys()
            for label, value in one.labels.items():
                np.testing.assert_array_equal(other.labels[label], value)
            np.testing.assert_array_equal(other.positions, one.positions)
            assert other.info["run"] == one.info["run"]
            for key in ("config_type", "temperature", "bonds"):
                assert other.info.get(key) == one.info.get(key)
            assert other.arrays.keys() == one.arrays.keys()
    bring(tmp_path, [pair(0), Atoms("Na", cell=[20] * 3, pbc=True, info={"REF_energy": -1.5})])
    sources = [tmp_path / "again.h5", tmp_path / "pool.h5"]
    both = import_trajectories(sources, tmp_path / "both.h5")
    assert both.references == {11: -1.5}
    assert any("another energy of an isolated Na" in text for text in both.warnings)


def test_units_are_not_put_upon_a_pool(tmp_path: Path) -> None:
    bring(tmp_path, [pair(0)])
    with pytest.raises(MlselError, match="a pool of mlsel's is in eV and Å, and --energy-unit"):
        import_trajectories(
            [tmp_path / "pool.h5"], tmp_path / "x.h5", LabelOptions(energy_unit="Hartree")
        )


@pytest.mark.parametrize(
    ("unsaid", "options", "said"),
    [
        ((), {"energy_unit": "Hartree"}, "energy is in eV, and --energy-unit Hartree"),
        (("energy",), {"energy_unit": "Hartree"}, "force is in eV Angstrom-1, and --energy-unit"),
        (("energy",), {"energy_unit": "Hartree", "force_unit": "eV/Angstrom"}, ""),
        (("energy", "force"), {"energy_unit": "Hartree"}, ""),
        (("energy", "force"), {"length_unit": "nm"}, "position is in Å, and --length-unit nm"),
        (("position", "edges"), {"length_unit": "nm", "force_unit": "eV/Angstrom"}, ""),
    ],
)
def test_units_are_not_put_upon_those_that_an_h5md_file_says(
    unsaid: tuple[str, ...], options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    bring(tmp_path, [pair(0)])
    with h5py.File(tmp_path / "pool.h5", "r+") as file:  # no longer a pool
        del file["parameters"]
        places: list[str] = []
        file.visit(places.append)
        for place in places:
            is_meant = unsaid and place.removesuffix("/value").endswith(unsaid)
            if is_meant and "unit" in file[place].attrs:
                del file[place].attrs["unit"]
    sources = [tmp_path / "pool.h5"], tmp_path / "x.h5", LabelOptions(**options)
    if not said:
        assert import_trajectories(*sources).n_frames == 1
        return
    with pytest.raises(MlselError, match=said):
        import_trajectories(*sources)


def test_what_an_h5md_file_has_beside_is_named(tmp_path: Path) -> None:
    bring(tmp_path, [pair(k) for k in range(3)])
    with h5py.File(tmp_path / "pool.h5", "r+") as file:  # no longer a pool
        del file["parameters"]
        (run,) = file["particles"]
        file[f"particles/{run}/velocity/value"] = np.zeros((3, 2, 3))
        file[f"observables/{run}/virial/value"] = np.zeros((3, 3, 3))
    report = import_trajectories([tmp_path / "pool.h5"], tmp_path / "again.h5")
    with Pool(tmp_path / "again.h5") as pool:  # three edges of three frames are no cell's rows
        (block,) = pool.blocks("cell")
        np.testing.assert_array_equal(block["cell"], [np.eye(3) * 9] * 3)
    assert report.not_kept["particles/velocity"] == report.not_kept["observables/virial"] == 3


def test_info_tells_the_means_of_runs_whose_frames_are_interleaved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [pair(k) for k in range(6)]
    for frame in frames[1::2]:
        frame.numbers[1] = 11  # a second composition, each other frame
    bring(tmp_path, frames)
    assert main(["info", str(tmp_path / "pool.h5")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    energies = {
        formula: sum(f.info["REF_energy"] for f in frames[first::2]) / 3
        for formula, first in (("ClNa", 0), ("Na2", 1))
    }
    rows = [line for line in lines if line[2:3] and line[2] in energies]
    told = {row[2]: (float(row[3]), row[4]) for row in rows}
    assert told == {formula: (729.0, f"{energy:.4g}") for formula, energy in energies.items()}


def test_atomic_energies_that_are_no_parts_of_the_energy_are_told(tmp_path: Path) -> None:
    for share, is_told in ((1.0, False), (1.3, True)):
        frames = [pair(k) for k in range(4)]
        for frame in frames:
            frame.arrays["local"] = np.full(2, share * frame.info["REF_energy"] / 2)
        report = bring(tmp_path, frames, LabelOptions(atomic_energies=("local",)))
        told = [w for w in report.warnings if "sum of the atomic energies" in w]
        assert bool(told) == is_told
    assert "0.9" in told[0] and "below the energy" in told[0]  # 0.3 of 3.0 to 3.15 eV an atom
