"""The pool's format: by h5py alone, by MDAnalysis, and by its own class."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from mlsel.core.errors import MlselError
from mlsel.pool.layout import ATOM_FIELDS, OBSERVABLE_UNITS
from mlsel.pool.pool import Pool
from mlsel.pool.subset import write_subset
from mlsel.pool.writer import PoolWriter
from tests.support import Tolerance


def two_kinds(path: Path, n_frames: int = 5) -> Path:
    """A pool of two runs with different numbers of atoms, values that tell where they are."""
    with PoolWriter(path) as writer:
        for name, n_atoms, base in (("a", 2, 0.0), ("b", 3, 1000.0)):
            run = writer.add_run(
                name, [11, 17, 17][:n_atoms], n_frames, ATOM_FIELDS, {"energy": "eV"}
            )
            for frame in range(n_frames):
                value = base + frame
                run.append(
                    [frame],
                    [0.1 * frame],
                    positions=np.full((1, n_atoms, 3), value),
                    forces=np.full((1, n_atoms, 3), -value),
                    atomic_energies=np.full((1, n_atoms), value),
                    cell=[np.eye(3) * 10],
                    energy=[n_atoms * value],
                )
    return path


def test_h5py_alone_finds_everything(tiny_pool: Path) -> None:
    with h5py.File(tiny_pool) as file:
        assert tuple(file["h5md"].attrs["version"]) == (1, 1)
        names = list(file["particles"])
        assert len(names) == 4
        for name in names:
            particles, observables = file["particles"][name], file["observables"][name]
            assert particles["position/value"].shape == (30, 64, 3)
            assert particles["position/value"].attrs["unit"] == "Angstrom"
            assert particles["force"].attrs["unit"] == "eV Angstrom-1"
            assert particles["potential_energy/value"].attrs["unit"] == "eV"
            assert particles["box/edges/value"].attrs["unit"] == "Angstrom"
            assert set(particles["species"][()]) == {11, 17}
            for observable, unit in OBSERVABLE_UNITS.items():
                assert observables[observable]["value"].attrs["unit"] == unit
                assert observables[observable]["value"].shape == (30,)
            np.testing.assert_array_equal(np.diff(particles["position/step"]), 20)
            np.testing.assert_allclose(np.diff(particles["position/time"]), 0.02)
            assert particles.attrs["temperature_set"] in (1300, 1800)
        assert "pair_coeff" not in file["parameters"].attrs["lammps_input"]
        assert "fix             ensemble" in file["parameters"].attrs["lammps_input"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MDAnalysis's own, on import
def test_mdanalysis_opens_a_run(tiny_folder: Path) -> None:
    import MDAnalysis

    path = next(iter((tiny_folder / "runs").glob("*/run.h5")))
    with Pool(path) as pool:
        block = next(pool.blocks("positions", "forces", "cell"))
    universe = MDAnalysis.Universe.empty(64, trajectory=True)
    universe.load_new(str(path), format="H5MD", convert_units=False)
    assert len(universe.trajectory) == 30
    for i, step in enumerate(universe.trajectory):
        np.testing.assert_allclose(
            step.positions,
            block["positions"][i],
            rtol=Tolerance.SIX_DIGITS,
            atol=Tolerance.FIVE_DIGITS,
        )
        np.testing.assert_allclose(
            step.forces, block["forces"][i], rtol=Tolerance.FIVE_DIGITS, atol=Tolerance.SIX_DIGITS
        )
        np.testing.assert_allclose(
            step.dimensions[:3], np.diag(block["cell"][i]), rtol=Tolerance.SIX_DIGITS
        )
    universe.trajectory.close()  # HDF5 lets nobody else in the process open it without a lock


def test_blocks_give_every_frame_once(tmp_path: Path) -> None:
    with Pool(two_kinds(tmp_path / "pool.h5")) as pool:
        assert (len(pool), [run.n_atoms for run in pool.runs]) == (10, [2, 3])
        for max_bytes in (1, 100, 10**6):
            seen: list[int] = []
            for block in pool.blocks("atomic_energies", "energy", max_bytes=max_bytes):
                seen += block.frame_ids.tolist()
                expected = [i if i < 5 else 1000 + i - 5 for i in block.frame_ids]
                np.testing.assert_array_equal(block["atomic_energies"][:, 0], expected)
            assert seen == list(range(10))
        wanted = [9, 1, 5, 0, 3]
        found = {
            int(i): float(e)
            for block in pool.blocks("energy", frame_ids=wanted)
            for i, e in zip(block.frame_ids, block["energy"], strict=True)
        }
        assert found == {9: 3 * 1004.0, 1: 2.0, 5: 3000.0, 0: 0.0, 3: 6.0}
        assert pool.values("energy").tolist() == [0, 2, 4, 6, 8, 3000, 3003, 3006, 3009, 3012]


def test_a_subset_keeps_the_order_chosen_and_where_frames_come_from(tmp_path: Path) -> None:
    chosen = [7, 2, 9, 0, 6, 3]
    with Pool(two_kinds(tmp_path / "pool.h5")) as pool:
        energies = pool.values("energy")
        write_subset(pool, chosen, tmp_path / "set.h5", {"method": "by hand"})
    with Pool(tmp_path / "set.h5") as subset:
        assert subset.values("energy").tolist() == energies[chosen].tolist()
        assert subset.values("source_frame").tolist() == chosen
        assert subset.attributes["method"] == "by hand"
        for block in subset.blocks("atomic_energies", "energy"):
            np.testing.assert_array_equal(block["atomic_energies"].sum(axis=1), block["energy"])


def test_wrong_files_and_frames_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MlselError, match="There is no pool"):
        Pool(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(MlselError, match="not an HDF5 file"):
        Pool(tmp_path / "text.h5")
    h5py.File(tmp_path / "other.h5", "w").close()
    with pytest.raises(MlselError, match="no mlsel pool"):
        Pool(tmp_path / "other.h5")
    with Pool(two_kinds(tmp_path / "pool.h5")) as pool:
        with pytest.raises(MlselError, match="no frame 10: frame ids go from 0 to 9"):
            pool.locate([3, 10])
        with pytest.raises(MlselError, match=r"holds no stress: it holds positions, forces"):
            pool.require("stress")


def test_moved_run_files_are_named(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pool.h5").write_bytes((tiny_folder / "pool.h5").read_bytes())
    with (
        Pool(tmp_path / "pool.h5") as pool,
        pytest.raises(MlselError, match="not in its place: keep the folder"),
    ):
        pool.values("energy")


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space"), PoolWriter(tmp_path / "pool.h5") as writer:
        writer.add_run("a", [18], 1, ["positions"])
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_pieces_of_many_files_can_be_read_when_they_come(tmp_path: Path) -> None:
    """Those that come next are on their way by then, and have opened their files."""
    with PoolWriter(tmp_path / "pool.h5") as writer:
        for k in range(25):
            writer.link_run(two_kinds(tmp_path / f"{k}.h5", k + 1), prefix=f"{k}-")
    with Pool(tmp_path / "pool.h5") as pool:
        forces = [block["forces"] for block in pool.blocks("forces", frame_ids=range(3, 600))]
        expected = np.concatenate([some.ravel() for some in forces])
        found = []
        for run, ids, piece in pool.pieces("forces", range(3, 600)):
            assert piece is not None and piece.shape == (len(ids), run.n_atoms, 3)
            read = os.pread(piece.descriptor, piece.n_bytes, piece.offset)
            found.append(np.frombuffer(read))
    assert len(found) == 46
    np.testing.assert_array_equal(np.concatenate(found), expected)
