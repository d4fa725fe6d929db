"""How figures are written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from mlsel.core.errors import MlselError
from mlsel.core.files import write_bytes


def save(figure: Any, output: Path) -> list[Path]:
    """Write a figure as SVG and PNG, the same input giving the same files."""
    made = [output.with_name(f"{output.name}.{kind}") for kind in ("svg", "png")]
    for path in made:
        write_figure(figure, path)
    return made


def write_figure(figure: Any, path: Path) -> None:
    """Write a figure in the format that the name's suffix says, PNG where there is none.

    Raises
    ------
    MlselError
        If matplotlib doesn't write this format.
    """
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    kind = path.suffix.removeprefix(".").lower() or "png"
    known = figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise MlselError(f"{path}: figures are written as {', '.join(sorted(known))}, not {kind}.")
    image = io.BytesIO()  # of some hundred kB: what is written is then written by us
    options: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": 150}
    try:
        with mpl.rc_context({"svg.hashsalt": path.stem}):
            figure.savefig(image, format=kind, **options)
        write_bytes(path, image.getvalue())
    except BaseException:
        plt.close(figure)  # else pyplot keeps it
        raise
