"""The compressed mode's arrays: tables of SchNet's filters, and its dense layers."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core.errors import MlselError
from mlsel.export_model.parts import Array, torchscript

if TYPE_CHECKING:
    import torch

    from mlsel.export_model.parts import Parts

log = logging.getLogger(__name__)

FEWEST_KNOTS, MOST_KNOTS = 33, 8193
SLOPE_ERROR_WANTED = {"float32": 1e-6, "float64": 2e-9}
"""Largest error of a table's slope, relative to the largest slope of its layer: as few knots as
reach it are taken. Small tables are fast, because they stay in the cache."""


WITHOUT = "export without its tables (compress=False, on the command line --no-tables)"


def _activation(function: Any) -> str:
    """The name that the pair style knows an activation by."""
    import torch
    from schnetpack.nn.activations import shifted_softplus

    if function is shifted_softplus:
        return "shifted_softplus"
    if function is torch.nn.functional.silu or type(function) is torch.nn.SiLU:
        return "silu"
    if function in (torch.tanh, torch.nn.functional.tanh) or type(function) is torch.nn.Tanh:
        return "tanh"
    if type(function) is torch.nn.Identity:
        return "identity"
    name = getattr(function, "__name__", type(function).__name__)
    raise MlselError(
        f"The compressed mode does not know the activation {name}, only shifted_softplus, silu "
        f"and tanh: {WITHOUT}."
    )


def _one_activation(dense_layers: Sequence[Any], where: str) -> str:
    names = {_activation(dense.activation) for dense in dense_layers} or {"identity"}
    if len(names) != 1:
        raise MlselError(
            f"The compressed mode needs one activation in all of {where}, which has "
            f"{' and '.join(sorted(names))}: {WITHOUT}."
        )
    return names.pop()


def activations(parts: Parts) -> tuple[str, str]:
    """Return the activations of the interactions and of the output network.

    Raises
    ------
    MlselError
        If the compressed mode cannot express the model.
    """
    if parts.repulsion is not None:
        raise MlselError(f"The compressed mode knows no ZBLRepulsionEnergy: {WITHOUT}.")
    layers = parts.representation.interactions
    inner = _one_activation([layer.f2out[0] for layer in layers], "the interactions")
    hidden = [dense for network in _networks(parts).values() for dense in network[:-1]]
    return inner, _one_activation(hidden, "the output network")


def _networks(parts: Parts) -> dict[int | None, list[Any]]:
    """Output networks by element; by None where all share one."""
    if parts.networks is None:
        return {None: list(parts.readout.outnet)}
    return {number: network for number, network in parts.networks.items()}  # noqa: C416


@torchscript()  # forward derivatives are TorchScript inside
def compress_filters(
    parts: Parts, numbers: Sequence[int], arrays: dict[str, Array]
) -> dict[str, object]:
    """Fill `arrays`; return the description of them for the metadata."""
    import torch

    def array(tensor: torch.Tensor) -> Array:
        return np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float64)

    representation = parts.representation
    inner, outer = activations(parts)
    arrays["embedding"] = array(representation.embedding(torch.tensor(numbers)))
    layers = list(representation.interactions)
    networks = _networks(parts)
    tables, errors = _tables(parts)
    for k, layer in enumerate(layers):
        arrays[f"layer{k}/in2f"] = array(layer.in2f.weight)
        for m, dense in enumerate(layer.f2out):
            arrays[f"layer{k}/f2out{m}/weight"] = array(dense.weight)
            arrays[f"layer{k}/f2out{m}/bias"] = array(dense.bias)
        arrays[f"layer{k}/table"] = tables[k]
    for number, outnet in networks.items():
        if number is not None and number not in numbers:
            continue
        head = "" if number is None else f"element{list(numbers).index(number)}/"
        for m, dense in enumerate(outnet):
            # the energy's scale goes into the last layer
            scale = parts.scale if m == len(outnet) - 1 else 1.0
            bias = dense.bias if dense.bias is not None else torch.zeros(dense.out_features)
            arrays[f"{head}readout{m}/weight"] = array(dense.weight * scale)
            arrays[f"{head}readout{m}/bias"] = array(bias * scale)
    return {
        "cutoff": parts.cutoff,
        "n_layers": len(layers),
        "n_atom_basis": int(representation.n_atom_basis),
        "n_filters": int(representation.n_filters),
        "n_knots": int(tables[0].shape[0]),
        "activation": inner,
        "readout": [int(dense.out_features) for dense in next(iter(networks.values()))],
        "readout_activation": outer,
        **({"readout_per_element": True} if parts.networks else {}),
        "table_errors": errors,
    }


def rigidity_arrays(parts: Parts, numbers: Sequence[int], rigidity: Array) -> dict[str, Array]:
    """Return the matrices of uncertainty as arrays of the compressed mode, by network.

    Raises
    ------
    MlselError
        If there are others than the networks have room for.
    """
    heads = [""] if parts.networks is None else [f"element{s}/" for s in range(len(numbers))]
    n = int(next(iter(_networks(parts).values()))[-1].in_features) + 1
    if rigidity.shape != (len(heads), n, n) or not np.isfinite(rigidity).all():
        raise MlselError(
            f"rigidity has the shape {rigidity.shape}; the model's output networks need finite "
            f"numbers of the shape {(len(heads), n, n)}."
        )
    return {
        f"{head}rigidity": np.ascontiguousarray(one, dtype=np.float64)
        for head, one in zip(heads, rigidity, strict=True)
    }


class _Filters:
    """A layer's filters as functions of the distance in Å, in float64."""

    def __init__(self, representation: Any, k: int, cutoff: float, length: float) -> None:
        self.representation, self.k, self.cutoff, self.length = representation, k, cutoff, length

    def __call__(self, distances: Array, derivatives: int) -> Array:
        """Values, slopes and so on: (derivatives + 1, n, n_filters)."""
        import torch

        layer = self.representation.interactions[self.k]

        def filters(r: torch.Tensor) -> torch.Tensor:
            r = r / self.length
            smooth: torch.Tensor = self.representation.cutoff_fn(r)
            return layer.filter_network(self.representation.radial_basis(r)) * smooth[:, None]

        def both(r: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            value, slope = torch.func.jvp(filters, (r,), (torch.ones_like(r),))
            return value, slope

        r = torch.from_numpy(np.asarray(distances, dtype=np.float64))
        if derivatives == 2:
            first, second = torch.func.jvp(both, (r,), (torch.ones_like(r),))
            found = [*first, second[1]]
        else:
            found = [filters(r)] if derivatives == 0 else list(both(r))
        return np.stack([part.detach().numpy() for part in found])

    @cached_property
    def at_zero(self) -> Array:
        """Value, slope and curvature at r = 0, (3, n_filters).

        A basis with a division by r may have another value there than its limit (schnetpack's
        BesselRBF gives 0). Then the limits are those of the polynomial through values close by.
        """
        there = self(np.zeros(1), 2)[:, 0]
        beside = self(np.array([1e-9 * self.cutoff]), 0)[0, 0]
        tolerance = 1e-6 * np.abs(beside).max()
        if np.isfinite(there).all() and np.abs(there[0] - beside).max() <= tolerance:
            return there
        width, order = self.cutoff / 256, 10
        places = 0.5 * (1 - np.cos(np.pi * (np.arange(order) + 0.5) / order))
        values = self(places * width, 0)[0]
        found = np.linalg.solve(places[:, None] ** np.arange(order), values)[:3]
        if not np.abs(found[0] - beside).max() <= tolerance:
            raise MlselError(
                f"The filters of layer {self.k} have no limit at r = 0, and a table needs one: "
                f"{WITHOUT}."
            )
        limits: Array = found * np.array([1.0, 1 / width, 2 / width**2])[:, None]
        return limits


def _tables(parts: Parts) -> tuple[list[Array], list[dict[str, float]]]:
    """Tables (n_knots, 3, n_filters) of value, slope and curvature, and what they cost."""
    double = copy.deepcopy(parts.representation).double()
    n_layers = len(double.interactions)
    layers = [_Filters(double, k, parts.cutoff, parts.length) for k in range(n_layers)]
    wanted, n_knots = SLOPE_ERROR_WANTED[parts.dtype], FEWEST_KNOTS
    best: tuple[float, list[Array], list[dict[str, float]]] = math.inf, [], []
    while True:
        made = [_table(filters, n_knots, parts.dtype) for filters in layers]
        worst = max(error["slope"] / max(error["largest_slope"], 1e-300) for _, error in made)
        helped = worst < best[0]
        if helped:
            best = worst, [table for table, _ in made], [error for _, error in made]
        # The error of a slope goes with the fifth power of the spacing, until it is that of a
        # difference of rounded numbers over the spacing: more knots then make it no better. Too few
        # knots to see what the filters do are another matter.
        is_rounding = not helped and worst < 100 * wanted
        if worst <= wanted or is_rounding or n_knots >= MOST_KNOTS:
            break
        factor = min(max((worst / wanted) ** 0.2, 1.1), 4.0)
        n_knots = min(32 * math.ceil(n_knots * factor / 32) + 1, MOST_KNOTS)
    if best[0] > wanted:
        log.warning(
            "The tables' slopes are off by up to %.2e of the largest slope, with %d knots: more "
            "than the %.0e of docs/export-model.md, which more knots do not reach.",
            best[0], len(best[1][0]), wanted,
        )  # fmt: skip
    return best[1], best[2]


def _table(filters: _Filters, n_knots: int, dtype: str) -> tuple[Array, dict[str, float]]:
    """A layer's table, and its errors as they are between the knots, five places in each interval,
    with the polynomials that the pair style uses and in the file's precision."""
    places = np.arange(1, 6) / 6
    spacing = filters.cutoff / (n_knots - 1)
    knots = spacing * np.arange(n_knots)
    # cutoff functions are cut off hard: what counts at the last knot is the limit from inside
    knots[-1] = filters.cutoff * (1 - 1e-12)
    between = ((np.arange(n_knots - 1)[:, None] + places) * spacing).reshape(-1)
    table = filters(knots, 2)
    table[:, 0] = filters.at_zero
    exact, exact_slopes = filters(between, 1)
    if not (np.isfinite(table).all() and np.isfinite(exact_slopes).all()):
        raise MlselError(f"The filters of layer {filters.k} are not finite numbers everywhere.")
    stored = spline(table, spacing).astype(dtype).astype(np.float64)
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


def spline(table: Array, spacing: float) -> Array:
    """Coefficients of the quintic spline, (n_knots + 4, n_filters): rows k … k + 5 belong to the
    interval after knot k. It takes the values at all knots, and slopes and curvatures at both ends.

    `table` is (3, n_knots, n_filters). spline.cpp does the same when the pair style reads a file.
    """
    from scipy.linalg import solve_banded

    value, slope, curvature = table[0], table[1] * spacing, table[2] * spacing**2
    n, band = len(value), 4
    diagonals = np.zeros((2 * band + 1, n + 4))  # row band + i − j, column j: element (i, j)
    for column in range(5):
        diagonals[band + 2 - column, column : column + n] = (1, 26, 66, 26, 1)[column]
        for first, slope_row, curvature_row in ((0, 1, 0), (n - 1, n + 2, n + 3)):
            j = first + column
            diagonals[band + slope_row - j, j] = (-5, -50, 0, 50, 5)[column]
            diagonals[band + curvature_row - j, j] = (20, 40, -120, 40, 20)[column]
    wanted = np.concatenate(
        [curvature[:1], slope[:1], value, slope[-1:], curvature[-1:]],
    )
    solved: Array = solve_banded((band, band), diagonals, 120 * wanted)
    return solved


def _splines(places: Array) -> tuple[Array, Array]:
    """The six B-splines of an interval at places 0 … 1, and their slopes: (n, 6) each."""
    powers = places[:, None] ** np.arange(6)
    slope_powers = np.arange(6) * np.pad(powers[:, :5], ((0, 0), (1, 0)))
    return powers @ B_SPLINES.T, slope_powers @ B_SPLINES.T


B_SPLINES = (
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
