"""SchNet, evaluated: schnetpack's parameters, energies and forces in one pass.

In SchNet the filters W(r) of an interaction depend on the distance alone. Three things follow:

- an edge and its mirror share a filter, so filters are computed for pairs;
- dE/dr needs W and dW/dr, and both come from the filter network in one forward sweep, so that
  forces are part of the forward pass and training differentiates once, not twice;
- on a CPU, W and dW/dr are evaluated on a grid of a few hundred distances and the pairs
  interpolate between (cubic Hermite splines, `kernels`): thousands of pairs a batch then cost
  some multiply-adds each. The grid's spacing is a small part of the Gaussians' width, so that
  the interpolation error stays below float32's rounding of a force
  (`Network.interpolation_error` measures it; docs/training.md has numbers).

References
----------
Schütt, Sauceda, Kindermans, Tkatchenko, Müller, J. Chem. Phys. 148, 241722 (2018).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch.nn import functional

from mlsel.export_model.elemental import ElementalAtomwise
from mlsel.training.schnet import kernels
from mlsel.training.schnet.architecture import Architecture
from mlsel.training.schnet.graphs import Batch, Graphs, Knots

KNOTS_PER_WIDTH = 12
LARGEST_SPACING = 0.05  # Å
LOG2 = math.log(2.0)


def _schnetpack() -> Any:
    """Import schnetpack, which scripts a function with torch.jit on import; torch deprecates that,
    and nothing here uses it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        import schnetpack
    return schnetpack


def potential(architecture: Architecture, numbers: Sequence[int]) -> Any:
    """Return schnetpack's NeuralNetworkPotential of this architecture, newly initialised.

    `numbers` are the elements, each of which may have an output network of its own. Weights come
    from torch's global generator: seed it inside `torch.random.fork_rng`.
    """
    spk = _schnetpack()
    representation = spk.representation.SchNet(
        n_atom_basis=architecture.n_atom_basis,
        n_interactions=architecture.n_interactions,
        n_filters=architecture.n_filters,
        radial_basis=spk.nn.GaussianRBF(architecture.n_gaussians, architecture.cutoff),
        cutoff_fn=spk.nn.CosineCutoff(architecture.cutoff),
    )
    is_silu = architecture.activation == "silu"
    activation = functional.silu if is_silu else spk.nn.activations.shifted_softplus
    if architecture.output_per_element:
        energy = ElementalAtomwise(
            architecture.n_atom_basis, numbers, architecture.n_neurons, activation
        )
    else:
        energy = spk.atomistic.Atomwise(
            n_in=architecture.n_atom_basis,
            n_hidden=list(architecture.n_neurons),
            n_layers=len(architecture.n_neurons) + 1,
            activation=activation,
            output_key="energy",
            per_atom_output_key="atomic_energies",
        )
    return spk.model.NeuralNetworkPotential(
        representation,
        input_modules=[spk.atomistic.PairwiseDistances()],
        output_modules=[energy, spk.atomistic.Forces()],
    )


@dataclass(frozen=True)
class Output:
    """Atomic energies (n_atoms) without reference energies, dE/dr (n_pairs), forces."""

    atomic: torch.Tensor
    pair_derivative: torch.Tensor
    forces: torch.Tensor


class Network:
    """Evaluates a schnetpack potential that keeps the parameters.

    Parameters
    ----------
    model : NeuralNetworkPotential
        As `potential` makes it.
    numbers : sequence of int
        The elements, in the order of `Batch.species`.
    tabulate : bool
        Interpolate filters with the compiled kernels (CPU) instead of computing them at each
        pair.
    """

    def __init__(self, model: Any, numbers: Sequence[int], *, tabulate: bool) -> None:
        self.model = model
        representation = model.representation
        self._layers = list(representation.interactions)
        self._embedding = representation.embedding.weight
        energy = model.output_modules[0]
        self._is_per_element = isinstance(energy, ElementalAtomwise)
        if self._is_per_element:
            by_number = dict(zip(energy.elements, energy.outnets, strict=True))
            networks = [by_number[int(z)] for z in numbers]
        else:
            networks = [energy.outnet]
        self._outnets = [list(network) for network in networks]
        self._is_silu = self._outnets[0][0].activation is functional.silu
        self._offsets = representation.radial_basis.offsets
        self._widths = representation.radial_basis.widths
        self.cutoff = float(representation.cutoff)
        self.numbers = tuple(numbers)
        self._numbers = torch.tensor(list(numbers), device=self._embedding.device)
        self.tabulate = tabulate and kernels.load() is not None
        self._tables: tuple[torch.Tensor, ...] | None = None

    def adopt(self, *graphs: Graphs) -> None:
        """Lay the tables' knots from these graphs' shortest distance on."""
        self.lay_knots(min(part.shortest for part in graphs))
        self.place(*graphs)

    def lay_knots(self, start: float = 0.0) -> None:
        """Lay the tables' knots from `start` (Å) to the cutoff."""
        if not self.tabulate:
            return
        spacing = min(LARGEST_SPACING, float(self._widths.min()) / KNOTS_PER_WIDTH)
        start = max(0.0, math.floor(min(start, self.cutoff - spacing) * 100) / 100)
        n_knots = math.ceil((self.cutoff - start) / spacing) + 1
        self.knots = Knots(start, (self.cutoff - start) / (n_knots - 1), n_knots)
        grid = torch.linspace(start, self.cutoff, n_knots, dtype=torch.float64)
        self._grid = self._radial(grid.to(self._embedding.device), self._embedding.dtype)
        self._tables = None

    def place(self, *graphs: Graphs) -> None:
        """Find the graphs' pairs' places between the knots."""
        for part in graphs:
            part.place_on(self.knots if self.tabulate else None)

    def freeze(self) -> None:
        """Keep the tables of the present weights (for prediction)."""
        if self.tabulate:
            with torch.no_grad():
                self._tables = self._tabulated()

    def thaw(self) -> None:
        """Follow the weights again."""
        self._tables = None

    def parameters(self) -> list[torch.nn.Parameter]:
        return list(self.model.parameters())

    def _radial(self, r: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        """Gaussians and their derivatives, one above the other, and the cutoff function's."""
        offsets, widths = self._offsets.to(r.dtype), self._widths.to(r.dtype)
        scaled = (r[:, None] - offsets) / widths
        gaussians = torch.exp(-0.5 * scaled**2)
        slopes = -gaussians * scaled / widths
        angle = r * (math.pi / self.cutoff)
        inside = (r < self.cutoff).to(r.dtype)
        cut = 0.5 * (torch.cos(angle) + 1.0) * inside
        cut_slope = -0.5 * math.pi / self.cutoff * torch.sin(angle) * inside
        both = torch.cat((gaussians, slopes))
        return both.to(dtype), cut.to(dtype)[:, None], cut_slope.to(dtype)[:, None]

    def _filters(
        self, layer: Any, radial: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """W and dW/dr of one interaction, both (n, n_filters)."""
        both, cut, cut_slope = radial
        inner, outer = layer.filter_network
        h, h_slope = (both @ inner.weight.T).chunk(2)
        h = h + inner.bias
        s = torch.cat((functional.softplus(h) - LOG2, torch.sigmoid(h) * h_slope))
        w, w_slope = (s @ outer.weight.T).chunk(2)
        w = w + outer.bias
        return w * cut, w_slope * cut + w * cut_slope

    def _tabulated(self) -> tuple[torch.Tensor, ...]:
        spacing = self.knots.spacing
        tables = []
        for layer in self._layers:
            w, slope = self._filters(layer, self._grid)
            tables.append(torch.stack((w, spacing * slope), 1))
        return tuple(tables)

    def __call__(self, batch: Batch) -> Output:
        """Return energies and forces; differentiable once, in the parameters."""
        edges = self._edges(batch)
        x, kept = self._represent(edges, batch)

        # backwards, as part of the forward pass: bar = dE/dx
        atomic, bar = self._read_out(x, batch.species)
        derivative = torch.zeros_like(batch.distance)
        for k in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[k]
            z, h = kept[k]
            hidden, last = layer.f2out
            a = ((bar @ last.weight) * torch.sigmoid(h)) @ hidden.weight
            z_bar, part = edges.differentiate(k, a, z)
            derivative = derivative + part
            if k:  # the embedding does not move
                bar = bar + z_bar @ layer.in2f.weight
        return Output(atomic, derivative, edges.forces(derivative))

    def last_features(self, batch: Batch) -> torch.Tensor:
        """Return what each atom's energy is linear in, (n_atoms, n), 1 the last of them.

        Where each element has an output network they are its element's, all of one width.
        """
        x, _ = self._represent(self._edges(batch), batch)
        features = x.new_empty((len(x), self.n_last_features + 1))
        for k, outnet in enumerate(self._outnets):
            rows = batch.species == k if self._is_per_element else slice(None)
            y = x[rows]
            for dense in outnet[:-1]:
                y = dense(y)
            features[rows, :-1] = y
        features[:, -1] = 1.0
        return features

    @property
    def n_output_networks(self) -> int:
        return len(self._outnets)

    @property
    def n_last_features(self) -> int:
        """Without the 1."""
        return int(self._outnets[0][-1].in_features)

    def _edges(self, batch: Batch) -> _TableEdges | _PlainEdges:
        if self.tabulate and batch.tables is not None:
            return _TableEdges(self._tables or self._tabulated(), batch)
        radial = self._radial(batch.distance, batch.distance.dtype)
        return _PlainEdges([self._filters(layer, radial) for layer in self._layers], batch)

    def _represent(
        self, edges: _TableEdges | _PlainEdges, batch: Batch
    ) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        """Features of atoms after the last interaction, and what the way back needs of each."""
        x = self._embedding[self._numbers][batch.species]
        kept = []
        for k, layer in enumerate(self._layers):
            z = functional.linear(x, layer.in2f.weight)
            hidden, last = layer.f2out
            h = functional.linear(edges.convolve(k, z), hidden.weight, hidden.bias)
            x = x + functional.linear(functional.softplus(h) - LOG2, last.weight, last.bias)
            kept.append((z, h))
        return x, kept

    def _read_out(
        self, x: torch.Tensor, species: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Atomic energies (n_atoms) of features (n_atoms, n_atom_basis), and their slopes."""
        if not self._is_per_element:
            return self._through(self._outnets[0], x)
        rows = [torch.nonzero(species == k)[:, 0] for k in range(len(self._outnets))]
        parts = [self._through(net, x[own]) for net, own in zip(self._outnets, rows, strict=True)]
        back = torch.argsort(torch.cat(rows))
        return (
            torch.cat([energies for energies, _ in parts])[back],
            torch.cat([slopes for _, slopes in parts])[back],
        )

    def _through(self, outnet: Sequence[Any], x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, of one output network."""
        steps = []
        for dense in outnet[:-1]:
            x = functional.linear(x, dense.weight, dense.bias)
            gate = torch.sigmoid(x)
            if self._is_silu:
                steps.append((dense.weight, gate * (1 + x * (1 - gate))))
                x = x * gate
            else:
                steps.append((dense.weight, gate))
                x = functional.softplus(x) - LOG2
        last = outnet[-1]
        slopes = last.weight.expand(len(x), -1)
        for weight, slope in reversed(steps):
            slopes = (slopes * slope) @ weight
        return functional.linear(x, last.weight, last.bias)[:, 0], slopes

    def virials(self, batch: Batch, output: Output) -> torch.Tensor:
        """Return −∂E/∂ε of each frame, eV, (n_frames, 3, 3): −Σ_p r (dE/dr) u uᵀ over its pairs."""
        pull = (output.pair_derivative.double() * batch.distance.double())[:, None]
        unit = batch.unit.double()
        starts = batch.pair_start.tolist()
        return torch.stack([-(pull[a:b] * unit[a:b]).T @ unit[a:b] for a, b in pairwise(starts)])

    def interpolation_error(self, graphs: Graphs, size: int = 8) -> float:
        """Return the largest force component's difference, tables against none, eV/Å."""
        if not self.tabulate:
            return 0.0
        worst = 0.0
        with torch.no_grad():
            for batch in graphs.batches(size):
                table = self(batch).forces
                self.tabulate = False
                try:
                    worst = max(worst, float((self(batch).forces - table).abs().max()))
                finally:
                    self.tabulate = True
        return worst


class _TableEdges:
    """Edges by the compiled kernels."""

    def __init__(self, tables: Sequence[torch.Tensor], batch: Batch) -> None:
        assert batch.tables is not None
        self._tables, self._pairs = tables, batch.tables

    def convolve(self, k: int, z: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = kernels.Convolve.apply(z, self._tables[k], self._pairs)
        return y

    def differentiate(
        self, k: int, a: torch.Tensor, z: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        b, g = kernels.Differentiate.apply(a, z, self._tables[k], self._pairs)
        return b, g

    def forces(self, derivative: torch.Tensor) -> torch.Tensor:
        forces: torch.Tensor = kernels.GatherForces.apply(derivative, self._pairs)
        return forces


class _PlainEdges:
    """Edges by torch alone: any device, any precision."""

    def __init__(self, filters: Sequence[tuple[torch.Tensor, torch.Tensor]], batch: Batch) -> None:
        self._filters = filters
        self._first, self._second = batch.first, batch.second
        self._unit = batch.unit
        self._n_atoms = len(batch.species)

    def _scatter(self, to_first: torch.Tensor, to_second: torch.Tensor) -> torch.Tensor:
        zero = to_first.new_zeros((self._n_atoms, to_first.shape[1]))
        return zero.index_add(0, self._first, to_first).index_add(0, self._second, to_second)

    def convolve(self, k: int, z: torch.Tensor) -> torch.Tensor:
        w = self._filters[k][0]
        return self._scatter(w * z[self._second], w * z[self._first])

    def differentiate(
        self, k: int, a: torch.Tensor, z: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        w, slope = self._filters[k]
        a_first, a_second = a[self._first], a[self._second]
        g = (slope * (a_first * z[self._second] + a_second * z[self._first])).sum(1)
        return self._scatter(w * a_second, w * a_first), g

    def forces(self, derivative: torch.Tensor) -> torch.Tensor:
        part = derivative[:, None] * self._unit
        return self._scatter(part, -part)
