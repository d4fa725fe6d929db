"""A trained message-passing potential as the file that `pair_style schnet` runs.

The file is TorchScript with two more entries in its archive: `mlsel.json`, which tells what the
model is, and `mlsel.bin`, the arrays of the compressed mode. docs/pair-styles.md is its
specification; `export_schnet` and `export_painn` make it from schnetpack's models, and
`export_message_passing` from any scriptable module with the same four methods.

In SchNet every filter depends on the distance alone. The compressed mode keeps each layer's
filters as a quintic Hermite table in r (value, slope and curvature at knots, cutoff function
included), so that the pair style needs neither the filter networks nor torch. Energies and forces
belong together exactly, because the slope used is that of the table.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlsel.errors import MlselError
from mlsel.provenance import finishing

if TYPE_CHECKING:
    import torch
    from torch import nn

Array = npt.NDArray[Any]

FORMAT = "mlsel-potential"
FORMAT_VERSION = 1
METADATA_ENTRY = "mlsel.json"
ARRAYS_ENTRY = "mlsel.bin"
DTYPES = ("float32", "float64")
FEWEST_KNOTS, MOST_KNOTS = 65, 2049
SLOPE_ERROR_WANTED = {"float32": 1e-6, "float64": 2e-9}
"""Largest error of a table's slope, relative to the largest slope of its layer: as few knots as
reach it are taken. Small tables are fast, because they stay in the cache."""


def export_schnet(
    model: nn.Module,
    path: str | Path,
    species: Sequence[str | int],
    *,
    energy_offset: float | Mapping[str, float] = 0.0,
    dtype: str | None = None,
    compress: bool = True,
    provenance: Mapping[str, object] | None = None,
) -> Path:
    """Write schnetpack's SchNet as a file for `pair_style schnet`.

    Parameters
    ----------
    model : schnetpack.model.NeuralNetworkPotential
        Energies in eV from distances in Å. It is left as it is: a copy is exported.
    path : path
        The file, model.pt for instance; it appears when it is whole.
    species : sequence of symbols or atomic numbers
        What the model was trained on, ("Na", "Cl") for instance.
    energy_offset : float or mapping of symbols to floats
        Added to each atom's energy, eV, in double precision. AddOffsets among the model's
        postprocessors is read by itself and comes on top.
    dtype : "float32", "float64", optional
        The precision that the file computes in; the model's own by default.
    compress : bool
        Write the tables of the compressed mode.
    provenance : mapping, optional
        What JSON can hold; kept in the file's metadata.

    Returns
    -------
    path

    Raises
    ------
    MlselError
        If the model is something that the file cannot express, in a sentence.
    """
    with _torchscript():
        from schnetpack.representation import SchNet

    parts = _Parts.of(model, SchNet, dtype)
    arrays: dict[str, Array] = {}
    compressed: dict[str, object] | None = None
    numbers = _numbers(species)
    if compress:
        compressed = _compress(parts, numbers, arrays)
    return _write(
        _schnet_layers(parts),
        Path(path),
        numbers,
        parts,
        "SchNet",
        [int(parts.representation.n_atom_basis)] * (len(parts.representation.interactions) + 1),
        energy_offset,
        provenance,
        compressed,
        arrays,
    )


def export_painn(
    model: nn.Module,
    path: str | Path,
    species: Sequence[str | int],
    *,
    energy_offset: float | Mapping[str, float] = 0.0,
    dtype: str | None = None,
    provenance: Mapping[str, object] | None = None,
) -> Path:
    """Write schnetpack's PaiNN as a file for `pair_style schnet`; see `export_schnet`.

    An atom's features between layers are its scalars and its three components of vectors, side by
    side: 4 × n_atom_basis numbers. There is no compressed mode.
    """
    with _torchscript():
        from schnetpack.representation import PaiNN

    parts = _Parts.of(model, PaiNN, dtype)
    representation = parts.representation
    width = 4 * int(representation.n_atom_basis)
    return _write(
        _painn_layers(parts),
        Path(path),
        _numbers(species),
        parts,
        "PaiNN",
        [width] * (int(representation.n_interactions) + 1),
        energy_offset,
        provenance,
        None,
        {},
    )


def export_message_passing(
    layers: nn.Module,
    path: str | Path,
    species: Sequence[str | int],
    *,
    cutoff: float,
    widths: Sequence[int],
    name: str,
    dtype: str,
    energy_offset: float | Mapping[str, float] = 0.0,
    provenance: Mapping[str, object] | None = None,
) -> Path:
    """Write any message-passing potential as a file for `pair_style schnet`.

    Parameters
    ----------
    layers : torch.nn.Module
        Can be scripted, and has the methods embed, edges, interact and readout of
        docs/pair-styles.md.
    cutoff : float
        Å.
    widths : sequence of int
        Features of an atom before the first layer, between layers and after the last:
        one more than there are layers.
    name, dtype
        What the model is called; "float32" or "float64".
    """
    parts = _Parts(layers, layers, None, cutoff, dtype, 1.0, 0.0, None)
    return _write(
        layers, Path(path), _numbers(species), parts, name, list(widths), energy_offset,
        provenance, None, {},
    )  # fmt: skip


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return what a file tells of its model, without torch.

    Raises
    ------
    MlselError
        If there is no such file or it was not exported by mlsel.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(
                name for name in archive.namelist() if name.endswith("extra/" + METADATA_ENTRY)
            )
            metadata: dict[str, Any] = json.loads(archive.read(name))
    except FileNotFoundError:
        raise MlselError(f"There is no model {path}.") from None
    except (OSError, zipfile.BadZipFile, StopIteration, ValueError) as error:
        raise MlselError(
            f"{path} is no potential that mlsel exported ({type(error).__name__}): "
            "make one with mlsel.export_model."
        ) from None
    return metadata


@contextmanager
def _torchscript() -> Iterator[None]:
    """Torch would have us leave TorchScript, which schnetpack uses and libtorch alone reads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        yield


# What a model of schnetpack is made of


@dataclass(frozen=True)
class _Parts:
    """A copy of the model, taken apart: on the CPU, in the precision asked for."""

    model: Any
    representation: Any
    readout: Any
    cutoff: float
    dtype: str
    scale: float
    mean: float
    atomic_references: Array | None

    @classmethod
    def of(cls, model: Any, kind: Any, dtype: str | None) -> _Parts:
        import torch

        with _torchscript():
            import schnetpack.transform as transforms
            from schnetpack.atomistic import Atomwise

        representation: Any = getattr(model, "representation", None)
        if not isinstance(representation, kind):
            raise MlselError(
                f"The model's representation is {type(representation).__name__}, "
                f"and this exports {kind.__name__}."
            )
        if len(representation.electronic_embeddings):
            raise MlselError("Electronic embeddings (charge, spin) cannot be exported.")
        own = str(next(model.parameters()).dtype).removeprefix("torch.")
        dtype = dtype or own
        if dtype not in DTYPES:
            raise MlselError(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}.")
        atomwise = [module for module in model.output_modules if isinstance(module, Atomwise)]
        if len(atomwise) != 1 or atomwise[0].n_out != 1:
            raise MlselError(
                f"The model has {len(atomwise)} Atomwise modules for energies; "
                "one, with n_out = 1, can be exported."
            )
        if atomwise[0].aggregation_mode == "avg":
            raise MlselError("The energy is an average over atoms; only a sum can be exported.")
        scale, mean, references = 1.0, 0.0, None
        for transform in model.postprocessors:
            if isinstance(transform, transforms.CastTo32 | transforms.CastTo64):
                continue
            if isinstance(transform, transforms.AddOffsets) and transform.is_extensive:
                if transform.add_mean:
                    mean += float(transform.mean)
                if transform.add_atomrefs:
                    own_references = transform.atomref.detach().cpu().double().numpy().ravel()
                    references = own_references + (0.0 if references is None else references)
            elif isinstance(transform, transforms.ScaleProperty):
                factor = float(transform.scale)
                scale, mean = scale * factor, mean * factor
                references = None if references is None else references * factor
            else:
                raise MlselError(
                    f"The postprocessor {type(transform).__name__} cannot be exported: AddOffsets "
                    "(extensive), ScaleProperty, CastTo32 and CastTo64 can."
                )
        model = copy.deepcopy(model).cpu().eval().to(getattr(torch, dtype))
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        readout = next(module for module in model.output_modules if isinstance(module, Atomwise))
        representation = model.representation
        cutoff = float(representation.cutoff_fn.cutoff)
        return cls(model, representation, readout, cutoff, dtype, scale, mean, references)


def _numbers(species: Sequence[str | int]) -> list[int]:
    from ase.data import atomic_numbers

    try:
        numbers = [atomic_numbers[one] if isinstance(one, str) else int(one) for one in species]
    except KeyError as error:
        raise MlselError(f"{error.args[0]!r} among the species is no chemical element.") from None
    if not numbers or len(set(numbers)) != len(numbers) or not all(0 < n < 119 for n in numbers):
        raise MlselError(f"The species are {list(species)}; each must be an element, named once.")
    return numbers


# The interface, for SchNet and PaiNN. Pairs are listed once. The first n_mirrored of them carry a
# message both ways; the others only from the sender, another process's atom, to the receiver.


def _schnet_layers(parts: _Parts) -> nn.Module:
    import torch
    from torch import nn

    class Layer(nn.Module):
        def __init__(self, interaction: Any) -> None:
            super().__init__()
            self.in2f = interaction.in2f
            self.f2out = interaction.f2out
            self.filter_network = interaction.filter_network

        def forward(
            self,
            x: torch.Tensor,
            basis: torch.Tensor,
            smooth: torch.Tensor,
            receivers: torch.Tensor,
            senders: torch.Tensor,
            n_local: int,
            n_mirrored: int,
        ) -> torch.Tensor:
            y = self.in2f(x)
            filters = self.filter_network(basis) * smooth
            into = torch.zeros([n_local, y.shape[1]], dtype=y.dtype, device=y.device)
            into = into.index_add(0, receivers, filters * y.index_select(0, senders))
            if n_mirrored > 0:
                back = filters[:n_mirrored] * y.index_select(0, receivers[:n_mirrored])
                into = into.index_add(0, senders[:n_mirrored], back)
            return x[:n_local] + self.f2out(into)

    class SchNetLayers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = parts.representation.embedding
            self.radial_basis = parts.representation.radial_basis
            self.cutoff_fn = parts.representation.cutoff_fn
            self.layers = nn.ModuleList(Layer(one) for one in parts.representation.interactions)
            self.outnet = parts.readout.outnet
            self.scale = parts.scale

        @torch.jit.export
        def embed(self, numbers: torch.Tensor) -> torch.Tensor:
            return self.embedding(numbers)

        @torch.jit.export
        def edges(self, vectors: torch.Tensor) -> list[torch.Tensor]:
            distances = torch.sqrt((vectors * vectors).sum(1))
            return [self.radial_basis(distances), self.cutoff_fn(distances).unsqueeze(1)]

        @torch.jit.export
        def interact(
            self,
            layer: int,
            x: torch.Tensor,
            edges: list[torch.Tensor],
            receivers: torch.Tensor,
            senders: torch.Tensor,
            n_local: int,
            n_mirrored: int,
        ) -> torch.Tensor:
            for k, one in enumerate(self.layers):
                if k == layer:
                    x = one(x, edges[0], edges[1], receivers, senders, n_local, n_mirrored)
            return x

        @torch.jit.export
        def readout(self, x: torch.Tensor) -> torch.Tensor:
            return self.outnet(x).squeeze(1) * self.scale

        def forward(self, numbers: torch.Tensor) -> torch.Tensor:
            return self.embed(numbers)

    return SchNetLayers()


def _painn_layers(parts: _Parts) -> nn.Module:
    import torch
    from torch import nn

    n = int(parts.representation.n_atom_basis)
    shared = bool(parts.representation.share_filters)

    class Layer(nn.Module):
        def __init__(self, interaction: Any, mixing: Any) -> None:
            super().__init__()
            self.context = interaction.interatomic_context_net
            self.mixing = mixing
            self.n = n

        def forward(
            self,
            x: torch.Tensor,
            filters: torch.Tensor,
            directions: torch.Tensor,
            receivers: torch.Tensor,
            senders: torch.Tensor,
            n_local: int,
            n_mirrored: int,
        ) -> torch.Tensor:
            n = self.n
            q = x[:, :n]
            mu = x[:, n:].reshape(x.shape[0], 3, n)
            # the mirror of a pair has the same filter and the opposite direction
            to = torch.cat([receivers, senders[:n_mirrored]])
            source = torch.cat([senders, receivers[:n_mirrored]])
            filters = torch.cat([filters, filters[:n_mirrored]])
            directions = torch.cat([directions, -directions[:n_mirrored]])
            message = filters * self.context(q).index_select(0, source)
            dq, dmu_r, dmu_mu = torch.split(message, n, dim=1)
            dmu = dmu_r.unsqueeze(1) * directions.unsqueeze(2)
            dmu = dmu + dmu_mu.unsqueeze(1) * mu.index_select(0, source)
            q_new = q[:n_local].index_add(0, to, dq).unsqueeze(1)
            mu_new = mu[:n_local].index_add(0, to, dmu)
            q_new, mu_new = self.mixing(q_new, mu_new)
            return torch.cat([q_new.squeeze(1), mu_new.reshape(n_local, 3 * n)], 1)

    class PaiNNLayers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            representation = parts.representation
            self.embedding = representation.embedding
            self.radial_basis = representation.radial_basis
            self.cutoff_fn = representation.cutoff_fn
            self.filter_net = representation.filter_net
            self.layers = nn.ModuleList(
                Layer(one, two)
                for one, two in zip(representation.interactions, representation.mixing, strict=True)
            )
            self.outnet = parts.readout.outnet
            self.scale = parts.scale
            self.n = n
            self.shared = shared

        @torch.jit.export
        def embed(self, numbers: torch.Tensor) -> torch.Tensor:
            q = self.embedding(numbers)
            return torch.cat([q, torch.zeros_like(q).repeat(1, 3)], 1)

        @torch.jit.export
        def edges(self, vectors: torch.Tensor) -> list[torch.Tensor]:
            distances = torch.sqrt((vectors * vectors).sum(1))
            smooth = self.cutoff_fn(distances).unsqueeze(1)
            filters = self.filter_net(self.radial_basis(distances)) * smooth
            return [filters, vectors / distances.unsqueeze(1)]

        @torch.jit.export
        def interact(
            self,
            layer: int,
            x: torch.Tensor,
            edges: list[torch.Tensor],
            receivers: torch.Tensor,
            senders: torch.Tensor,
            n_local: int,
            n_mirrored: int,
        ) -> torch.Tensor:
            filters = edges[0]
            if not self.shared:
                filters = filters[:, 3 * self.n * layer : 3 * self.n * (layer + 1)]
            for k, one in enumerate(self.layers):
                if k == layer:
                    x = one(x, filters, edges[1], receivers, senders, n_local, n_mirrored)
            return x

        @torch.jit.export
        def readout(self, x: torch.Tensor) -> torch.Tensor:
            return self.outnet(x[:, : self.n]).squeeze(1) * self.scale

        def forward(self, numbers: torch.Tensor) -> torch.Tensor:
            return self.embed(numbers)

    return PaiNNLayers()


# The compressed mode


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


@_torchscript()  # forward derivatives are TorchScript inside
def _compress(parts: _Parts, numbers: Sequence[int], arrays: dict[str, Array]) -> dict[str, object]:
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


def _tables(parts: _Parts) -> tuple[list[Array], list[dict[str, float]]]:
    """Tables (n_knots, 3, n_filters) of value, slope and curvature, and what they cost."""
    double = copy.deepcopy(parts.representation).double()
    layers = range(len(double.interactions))
    wanted, n_knots = SLOPE_ERROR_WANTED[parts.dtype], FEWEST_KNOTS
    while True:
        made = [_table(double, k, n_knots, parts.cutoff, parts.dtype) for k in layers]
        worst = max(error["slope"] / max(error["largest_slope"], 1e-300) for _, error in made)
        if worst <= wanted or n_knots >= MOST_KNOTS:
            return [table for table, _ in made], [error for _, error in made]
        # the error of a slope goes with the fifth power of the spacing
        factor = min(max((worst / wanted) ** 0.2, 1.25), 4.0)
        n_knots = min(32 * math.ceil(n_knots * factor / 32) + 1, MOST_KNOTS)


def _table(
    representation: Any, k: int, n_knots: int, cutoff: float, dtype: str
) -> tuple[Array, dict[str, float]]:
    """Layer k's table, and its errors as they are between the knots, five places in each interval,
    with the polynomials that the pair style uses and in the file's precision."""
    places = np.arange(1, 6) / 6
    powers = places[:, None] ** np.arange(6)
    slope_powers = np.arange(1, 6) * powers[:, :5]
    spacing = cutoff / (n_knots - 1)
    knots = spacing * np.arange(n_knots)
    # cutoff functions are cut off hard: what counts at the last knot is the limit from inside
    knots[-1] = cutoff * (1 - 1e-9)
    between = ((np.arange(n_knots - 1)[:, None] + places) * spacing).reshape(-1)
    table = _filters(representation, k, knots, curvature=True)
    exact, exact_slopes = _filters(representation, k, between, curvature=False)
    if not (np.isfinite(table).all() and np.isfinite(exact_slopes).all()):
        raise MlselError(f"The filters of layer {k} are not finite numbers everywhere.")
    stored = _coefficients(table, spacing).astype(dtype).astype(np.float64)
    values = np.einsum("pb,bif->ipf", powers, stored).reshape(exact.shape)
    slopes = np.einsum("pb,bif->ipf", slope_powers, stored[1:]).reshape(exact.shape)
    return np.ascontiguousarray(table.transpose(1, 0, 2)), {
        "value": float(np.abs(values - exact).max()),
        "slope": float(np.abs(slopes / spacing - exact_slopes).max()),
        "largest_value": float(np.abs(exact).max()),
        "largest_slope": float(np.abs(exact_slopes).max()),
    }


def _coefficients(table: Array, spacing: float) -> Array:
    """Coefficients c_0 … c_5 of each interval's polynomial in t = (r − r_k)/spacing, 0 ≤ t < 1.

    `table` is (3, n_knots, n_filters); the result (6, n_knots − 1, n_filters). schnet_model.cpp
    does the same when it reads a file.
    """
    value, slope, curvature = table[0], table[1] * spacing, table[2] * spacing**2
    step = value[1:] - value[:-1]
    m0, m1, a0, a1 = slope[:-1], slope[1:], curvature[:-1], curvature[1:]
    return np.stack(
        [
            value[:-1],
            m0,
            a0 / 2,
            10 * step - 6 * m0 - 4 * m1 - 1.5 * a0 + 0.5 * a1,
            -15 * step + 8 * m0 + 7 * m1 + 1.5 * a0 - a1,
            6 * step - 3 * m0 - 3 * m1 - 0.5 * a0 + 0.5 * a1,
        ]
    )


# The file


def _write(
    layers: Any,
    path: Path,
    numbers: Sequence[int],
    parts: _Parts,
    name: str,
    widths: Sequence[int],
    energy_offset: float | Mapping[str, float],
    provenance: Mapping[str, object] | None,
    compressed: dict[str, object] | None,
    arrays: Mapping[str, Array],
) -> Path:
    import torch
    from ase.data import chemical_symbols

    from mlsel.provenance import versions

    symbols = [chemical_symbols[number] for number in numbers]
    if isinstance(energy_offset, Mapping) and set(energy_offset) != set(symbols):
        raise MlselError(
            f"energy_offset names {sorted(energy_offset)}, the species are {sorted(symbols)}."
        )
    offsets = [
        float(energy_offset[symbol] if isinstance(energy_offset, Mapping) else energy_offset)
        + parts.mean
        + (0.0 if parts.atomic_references is None else float(parts.atomic_references[number]))
        for symbol, number in zip(symbols, numbers, strict=True)
    ]
    blob, index, offset = [], {}, 0
    for key, array in arrays.items():
        index[key] = {"shape": list(array.shape), "offset": offset}
        blob.append(array.tobytes())
        offset += array.nbytes
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": name,
        "species": symbols,
        "numbers": list(numbers),
        "cutoff": parts.cutoff,
        "units": {"length": "Angstrom", "energy": "eV"},
        "dtype": parts.dtype,
        "n_layers": len(widths) - 1,
        "widths": list(widths),
        "energy_offsets": offsets,
        "n_parameters": sum(parameter.numel() for parameter in layers.parameters()),
        "versions": versions("torch", "schnetpack"),
        "compressed": None if compressed is None else {**compressed, "arrays": index},
        "provenance": dict(provenance or {}),
    }
    if not math.isfinite(sum(offsets)):
        raise MlselError(f"The energy offsets {offsets} are not finite numbers.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _torchscript():
        scripted = torch.jit.script(layers.eval())
        with finishing(path) as unfinished:
            torch.jit.save(
                scripted,
                str(unfinished),
                _extra_files={
                    METADATA_ENTRY: json.dumps(metadata, indent=1).encode(),
                    ARRAYS_ENTRY: b"".join(blob),
                },
            )
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m mlsel.export_model best_model model.pt Na Cl`: a model that schnetpack saved."""
    parser = argparse.ArgumentParser(
        prog="python -m mlsel.export_model",
        description="Export a SchNet or PaiNN that schnetpack saved (torch.save) for "
        "pair_style schnet.",
    )
    parser.add_argument("model", type=Path, help="what schnetpack saved, best_model for instance")
    parser.add_argument("output", type=Path, help="the file to write, model.pt for instance")
    parser.add_argument("species", nargs="+", help="elements that the model knows: Na Cl")
    parser.add_argument("--dtype", choices=DTYPES, help="precision (default: the model's)")
    parser.add_argument(
        "--energy-offset", type=float, default=0.0, metavar="EV", help="added to each atom's energy"
    )
    args = parser.parse_args(argv)
    try:
        import torch

        with _torchscript():
            from schnetpack.representation import PaiNN

        if not args.model.is_file():
            raise MlselError(f"There is no model {args.model}.")
        # schnetpack saves whole objects: reading one runs its code, as opening it with schnetpack
        model = torch.load(args.model, map_location="cpu", weights_only=False)
        painn = isinstance(getattr(model, "representation", None), PaiNN)
        export = export_painn if painn else export_schnet
        export(model, args.output, args.species, dtype=args.dtype, energy_offset=args.energy_offset)
    except MlselError as error:
        print(f"mlsel: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
