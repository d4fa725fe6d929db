"""Figure 1 of the paper: what data sets hold, by the distributions of what they are chosen by.

    mlsel figure distributions DIR [--all] [--log]
    mlsel figure distributions --pool pool.h5 a.h5 b.h5 -o figure.png

Three panels: the energy per atom, the atomic energies and |F|, each with the tail enlarged. Beside
the picture (SVG and PNG) a table is written: how much of the pool's range each set covers, the
entropy of its histogram over the pool's range (at most ln 100), the bins that it occupies, and the
share of its values beyond the pool's 99.9 % quantile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.cli import Parser
from mlsel.core.errors import MlselError
from mlsel.core.files import write_text
from mlsel.core.plotting import save
from mlsel.study.folder import StudyFolder

if TYPE_CHECKING:
    from mlsel.core.arrays import FloatArray
    from mlsel.pool.pool import Pool
    from mlsel.selection.binned.properties import Property

N_BINS = 100
FINE = 100_000
"""Bins for the pool's quantiles, which are so found to 1e-5 of the range."""
TAIL = 0.999
PAPER = {
    "random": {"color": "tab:green", "linestyle": "-"},
    "global-energy": {"color": "tab:blue", "linestyle": "-."},
    "atomic-energy": {"color": "tab:orange", "linestyle": "--"},
}
"""The paper's three sets, in its colours."""
OTHERS = ("tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:gray", "tab:olive", "tab:cyan")
POOL = "pool"
PER_FRAME = "energy per atom"
"""The property with one value a frame: 512 values are drawn in fewer bins."""


@dataclass(frozen=True)
class Distribution:
    """The values of one property in one set, counted in bins over the pool's range."""

    edges: FloatArray
    counts: FloatArray
    low: float
    high: float
    beyond: float

    @property
    def density(self) -> FloatArray:
        """Probability density, per unit of the property."""
        density: FloatArray = self.counts / (self.counts.sum() * (self.edges[1] - self.edges[0]))
        return density

    def coarser(self, n: int) -> Distribution:
        """Return the same with n bins put into one."""
        return Distribution(
            self.edges[::n],
            self.counts.reshape(-1, n).sum(axis=1),
            self.low,
            self.high,
            self.beyond,
        )

    @property
    def covered(self) -> float:
        """Share of the pool's range between the least and the greatest value."""
        width = float(self.edges[-1] - self.edges[0])
        return (self.high - self.low) / width if width else 1.0

    @property
    def entropy(self) -> float:
        """Entropy of the histogram in nats: ln of the number of bins for a flat one."""
        import numpy as np

        share = self.counts[self.counts > 0] / self.counts.sum()
        return float(-(share * np.log(share)).sum())

    @property
    def occupied(self) -> int:
        """Bins that hold a value."""
        return int((self.counts > 0).sum())


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """Return the colour of each data set: the paper's of its three, others for the rest."""
    others = [name for name in names if name not in PAPER]
    return {
        name: str(PAPER[name]["color"]) if name in PAPER
        else OTHERS[others.index(name) % len(OTHERS)]
        for name in names
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """`mlsel figure distributions …`."""
    parser = Parser(prog="mlsel figure distributions", description=__doc__)
    parser.add_argument(
        "sets", nargs="+", type=Path, metavar="SET", help="data sets, or a study's folder"
    )
    parser.add_argument("--pool", type=Path, metavar="POOL", help="the pool they were chosen from")
    parser.add_argument("--all", action="store_true", help="all training sets of the folder")
    parser.add_argument("--log", action="store_true", help="logarithmic densities, no insets")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: in the folder")
    args = parser.parse_args(argv)
    from mlsel.pool.pool import Pool

    pool_path, sets, folder = _inputs(args.sets, args.pool, args.all)
    name = "distributions" + ("-all" if args.all else "") + ("-log" if args.log else "")
    output = (args.output or folder / name).with_suffix("")
    with Pool(pool_path) as pool:
        found = measure(pool, sets)
    draw(found, output, log=args.log)
    table = markdown(found)
    write_text(output.with_name(f"{output.name}.md"), table)
    print(table)
    print(f"{output}.png, {output}.svg, {output}.md")
    return 0


def _inputs(
    given: Sequence[Path], pool: Path | None, everything: bool
) -> tuple[Path, dict[str, Path], Path]:
    """Return the pool, the sets by name, and where the figure goes."""
    first = given[0]
    if not first.is_dir():
        if pool is None:
            raise MlselError("say from which --pool these data sets were chosen.")
        return pool, {path.stem: path for path in given}, first.parent
    place = StudyFolder(first)
    training = place.data_sets()
    if everything:
        order = [*PAPER, "force", "single-md-random"]
        wanted = sorted(training, key=lambda n: (order.index(n) if n in order else 99, n))
    else:
        wanted = [name for name in PAPER if name in training]
    if not wanted:
        raise MlselError(
            f"{place.data} has none of the data sets {', '.join(PAPER)}: make them with "
            "`mlsel selection`, or name the files."
        )
    return pool or place.pool, {name: place.data_set(name) for name in wanted}, first


def measure(pool: Pool, sets: dict[str, Path]) -> dict[str, dict[str, Distribution]]:
    """Return the distributions by property and set, the pool's own as `pool`."""
    import numpy as np

    from mlsel.pool.block import SMALL_BLOCK
    from mlsel.pool.pool import Pool as OpenPool
    from mlsel.selection.binned.properties import AtomicEnergy, ForceMagnitude, GlobalEnergy

    found: dict[str, dict[str, Distribution]] = {}
    for prop in (GlobalEnergy(), AtomicEnergy(), ForceMagnitude()):
        if prop.field not in pool.fields:
            continue
        low, high = np.inf, -np.inf
        for block in pool.blocks(prop.field, max_bytes=SMALL_BLOCK):
            least, most = prop.extremes(block, slice(None))
            low, high = min(low, float(least.min())), max(high, float(most.max()))
        if high == low:
            low, high = low - 0.5, high + 0.5
        fine = _count(pool, prop, np.linspace(low, high, FINE + 1))
        cumulated = np.cumsum(fine) / fine.sum()
        limit = low + (high - low) * (1 + int(np.searchsorted(cumulated, TAIL))) / FINE
        edges = np.linspace(low, high, N_BINS + 1)
        found[prop.label] = {POOL: _distribution(pool, prop, edges, limit)}
        for name, path in sets.items():
            with OpenPool(path) as data:
                found[prop.label][name] = _distribution(data, prop, edges, limit)
    return found


def _count(pool: Pool, prop: Property, edges: FloatArray) -> FloatArray:
    import numpy as np

    from mlsel.pool.block import SMALL_BLOCK

    counts = np.zeros(len(edges) - 1)
    bounds = float(edges[0]), float(edges[-1])
    for block in pool.blocks(prop.field, max_bytes=SMALL_BLOCK):
        values = prop.values(block, slice(None))
        counts += np.histogram(values, len(counts), bounds)[0]
    return counts


def _distribution(pool: Pool, prop: Property, edges: FloatArray, limit: float) -> Distribution:
    import numpy as np

    from mlsel.pool.block import SMALL_BLOCK

    low, high, n_beyond, n = np.inf, -np.inf, 0, 0
    for block in pool.blocks(prop.field, max_bytes=SMALL_BLOCK):
        values = prop.values(block, slice(None))
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        n_beyond += int((values > limit).sum())
        n += values.size
    return Distribution(edges, _count(pool, prop, edges), low, high, n_beyond / n)


def markdown(found: dict[str, dict[str, Distribution]]) -> str:
    """Return the table."""
    lines = [
        f"| property | set | range covered | entropy (flat: {_flat():.2f}) | bins occupied "
        f"(of {N_BINS}) | beyond the pool's 99.9 % |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for label, by_set in found.items():
        shown = label.replace("|", "\\|")
        for name, one in by_set.items():
            lines.append(
                f"| {shown} | {name} | {one.covered:.0%} | {one.entropy:.2f} | {one.occupied} "
                f"| {one.beyond:.2%} |"
            )
    return "\n".join(lines) + "\n"


def _flat() -> float:
    import math

    return math.log(N_BINS)


def draw(found: dict[str, dict[str, Distribution]], output: Path, *, log: bool) -> None:
    """Draw output.png and output.svg."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    style = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
    units = {"energy per atom": "eV", "atomic energy": "eV", "|F|": "eV/Å"}
    with plt.rc_context({**style, "svg.hashsalt": "mlsel"}):
        figure, axes = plt.subplots(
            1, len(found), figsize=(3.7 * len(found), 3.4), layout="constrained", squeeze=False
        )
        for axis, (label, by_set) in zip(axes[0], found.items(), strict=True):
            if label == PER_FRAME:
                by_set = {name: one.coarser(4) for name, one in by_set.items()}
            _lines(axis, by_set)
            axis.set_xlabel(f"{label} / {units[label]}")
            if log:
                axis.set_yscale("log")
            else:
                # Of a flat distribution nothing is left free: room for the inset above.
                room = 2.0 if label == PER_FRAME else 1.05
                axis.set_ylim(0, room * max(one.density.max() for one in by_set.values()))
                _inset(axis, by_set)
        axes[0][0].set_ylabel("probability density")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=6, frameon=False)
        save(figure, output)
        plt.close(figure)


def _lines(axis: Any, by_set: dict[str, Distribution]) -> None:
    import numpy as np

    others = iter(OTHERS)
    for name, one in by_set.items():
        centres = 0.5 * (one.edges[1:] + one.edges[:-1])
        density = np.where(one.counts > 0, one.density, np.nan)
        if name == POOL:
            axis.fill_between(centres, one.density, color="0.9", label=POOL, lw=0)
        else:
            look = PAPER.get(name) or {"color": next(others, "black"), "linestyle": "-"}
            axis.plot(
                centres,
                density if axis.get_yscale() == "log" else one.density,
                lw=1.2,
                label=name,
                **look,
            )


def _inset(axis: Any, by_set: dict[str, Distribution]) -> None:
    """Enlarge the upper tail: from where the pool's density has fallen to a hundredth."""
    import numpy as np

    pool = by_set[POOL]
    dense = np.flatnonzero(pool.density > 0.01 * pool.density.max())
    start = min(int(dense[-1]), len(pool.counts) * 9 // 10)
    left, right = pool.edges[start], pool.edges[-1]
    top = max(one.density[start:].max() for one in by_set.values())
    where = (0.6, 0.58, 0.39, 0.4)
    inset = axis.inset_axes(where, xlim=(left, right), ylim=(0, 1.05 * top))
    _lines(inset, by_set)
    inset.tick_params(labelsize=6)
