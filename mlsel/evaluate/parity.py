"""Parity plot of a model: predicted against reference force components, and the worst frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlsel.cli import Parser
from mlsel.core.errors import MlselError
from mlsel.core.hdf5_file import reading_hdf5
from mlsel.core.plotting import save


def main(argv: Sequence[str] | None = None) -> int:
    """`mlsel figure parity FILE`."""
    parser = Parser(prog="mlsel figure parity", description=__doc__)
    parser.add_argument(
        "errors", type=Path, metavar="FILE", help="DIR/evaluation/<data set>/<model>.h5"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="STEM", help="default: beside it")
    args = parser.parse_args(argv)
    title = f"{args.errors.parent.name}/{args.errors.stem}"
    for made in draw(args.errors, title, args.output or args.errors.with_suffix("")):
        print(made)
    return 0


def draw(path: Path, title: str, output: Path) -> list[Path]:
    """Draw the figure as SVG and PNG and return the files.

    Raises
    ------
    MlselError
        If there is no such file.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt
    from matplotlib.colors import LogNorm

    if not path.is_file():
        raise MlselError(f"There is no {path}: make it with `mlsel evaluate`.")
    with reading_hdf5(path) as file:
        counts = file["parity"][()]
        limit = float(file["parity"].attrs["limit"])
        energy = 1000 * file["energy"][()]
        largest = file["largest"][()][:, :, 2].max(axis=1)
    style = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
    with plt.rc_context(style):
        figure, axes = plt.subplots(1, 2, figsize=(8, 3.7), layout="constrained")
        image = axes[0].imshow(
            np.ma.masked_equal(counts.T, 0),
            origin="lower",
            extent=(-limit, limit, -limit, limit),
            norm=LogNorm(1, max(2, counts.max())),
            cmap="viridis",
            interpolation="none",
        )
        axes[0].plot([-limit, limit], [-limit, limit], color="0.3", lw=0.7)
        axes[0].set_xlabel("reference force component / eV Å$^{-1}$")
        axes[0].set_ylabel("predicted / eV Å$^{-1}$")
        figure.colorbar(image, ax=axes[0], label="count", pad=0.02)
        axes[1].plot(energy, largest, ".", ms=3, alpha=0.4, mew=0, rasterized=True)
        worst = np.argsort(-largest, kind="stable")[:10]
        axes[1].plot(energy[worst], largest[worst], "o", mfc="none", color="tab:red", ms=5,
                     label="the ten worst")  # fmt: skip
        axes[1].set_xlabel("energy error / meV per atom")
        axes[1].set_ylabel("largest $|F - F'|$ in the frame / eV Å$^{-1}$")
        axes[1].set_ylim(bottom=0)
        axes[1].legend(frameon=False)
        figure.suptitle(f"{title}, {len(energy):,} frames", fontsize=10)
        made = save(figure, output)
        plt.close(figure)
    return made
