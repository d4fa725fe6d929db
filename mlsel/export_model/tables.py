"""The compressed mode's arrays: tables of SchNet's filters, and its dense layers."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core.errors import MlselError
from mlsel.export_model.parts import Array, torchscript

if TYPE_CHECKING:
    import torch

    from mlsel.export_model.parts import Parts

FEWEST_KNOTS, MOST_KNOTS = 65, 2049
SLOPE_ERROR_WANTED = {"float32": 1e-6, "float64": 2e-9}
"""Largest error of a table's slope, relative to the largest slope of its layer: as few knots as
reach it are taken. Small tables are fast, because they stay in the cache."""


def _activation(function: Any) -> str:
    """The name that the pair style knows an activation by."""
    import torch
    from schnetpack.nn.activations import shifted_softplus

    if function is shifted_softplus:
        return "shifted_softplus"
    if function is torch.nn.functional.silu or isinstance(function, torch.nn.SiLU):
        return "silu"
    if function is torch.tanh or isinstance(function, torch.nn.Tanh):
        return "tanh"
    if isinstance(function, torch.nn.Identity):
        return "identity"
    name = getattr(function, "__name__", type(function).__name__)
    raise MlselError(
        f"The compressed mode does not know the activation {name}, only shifted_softplus, silu "
        "and tanh: export with compress=False."
    )


@torchscript()  # forward derivatives are TorchScript inside
def compress_filters(
    parts: Parts, numbers: Sequence[int], arrays: dict[str, Array]
) -> dict[str, object]:
    """Fill `arrays`; return the description of them for the metadata."""
    import torch

    def array(tensor: torch.Tensor) -> Array:
        return np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float64)

    representation = parts.representation
    arrays["embedding"] = array(representation.embedding(torch.tensor(numbers)))
    layers = list(representation.interactions)
    inner = _activation(layers[0].f2out[0].activation)
    tables, errors = _tables(parts)
    for k, layer in enumerate(layers):
        arrays[f"layer{k}/in2f"] = array(layer.in2f.weight)
        for m, dense in enumerate(layer.f2out):
            arrays[f"layer{k}/f2out{m}/weight"] = array(dense.weight)
            arrays[f"layer{k}/f2out{m}/bias"] = array(dense.bias)
        arrays[f"layer{k}/table"] = tables[k]
    outnet = list(parts.readout.outnet)
    activations = {_activation(dense.activation) for dense in outnet[:-1]} or {"identity"}
    if len(activations) != 1:
        raise MlselError("The compressed mode needs one activation in all of the output network.")
    for m, dense in enumerate(outnet):
        # the energy's scale goes into the last layer
        scale = parts.scale if m == len(outnet) - 1 else 1.0
        bias = dense.bias if dense.bias is not None else torch.zeros(dense.out_features)
        arrays[f"readout{m}/weight"] = array(dense.weight * scale)
        arrays[f"readout{m}/bias"] = array(bias * scale)
    return {
        "cutoff": parts.cutoff,
        "n_layers": len(layers),
        "n_atom_basis": int(representation.n_atom_basis),
        "n_filters": int(representation.n_filters),
        "n_knots": int(tables[0].shape[0]),
        "activation": inner,
        "readout": [int(dense.out_features) for dense in outnet],
        "readout_activation": activations.pop(),
        "table_errors": errors,
    }


def _filters(representation: Any, k: int, distances: Array, curvature: bool) -> Array:
    """Layer k's filters, their slopes and perhaps their curvatures in r, float64:
    (2 or 3, n, n_filters)."""
    import torch

    layer = representation.interactions[k]

    def filters(r: torch.Tensor) -> torch.Tensor:
        smooth: torch.Tensor = representation.cutoff_fn(r)
        return layer.filter_network(representation.radial_basis(r)) * smooth[:, None]

    def both(r: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        value, slope = torch.func.jvp(filters, (r,), (torch.ones_like(r),))
        return value, slope

    r = torch.from_numpy(np.asarray(distances, dtype=np.float64))
    if not curvature:
        found = both(r)
    else:
        first, second = torch.func.jvp(both, (r,), (torch.ones_like(r),))
        found = (*first, second[1])
    return np.stack([part.detach().numpy() for part in found])


def _tables(parts: Parts) -> tuple[list[Array], list[dict[str, float]]]:
    """Tables (n_knots, 3, n_filters) of value, slope and curvature, and what they cost."""
    double = copy.deepcopy(parts.representation).double()
    layers = range(len(double.interactions))
    wanted, n_knots = SLOPE_ERROR_WANTED[parts.dtype], FEWEST_KNOTS
    best: tuple[float, list[Array], list[dict[str, float]]] = math.inf, [], []
    while True:
        made = [_table(double, k, n_knots, parts.cutoff, parts.dtype) for k in layers]
        worst = max(error["slope"] / max(error["largest_slope"], 1e-300) for _, error in made)
        # more knots may not help: a slope is a difference of rounded numbers over the spacing
        helped = worst < best[0]
        if helped:
            best = worst, [table for table, _ in made], [error for _, error in made]
        if worst <= wanted or n_knots >= MOST_KNOTS or not helped:
            return best[1], best[2]
        # the error of a slope goes with the fifth power of the spacing
        factor = min(max((worst / wanted) ** 0.2, 1.1), 4.0)
        n_knots = min(32 * math.ceil(n_knots * factor / 32) + 1, MOST_KNOTS)


def _table(
    representation: Any, k: int, n_knots: int, cutoff: float, dtype: str
) -> tuple[Array, dict[str, float]]:
    """Layer k's table, and its errors as they are between the knots, five places in each interval,
    with the polynomials that the pair style uses and in the file's precision."""
    places = np.arange(1, 6) / 6
    spacing = cutoff / (n_knots - 1)
    knots = spacing * np.arange(n_knots)
    # cutoff functions are cut off hard: what counts at the last knot is the limit from inside
    knots[-1] = cutoff * (1 - 1e-12)
    between = ((np.arange(n_knots - 1)[:, None] + places) * spacing).reshape(-1)
    table = _filters(representation, k, knots, curvature=True)
    exact, exact_slopes = _filters(representation, k, between, curvature=False)
    if not (np.isfinite(table).all() and np.isfinite(exact_slopes).all()):
        raise MlselError(f"The filters of layer {k} are not finite numbers everywhere.")
    stored = _spline(table, spacing).astype(dtype).astype(np.float64)
    rows = stored[np.arange(n_knots - 1)[:, None] + np.arange(6)]
    values, slopes = (
        np.einsum("pb,ibf->ipf", weights, rows).reshape(exact.shape) for weights in _splines(places)
    )
    return np.ascontiguousarray(table.transpose(1, 0, 2)), {
        "value": float(np.abs(values - exact).max()),
        "slope": float(np.abs(slopes / spacing - exact_slopes).max()),
        "largest_value": float(np.abs(exact).max()),
        "largest_slope": float(np.abs(exact_slopes).max()),
    }


def _spline(table: Array, spacing: float) -> Array:
    """Coefficients of the quintic spline, (n_knots + 4, n_filters): rows k … k + 5 belong to the
    interval after knot k. It takes the values at all knots, and slopes and curvatures at both ends.

    `table` is (3, n_knots, n_filters). spline.cpp does the same when the pair style reads a file.
    """
    value, slope, curvature = table[0], table[1] * spacing, table[2] * spacing**2
    n = len(value)
    matrix = np.zeros((n + 4, n + 4))
    for k in range(n):
        matrix[k + 2, k : k + 5] = 1, 26, 66, 26, 1
    for first, rows in ((0, (1, 0)), (n - 1, (n + 2, n + 3))):
        matrix[rows[0], first : first + 5] = -5, -50, 0, 50, 5
        matrix[rows[1], first : first + 5] = 20, 40, -120, 40, 20
    wanted = np.concatenate(
        [curvature[:1], slope[:1], value, slope[-1:], curvature[-1:]],
    )
    solved: Array = np.linalg.solve(matrix, 120 * wanted)
    return solved


def _splines(places: Array) -> tuple[Array, Array]:
    """The six B-splines of an interval at places 0 … 1, and their slopes: (n, 6) each."""
    powers = places[:, None] ** np.arange(6)
    slope_powers = np.arange(6) * np.pad(powers[:, :5], ((0, 0), (1, 0)))
    return powers @ _B_SPLINES.T, slope_powers @ _B_SPLINES.T


_B_SPLINES = (
    np.array(
        [
            [1, -5, 10, -10, 5, -1],
            [26, -50, 20, 20, -20, 5],
            [66, 0, -60, 0, 30, -10],
            [26, 50, 20, -20, -20, 10],
            [1, 5, 10, 10, 5, -5],
            [0, 0, 0, 0, 0, 1],
        ]
    )
    / 120
)
"""Coefficients of t⁰ … t⁵ of each of them."""
