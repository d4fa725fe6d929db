"""Import, export, pack, info and the figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import iread, read, write

from mlsel.__main__ import main
from mlsel.core.errors import MlselError
from mlsel.pool.importing import import_trajectories
from mlsel.pool.labels import LabelOptions
from mlsel.pool.pool import Pool
from tests.support import Tolerance


def frames(n_frames: int = 4) -> list[Atoms]:
    """Frames of two sizes, one cell triclinic, as an ab initio code would leave them."""
    rng = np.random.default_rng(1)
    made = []
    for i in range(n_frames):
        n = 3 if i < n_frames // 2 else 4
        cell = np.diag([6.0, 7, 8]) if i < n_frames // 2 else [[6, 0, 0], [1, 7, 0], [0, 2, 8.0]]
        atoms = Atoms("OHHO"[:n], positions=rng.uniform(0, 6, (n, 3)), cell=cell, pbc=True)
        atoms.info["REF_energy"] = float(-i)
        atoms.arrays["REF_forces"] = rng.normal(size=(n, 3))
        made.append(atoms)
    return made


def test_export_round_trip_through_ase(tiny_pool: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.xyz"
    assert main(["export", str(tiny_pool), str(target), "--frames", "5:120:10"]) == 0
    back = tmp_path / "back.h5"
    assert main(["import", str(target), str(back)]) == 0
    with Pool(tiny_pool) as pool, Pool(back) as again:
        energies = pool.values("energy")[5:120:10]
        np.testing.assert_allclose(again.values("energy"), energies, rtol=Tolerance.ROUNDING)
        ids = np.arange(5, 120, 10)
        forces = np.concatenate([b["forces"] for b in pool.blocks("forces", frame_ids=ids)])
        back_forces = np.concatenate([block["forces"] for block in again.blocks("forces")])
        np.testing.assert_allclose(back_forces, forces, atol=Tolerance.EIGHT_DIGITS)
    first = read(target, index=0)
    assert first.info["frame_id"] == 5
    assert first.arrays["REF_forces"].shape == (64, 3)


def test_import_of_other_sizes_and_keys(tmp_path: Path) -> None:
    source = tmp_path / "ab-initio.xyz"
    write(source, frames(), format="extxyz")
    report = import_trajectories([source], tmp_path / "pool.h5")
    assert (report.n_frames, report.n_runs) == (4, 2)
    with Pool(tmp_path / "pool.h5") as pool:
        assert [run.n_atoms for run in pool.runs] == [3, 4]
        assert "atomic_energies" not in pool.fields
        assert pool.values("energy").tolist() == [0, -1, -2, -3]
        for block in pool.blocks("positions", "forces", "cell"):
            for i, frame_id in enumerate(block.frame_ids):
                there = frames()[frame_id]
                np.testing.assert_allclose(
                    block["positions"][i], there.positions, atol=Tolerance.SEVEN_DIGITS
                )
                np.testing.assert_allclose(
                    block["forces"][i], there.arrays["REF_forces"], atol=Tolerance.SEVEN_DIGITS
                )
                np.testing.assert_allclose(block["cell"][i], there.cell.array, atol=Tolerance.SUMS)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (lambda f: f, LabelOptions(energy=("E0",)), "has energy under the key E0; there is REF_"),
        (lambda f: f[2].arrays.pop("REF_forces"), None, r"1 of 4 .* no forces \(first: .*frame 2"),
        (
            lambda f: f[1].arrays["REF_forces"].fill(np.nan),
            None,
            r"1 of 4 frames have no finite forces \(first: .*frame 1",
        ),
    ],
)
def test_wrong_trajectories_get_a_sentence(
    change: object, options: LabelOptions | None, said: str, tmp_path: Path
) -> None:
    made = frames()
    change(made)  # type: ignore[operator]
    write(tmp_path / "a.xyz", made, format="extxyz")
    with pytest.raises(MlselError, match=said):
        import_trajectories([tmp_path / "a.xyz"], tmp_path / "pool.h5", options)
    assert not (tmp_path / "pool.h5").exists()


def test_files_are_not_overwritten_unasked(tiny_pool: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.xyz"
    target.write_text("precious")
    with pytest.raises(MlselError, match="is there already"):
        main(["export", str(tiny_pool), str(target)])
    with pytest.raises(MlselError, match=r"names no frame: .* has frames 0 to 119"):
        main(["export", str(tiny_pool), str(tmp_path / "x.xyz"), "--frames", "500:600"])
    with pytest.raises(MlselError, match="--frames a:b: write first:end"):
        main(["export", str(tiny_pool), str(tmp_path / "x.xyz"), "--frames", "a:b"])


def test_packed_pool_stands_alone(tiny_pool: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.h5"
    assert main(["pack", str(tiny_pool), str(packed)]) == 0
    with Pool(tiny_pool) as pool, Pool(packed) as alone:
        assert alone.digest == pool.digest and alone.is_packed and not pool.is_packed
        np.testing.assert_array_equal(alone.values("energy"), pool.values("energy"))


def test_info_and_figure(
    tiny_pool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(tiny_pool)]) == 0
    text = capsys.readouterr().out
    assert "120 frames in 4 runs" in text
    assert "1300K-1bar" in text and "Cl32Na32" in text and "molten" in text
    figure = tmp_path / "pool.svg"
    assert main(["figure", "pool", str(tiny_pool), "-o", str(figure)]) == 0
    assert figure.read_text(encoding="utf-8").rstrip().endswith("</svg>")


def test_commands_tell_the_nearest() -> None:
    with pytest.raises(MlselError, match=r"no command generat \(did you mean generate\?\)"):
        main(["generat"])
    with pytest.raises(MlselError, match=r"no figure pol \(did you mean pool\?\)"):
        main(["figure", "pol"])


def test_ase_reads_what_is_exported_frame_by_frame(tiny_pool: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.xyz"
    main(["export", str(tiny_pool), str(target), "--frames", "0:3"])
    assert [atoms.info["frame_id"] for atoms in iread(target)] == [0, 1, 2]
