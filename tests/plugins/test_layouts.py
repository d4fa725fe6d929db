"""Structures that Python and C++ share are compared where a library is loaded."""

from __future__ import annotations

import ctypes

import pytest

from mlsel.core import native
from mlsel.core.errors import MlselError
from mlsel.selection.descriptors import radial
from mlsel.selection.methods import distances
from mlsel.training.schnet import kernels


def test_every_shared_structure_is_checked() -> None:
    """Loading raises where one has come apart; the symbols are in the libraries."""
    for load in (radial._library, distances._library, kernels.load):
        load.cache_clear()
        assert load() is not None


def test_another_layout_is_told() -> None:
    class Wider(ctypes.Structure):
        _fields_ = (("n", ctypes.c_int64), ("width", ctypes.c_int64), ("exact", ctypes.c_void_p))

    library = distances._library()
    assert library is not None
    with pytest.raises(RuntimeError, match="Wider in Python has size and offsets"):
        native.check_layout(library, "layout_points", Wider)


def test_memory_that_is_not_there_is_told() -> None:
    native.check_memory(0, "this")
    with pytest.raises(MlselError, match="not enough memory for this"):
        native.check_memory(1, "this")
