"""`python -m mlsel.export_model best_model model.pt Na Cl`: a model that schnetpack saved."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from mlsel.cli import run_main
from mlsel.core.errors import MlselError
from mlsel.export_model import export_painn, export_schnet
from mlsel.export_model.energy import Energy
from mlsel.export_model.parts import DTYPES, Parts, atomic_numbers_of, torchscript
from mlsel.export_model.saved_model import load_model
from mlsel.export_model.tables import activations
from mlsel.export_model.units import CONFIG, ENERGIES, LENGTHS, ToldUnits, in_angstrom, in_ev

log = logging.getLogger("mlsel.export_model")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m mlsel.export_model",
        description="Export a SchNet or PaiNN that schnetpack saved (spktrain's best_model, or "
        "torch.save) for pair_style schnet. The file is in eV and Å.",
    )
    made.add_argument("model", type=Path, help="what schnetpack saved, best_model for instance")
    made.add_argument("output", type=Path, help="the file to write, model.pt for instance")
    made.add_argument("species", nargs="+", help="elements that the model knows: Na Cl")
    made.add_argument(
        "--energy-unit",
        metavar="UNIT",
        help=f"the model's unit of energy: {', '.join(ENERGIES)}, or a number of eV "
        f"(default: what {CONFIG} beside the model says)",
    )
    made.add_argument(
        "--length-unit",
        metavar="UNIT",
        help=f"its unit of length: {', '.join(LENGTHS)}, or a number of Å (default: the same)",
    )
    made.add_argument("--dtype", choices=DTYPES, help="precision (default: the model's)")
    made.add_argument(
        "--energy-offset", type=float, default=0.0, metavar="EV", help="added to each atom's energy"
    )
    made.add_argument(
        "--no-tables",
        action="store_true",
        help="without the tables of the compressed mode: the file then needs torch in LAMMPS",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Export a saved model, and say what was taken for what."""
    args = parser().parse_args(argv)
    if args.output.exists() and args.model.exists() and args.output.samefile(args.model):
        raise MlselError(f"{args.output} is the model itself: name another file to write.")
    model = load_model(args.model)
    with torchscript():
        from schnetpack.representation import PaiNN, SchNet

    kind = type(model.representation)
    if kind not in (PaiNN, SchNet):
        raise MlselError(
            f"The model's representation is {kind.__name__}: SchNet and PaiNN can be exported."
        )
    compress = kind is SchNet and not args.no_tables
    # what the model cannot is told before the units are asked for
    parts = Parts.of(model, kind, atomic_numbers_of(args.species), args.dtype, 1.0, 1.0)
    if compress:
        activations(parts)
    energy_key = Energy.of(model).key
    energy_unit, length_unit = _units(args, energy_key)
    common = {
        "energy_unit": energy_unit,
        "length_unit": length_unit,
        "dtype": args.dtype,
        "energy_offset": args.energy_offset,
    }
    if kind is PaiNN:
        export_painn(model, args.output, args.species, **common)
    else:
        export_schnet(model, args.output, args.species, compress=compress, **common)
    log.info("%s agrees with schnetpack: the energy %r, from %s and %s.", args.output, energy_key,
             energy_unit, length_unit)  # fmt: skip
    return 0


def _units(args: argparse.Namespace, energy_key: str) -> tuple[str | float, str | float]:
    energy, length, told = args.energy_unit, args.length_unit, ToldUnits()
    if energy is None or length is None:
        told = ToldUnits.beside(args.model, energy_key)
        energy = told.energy if energy is None else energy
        length = told.length if length is None else length
    missing = [
        option
        for option, value in (("--energy-unit eV (or kcal/mol, Ha, …)", energy),
                              ("--length-unit Ang (or Bohr, …)", length))
        if value is None
    ]  # fmt: skip
    if missing:
        where = f"there is no {CONFIG} beside it"
        if told.config:
            where = f"{told.config} names no unit of it, nor a database that does"
        raise MlselError(
            f"Nothing tells which units the numbers of {args.model} are in ({where}): give "
            f"{' and '.join(missing)}."
        )
    in_ev(energy, "--energy-unit" if args.energy_unit is not None else told.energy_source)
    in_angstrom(length, "--length-unit" if args.length_unit is not None else told.length_source)
    return energy, length


if __name__ == "__main__":
    sys.exit(run_main(main))
