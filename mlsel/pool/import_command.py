"""`mlsel import`: files to a pool, or the files of a study."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mlsel.cli import Parser, run_stage
from mlsel.core.errors import MlselError, nearest


def main(argv: Sequence[str] | None = None) -> int:
    """`mlsel import TRAJECTORY … POOL`, or `mlsel import STUDY` for a study's files."""
    words = list(sys.argv[1:] if argv is None else argv)
    of_study = ("-o", "--output", "--set", "--again")
    if any(word.endswith(".toml") or word.partition("=")[0] in of_study for word in words):
        return _of_study(words)
    args = _parser().parse_args(words)
    if args.pool.exists() and not args.force:
        raise MlselError(
            f"{args.pool} is there already: choose another name, or --force to replace it."
        )
    _check_species(args.species)
    from mlsel.pool.importing import import_trajectories
    from mlsel.pool.labels import LABELS, LabelOptions

    options = LabelOptions(
        **{label: tuple(getattr(args, f"{label}_key") or ()) for label in (*LABELS, "stress")},
        without=args.without_labels,
        energy_unit=args.energy_unit,
        length_unit=args.length_unit,
        force_unit=args.force_unit,
        stress_unit=args.stress_unit,
    )
    report = import_trajectories(
        args.sources, args.pool, options, species=args.species, keep_isolated=args.keep_isolated
    )
    print(f"{args.pool}: {report.lines()[0]}")
    print("\n".join(report.lines()[1:]))
    return 0


def _of_study(words: Sequence[str]) -> int:
    from mlsel.pool.stage import import_study

    return run_stage(
        words,
        "mlsel import",
        "Make the pool of a study from its files of frames.",
        import_study,
        "make a pool anew whose files or options changed",
    )


def _check_species(species: Sequence[str]) -> None:
    from ase.data import atomic_numbers

    for symbol in species:
        if symbol not in atomic_numbers or symbol == "X":
            raise MlselError(
                f"--species {symbol}: that is no element{nearest(symbol, atomic_numbers)}."
            )


def _parser() -> Parser:
    parser = Parser(
        prog="mlsel import",
        description="Make a pool from trajectories: extended XYZ (.gz), ASE's and schnetpack's "
        ".db, H5MD, LAMMPS dumps, VASP, CP2K and whatever else ASE reads.",
    )
    parser.add_argument("sources", nargs="+", type=Path, metavar="TRAJECTORY")
    parser.add_argument("pool", type=Path, metavar="POOL", help="the HDF5 file to make")
    for label, what in (
        ("energy", "total energy"),
        ("forces", "forces"),
        ("atomic-energies", "energies per atom"),
        ("virial", "virial, −dE/dε in energy"),
        ("stress", "stress, positive in tension"),
    ):
        parser.add_argument(
            f"--{label}-key",
            action="append",
            metavar="KEY",
            help=f"{what}; repeated in the order of preference",
        )
    parser.add_argument("--energy-unit", default="eV", metavar="UNIT", help="default: eV")
    parser.add_argument("--length-unit", default="Angstrom", metavar="UNIT", help="default: Å")
    parser.add_argument(
        "--force-unit", default="", metavar="UNIT", help="default: energy unit / length unit"
    )
    parser.add_argument(
        "--stress-unit", default="", metavar="UNIT", help="default: energy unit / length unit³"
    )
    parser.add_argument(
        "--without-labels",
        choices=("refuse", "skip", "keep"),
        default="refuse",
        help="frames without an energy or forces that others have (default: %(default)s)",
    )
    parser.add_argument(
        "--species", nargs="+", default=[], metavar="X", help="elements of a dump's types 1, 2, …"
    )
    parser.add_argument(
        "--keep-isolated",
        action="store_true",
        help="isolated atoms are frames, too, and not element references alone",
    )
    parser.add_argument("--force", action="store_true", help="replace POOL if it is there")
    return parser
