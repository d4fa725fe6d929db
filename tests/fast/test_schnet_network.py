"""SchNet's evaluation against schnetpack's own, and its gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list

from mlsel.training.frames import Frames
from mlsel.training.schnet import kernels
from mlsel.training.schnet.architecture import SIZES, Architecture
from mlsel.training.schnet.graphs import Batch, Graphs
from mlsel.training.schnet.network import Network, Output, potential
from tests.support import Tolerance
from tests.support.training_data import frames

NUMBERS = (11, 17)
TINY = Architecture(2, 8, 16, 6, (12, 10), 4.0)
SOFTPLUS = replace(TINY, activation="shifted_softplus")
ELEMENTAL = replace(SOFTPLUS, output_per_element=True)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def made(architecture: Architecture, dtype: torch.dtype, seed: int = 0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return potential(architecture, NUMBERS).to(dtype)


def schnetpack_answer(model: Any, part: Frames, row: int, cutoff: float) -> tuple[Any, Any, Any]:
    """Energy, atomic energies and forces by schnetpack's modules, edges by ASE."""
    atoms = Atoms(part.numbers, part.positions[row], cell=part.cell[row], pbc=part.periodic)
    i, j, shift = neighbor_list("ijS", atoms, cutoff)
    inputs = {
        "_atomic_numbers": torch.tensor(atoms.numbers),
        "_positions": torch.tensor(atoms.positions),
        "_idx_i": torch.tensor(i),
        "_idx_j": torch.tensor(j),
        "_offsets": torch.tensor(shift @ atoms.cell.array),
        "_idx_m": torch.zeros(len(atoms), dtype=torch.long),
        "_n_atoms": torch.tensor([len(atoms)]),
    }
    out = model(inputs)
    return (
        out["energy"].detach().reshape(()),
        out["atomic_energies"].detach()[:, 0],
        out["forces"].detach(),
    )


@pytest.mark.parametrize("size", [*SIZES, "tiny", "softplus", "elemental"])
def test_energies_and_forces_are_schnetpacks(size: str) -> None:
    architecture = {
        **SIZES, "tiny": TINY, "softplus": SOFTPLUS, "elemental": ELEMENTAL
    }[size]  # fmt: skip
    part = frames(3, side=2)  # boxes smaller than the cutoff: atoms see their own images
    model = made(architecture, torch.float64)
    graphs = Graphs([part], NUMBERS, architecture.cutoff, torch.float64)
    output = Network(model, NUMBERS, tabulate=False)(graphs.batch([0, 1, 2]))
    for row in range(3):
        _, atomic, forces = schnetpack_answer(model, part, row, architecture.cutoff)
        own = slice(8 * row, 8 * row + 8)
        np.testing.assert_allclose(
            output.atomic[own].detach(), atomic, rtol=0, atol=Tolerance.ROUNDING
        )
        np.testing.assert_allclose(
            output.forces[own].detach(), forces, rtol=0, atol=Tolerance.ROUNDING
        )


def by_hand(model: Any, spk: Any) -> Any:
    """The same potential with schnetpack's own Atomwise for each element, one after the other."""
    ours = model.output_modules[0]
    own = {}
    for number, outnet in zip(ours.elements, ours.outnets, strict=True):
        atomwise = spk.atomistic.Atomwise(
            n_in=TINY.n_atom_basis,
            n_hidden=list(TINY.n_neurons),
            n_layers=len(TINY.n_neurons) + 1,
            activation=spk.nn.activations.shifted_softplus,
            output_key="energy",
            per_atom_output_key="atomic_energies",
        ).double()
        atomwise.outnet.load_state_dict(outnet.state_dict())
        own[number] = spk.model.NeuralNetworkPotential(
            model.representation,
            input_modules=[spk.atomistic.PairwiseDistances()],
            output_modules=[atomwise],
        )
    return own


def test_each_element_has_schnetpacks_own_network() -> None:
    """Atomic energies and forces of a potential put together from two of schnetpack's."""
    from mlsel.training.schnet.network import _schnetpack

    part = frames(2, side=2)
    model = made(ELEMENTAL, torch.float64)
    graphs = Graphs([part], NUMBERS, TINY.cutoff, torch.float64)
    output = Network(model, NUMBERS, tabulate=False)(graphs.batch([0, 1]))
    own = by_hand(model, _schnetpack())
    for row in range(2):
        atoms = Atoms(part.numbers, part.positions[row], cell=part.cell[row], pbc=True)
        i, j, shift = neighbor_list("ijS", atoms, TINY.cutoff)
        positions = torch.tensor(atoms.positions, requires_grad=True)
        energies = torch.zeros(len(atoms), dtype=torch.float64)
        for number, one in own.items():
            inputs = {
                "_atomic_numbers": torch.tensor(atoms.numbers),
                "_positions": positions,
                "_idx_i": torch.tensor(i),
                "_idx_j": torch.tensor(j),
                "_offsets": torch.tensor(shift @ atoms.cell.array),
                "_idx_m": torch.zeros(len(atoms), dtype=torch.long),
                "_n_atoms": torch.tensor([len(atoms)]),
            }
            of_all = one(inputs)["atomic_energies"][:, 0]
            energies = torch.where(torch.tensor(atoms.numbers == number), of_all, energies)
        forces = -torch.autograd.grad(energies.sum(), positions)[0]
        atoms_of_row = slice(8 * row, 8 * row + 8)
        for ours, theirs in ((output.atomic, energies), (output.forces, forces)):
            np.testing.assert_allclose(
                ours[atoms_of_row].detach(), theirs.detach(), rtol=0, atol=Tolerance.ROUNDING
            )
    outnets = model.output_modules[0].outnets
    assert not torch.equal(outnets[0][0].weight, outnets[1][0].weight)


def test_virials_are_the_slope_with_strain() -> None:
    part = frames(2)
    network = Network(made(ELEMENTAL, torch.float64), NUMBERS, tabulate=False)

    def evaluated(strain: Any) -> Any:
        moved = Frames(part.numbers, part.positions @ strain, part.cell @ strain)
        graphs = Graphs([moved], NUMBERS, TINY.cutoff, torch.float64)
        batch = graphs.batch([0, 1])
        return batch, network(batch)

    virials = network.virials(*evaluated(np.eye(3))).detach().numpy()
    for a, b in ((0, 0), (2, 2), (0, 1), (2, 1)):
        step = np.zeros((3, 3))
        step[a, b] = 1e-5
        energies = [
            evaluated(np.eye(3) + sign * step)[1].atomic.reshape(2, -1).sum(1).detach().numpy()
            for sign in (1, -1)
        ]
        slope = -(energies[0] - energies[1]) / 2e-5
        np.testing.assert_allclose(virials[:, a, b], slope, rtol=0, atol=Tolerance.SEVEN_DIGITS)


def loss_of(network: Network, batch: Batch) -> torch.Tensor:
    output = network(batch)
    weights = torch.linspace(-1, 1, output.forces.numel(), dtype=output.forces.dtype)
    return (output.forces.ravel() * weights).sum() + (output.atomic**2).sum()


@pytest.mark.parametrize("architecture", [TINY, ELEMENTAL])
def test_gradients_are_those_of_every_directed_edge(architecture: Architecture) -> None:
    """The mirrored-edge trick against schnetpack's double backward over all directed edges."""
    part = frames(1, side=2)
    model = made(architecture, torch.float64)
    graphs = Graphs([part], NUMBERS, TINY.cutoff, torch.float64)
    ours = torch.autograd.grad(
        loss_of(Network(model, NUMBERS, tabulate=False), graphs.batch([0])),
        list(model.parameters()),
    )
    model.train()  # schnetpack then keeps the graph of the forces
    atoms = Atoms(part.numbers, part.positions[0], cell=part.cell[0], pbc=True)
    i, j, shift = neighbor_list("ijS", atoms, TINY.cutoff)
    out = model(
        {
            "_atomic_numbers": torch.tensor(atoms.numbers),
            "_positions": torch.tensor(atoms.positions),
            "_idx_i": torch.tensor(i),
            "_idx_j": torch.tensor(j),
            "_offsets": torch.tensor(shift @ atoms.cell.array),
            "_idx_m": torch.zeros(len(atoms), dtype=torch.long),
            "_n_atoms": torch.tensor([len(atoms)]),
        }
    )
    weights = torch.linspace(-1, 1, out["forces"].numel(), dtype=torch.float64)
    loss = (out["forces"].ravel() * weights).sum() + (out["atomic_energies"] ** 2).sum()
    theirs = torch.autograd.grad(loss, list(model.parameters()))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=Tolerance.SUMS, atol=Tolerance.ROUNDING)


class TestTables:
    """The compiled kernels with tabulated filters."""

    def pair(self, dtype: torch.dtype, *parts: Frames) -> tuple[Network, Network, Graphs]:
        assert kernels.load() is not None, "g++ is part of what tests need"
        model = made(TINY, dtype)
        graphs = Graphs(parts, NUMBERS, TINY.cutoff, dtype)
        table = Network(model, NUMBERS, tabulate=True)
        table.adopt(graphs)
        return table, Network(model, NUMBERS, tabulate=False), graphs

    @pytest.mark.parametrize("threads", [1, 2])
    def test_they_agree_with_filters_at_each_pair(self, threads: int) -> None:
        torch.set_num_threads(threads)
        table, plain, graphs = self.pair(torch.float64, frames(3), frames(2, side=3))
        batch = graphs.batch([4, 0, 2, 3])
        for a, b in (
            (table(batch).atomic, plain(batch).atomic),
            (table(batch).forces, plain(batch).forces),
        ):
            np.testing.assert_allclose(a.detach(), b.detach(), rtol=0, atol=Tolerance.FIVE_DIGITS)
        assert 0 < table.interpolation_error(graphs) < 1e-5

    def test_their_gradients_are_those_of_finite_differences(self) -> None:
        table, _, graphs = self.pair(torch.float64, frames(2))
        batch = graphs.batch([0, 1])
        parameters = table.parameters()
        gradient = torch.autograd.grad(loss_of(table, batch), parameters)
        direction = [torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(k))
                     for k, p in enumerate(parameters)]  # fmt: skip
        slope = sum(float((g * d).sum()) for g, d in zip(gradient, direction, strict=True))
        step = 1e-5
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                for p, d in zip(parameters, direction, strict=True):
                    p.add_(d, alpha=sign * step)
            values.append(float(loss_of(table, batch).detach()))
            with torch.no_grad():
                for p, d in zip(parameters, direction, strict=True):
                    p.sub_(d, alpha=sign * step)
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(
            slope, rel=Tolerance.FINITE_DIFFERENCE
        )

    def test_the_same_threads_give_the_same_bits(self) -> None:
        torch.set_num_threads(2)
        table, _, graphs = self.pair(torch.float32, frames(5, side=3))
        batch = graphs.batch(np.arange(5))
        one, two = (torch.autograd.grad(loss_of(table, batch), table.parameters()) for _ in "ab")
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("tabulate", [False, True])
def test_forces_are_the_slope_of_the_energy(tabulate: bool) -> None:
    assert kernels.load() is not None, "g++ is part of what tests need"
    part = frames(1)
    model = made(replace(TINY, cutoff=5.0), torch.float64)
    network = Network(model, NUMBERS, tabulate=tabulate)
    network.lay_knots()

    def evaluated(positions: Any) -> Output:
        moved = Frames(part.numbers, positions[None], part.cell)
        graphs = Graphs([moved], NUMBERS, 5.0, torch.float64)
        network.place(graphs)
        return network(graphs.batch([0]))

    def energy(positions: Any) -> float:
        return float(evaluated(positions).atomic.sum().detach())

    forces = evaluated(part.positions[0]).forces.detach()
    for atom, axis in ((0, 0), (3, 1), (7, 2)):
        step = np.zeros_like(part.positions[0])
        step[atom, axis] = 1e-4
        slope = (energy(part.positions[0] - step) - energy(part.positions[0] + step)) / 2e-4
        assert slope == pytest.approx(float(forces[atom, axis]), abs=Tolerance.SEVEN_DIGITS)


def test_batches_hold_their_frames_in_order() -> None:
    parts = [frames(2, side=2), frames(2, seed=3, side=3)]
    graphs = Graphs(parts, NUMBERS, 4.0, torch.float64)
    batch = graphs.batch([3, 0])
    assert batch.n_frames == 2
    assert batch.atom_start.tolist() == [0, 27, 35]
    assert batch.energy is not None and batch.forces is not None
    assert parts[1].energy is not None and parts[1].forces is not None
    assert float(batch.energy[0]) == parts[1].energy[1]
    np.testing.assert_array_equal(batch.forces[:27], parts[1].forces[1])
    for k in range(2):
        pairs = slice(batch.pair_start[k], batch.pair_start[k + 1])
        for ends in (batch.first[pairs], batch.second[pairs]):
            assert int(ends.min()) >= batch.atom_start[k]
            assert int(ends.max()) < batch.atom_start[k + 1]


def test_pairs_are_half_of_ases_directed_edges() -> None:
    part = frames(1, side=2)
    graphs = Graphs([part], NUMBERS, 4.0)
    atoms = Atoms(part.numbers, part.positions[0], cell=part.cell[0], pbc=True)
    assert 2 * graphs.n_pairs[0] == len(neighbor_list("i", atoms, 4.0))
