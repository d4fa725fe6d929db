"""Check: each kind of fault that was put into a pool is found, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from mlsel.__main__ import main
from mlsel.check import checked_pool
from mlsel.core.errors import MlselError
from mlsel.pool.check import check
from mlsel.pool.importing import import_trajectories
from mlsel.pool.labels import LabelOptions
from mlsel.pool.pool import Pool
from mlsel.pool.thresholds import Thresholds

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


def scaled_frames(sign: float) -> list[Atoms]:
    """A crystal at five volumes with energies and virials of a pair potential, and others."""
    made = []
    for share in (0.98, 0.99, 1.0, 1.01, 1.02):
        positions = np.array([[i, j, k] for i in range(2) for j in range(2) for k in range(2)])
        side = 4.0 * share
        atoms = Atoms("Na8", positions * side / 2, cell=[side] * 3, pbc=True)
        # E = c V^(-2), so tr W = -3 V dE/dV = 6 E, a third of it in each direction.
        energy = 3e3 / side**6
        atoms.info["REF_energy"] = energy
        atoms.info["REF_virial"] = sign * 2.0 * energy * np.eye(3)
        made.append(atoms)
    return made


@pytest.mark.parametrize("sign", [1.0, -1.0, 1 / 160.2])
def test_virials_against_energies_of_scaled_frames(sign: float, tmp_path: Path) -> None:
    write(tmp_path / "in.extxyz", scaled_frames(sign), format="extxyz")
    import_trajectories([tmp_path / "in.extxyz"], tmp_path / "pool.h5")
    with Pool(tmp_path / "pool.h5") as opened:
        checked = check(opened)
    (note,) = [text for text in checked.notes if text.startswith("virials give")]
    wrong = [f for f in checked.findings if "contradict" in f.what]
    if sign == 1.0:
        assert "sign and unit are right" in note and not wrong
    else:
        assert ("their sign is wrong" if sign == -1.0 else "unit or sign is wrong") in note
        assert wrong[0].frames.tolist() == [0, 1, 2, 3, 4]


def test_near_duplicates_are_told(tmp_path: Path) -> None:
    """Displaced by a tenth of the threshold they are near; by ten times it they are not."""
    rng = np.random.default_rng(4)
    made = [Atoms("NaCl" * 4, rng.uniform(0, 7, (8, 3)), cell=[7.0] * 3, pbc=True)
            for _ in range(12)]  # fmt: skip
    for source, step in ((3, 0.001), (5, 0.1)):
        made.append(made[source].copy())
        made[-1].positions += step * rng.standard_normal((8, 3)) / np.sqrt(3)
    write(tmp_path / "in.extxyz", made, format="extxyz")
    import_trajectories(
        [tmp_path / "in.extxyz"], tmp_path / "pool.h5", LabelOptions(without="keep")
    )
    with Pool(tmp_path / "pool.h5") as opened:
        found = checked_pool(opened, Thresholds(), 0.01, None).findings
        (near,) = [f.frames.tolist() for f in found if f.what.startswith("are nearly")]
    assert near == [12]
    page = tmp_path / "page.html"
    assert main(["check", str(tmp_path / "pool.h5"), "--page", str(page)]) == 0
    text = page.read_text()
    assert "are nearly a frame before" in text and "data:image/svg+xml;base64" in text
    assert "http" not in text.replace("http://www.w3.org", "")


def test_correlation_is_told_by_run(tmp_path: Path) -> None:
    """An autoregressive energy of g = (1 + a) / (1 - a) = 19."""
    rng, value, made = np.random.default_rng(5), 0.0, []
    for _ in range(1500):
        value = 0.9 * value + rng.standard_normal()
        atoms = Atoms("Ar", [[0.0, 0.0, 0.0]], cell=[5.0] * 3, pbc=True)
        atoms.info["REF_energy"] = value
        made.append(atoms)
    write(tmp_path / "in.extxyz", made, format="extxyz")
    import_trajectories([tmp_path / "in.extxyz"], tmp_path / "pool.h5")
    with Pool(tmp_path / "pool.h5") as opened:
        (note,) = [text for text in check(opened).notes if "energies" in text]
    worth = int(note.split("worth ")[1].split()[0])
    assert 1500 / 19 / 1.5 < worth < 1500 / 19 * 1.5


def test_frames_whose_electrons_did_not_converge_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = frames()[:4]
    for k, atoms in enumerate(some[:3]):  # the last does not say
        atoms.info["scf_converged"] = k != 1
    write(tmp_path / "in.extxyz", some, format="extxyz")
    import_trajectories([tmp_path / "in.extxyz"], tmp_path / "pool.h5")
    text = tmp_path / "doubtful.txt"
    words = ["check", str(tmp_path / "pool.h5"), "--write-exclude", str(text)]
    assert main(words) == 0
    assert "1 frame have electrons that did not converge" in capsys.readouterr().out
    assert [line.split("  # ")[0] for line in text.read_text().splitlines()[1:]] == ["1"]
