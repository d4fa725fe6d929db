"""`python -m mlsel.export_model best_model model.pt Na Cl`: a model that schnetpack saved."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mlsel.core.errors import MlselError
from mlsel.export_model import export_painn, export_schnet
from mlsel.export_model.parts import DTYPES, torchscript


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m mlsel.export_model best_model model.pt Na Cl`: a model that schnetpack saved."""
    parser = argparse.ArgumentParser(
        prog="python -m mlsel.export_model",
        description="Export a SchNet or PaiNN that schnetpack saved (torch.save) for "
        "pair_style schnet.",
    )
    parser.add_argument("model", type=Path, help="what schnetpack saved, best_model for instance")
    parser.add_argument("output", type=Path, help="the file to write, model.pt for instance")
    parser.add_argument("species", nargs="+", help="elements that the model knows: Na Cl")
    parser.add_argument("--dtype", choices=DTYPES, help="precision (default: the model's)")
    parser.add_argument(
        "--energy-offset", type=float, default=0.0, metavar="EV", help="added to each atom's energy"
    )
    args = parser.parse_args(argv)
    try:
        import torch

        with torchscript():
            from schnetpack.representation import PaiNN

        if not args.model.is_file():
            raise MlselError(f"There is no model {args.model}.")
        # schnetpack saves whole objects: reading one runs its code, as opening it with schnetpack
        model = torch.load(args.model, map_location="cpu", weights_only=False)
        painn = isinstance(getattr(model, "representation", None), PaiNN)
        export = export_painn if painn else export_schnet
        export(model, args.output, args.species, dtype=args.dtype, energy_offset=args.energy_offset)
    except MlselError as error:
        print(f"mlsel: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
