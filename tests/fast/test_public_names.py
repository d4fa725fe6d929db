"""`import mlsel`: the names that scripts need, and what it costs to import it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mlsel
from mlsel.pool.pool import Pool
from mlsel.selection import make_selector
from mlsel.study.study import load_study
from mlsel.training import load_model


def test_the_public_names_are_the_rooms_own() -> None:
    assert mlsel.Pool is Pool
    assert mlsel.load_study is load_study
    assert mlsel.make_selector is make_selector
    assert mlsel.load_model is load_model
    assert {"Pool", "load_model", "load_study", "make_selector"} <= set(dir(mlsel))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'mlsel' has no attribute 'Pol'"):
        getattr(mlsel, "Pol")  # noqa: B009


def test_importing_mlsel_imports_nothing_else() -> None:
    program = (
        "import sys, mlsel\n"
        "loaded = {name for name in sys.modules if name.startswith('mlsel')}\n"
        "assert loaded == {'mlsel', 'mlsel.core', 'mlsel.core.version'}, loaded\n"
        "assert not sys.modules.keys() & {'numpy', 'h5py', 'torch', 'mpi4py', 'ase'}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
