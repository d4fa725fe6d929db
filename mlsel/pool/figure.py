"""The pool at a glance: its state points, and the distributions of what is selected by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.cli import Parser
from mlsel.core import units
from mlsel.core.plotting import write_figure

if TYPE_CHECKING:
    from mlsel.core.arrays import Array
    from mlsel.pool.pool import Pool

MAX_BINS = 200


def main(argv: Sequence[str] | None = None) -> int:
    """`mlsel figure pool POOL`."""
    parser = Parser(prog="mlsel figure pool", description=__doc__)
    parser.add_argument(
        "pool", type=Path, metavar="POOL", help="a pool, or a study's folder with pool.h5 in it"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: beside it")
    args = parser.parse_args(argv)
    from mlsel.pool.pool import Pool
    from mlsel.study.folder import StudyFolder

    path = StudyFolder(args.pool).pool if args.pool.is_dir() else args.pool
    output = args.output or path.with_suffix(".png")
    with Pool(path) as pool:
        draw(pool, output)
    print(output)
    return 0


def draw(pool: Pool, output: Path) -> None:
    """Draw the figure; the name's suffix chooses the format."""
    import matplotlib as mpl

    mpl.use("Agg")
    import numpy as np
    from ase.data import chemical_symbols
    from matplotlib import pyplot as plt

    fields = [f for f in ("energy", "atomic_energies", "forces") if f in pool.fields]
    states = all(f in pool.fields for f in ("temperature", "volume"))
    with plt.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}):
        n = len(fields) + states
        figure, axes = plt.subplots(
            1, max(1, n), figsize=(3.5 * max(1, n), 3.2), layout="constrained", squeeze=False
        )
        panels = iter(axes[0])
        if states:
            _draw_states(next(panels), pool, figure)
        n_atoms = pool.runs[0].n_atoms
        for field in fields:
            axis = next(panels)
            for label, edges, density in _distributions(pool, field, np):
                name = chemical_symbols[label] if label else "all"
                axis.stairs(density, edges, label=name)
            if field != "energy":
                axis.set_yscale("log")
            axis.set_ylabel("probability density")
            axis.set_xlabel(
                {
                    "energy": "energy per atom / eV",
                    "atomic_energies": "atomic energy $\\varepsilon_i$ / eV",
                    "forces": "force $|F_i|$ / eV Å$^{-1}$",
                }[field]
            )
            if field != "energy":
                axis.legend(frameon=False)
        figure.suptitle(
            f"{len(pool):,} configurations of {n_atoms} atoms, {len(pool.runs)} runs", fontsize=10
        )
        write_figure(figure, output)
        plt.close(figure)


def _draw_states(axis: Any, pool: Pool, figure: Any) -> None:
    """Mean temperature against mean density, a point a run, its pressure as colour."""
    import numpy as np
    from ase.data import atomic_masses
    from matplotlib.colors import SymLogNorm

    rows = []
    for run in pool.runs:
        ids = range(run.first_frame, run.first_frame + run.n_frames)
        blocks = list(pool.blocks("temperature", "volume", frame_ids=ids))
        temperature = np.concatenate([block["temperature"] for block in blocks])
        volume = np.concatenate([block["volume"] for block in blocks])
        density = atomic_masses[pool.numbers(run)].sum() * units.DENSITY / volume
        attributes = pool.run_attributes(run)
        rows.append(
            (
                temperature.mean(),
                density.mean(),
                temperature.std(),
                density.std(),
                attributes.get("pressure_set", np.nan),
                bool(attributes.get("molten", True)),
            )
        )
    t, rho, t_error, rho_error, pressure, molten = map(np.array, zip(*rows, strict=True))
    axis.errorbar(t, rho, rho_error, t_error, fmt="none", color="0.8", lw=0.8, zorder=1)
    known = np.isfinite(pressure)
    norm = SymLogNorm(100, vmin=0, vmax=max(1.0, np.nanmax(pressure))) if known.any() else None
    for chosen, marker, label in ((molten, "o", "molten"), (~molten, "s", "not molten")):
        if chosen.any():
            colour = pressure[chosen] if norm is not None else "tab:blue"
            points = axis.scatter(
                t[chosen], rho[chosen], c=colour, norm=norm, marker=marker, s=22, label=label
            )
    if norm is not None:
        figure.colorbar(points, ax=axis, label="pressure / bar", pad=0.02)
    if not molten.all():
        axis.legend(frameon=False)
    axis.set_xlabel("temperature / K")
    axis.set_ylabel("density / g cm$^{-3}$")


def _distributions(pool: Pool, field: str, np: Any) -> list[tuple[int, Array, Array]]:
    """Histograms of a property, per species where it is one of atoms: (species, edges, density).

    Two passes in blocks, so that the pool need not fit into memory: bounds, then counts.
    """

    from mlsel.pool.block import SMALL_BLOCK

    def values(block: Any, numbers: Array) -> dict[int, Array]:
        data = block[field]
        if field == "energy":
            return {0: data / len(numbers)}
        if field == "forces":
            data = np.linalg.norm(data, axis=2)
        return {int(z): data[:, numbers == z].ravel() for z in np.unique(numbers)}

    low: dict[int, float] = {}
    high: dict[int, float] = {}
    for block in pool.blocks(field, max_bytes=SMALL_BLOCK):
        for z, data in values(block, pool.numbers(block.run)).items():
            low[z] = min(low.get(z, np.inf), data.min())
            high[z] = max(high.get(z, -np.inf), data.max())
    n_values = len(pool) * (1 if field == "energy" else pool.runs[0].n_atoms)
    n_bins = int(np.clip(np.sqrt(n_values), 10, MAX_BINS))
    edges = np.linspace(min(low.values()), max(high.values()) + 1e-12, n_bins + 1)
    counts = {z: np.zeros(n_bins) for z in low}
    for block in pool.blocks(field, max_bytes=SMALL_BLOCK):
        for z, data in values(block, pool.numbers(block.run)).items():
            counts[z] += np.histogram(data, edges)[0]
    width = edges[1] - edges[0]
    return [(z, edges, c / (c.sum() * width)) for z, c in sorted(counts.items())]
