"""Learning curves of a model: force and energy errors against the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlsel.cli import Parser
from mlsel.core.errors import MlselError
from mlsel.core.plotting import save


def main(argv: Sequence[str] | None = None) -> int:
    """`mlsel figure learning MODEL`."""
    parser = Parser(prog="mlsel figure learning", description=__doc__)
    parser.add_argument("model", type=Path, metavar="MODEL", help="the folder of a SchNet")
    parser.add_argument("-o", "--output", type=Path, metavar="STEM", help="default: in it")
    args = parser.parse_args(argv)
    for made in draw(args.model, args.output or args.model / "learning"):
        print(made)
    return 0


def draw(folder: Path, output: Path) -> list[Path]:
    """Draw the figure as SVG and PNG and return the files.

    Raises
    ------
    MlselError
        If the folder has no metrics.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import ScalarFormatter

    from mlsel.training.schnet.metrics import METRICS, read_metrics

    path = folder / METRICS
    if not path.is_file():
        raise MlselError(f"There is no {path}: only models that learn in epochs have one.")
    metrics = read_metrics(path)
    epoch = metrics["epoch"]
    best = int(metrics["validation_loss"].argmin())
    style = {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
    with plt.rc_context(style):
        figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
        panels = (
            (
                axes[0],
                "force error / meV Å$^{-1}$",
                {
                    "train_force_rmse": "training, RMSE",
                    "validation_force_rmse": "validation, RMSE",
                    "validation_force_mae": "validation, MAE",
                },
            ),
            (
                axes[1],
                "energy error / meV per atom",
                {"validation_energy_rmse": "validation, RMSE"},
            ),
        )
        for axis, label, columns in panels:
            for column, name in columns.items():
                axis.plot(epoch, 1000 * metrics[column], label=name, lw=1.2)
            axis.axvline(epoch[best], color="0.6", lw=0.8, ls=":", label=f"best: {epoch[best]:.0f}")
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(ScalarFormatter())
            axis.yaxis.set_minor_formatter(ScalarFormatter())
            axis.set_xlabel("epoch")
            axis.set_ylabel(label)
            axis.legend(frameon=False)
        figure.suptitle(folder.name, fontsize=10)
        made = save(figure, output)
        plt.close(figure)
    return made
