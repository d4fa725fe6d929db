"""Import of what codes write and a reader can misunderstand: the right values, or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Hartree

from mlsel.__main__ import main
from mlsel.core.errors import MlselError
from mlsel.pool.convergence import convergence_of, of_vasp
from mlsel.pool.importing import import_trajectories
from mlsel.pool.labels import LabelOptions
from mlsel.pool.pool import Pool
from tests.support import Tolerance

N_FRAMES, NUMBERS = 3, np.array([11, 17, 11, 17])


def values(name: str) -> Any:
    """Positions, forces or energies of three frames of NaClNaCl."""
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 9, (N_FRAMES, 4, 3))
    return {"positions": positions, "forces": -positions / 9, "energy": [-1.0, -2.0, -3.0]}[name]


def frames_of(path: Path) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    with Pool(path) as pool:
        fields = [f for f in ("positions", "forces", "energy") if f in pool.fields]
        for block in pool.blocks("cell", *fields):
            for k, frame_id in enumerate(block.frame_ids.tolist()):
                found[frame_id] = {f: block[f][k] for f in ("cell", *fields)}
                found[frame_id]["numbers"] = pool.numbers(block.run)
    return [found[i] for i in range(len(found))]


# ------------------------------------------------------------------ H5MD


def h5md(path: Path, change: Callable[[Any], object]) -> Path:
    """A file as others write it, whose atoms have ids."""
    with h5py.File(path, "w") as file:
        group = file.create_group("particles/all")
        group.create_group("box").attrs["boundary"] = ["periodic"] * 3
        kept = {
            "position": values("positions"),
            "force": values("forces"),
            "box/edges": np.full((N_FRAMES, 3), 9.0),
            "species": np.tile(NUMBERS, (N_FRAMES, 1)),
            "id": np.tile(np.arange(1, 5), (N_FRAMES, 1)),
        }
        for name, array in kept.items():
            group[f"{name}/value"], group[f"{name}/step"] = array, np.arange(N_FRAMES) * 10
        file["observables/energy/value"] = np.reshape(values("energy"), (N_FRAMES, 1))
        file["observables/energy/step"] = 10  # all others': 0, 10, 20
        change(file)
    return path


def shuffle(file: Any) -> None:
    for i in range(N_FRAMES):
        order = np.random.default_rng(i).permutation(4)
        for name in ("position", "force", "species", "id"):
            file[f"particles/all/{name}/value"][i] = file[f"particles/all/{name}/value"][i][order]


def shift(name: str) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        file[f"{name}/step"][...] = file[f"{name}/step"][...] + 5

    return change


@pytest.mark.parametrize("change", [lambda _: None, shuffle])
def test_atoms_that_change_places_in_h5md_keep_their_elements(
    change: Callable[[Any], object], tmp_path: Path
) -> None:
    import_trajectories([h5md(tmp_path / "in.h5", change)], tmp_path / "pool.h5")
    for i, frame in enumerate(frames_of(tmp_path / "pool.h5")):
        assert frame["numbers"].tolist() == NUMBERS.tolist()
        for name in ("positions", "forces", "energy"):
            np.testing.assert_array_equal(frame[name], values(name)[i])


def longer_box(file: Any) -> None:
    del file["particles/all/box/edges"]
    file["particles/all/box/edges/value"] = np.full((2 * N_FRAMES, 3), 9.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shift("particles/all/force"), "force was sampled at the steps 5, 15, 25, … and position"),
        (shift("particles/all/box/edges"), "box/edges was sampled at the steps 5"),
        (shift("observables/energy"), "energy was sampled at the steps 0, 15, 30"),
        (longer_box, "box/edges has 6 frames where positions have 3"),
    ],
)
def test_what_was_sampled_at_other_steps_is_refused(
    change: Callable[[Any], object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(MlselError, match=said):
        import_trajectories([h5md(tmp_path / "in.h5", change)], tmp_path / "pool.h5")


def test_the_energy_of_several_groups_is_none_of_ones(tmp_path: Path) -> None:
    def split(file: Any) -> None:
        group = file["particles/all"]
        for name in ("position", "force", "species", "id"):
            part = group[f"{name}/value"][:, :2]
            file[f"particles/part/{name}/value"] = part
        group.copy("box", file["particles/part"])

    report = import_trajectories([h5md(tmp_path / "in.h5", split)], tmp_path / "pool.h5")
    assert "energy" not in report.labels
    assert report.not_kept["observables/energy"] == 2 * N_FRAMES


# ------------------------------------------------------------------ LAMMPS dumps


def dump(path: Path, columns: str, rows: list[str], n_frames: int = 1) -> Path:
    lines = []
    for step in range(n_frames):
        lines += ["ITEM: TIMESTEP", str(step), "ITEM: NUMBER OF ATOMS", str(len(rows))]
        lines += ["ITEM: BOX BOUNDS pp pp pp", *["0 9"] * 3, f"ITEM: ATOMS {columns}", *rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_user_names_the_elements_of_types_whatever_their_masses(tmp_path: Path) -> None:
    rows = ["1 1 39.9 0 0 0 1 0 0", "2 2 24.3 3 0 0 -1 0 0"]  # made heavier, for longer time steps
    path = dump(tmp_path / "a.dump", "id type mass x y z fx fy fz", rows)
    import_trajectories([path], tmp_path / "pool.h5", species=["Na", "H"])
    (frame,) = frames_of(tmp_path / "pool.h5")
    assert frame["numbers"].tolist() == [11, 1]


def test_elements_that_the_user_contradicts_are_refused(tmp_path: Path) -> None:
    rows = ["1 1 C 0 0 0", "2 2 C 3 0 0"]  # what LAMMPS writes without dump_modify element
    path = dump(tmp_path / "a.dump", "id type element x y z", rows)
    with pytest.raises(MlselError, match="type 1 that its column element calls C, and --species"):
        import_trajectories([path], tmp_path / "pool.h5", species=["Na", "Cl"])
    import_trajectories([path], tmp_path / "pool.h5", species=["C", "C"])


def test_dumps_of_other_columns_are_not_one(tmp_path: Path) -> None:
    one = dump(tmp_path / "a.dump", "id element x y z", ["1 Na 0 0 0", "2 Cl 3 0 0"])
    two = dump(tmp_path / "b.dump", "id type x y z", ["1 1 0 0 0", "2 2 3 0 0"])
    one.write_text(one.read_text() + two.read_text())
    with pytest.raises(MlselError, match="frame 1 has other columns than the frames before"):
        import_trajectories([one], tmp_path / "pool.h5")


# ------------------------------------------------------------------ input.data of n2p2 and RuNNer


def test_input_data_is_read_in_the_units_that_it_was_exported_in(tmp_path: Path) -> None:
    from ase.io import write

    atoms = Atoms("NaCl", [[0, 0, 0], [2.4, 0, 0]], cell=[9] * 3, pbc=True)
    atoms.info["REF_energy"] = -6.0
    atoms.arrays["REF_forces"] = np.array([[0.5, 0, 0], [-0.5, 0, 0]])
    write(tmp_path / "in.extxyz", atoms, format="extxyz")
    import_trajectories([tmp_path / "in.extxyz"], tmp_path / "a.h5")
    assert (
        main(["export", str(tmp_path / "a.h5"), str(tmp_path / "input.data"), "--for", "n2p2"]) == 0
    )
    report = import_trajectories([tmp_path / "input.data"], tmp_path / "b.h5")
    assert any("taken to be in eV and Å" in warning for warning in report.warnings)
    assert report.not_kept["comment"] == 1
    (before,), (after,) = (frames_of(tmp_path / f"{name}.h5") for name in "ab")
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    atomic = LabelOptions(energy_unit="Hartree", length_unit="Bohr")
    report = import_trajectories([tmp_path / "input.data"], tmp_path / "c.h5", atomic)
    assert not any("input.data does" in warning for warning in report.warnings)
    (there,) = frames_of(tmp_path / "c.h5")
    for name, factor in (("energy", 27.211386), ("positions", 0.52917721), ("forces", 51.422067)):
        np.testing.assert_allclose(
            there[name], before[name] * factor, rtol=Tolerance.FIVE_DIGITS, atol=0
        )


# ------------------------------------------------------------------ VASP


def steps_of_vasp(*n_steps: int) -> tuple[str, str]:
    """OUTCAR and vasprun.xml, as far as they say of convergence, for ionic steps of so many
    electronic ones, 5 being the most."""
    outcar = "   NELM   =      5;   NELMIN=  2; NELMDL= -5     # of ELM steps\n"
    xml = '<modeling><parameters><i name="NELM">    5</i>'
    xml += '<separator name="response functions"><i name="NELM">  1</i></separator></parameters>'
    for ionic, n in enumerate(n_steps, 1):
        for k in range(1, n + 1):
            outcar += f"----- Iteration {ionic:4}({k:4})  -----\n"
        outcar += "---- aborting loop because EDIFF is reached ----\n"  # VASP 5 says so always
        outcar += "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n"
        xml += f"<calculation>{n * '<scstep></scstep>'}</calculation>"
    return outcar, f"{xml}</modeling>"


@pytest.mark.parametrize("kind", ["vasp-out", "vasp-xml"])
def test_electrons_of_vasp_did_not_converge_where_all_steps_were_made(
    kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_text(steps_of_vasp(3, 5, 4)[kind == "vasp-xml"])
    assert list(of_vasp(path, kind)) == [True, False, True]
    last = "aborting loop EDIFF was not reached (unconverged)"  # VASP 6
    path.write_text(steps_of_vasp(3)[0].replace("aborting loop because EDIFF is reached", last))
    assert list(of_vasp(path, "vasp-out")) == [False]


# ------------------------------------------------------------------ molecular codes


FAILED = " >>>>>>>>>> Convergence criterion not met."


def gaussian(*energies: Sequence[str]) -> str:
    """An output of Gaussian: the lines on energies of each geometry."""
    text = " Entering Gaussian System, Link 0=g16\n"
    for k, lines in enumerate(energies):
        text += "                         Input orientation:\n" + 4 * " ---\n"
        for i, z in enumerate((8, 1, 1)):
            text += f" {i + 1:6} {z:10} {0:11} {i + 0.01 * k:15.6f} {i % 2:11.6f} {0:11.6f}\n"
        text += " ---\n" + "".join(f"{line}\n" for line in lines)
    return text


def test_electrons_of_gaussian_that_did_not_converge_are_told(tmp_path: Path) -> None:
    def done(energy: float, method: str = "RB3LYP") -> str:
        return f" SCF Done:  E({method}) =  {energy:.10f}     A.U. after   10 cycles"

    path = tmp_path / "water.log"
    path.write_text(
        gaussian(
            [done(-76.1)],
            [FAILED, done(-76.2), "            NFock=128  Conv=0.12D-02     -V/T= 2.0000"],
            [FAILED, done(-76.25), done(-76.3)],  # a second attempt that converged
            [FAILED, done(-76.0, "RHF"), " E2 =    -0.2D+00 EUMP2 =    -0.762400000000D+02"],
        )
    )
    report = import_trajectories([path], tmp_path / "pool.h5")
    with Pool(tmp_path / "pool.h5") as pool:
        np.testing.assert_allclose(
            pool.values("energy") / Hartree, [-76.1, -76.2, -76.3, -76.24], rtol=Tolerance.SUMS
        )
        assert pool.values("scf_converged").tolist() == [True, False, True, False]
    (told,) = [text for text in report.warnings if "converge" in text]
    assert told.startswith("2 frames did not converge (scf_converged)") and "frame 1" in told
    path.write_text(gaussian([done(-76.1)]))  # nothing is said where all is well
    report = import_trajectories([path], tmp_path / "pool.h5")
    assert not [text for text in report.warnings if "converge" in text]


def test_electrons_of_aims_and_orca_that_did_not_converge_are_told(tmp_path: Path) -> None:
    path = tmp_path / "aims.out"
    bad = "  * WARNING! SELF-CONSISTENCY CYCLE DID NOT CONVERGE\n"
    begin = "  Begin self-consistency loop: Re-initialization.\n"
    energy = "  | Electronic free energy        :        -2.0{} eV\n"
    path.write_text(f"{energy.format(1)}{begin}{bad}{energy.format(2)}{begin}{energy.format(3)}")
    told = convergence_of(path, "aims-output")
    made = [Atoms("H", calculator=SinglePointCalculator(Atoms("H"), energy=e))
            for e in (-2.01, -2.02, -2.03)]  # fmt: skip
    assert [told(atoms) for atoms in made] == [True, False, True]
    path.write_text("FINAL SINGLE POINT ENERGY      -1.1 (SCF not fully converged!)\n")
    with pytest.raises(MlselError, match=r"aims\.out, line 1, says .* did not fully converge"):
        convergence_of(path, "orca-output")


# ------------------------------------------------------------------ units beside the values


@pytest.mark.parametrize(
    ("told", "options", "said"),
    [
        ({"energy_unit": "hartree"}, {}, "energy_unit=hartree, and .* in eV: give --energy-unit"),
        ({"energy_unit": "hartree"}, {"energy_unit": "Ha", "force_unit": "eV/A"}, ""),
        ({"force-unit": "kcal/mol/Angstrom"}, {}, "in eV/Angstrom: give --force-unit"),
        ({"stress_unit": "GPa"}, {}, "in eV/Angstrom.3: give --stress-unit 'GPa'"),
        ({"energy_unit": "eV", "forces_units": "eV/Ang", "length_unit": "Angstrom"}, {}, ""),
        ({"energy_unit": "eV/atom"}, {}, "warning"),
    ],
)
def test_units_that_frames_say_are_not_passed_over(
    told: dict[str, str], options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    from ase.io import write

    frames = [Atoms("NaCl", [[0, 0, 0], [2.4 + k / 9, 0, 0]]) for k in range(3)]
    for atoms in frames:
        atoms.info |= {"REF_energy": -6.0} | told
        atoms.arrays["REF_forces"] = np.array([[0.5, 0, 0], [-0.5, 0, 0]])
    write(tmp_path / "in.extxyz", frames, format="extxyz")
    arguments = [tmp_path / "in.extxyz"], tmp_path / "pool.h5", LabelOptions(**options)
    if said and said != "warning":
        with pytest.raises(MlselError, match=said):
            import_trajectories(*arguments)
        return
    warnings = import_trajectories(*arguments).warnings
    found = [w for w in warnings if "eV/atom, which is no unit of energy" in w]
    assert len(found) == (said == "warning")


def test_folders_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(MlselError, match="is a folder: name the files in it"):
        import_trajectories([tmp_path], tmp_path / "pool.h5")
