"""A trained message-passing potential as the file that `pair_style schnet` runs.

The file is TorchScript with two more entries in its archive: `mlsel.json`, which tells what the
model is, and `mlsel.bin`, the arrays of the compressed mode. docs/pair-styles.md is its
specification; `export_schnet` and `export_painn` make it from schnetpack's models, and
`export_message_passing` from any scriptable module with the same four methods.

In SchNet every filter depends on the distance alone. The compressed mode keeps each layer's
filters, cutoff function included, at knots in r, through which the pair style lays a quintic
spline: it needs neither the filter networks nor torch. Energies and forces belong together exactly,
because the slope used is that of the spline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.export_model.layers import painn_layers, schnet_layers
from mlsel.export_model.parts import Array, Parts, atomic_numbers_of, torchscript
from mlsel.export_model.potential_file import read_metadata, write_potential
from mlsel.export_model.tables import SLOPE_ERROR_WANTED, compress_filters

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "SLOPE_ERROR_WANTED",
    "export_message_passing",
    "export_painn",
    "export_schnet",
    "read_metadata",
]


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
    with torchscript():
        from schnetpack.representation import SchNet

    parts = Parts.of(model, SchNet, dtype)
    arrays: dict[str, Array] = {}
    compressed: dict[str, object] | None = None
    numbers = atomic_numbers_of(species)
    if compress:
        compressed = compress_filters(parts, numbers, arrays)
    return write_potential(
        schnet_layers(parts),
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
    with torchscript():
        from schnetpack.representation import PaiNN

    parts = Parts.of(model, PaiNN, dtype)
    representation = parts.representation
    width = 4 * int(representation.n_atom_basis)
    return write_potential(
        painn_layers(parts),
        Path(path),
        atomic_numbers_of(species),
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
    parts = Parts(layers, layers, None, cutoff, dtype, 1.0, 0.0, None)
    return write_potential(
        layers, Path(path), atomic_numbers_of(species), parts, name, list(widths), energy_offset,
        provenance, None, {},
    )  # fmt: skip
