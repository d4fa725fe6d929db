"""Trajectories with something wrong in them, by chance: imported, or refused in a sentence."""

from __future__ import annotations

import contextlib
import gzip
import io
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.db import connect
from ase.io import iread, write

from mlsel.__main__ import main
from mlsel.pool.pool import Pool
from tests.support.mutations import damage_hdf5, damaged, damaged_text, run_cases
from tests.support.training_data import frames, write_pool

KINDS = ("in.extxyz",) * 5 + ("in.extxyz.gz", "in.lammpstrj", "in.db", "in.h5")
WITHOUT = ((), (), ("--without-labels", "skip"), ("--without-labels", "keep"))


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("originals"))


def make(folder: Path) -> Path:
    """The same few frames in several formats."""
    part = frames(5)
    assert part.energy is not None and part.forces is not None
    held = []
    for k in range(len(part)):
        atoms = Atoms(part.numbers, part.positions[k], cell=part.cell[k], pbc=True)
        atoms.info = {
            "REF_energy": part.energy[k],
            "REF_stress": np.eye(3).ravel(),
            "name": f"f{k}",
        }
        atoms.arrays["REF_forces"] = part.forces[k]
        atoms.arrays["tags"] = np.arange(len(atoms))
        held.append(atoms)
    write(folder / "in.extxyz", held, format="extxyz")
    with connect(folder / "in.db") as base:
        for atoms in held:
            base.write(atoms[:], data={"energy": atoms.info["REF_energy"]})
    lines = []
    for k, atoms in enumerate(held):
        lines += ["ITEM: TIMESTEP", str(k), "ITEM: NUMBER OF ATOMS", str(len(atoms))]
        lines += ["ITEM: BOX BOUNDS pp pp pp", *(["0.0 5.6"] * 3)]
        lines += ["ITEM: ATOMS id element x y z fx fy fz"]
        lines += [
            f"{i + 1} {a.symbol} {' '.join(map(repr, a.position.tolist()))} "
            + " ".join(map(repr, atoms.arrays["REF_forces"][i].tolist()))
            for i, a in enumerate(atoms)
        ]
    (folder / "in.lammpstrj").write_text("\n".join(lines) + "\n", encoding="ascii")
    write_pool(folder / "in.h5", [part])
    return folder


def one(originals: Path, folder: Path, chance: random.Random) -> None:
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    name = chance.choice(KINDS)
    source, text = place / name, "in.extxyz"
    if name.endswith(".h5") and chance.random() < 0.6:
        shutil.copy(originals / name, source)
        damage_hdf5(source, chance)
    elif name.endswith((".h5", ".db")):
        source.write_bytes(damaged((originals / name).read_bytes(), chance))
    else:
        text = name.removesuffix(".gz")
        data = damaged_text((originals / text).read_text(encoding="ascii"), chance)
        if name.endswith(".gz"):
            packed = gzip.compress(data if chance.random() < 0.5 else data[:1000], 1)
            data = packed if chance.random() < 0.3 else damaged(packed, chance)
        source.write_bytes(data)
    made = place / "pool.h5"
    options = chance.choice(WITHOUT)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        main(["import", str(source), str(made), *options])
    with Pool(made) as pool:
        for block in pool.blocks(everything=True):
            for field in ("positions", "cell", "energy", "forces", "virial"):
                assert np.isfinite(block.fields.get(field, np.zeros(1))).all(), field
        n = len(pool)
    if name == "in.extxyz" and "left out" not in said.getvalue():
        assert n == len(list(iread(source, format="extxyz"))), "another reader finds other frames"


def test_some_damaged_trajectories(originals: Path, tmp_path: Path) -> None:
    run_cases(lambda chance: one(originals, tmp_path, chance), 120, seed=1).require()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 7))
def test_many_damaged_trajectories(originals: Path, tmp_path: Path, seed: int) -> None:
    run_cases(lambda chance: one(originals, tmp_path, chance), 600, seed).require()
