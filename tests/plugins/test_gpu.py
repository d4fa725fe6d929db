"""pair_style schnet's compressed mode on a GPU against the same on the CPU."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsel.export_model import export_schnet
from mlsel.plugins.builder import CUDA_PART
from tests.plugins.potentials import elemental, potential
from tests.plugins.support import Agreement, environment, evaluate_lammps, melts
from tests.plugins.test_ranks import deck, structures
from tests.plugins.test_schnet import check_same

HAS_GPU = Path("/dev/nvidiactl").exists()


@pytest.fixture(scope="session")
def gpu_part(plugins: Path) -> Path:
    if not HAS_GPU:
        pytest.skip("no GPU on this machine")
    part = plugins / CUDA_PART
    assert part.exists(), "a GPU is here: run python -m mlsel.plugins build --cuda"
    return part


def test_without_a_gpu_it_says_so(plugins: Path, files: dict[str, Path]) -> None:
    if HAS_GPU:
        pytest.skip("a GPU is here")
    built = (plugins / CUDA_PART).exists()
    with pytest.raises(Exception, match="no GPU here" if built else "plugins build --cuda"):
        evaluate_lammps(melts()[0], "schnet compressed device cuda", f"{files['schnet64']} Na Cl")


@pytest.mark.usefixtures("gpu_part")
@pytest.mark.parametrize("name", ["melt", "tilted", "cluster", "tiny"])
def test_double_precision_is_that_of_the_cpu(name: str, files: dict[str, Path]) -> None:
    atoms = structures()[name]
    coeff = f"{files['schnet64']} Na Cl"
    expected = evaluate_lammps(atoms, "schnet compressed device cpu", coeff)
    check_same(evaluate_lammps(atoms, "schnet compressed device cuda", coeff), expected)


@pytest.mark.usefixtures("gpu_part")
@pytest.mark.parametrize("name", ["melt", "cluster"])
def test_a_network_for_each_element(name: str, tmp_path: Path) -> None:
    """Elements named in another order than the networks'."""
    model = potential([elemental((17, 11))])
    coeff = f"{export_schnet(model, tmp_path / 'model.pt', ('Na', 'Cl'))} Na Cl"
    atoms = structures()[name]
    expected = evaluate_lammps(atoms, "schnet compressed device cpu", coeff)
    check_same(evaluate_lammps(atoms, "schnet compressed device cuda", coeff), expected)


@pytest.mark.usefixtures("gpu_part")
def test_single_precision_is_near(files: dict[str, Path]) -> None:
    for atoms in melts():
        expected = evaluate_lammps(atoms, "schnet compressed device cpu",
                                   f"{files['schnet64']} Na Cl")  # fmt: skip
        found = evaluate_lammps(atoms, "schnet compressed device cuda",
                                f"{files['schnet32']} Na Cl")  # fmt: skip
        assert np.abs(found.forces - expected.forces).max() < Agreement.FORCE_COMPRESSED.value


@pytest.mark.usefixtures("gpu_part")
def test_same_bits_again(files: dict[str, Path]) -> None:
    atoms, coeff = melts()[2], f"{files['schnet32']} Na Cl"
    one, two = (evaluate_lammps(atoms, "schnet compressed device cuda", coeff) for _ in range(2))
    assert one.energy == two.energy
    assert np.array_equal(one.forces, two.forces)
    assert np.array_equal(one.virial, two.virial)


@pytest.mark.usefixtures("gpu_part")
def test_ranks_share_a_gpu(plugins: Path, files: dict[str, Path], tmp_path: Path) -> None:
    styles = {device: (f"schnet compressed device {device}", "{schnet64} Na Cl")
              for device in ("cpu", "cuda")}  # fmt: skip
    inputs = deck(tmp_path, dict(files), styles)
    for tag, n_ranks, grid in (("one", 1, "1 1 1"), ("two", 2, "2 1 1"), ("four", 4, "2 2 1")):
        ended = subprocess.run(
            ["mpirun", "-n", str(n_ranks), "lmp", "-in", inputs.name, "-log", "none",
             "-var", "tag", tag, "-var", "grid", grid],
            cwd=tmp_path, env=environment(plugins), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    for name in structures():
        expected: Any = np.loadtxt(tmp_path / f"cpu-{name}-one.dump", skiprows=9)
        for tag in ("one", "two", "four"):
            found = np.loadtxt(tmp_path / f"cuda-{name}-{tag}.dump", skiprows=9)
            assert np.abs(found[:, 1:5] - expected[:, 1:5]).max() < Agreement.FORCE_SAME_MODEL.value
            stress = np.abs(expected[:, 5:]).max()
            assert (
                np.abs(found[:, 5:] - expected[:, 5:]).max()
                < Agreement.VIRIAL_SAME_MODEL.value * stress
            )
