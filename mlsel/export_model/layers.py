"""SchNet and PaiNN behind the interface of a potential's file.

Pairs are listed once. The first n_mirrored of them carry a message both ways; the others only from
the sender, another process's atom, to the receiver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from mlsel.export_model.parts import Parts


def schnet_layers(parts: Parts) -> nn.Module:
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
            self.outnet = _shared_network(parts)
            self.scale = parts.scale
            self.length = parts.length
            self.cutoff = parts.cutoff
            self.n_layers = len(self.layers)

        @torch.jit.export
        def embed(self, numbers: torch.Tensor) -> torch.Tensor:
            return self.embedding(numbers)

        @torch.jit.export
        def edges(self, vectors: torch.Tensor) -> list[torch.Tensor]:
            distances = torch.sqrt((vectors * vectors).sum(1)) / self.length
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


def painn_layers(parts: Parts) -> nn.Module:
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
            self.outnet = _shared_network(parts)
            self.scale = parts.scale
            self.length = parts.length
            self.cutoff = parts.cutoff
            self.n_layers = len(self.layers)
            self.n = n
            self.shared = shared

        @torch.jit.export
        def embed(self, numbers: torch.Tensor) -> torch.Tensor:
            q = self.embedding(numbers)
            return torch.cat([q, torch.zeros_like(q).repeat(1, 3)], 1)

        @torch.jit.export
        def edges(self, vectors: torch.Tensor) -> list[torch.Tensor]:
            distances = torch.sqrt((vectors * vectors).sum(1))
            directions = vectors / distances.unsqueeze(1)
            distances = distances / self.length
            smooth = self.cutoff_fn(distances).unsqueeze(1)
            filters = self.filter_net(self.radial_basis(distances)) * smooth
            return [filters, directions]

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


def _shared_network(parts: Parts) -> nn.Module:
    from torch import nn

    return nn.Identity() if parts.networks else parts.readout.outnet


def with_elements(layers: nn.Module, parts: Parts) -> nn.Module:
    """`layers` with an output network for each element.

    An atom's features get one number more, its atomic number, which says in the end whose network
    they go through.
    """
    import torch
    from torch import nn

    class Elements(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers
            self.outnets = parts.readout.outnets
            self.elements = [float(z) for z in parts.readout.elements]
            self.scale = parts.scale
            self.n = int(parts.representation.n_atom_basis)
            self.n_layers = len(parts.representation.interactions)
            self.cutoff = parts.cutoff

        @torch.jit.export
        def embed(self, numbers: torch.Tensor) -> torch.Tensor:
            x = self.layers.embed(numbers)
            return torch.cat([x, numbers.to(x.dtype).unsqueeze(1)], 1)

        @torch.jit.export
        def edges(self, vectors: torch.Tensor) -> list[torch.Tensor]:
            found: list[torch.Tensor] = self.layers.edges(vectors)
            return found

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
            numbers = x[:n_local, -1:]
            x = self.layers.interact(
                layer, x[:, :-1], edges, receivers, senders, n_local, n_mirrored
            )
            return torch.cat([x, numbers], 1)

        @torch.jit.export
        def readout(self, x: torch.Tensor) -> torch.Tensor:
            numbers = x[:, -1]
            energies = torch.zeros_like(numbers)
            for k, outnet in enumerate(self.outnets):
                own = outnet(x[:, : self.n]).squeeze(1) * self.scale
                energies = torch.where(numbers == self.elements[k], own, energies)
            return energies

        def forward(self, numbers: torch.Tensor) -> torch.Tensor:
            return self.embed(numbers)

    return Elements()


def with_repulsion(layers: nn.Module, parts: Parts) -> nn.Module:
    """`layers`, and schnetpack's ZBLRepulsionEnergy beside them.

    An atom's features get one number more: before the first layer its nuclear charge, after it its
    half of the energies of its pairs, which is added to what the features give in the end.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    zbl: Any = parts.repulsion

    class Repulsion(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers
            self.n_layers = len(parts.representation.interactions)
            self.cutoff = parts.cutoff
            self.length = parts.length
            self.power = float(functional.softplus(zbl.a_pow))
            self.scale = 0.5 * parts.repulsion_scale * float(zbl.ke)
            coefficients = functional.normalize(functional.softplus(zbl.coefficients), p=1.0, dim=0)
            self.register_buffer("coefficients", coefficients)
            # a screening length's inverse: with the sum of the charges' powers, over a distance
            exponents = functional.softplus(zbl.exponents) * functional.softplus(zbl.a_div)
            self.register_buffer("exponents", exponents)
            self.has_cutoff = zbl.cutoff_fn is not None
            self.cutoff_fn = zbl.cutoff_fn if zbl.cutoff_fn is not None else nn.Identity()

        @torch.jit.export
        def embed(self, numbers: torch.Tensor) -> torch.Tensor:
            x = self.layers.embed(numbers)
            return torch.cat([x, numbers.to(x.dtype).unsqueeze(1)], 1)

        @torch.jit.export
        def edges(self, vectors: torch.Tensor) -> list[torch.Tensor]:
            distances = torch.sqrt((vectors * vectors).sum(1)) / self.length
            smooth = torch.ones_like(distances)
            if self.has_cutoff:
                smooth = self.cutoff_fn(distances)
            found: list[torch.Tensor] = self.layers.edges(vectors)
            found.append(distances)
            found.append(smooth)
            return found

        def pairs(
            self, a: torch.Tensor, b: torch.Tensor, edges: list[torch.Tensor]
        ) -> torch.Tensor:
            distances = edges[-2]
            inverse = (a**self.power + b**self.power) * distances
            screening = torch.exp(-inverse.unsqueeze(1) * self.exponents) @ self.coefficients
            return self.scale * a * b / distances * screening * edges[-1]

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
            last = x[:, -1]
            energies = last[:n_local]
            if layer == 0:
                a, b = last.index_select(0, receivers), last.index_select(0, senders)
                shares = self.pairs(a, b, edges)
                energies = torch.zeros_like(energies).index_add(0, receivers, shares)
                energies = energies.index_add(0, senders[:n_mirrored], shares[:n_mirrored])
            x = self.layers.interact(
                layer, x[:, :-1], edges[:-2], receivers, senders, n_local, n_mirrored
            )
            return torch.cat([x, energies.unsqueeze(1)], 1)

        @torch.jit.export
        def readout(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers.readout(x[:, :-1]) + x[:, -1]

        def forward(self, numbers: torch.Tensor) -> torch.Tensor:
            return self.embed(numbers)

    return Repulsion()
