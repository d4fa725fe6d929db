"""Pools to and from other formats: extended XYZ and whatever ASE reads; many files to one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.cli import Parser
from mlsel.core.errors import MlselError

if TYPE_CHECKING:
    from ase import Atoms

    from mlsel.pool.pool import Pool


def atoms_of(pool: Pool, frame_ids: Any = None) -> Iterator[Atoms]:
    """Yield frames as ASE Atoms, in the order of frame ids.

    Energy and forces stand under the names that trainers expect: info REF_energy, arrays
    REF_forces and REF_atomic_energies; frame_id and run in info.
    """
    from ase import Atoms

    fields = [f for f in ("positions", "forces", "atomic_energies", "energy") if f in pool.fields]
    ids = range(len(pool)) if frame_ids is None else frame_ids
    # Blocks come in the file's order; a few hundred frames at a time are put into the ids' order.
    for start in range(0, len(ids), 256):
        part = ids[start : start + 256]
        made: dict[int, Atoms] = {}
        for block in pool.blocks(*fields, "cell", frame_ids=part):
            numbers, periodic = pool.numbers(block.run), pool.periodic(block.run)
            for i, frame_id in enumerate(block.frame_ids):
                atoms = Atoms(
                    numbers, positions=block["positions"][i], cell=block["cell"][i], pbc=periodic
                )
                atoms.info.update(frame_id=int(frame_id), run=block.run.name)
                if "energy" in fields:
                    atoms.info["REF_energy"] = float(block["energy"][i])
                if "forces" in fields:
                    atoms.arrays["REF_forces"] = block["forces"][i].copy()
                if "atomic_energies" in fields:
                    atoms.arrays["REF_atomic_energies"] = block["atomic_energies"][i].copy()
                made[int(frame_id)] = atoms
        for frame_id in part:
            yield made[int(frame_id)]


def export_main(argv: Sequence[str] | None = None) -> int:
    """`mlsel export POOL FILE.xyz`."""
    parser = Parser(prog="mlsel export", description="Write a pool as extended XYZ.")
    parser.add_argument("pool", type=Path, metavar="POOL")
    parser.add_argument("target", type=Path, metavar="FILE")
    parser.add_argument(
        "--frames", default=":", metavar="A:B:C", help="slice of frame ids (default: all)"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")
    args = parser.parse_args(argv)
    _refuse_existing(args.target, args)
    from ase.io.extxyz import write_extxyz

    from mlsel.core.files import finishing
    from mlsel.pool.pool import Pool

    with Pool(args.pool) as pool:
        ids = range(len(pool))[_slice(args.frames)]
        if not len(ids):
            raise MlselError(
                f"--frames {args.frames} names no frame: {args.pool} has frames 0 to "
                f"{len(pool) - 1}."
            )
        with finishing(args.target) as partial, partial.open("w", encoding="utf-8") as file:
            for atoms in atoms_of(pool, ids):
                write_extxyz(file, [atoms])
    print(f"{args.target}: {len(ids)} frames")
    return 0


def pack_main(argv: Sequence[str] | None = None) -> int:
    """`mlsel pack POOL FILE.h5`."""
    parser = Parser(prog="mlsel pack", description="Copy a pool of many files into one.")
    parser.add_argument("pool", type=Path, metavar="POOL")
    parser.add_argument("target", type=Path, metavar="FILE")
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")
    args = parser.parse_args(argv)
    _refuse_existing(args.target, args)
    from mlsel.pool.pool import Pool
    from mlsel.pool.writer import PoolWriter

    with Pool(args.pool) as pool:
        parameters = {k: v for k, v in pool.attributes.items() if k != "digest"}
    with PoolWriter(args.target, parameters) as writer:
        writer.link_run(args.pool, copy=True)
    print(f"{args.target}: {args.target.stat().st_size / 2**20:.1f} MiB")
    return 0


def _slice(text: str) -> slice:
    try:
        parts = [int(part) if part else None for part in text.split(":")]
    except ValueError:
        parts = []
    if not 2 <= len(parts) <= 3 or (parts[-1] == 0 and len(parts) == 3):
        raise MlselError(f"--frames {text}: write first:end or first:end:step, for instance 0:100.")
    return slice(*parts)


def _refuse_existing(path: Path, args: argparse.Namespace) -> None:
    if path.exists() and not args.force:
        raise MlselError(f"{path} is there already: choose another name, or --force to replace it.")
