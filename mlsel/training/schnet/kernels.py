"""The compiled edge part of SchNet: building edges.cpp, and its functions as torch's autograd.

The C++ is compiled once per compiler and processor into the user's cache. Where there is no
compiler `load` returns None, and training goes through torch alone: several times slower, same
model.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mlsel.core import native

SOURCE = Path(__file__).with_name("edges.cpp")
NAMES = {torch.float32: "float32", torch.float64: "float64"}


@functools.cache
def load() -> Any | None:
    """Return the compiled library, or None (said once in the log) where it cannot be built."""
    library = native.load(
        "edge-kernels",
        [SOURCE],
        ["-fopenmp"],
        "training goes through torch alone, several times slower",
    )
    if library is not None:
        native.check_layout(library, "layout_edges_float32", _Edges32)
        native.check_layout(library, "layout_edges_float64", _Edges64)
    return library


class _Edges(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int32) for name in ("n_features", "n_knots", "n_frames", "n_threads")),
        *(
            (name, ctypes.c_void_p)
            for name in ("atom_start", "pair_start", "first", "second", "knot", "place")
        ),
    )


class _Edges32(_Edges):
    _fields_ = (("spacing", ctypes.c_float),)


class _Edges64(_Edges):
    _fields_ = (("spacing", ctypes.c_double),)


@dataclass(frozen=True)
class PairTables:
    """Where the pairs of a batch lie in the filters' tables, ready for the compiled functions.

    Attributes
    ----------
    atom_start, pair_start : int32, (n_frames + 1)
    first, second, knot : int32, (n_pairs)
    place : (n_pairs)
        Place between knot and knot + 1, 0 … 1.
    spacing : float
        Between knots, Å.
    unit : (n_pairs, 3)
        Unit vectors from the first to the second atom.
    """

    atom_start: torch.Tensor
    pair_start: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    knot: torch.Tensor
    place: torch.Tensor
    spacing: float
    unit: torch.Tensor

    def call(self, name: str, n_features: int, n_knots: int, *arrays: torch.Tensor) -> None:
        dtype = self.place.dtype
        kind = _Edges32 if dtype == torch.float32 else _Edges64
        edges = kind(
            n_features,
            n_knots,
            len(self.atom_start) - 1,
            torch.get_num_threads(),
            self.atom_start.data_ptr(),
            self.pair_start.data_ptr(),
            self.first.data_ptr(),
            self.second.data_ptr(),
            self.knot.data_ptr(),
            self.place.data_ptr(),
            self.spacing,
        )
        library = load()
        assert library is not None
        function = getattr(library, f"{name}_{NAMES[dtype]}")
        pointers = [ctypes.c_void_p(array.data_ptr()) for array in arrays]
        native.check_memory(function(ctypes.byref(edges), *pointers), "a batch's tables")


class Convolve(torch.autograd.Function):
    """y_i = Σ_j W(r_ij) ⊙ z_j."""

    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, table: torch.Tensor, pairs: PairTables) -> torch.Tensor:
        z = z.contiguous()
        y = torch.empty_like(z)
        pairs.call("convolve", z.shape[1], len(table), table, z, y)
        ctx.save_for_backward(z, table)
        ctx.pairs = pairs
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        z, table = ctx.saved_tensors
        grad = grad.contiguous()
        z_out, table_out = torch.empty_like(z), torch.empty_like(table)
        ctx.pairs.call("convolve_adjoint", z.shape[1], len(table), table, z, grad, z_out, table_out)
        return z_out, table_out, None


class Differentiate(torch.autograd.Function):
    """From a = ∂E/∂y the derivatives b = ∂E/∂z and g = ∂E/∂r (n_pairs) of `Convolve`."""

    @staticmethod
    def forward(
        ctx: Any, a: torch.Tensor, z: torch.Tensor, table: torch.Tensor, pairs: PairTables
    ) -> tuple[torch.Tensor, torch.Tensor]:
        a, z = a.contiguous(), z.contiguous()
        b, g = torch.empty_like(z), torch.empty_like(pairs.place)
        pairs.call("differentiate", z.shape[1], len(table), table, z, a, b, g)
        ctx.save_for_backward(a, z, table)
        ctx.pairs = pairs
        return b, g

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, grad_b: torch.Tensor, grad_g: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        a, z, table = ctx.saved_tensors
        grad_b, grad_g = grad_b.contiguous(), grad_g.contiguous()
        a_out, z_out, table_out = (torch.empty_like(x) for x in (a, z, table))
        ctx.pairs.call(
            "differentiate_adjoint",
            z.shape[1],
            len(table),
            *(table, z, a, grad_b, grad_g, z_out, a_out, table_out),
        )
        return a_out, z_out, table_out, None


class GatherForces(torch.autograd.Function):
    """F_i = Σ_p ±g_p u_p, (n_atoms, 3)."""

    @staticmethod
    def forward(ctx: Any, g: torch.Tensor, pairs: PairTables) -> torch.Tensor:
        forces = g.new_empty((int(pairs.atom_start[-1]), 3))
        pairs.call("gather_forces", 0, 0, g.contiguous(), pairs.unit, forces)
        ctx.pairs = pairs
        return forces

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        out = torch.empty_like(ctx.pairs.place)
        ctx.pairs.call("gather_forces_adjoint", 0, 0, grad.contiguous(), ctx.pairs.unit, out)
        return out, None
