"""A trained message-passing potential as the file that `pair_style schnet` runs.

The file is TorchScript with two more entries in its archive: `mlsel.json`, which tells what the
model is, and `mlsel.bin`, the arrays of the compressed mode. docs/pair-styles.md is its
specification, docs/export-model.md says what of a model of schnetpack can be exported;
`export_schnet` and `export_painn` make the file from schnetpack's models, and
`export_message_passing` from any scriptable module with the same four methods. A file gets its name
once it gave, read again, the energies and forces of the model itself.

In SchNet every filter depends on the distance alone. The compressed mode keeps each layer's
filters, cutoff function included, at knots in r, through which the pair style lays a quintic
spline: it needs neither the filter networks nor torch. Energies and forces belong together exactly,
because the slope used is that of the spline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.export_model.check import check_module, check_potential
from mlsel.export_model.layers import (
    painn_layers,
    schnet_layers,
    with_elements,
    with_repulsion,
)
from mlsel.export_model.parts import Array, Parts, atomic_numbers_of, torchscript
from mlsel.export_model.potential_file import Potential, energy_offsets, read_metadata
from mlsel.export_model.tables import SLOPE_ERROR_WANTED, compress_filters, rigidity_arrays
from mlsel.export_model.units import in_angstrom, in_ev

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
    energy_unit: str | float = "eV",
    length_unit: str | float = "Ang",
    provenance: Mapping[str, object] | None = None,
    rigidity: Array | None = None,
    shortest_distances: Array | None = None,
) -> Path:
    """Write schnetpack's SchNet as a file for `pair_style schnet`.

    Parameters
    ----------
    model : schnetpack.model.NeuralNetworkPotential
        It is left as it is: a copy is exported.
    path : path
        The file, model.pt for instance; it appears when it is whole and found right.
    species : sequence of symbols or atomic numbers
        What the model was trained on, ("Na", "Cl") for instance.
    energy_offset : float or mapping of symbols to floats
        Added to each atom's energy, eV, in double precision. AddOffsets among the model's
        postprocessors is read by itself and comes on top.
    dtype : "float32", "float64", optional
        The precision that the file computes in; the model's own by default.
    compress : bool
        Write the tables of the compressed mode.
    energy_unit, length_unit : str or float
        The model's own units ("kcal/mol", "Ha", "Bohr", …; a number of eV or Å): the file is in eV
        and Å.
    provenance : mapping, optional
        What JSON can hold; kept in the file's metadata.
    rigidity : (n_networks, n + 1, n + 1), optional
        Of each output network (one, or one for each of `species`), eV: the product with the n
        inputs of its last layer, and 1, is as long as an atom's energy is uncertain; for
        `fix … pair … schnet sigma 1`. Part of the tables.
    shortest_distances : (n_species, n_species), optional
        Å, of the training set, at most the cutoff; for `below`.

    Returns
    -------
    path

    Raises
    ------
    MlselError
        If the model is something that the file cannot express, in a sentence that names the part;
        or if the file written gives other energies or forces than the model.
    """
    with torchscript():
        from schnetpack.representation import SchNet

    return _export(
        SchNet, model, path, species, energy_offset, dtype, energy_unit, length_unit, provenance,
        compress, rigidity, shortest_distances,
    )  # fmt: skip


def export_painn(
    model: nn.Module,
    path: str | Path,
    species: Sequence[str | int],
    *,
    energy_offset: float | Mapping[str, float] = 0.0,
    dtype: str | None = None,
    energy_unit: str | float = "eV",
    length_unit: str | float = "Ang",
    provenance: Mapping[str, object] | None = None,
) -> Path:
    """Write schnetpack's PaiNN as a file for `pair_style schnet`; see `export_schnet`.

    An atom's features between layers are its scalars and its three components of vectors, side by
    side: 4 × n_atom_basis numbers. There is no compressed mode.
    """
    with torchscript():
        from schnetpack.representation import PaiNN

    return _export(
        PaiNN, model, path, species, energy_offset, dtype, energy_unit, length_unit, provenance,
        False,
    )  # fmt: skip


def _export(
    kind: Any,
    model: nn.Module,
    path: str | Path,
    species: Sequence[str | int],
    energy_offset: float | Mapping[str, float],
    dtype: str | None,
    energy_unit: str | float,
    length_unit: str | float,
    provenance: Mapping[str, object] | None,
    compress: bool,
    rigidity: Array | None = None,
    shortest_distances: Array | None = None,
) -> Path:
    from ase.data import chemical_symbols

    numbers = atomic_numbers_of(species)
    symbols = [chemical_symbols[number] for number in numbers]
    given = energy_offsets(symbols, energy_offset)
    ev, angstrom = in_ev(energy_unit, "energy_unit"), in_angstrom(length_unit, "length_unit")
    parts = Parts.of(model, kind, numbers, dtype, ev, angstrom)
    parts.tell()
    arrays: dict[str, Array] = {}
    compressed = compress_filters(parts, numbers, arrays) if compress else None
    if compressed is not None and rigidity is not None:
        compressed["rigidity"] = True
        arrays |= rigidity_arrays(parts, numbers, rigidity)
    representation = parts.representation
    n_layers, width = len(representation.interactions), int(representation.n_atom_basis)
    if kind.__name__ == "SchNet":
        layers = schnet_layers(parts)
    else:
        layers, width = painn_layers(parts), 4 * width
    if parts.networks is not None:
        layers, width = with_elements(layers, parts), width + 1
    if parts.repulsion is not None:
        layers, width = with_repulsion(layers, parts), width + 1
    potential = Potential(
        layers=layers,
        name=kind.__name__,
        numbers=numbers,
        offsets={
            symbol: given[symbol] + parts.offset(number)
            for symbol, number in zip(symbols, numbers, strict=True)
        },
        cutoff=parts.cutoff,
        dtype=parts.dtype,
        widths=[width] * (n_layers + 1),
        provenance=provenance or {},
        compressed=compressed,
        arrays=arrays,
        shortest=None if shortest_distances is None else np.asarray(shortest_distances).tolist(),
    )
    return potential.write(
        Path(path), lambda file: check_potential(file, model, given, energy_unit, length_unit)
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
        docs/pair-styles.md. Energies in eV, vectors in Å.
    cutoff : float
        Å.
    widths : sequence of int
        Features of an atom before the first layer, between layers and after the last:
        one more than there are layers.
    name, dtype
        What the model is called; "float32" or "float64".
    """
    from ase.data import chemical_symbols

    numbers = atomic_numbers_of(species)
    symbols = [chemical_symbols[number] for number in numbers]
    potential = Potential(
        layers, name, numbers, energy_offsets(symbols, energy_offset), cutoff, dtype, widths,
        provenance or {},
    )  # fmt: skip
    return potential.write(Path(path), check_module)
