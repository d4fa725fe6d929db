"""CP2K's trajectories: positions, forces, cells and convergence stand in files of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import units

from mlsel.core.errors import MlselError
from mlsel.pool.importing import import_trajectories
from mlsel.pool.pool import Pool
from mlsel.pool.sources import digest_of

POSITIONS = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
FORCES = np.array([[0.01, -0.02, 0], [0, 0.02, 0.003], [-0.01, 0, -0.003]])
ENERGIES = [-17.1643447508, -17.16, -17.155]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three steps of one molecule, in the layout that CP2K writes."""

    def text(rows: np.ndarray) -> str:
        lines = []
        for k, energy in enumerate(ENERGIES):
            lines += ["       3", f" i = {k:8d}, time = {k / 2:12.3f}, E = {energy:20.10f}"]
            lines += [
                f"  {symbol} " + " ".join(f"{x:19.10f}" for x in row * (1 + 0.01 * k))
                for symbol, row in zip("OHH", rows, strict=True)
            ]
        return "\n".join(lines) + "\n"

    (tmp_path / "water-pos-1.xyz").write_text(text(POSITIONS), encoding="utf-8")
    (tmp_path / "water-frc-1.xyz").write_text(text(FORCES), encoding="utf-8")
    rows = [f"{k} {k / 2} {9 + k} 0 0 0 9 0 0 0 9 {(9 + k) * 81}" for k in range(3)]
    (tmp_path / "water-1.cell").write_text("# Step\n" + "\n".join(rows) + "\n", encoding="utf-8")
    output = [" MD_INI| MD initialization", "*** WARNING :: SCF run NOT converged ***"]
    output += [" MD| Step number      1", " STEP NUMBER      =     2"]
    (tmp_path / "water.out").write_text("\n".join(output) + "\n", encoding="utf-8")
    return tmp_path


def test_a_run_is_imported_from_all_its_files(run: Path) -> None:
    report = import_trajectories([run / "water-pos-1.xyz"], run / "pool.h5")
    with Pool(run / "pool.h5") as pool:
        np.testing.assert_allclose(pool.values("energy"), np.multiply(ENERGIES, units.Hartree))
        (block,) = pool.blocks(everything=True)
        np.testing.assert_allclose(block["forces"][2], FORCES * 1.02 * units.Hartree / units.Bohr)
        np.testing.assert_allclose(block["positions"][1], POSITIONS * 1.01)
        np.testing.assert_allclose(pool.values("volume"), [729, 810, 891])
        assert pool.periodic(pool.runs[0]) == (True, True, True)
    (told,) = [text for text in report.warnings if "converge" in text]
    assert told.startswith("1 frame did not converge (scf_converged)") and "frame 1)" in told


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: (run / "water-1.cell").unlink(), r"water-1\.cell is not beside it"),
        (lambda run: (run / "water-1.cell").write_text("0 x\n"), "must be a step, a time and nine"),
        (
            lambda run: (run / "water-frc-1.xyz").write_text(
                (run / "water-frc-1.xyz").read_text().replace("-17.16", "-17.26")
            ),
            "not of one run",
        ),
        (
            lambda run: (run / "water-pos-1.xyz").write_text(
                (run / "water-pos-1.xyz").read_text()[:-60]
            ),
            "no element with three numbers",
        ),
    ],
    ids=["no cell", "bad cell", "other forces", "cut"],
)
def test_what_does_not_fit_is_told(run: Path, change: Callable[[Path], object], said: str) -> None:
    change(run)
    with pytest.raises(MlselError, match=said) as told:
        import_trajectories([run / "water-pos-1.xyz"], run / "pool.h5")
    assert len(str(told.value)) <= 400


def test_all_its_files_are_one_source(run: Path) -> None:
    before = digest_of(run / "water-pos-1.xyz")
    with (run / "water-1.cell").open("a", encoding="utf-8") as file:
        file.write("# more\n")
    assert digest_of(run / "water-pos-1.xyz") != before


def test_forces_are_no_positions(run: Path) -> None:
    with pytest.raises(MlselError, match=r"water-frc-1\.xyz is a trajectory of CP2K and its name"):
        import_trajectories([run / "water-frc-1.xyz"], run / "pool.h5")


def test_a_cell_without_vectors_is_a_molecule(run: Path) -> None:
    (run / "water-1.cell").write_text("0 0.0 0 0 0 0 0 0 0 0 0 0\n", encoding="utf-8")
    import_trajectories([run / "water-pos-1.xyz"], run / "pool.h5")
    with Pool(run / "pool.h5") as pool:
        assert pool.periodic(pool.runs[0]) == (False, False, False)
