"""Check: each kind of fault that was put into a pool is found, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from mlsel.__main__ import main
from mlsel.core.errors import MlselError
from mlsel.pool.check import check
from mlsel.pool.importing import import_trajectories
from mlsel.pool.labels import LabelOptions
from mlsel.pool.pool import Pool

COPY, TORN, NEAR, ENERGY, FORCE, DRIFT = 40, 41, 5, 6, 7, 8


def frames() -> list[Atoms]:
    """40 frames of two compositions, some with a fault each, and copies of two."""
    rng, made = np.random.default_rng(1), []
    for k in range(40):
        n = 1 + k % 2
        positions = np.array([[3.0 * i, 0, 0] for i in range(2 * n)]) + rng.normal(
            0, 0.1, (2 * n, 3)
        )
        atoms = Atoms("NaCl" * n, positions, cell=[12.0] * 3, pbc=True)
        atoms.info["REF_energy"] = -100.0 * n + 0.1 * rng.normal()
        forces = rng.normal(size=(2 * n, 3))
        atoms.arrays["REF_forces"] = forces - forces.mean(axis=0)
        made.append(atoms)
    made += [made[0].copy(), made[1].copy()]
    made[TORN].info["REF_energy"] += 0.01
    made[NEAR].positions[1] = made[NEAR].positions[0] + [0.5, 0, 0]
    made[ENERGY].info["REF_energy"] += 50
    made[FORCE].arrays["REF_forces"] *= 1000
    made[DRIFT].arrays["REF_forces"][0, 0] += 1
    return made


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    write(tmp_path / "in.extxyz", frames(), format="extxyz")
    import_trajectories([tmp_path / "in.extxyz"], tmp_path / "pool.h5")
    return tmp_path / "pool.h5"


def test_every_fault_is_found_and_no_other(pool: Path) -> None:
    with Pool(pool) as opened:
        found = {f.what.partition(" ")[2]: f.frames.tolist() for f in check(opened).findings}
    expected = {
        "exact copies": [COPY],
        "copies of each other": [1, TORN],
        "atoms closer": [NEAR],
        "energies per atom": [ENERGY],
        "largest forces": [FORCE],
        "forces whose sum": [DRIFT],
    }
    assert len(found) == len(expected)
    for what, ids in expected.items():
        (there,) = (value for key, value in found.items() if key.startswith(what))
        assert there == ids, what


def test_report_names_frames_and_their_sources(
    pool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(pool)]) == 0
    text = capsys.readouterr().out
    assert "42 frames, 5 that may be wrong" in text
    assert f"{NEAR} (in.extxyz, {NEAR})" in text
    assert "ClNa" in text and "Cl2Na2" in text


def test_what_is_doubtful_is_left_out_or_dropped(pool: Path, tmp_path: Path) -> None:
    text, rest = tmp_path / "doubtful.txt", tmp_path / "rest.h5"
    assert main(["check", str(pool), "--write-exclude", str(text), "--drop", str(rest)]) == 0
    bad = {1, TORN, NEAR, ENERGY, FORCE}
    words = ["selection", "--pool", str(pool), "--method", "random", "--exclude", str(text)]
    out = tmp_path / "s.h5"
    assert main([*words, "-n", "36", "-o", str(out)]) == 0  # of 42 without 5 and a copy
    with Pool(out) as chosen, Pool(rest) as left:
        assert not set(chosen.values("source_frame").tolist()) & bad
        assert set(left.values("source_frame").tolist()) == set(range(42)) - bad - {COPY}
        assert not [f for f in check(left).findings if f.is_wrong]
    text.write_text(f"{text.read_text()}43\n")
    with pytest.raises(MlselError, match=r"line 7: '43' is no frame of .* from 0 to 41"):
        main([*words, "-n", "1", "-o", str(tmp_path / "t.h5")])
    text.write_text("# frames of the pool with the digest abc\n")
    with pytest.raises(MlselError, match="a pool with the digest abc"):
        main([*words, "-n", "1", "-o", str(tmp_path / "t.h5")])
    with pytest.raises(MlselError, match="is there already"):
        main(["check", str(pool), "--drop", str(rest)])


def test_pools_of_md_and_of_frames_without_labels(tiny_pool: Path, tmp_path: Path) -> None:
    with Pool(tiny_pool) as opened:
        assert not len(check(opened).frames())
    some = frames()[:4]
    del some[1].arrays["REF_forces"], some[2].info["REF_energy"]
    some[0].arrays["REF_forces"][:] = np.nan
    write(tmp_path / "in.extxyz", some, format="extxyz")
    target = tmp_path / "pool.h5"
    import_trajectories([tmp_path / "in.extxyz"], target, LabelOptions(without="keep"))
    with Pool(target) as opened:
        assert not len(check(opened).frames())
