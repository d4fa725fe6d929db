"""How figures are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save(figure: Any, output: Path) -> list[Path]:
    """Write a figure as SVG and PNG, the same input giving the same files."""
    import matplotlib as mpl

    output.parent.mkdir(parents=True, exist_ok=True)
    made = [output.with_name(f"{output.name}.{kind}") for kind in ("svg", "png")]
    with mpl.rc_context({"svg.hashsalt": "mlsel"}):
        figure.savefig(made[0], metadata={"Date": None})
    figure.savefig(made[1], dpi=150)
    return made
