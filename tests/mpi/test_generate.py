"""Generation as a user runs it: ranks, kills, wrong input, full disks."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mlsel.cli import run_main
from mlsel.core.arrays import FloatArray
from mlsel.core.errors import MlselError
from mlsel.core.parallel import world
from mlsel.generate import generate, items
from mlsel.md import deck
from mlsel.md.library import lammps_path
from mlsel.md.npt_run import MdRun
from mlsel.md.pool_record import require_pool
from mlsel.md.session import Frame, LammpsSession
from mlsel.pool.pool import Pool
from tests.support import (
    environment,
    load_tiny,
    make_pool,
    mpirun,
    run_deck,
    run_mlsel,
    write_study,
)


def hashes(folder: Path) -> dict[str, str]:
    """What each HDF5 file of a study holds, bit for bit."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.h5"))
    }


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_every_number_of_ranks_gives_the_same_pool(
    ranks: int, tiny_folder: Path, tmp_path: Path
) -> None:
    done = run_mlsel("generate", write_study(tmp_path), ranks=ranks, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 runs, 120 frames of 64 atoms" in done.stderr
    assert "\r" not in done.stderr
    assert hashes(tmp_path / "tiny") == hashes(tiny_folder)


def test_collecting_frames_changes_nothing(tiny_folder: Path) -> None:
    """LAMMPS adds what a fix external holds to forces, virial and energy, and does not clear it."""
    (run, *_) = sorted((tiny_folder / "runs").glob("*K-*"))
    lines = deck.sections((run / "in.lammps").read_text())

    def final_positions(poison: float) -> FloatArray:
        root = {"root": lammps_path(tiny_folder)}
        with LammpsSession(world(), None, root) as session:
            session.execute([*lines[""], *lines["box"], *lines["model"], *lines["equilibrate"]])
            frames: list[Frame] = []

            def spoil(frame: Frame) -> None:
                frames.append(frame)
                added = session._lmp.fix_external_get_force("frames")
                for i in range(3 * 64):
                    added[0][i] = poison
                session._lmp.fix_external_set_virial_global("frames", [poison] * 6)
                session._lmp.fix_external_set_energy_global("frames", poison)

            session.sample(100, 20, "atomic_energy", ("Temp",), spoil)
            return frames[-1].atoms.positions

    np.testing.assert_array_equal(final_positions(0.0), final_positions(1e3))


@pytest.mark.parametrize("where", ["frame", "before", "after"])
def test_an_interrupt_ends_a_sampling(
    where: str,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Within the third frame, or in the lammps module's own Python around it, where ctypes would
    drop the exception: exit code 130 and the sentence."""
    (run, *_) = sorted((tiny_folder / "runs").glob("*K-*"))
    lines = deck.sections((run / "in.lammps").read_text())
    got: list[int] = []

    def interrupt() -> None:
        if len(got) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    def command(_: object) -> int:
        with LammpsSession(world(), None, {"root": lammps_path(tiny_folder)}) as session:
            session.execute([*lines[""], *lines["box"], *lines["model"], *lines["equilibrate"]])
            register = session._lmp.set_fix_external_callback

            def around(name: str, callback: Callable[..., None]) -> None:
                def wrapped(*words: object) -> None:
                    if where == "before":
                        interrupt()
                    callback(*words)
                    if where == "after":
                        interrupt()

                register(name, wrapped)

            monkeypatch.setattr(session._lmp, "set_fix_external_callback", around)

            def keep(frame: Frame) -> None:
                got.append(frame.step)
                if where == "frame":
                    interrupt()

            session.sample(400, 20, "atomic_energy", ("Temp",), keep)
        return 0

    ended: list[int] = []
    monkeypatch.setattr("mlsel.cli.end_all_ranks", ended.append)
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run_main(command) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    said = capfd.readouterr().err
    assert ended == [130] and len(got) == 3
    assert "stopped; the same command goes on from here" in said
    assert "Traceback" not in said and "Exception ignored" not in said


def test_several_ranks_a_run(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    one = ["--set", "pool.ranks_per_run=2", "--set", "pool.pressures=[1]"]
    done = run_mlsel("generate", study, "-o", tmp_path / "a", *one, ranks=4)
    assert done.returncode == 0, done.stderr
    done = run_mlsel("generate", study, "-o", tmp_path / "b", *one, ranks=2)
    assert done.returncode == 0, done.stderr
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    with Pool(tmp_path / "a" / "pool.h5") as pool:
        for block in pool.blocks("atomic_energies", "energy", "forces"):
            np.testing.assert_allclose(block["atomic_energies"].sum(axis=1), block["energy"])
            assert np.abs(block["forces"].sum(axis=1)).max() < 1e-9
    done = run_mlsel("generate", study, "-o", tmp_path / "c", *one, ranks=3)
    assert "ranks_per_run is 2, but there are 3 ranks" in done.stderr
    assert done.returncode == 2


def test_resumed_from_every_checkpoint(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run cut off right after each of its checkpoints, those at a phase's end among them."""
    written = MdRun.checkpoint

    class CutOff(Exception):
        pass

    def write_and_stop(self: MdRun, *arguments: Any) -> None:
        written(self, *arguments)
        raise CutOff

    study = load_tiny(tmp_path, "pool.temperatures=[1300]", "pool.pressures=[1]")
    n_checkpoints = 1 + 2 + 6
    for _ in range(n_checkpoints):
        monkeypatch.setattr(MdRun, "checkpoint", write_and_stop)
        with pytest.raises(CutOff):
            generate(study, tmp_path / "tiny", world())
    monkeypatch.setattr(MdRun, "checkpoint", written)
    generate(study, tmp_path / "tiny", world())
    with Pool(tiny_folder / "pool.h5") as whole, Pool(tmp_path / "tiny" / "pool.h5") as resumed:
        run = next(run for run in whole.runs if run.name == "1300K-1bar")
        ids = range(run.first_frame, run.first_frame + run.n_frames)
        fields = ("positions", "forces", "atomic_energies", "cell", "mean_square_displacement")
        expected = next(whole.blocks(*fields, frame_ids=ids))
        found = next(resumed.blocks(*fields))
        for field in fields:
            np.testing.assert_array_equal(found[field], expected[field])


def test_a_run_that_lammps_ends_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    hot = ["--set", "pool.temperatures=[1300, 5e7]", "--set", "pool.pressures=[1]"]
    done = run_mlsel("generate", study, *hot, ranks=2, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "1 of 2 runs were ended by LAMMPS: 5e+07K-1bar: " in done.stderr
    assert "Traceback" not in done.stderr
    message = (tmp_path / "tiny" / "runs" / "5e+07K-1bar" / "error.txt").read_text()
    assert "atoms" in message.lower()
    with Pool(tmp_path / "tiny" / "pool.h5") as pool:
        assert [run.name for run in pool.runs] == ["1300K-1bar"]


def test_an_error_on_one_rank_ends_all(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from mlsel.cli import run_main\n"
        "from mlsel.core.parallel import share, world\n"
        "def work(task, group, report):\n"
        "    if task == 5: raise RuntimeError('a bug')\n"
        "def main(argv):\n"
        "    share(world(), range(20), work)\n"
        "    return 0\n"
        "sys.exit(run_main(main))\n"
    )
    done = subprocess.run(
        [*mpirun(3), sys.executable, str(program)],
        capture_output=True,
        text=True,
        env=environment() | {"PYTHONPATH": str(Path.cwd())},
        timeout=60,
    )
    assert done.returncode != 0
    assert "RuntimeError: a bug" in done.stderr and "Traceback" in done.stderr


def test_singletons_are_noticed(tmp_path: Path) -> None:
    done = run_mlsel(
        "generate",
        write_study(tmp_path),
        cwd=tmp_path,
        OMPI_COMM_WORLD_SIZE="4",
        OMPI_COMM_WORLD_RANK="0",
    )
    assert done.returncode == 2
    assert "the launcher started 4 processes" in done.stderr and "is alone" in done.stderr
    assert not (tmp_path / "tiny").exists()


def test_a_full_disk_is_one_sentence_and_loses_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    study = write_study(tmp_path)
    folder = tmp_path / "tiny"
    run = folder / "runs" / "1800K-10000bar"
    run.mkdir(parents=True)
    (run / "frames.bin").symlink_to("/dev/full")
    done = run_mlsel("generate", study, ranks=2, cwd=tmp_path)
    assert done.returncode == 2
    assert "the disk is full" in done.stderr and "Traceback" not in done.stderr
    (run / "frames.bin").unlink()
    done = run_mlsel("generate", study, ranks=2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert hashes(folder) == hashes(tiny_folder)


def test_another_study_in_the_same_folder_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    before = hashes(tiny_folder)
    done = run_mlsel(
        "generate", write_study(tmp_path), "-o", tiny_folder, "--set", "pool.seed=2",
        "--set", "system.cutoff=9.0",
    )  # fmt: skip
    assert done.returncode == 2
    assert "system.cutoff (10.0 there, 9.0 now); pool.seed (1 there, 2 now)" in done.stderr
    assert hashes(tiny_folder) == before


def test_a_run_that_was_made_anew_is_another_pool(tiny_folder: Path, tmp_path: Path) -> None:
    """By another LAMMPS, say: else data sets and models of the old frames would go on as new."""
    folder, study = tmp_path / "tiny", load_tiny(tmp_path)
    shutil.copytree(tiny_folder, folder)
    pool, (run, *_) = folder / "pool.h5", sorted((folder / "runs").glob("*/*.h5"))
    before = pool.read_bytes()
    with Pool(pool) as made:
        digest = made.digest
    os.utime(run)  # copied, with another time
    require_pool(study, folder)
    generate(study, folder, world())
    assert pool.read_bytes() == before and items(study, folder)[-1].state == "done"
    with h5py.File(run, "r+") as file:
        (name,) = file["parameters/runs/name"].asstr()
        file["parameters/runs/digest"][0] = "of other frames"
    item = items(study, folder)[-1]
    assert item.state == "begun" and f"{name} was made anew" in item.text
    with pytest.raises(MlselError, match=rf"the run {name} was made anew since .* writes it again"):
        require_pool(study, folder)
    generate(study, folder, world())
    require_pool(study, folder)
    with Pool(pool) as made:
        assert made.digest != digest


def test_wrong_potential_is_told_before_any_run(tmp_path: Path) -> None:
    (tmp_path / "mine.lmp").write_text("pair_style lj/cuts 8.5\n")
    study = write_study(tmp_path)
    done = run_mlsel(
        "generate", study, "--set", f"system.potential={tmp_path}/mine.lmp", ranks=2, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "can't run the potential" in done.stderr and "lj/cuts" in done.stderr
    assert not list((tmp_path / "tiny").rglob("log.lammps"))


def test_lennard_jones_argon_from_a_structure_file(tmp_path: Path) -> None:
    """Another system: a user's own include without charges, a start structure that ASE wrote."""
    from ase.build import bulk

    bulk("Ar", "fcc", 5.5, cubic=True).repeat(3).write(tmp_path / "argon.cif")
    (tmp_path / "argon.lmp").write_text(
        "# Argon (A. Rahman, Phys. Rev. 136, A405 (1964)): 119.8 K, 3.405 Angstrom\n"
        "# species: Ar\n"
        "pair_style lj/cut 8.0\npair_coeff 1 1 0.0103235 3.405\n"
    )
    study = write_study(
        tmp_path,
        f"""
        [system]
        species = ["Ar"]
        potential = "{tmp_path}/argon.lmp"
        start = "{tmp_path}/argon.cif"
        [pool]
        temperatures = [60, 90]
        pressures = [1]
        timestep = 5.0
        equilibration = 1.0
        frames_per_run = 10
        sampling_interval = 10
        """,
    )
    done = run_mlsel("generate", study, ranks=2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Pool(tmp_path / "tiny" / "pool.h5") as pool:
        assert len(pool) == 20 and set(pool.numbers(pool.runs[0])) == {18}
        for block in pool.blocks("atomic_energies", "energy"):
            assert block["atomic_energies"].shape == (10, 108)
            np.testing.assert_allclose(block["atomic_energies"].sum(axis=1), block["energy"])
            assert block["energy"].max() < -4


def test_the_deck_alone_gives_the_same_trajectory(tmp_path: Path) -> None:
    """`lmp -in runs/<id>/in.lammps`: positions, forces and energies, bit for bit."""
    folder = make_pool(tmp_path, "pool.temperatures=[1300]", "pool.pressures=[1]")
    run_deck("runs/1300K-1bar/in.lammps", folder)
    frames = (folder / "trajectory.lammpstrj").read_text().split("ITEM: TIMESTEP\n")[1:]
    with Pool(folder / "pool.h5") as pool:
        block = next(pool.blocks("step", "positions", "forces", "atomic_energies"))
    assert len(frames) == len(block)
    for i, frame in enumerate(frames):
        lines = frame.splitlines()
        atoms = np.array([line.split() for line in lines[8:]], dtype=float)
        assert int(lines[0]) == block["step"][i]
        np.testing.assert_array_equal(atoms[:, 2:5], block["positions"][i])
        np.testing.assert_array_equal(atoms[:, 5:8], block["forces"][i])
        np.testing.assert_array_equal(atoms[:, 8], block["atomic_energies"][i])
