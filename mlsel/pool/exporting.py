"""Pools to and from other formats: extended XYZ and whatever ASE reads; many files to one."""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.cli import Parser
from mlsel.core.arrays import IntArray
from mlsel.core.errors import MlselError

if TYPE_CHECKING:
    from ase import Atoms

    from mlsel.pool.pool import Layout, Pool


_LABELS = {"energy": "REF_energy", "virial": "REF_virial"}
_ATOM_LABELS = {"forces": "REF_forces", "atomic_energies": "REF_atomic_energies"}


def atoms_of(pool: Pool, frame_ids: Any = None) -> Iterator[Atoms]:
    """Yield frames as ASE Atoms, in the order of frame ids, with all that the pool holds of them.

    Labels stand under the names that trainers expect: info REF_energy and REF_virial (−dE/dε,
    eV), arrays REF_forces and REF_atomic_energies; frame_id and run in info, and source and
    source_index (the file, and the frame's place in it) where they are known. What else an
    imported frame carried stands where it stood.
    """
    ids = range(len(pool)) if frame_ids is None else frame_ids
    sources = pool.attributes.get("sources", ())
    # Blocks come in the file's order; a few hundred frames at a time are put into the ids' order.
    for start in range(0, len(ids), 256):
        part = ids[start : start + 256]
        made: dict[int, Atoms] = {}
        for block in pool.blocks("positions", frame_ids=part, everything=True):
            layouts = {field: pool.layout(block.run, field) for field in block.fields}
            numbers, periodic = pool.numbers(block.run), pool.periodic(block.run)
            for i, frame_id in enumerate(block.frame_ids):
                values = {field: array[i] for field, array in block.fields.items()}
                atoms = _atoms(numbers, periodic, values, layouts)
                atoms.info.update(frame_id=int(frame_id), run=block.run.name)
                if "source_file" in values:
                    atoms.info["source"] = str(sources[int(values["source_file"])])
                made[int(frame_id)] = atoms
        for frame_id in part:
            yield made[int(frame_id)]


def _atoms(
    numbers: IntArray,
    periodic: tuple[bool, bool, bool],
    values: dict[str, Any],
    layouts: dict[str, Layout],
) -> Atoms:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.constraints import FixAtoms

    atoms = Atoms(numbers, positions=values["positions"], cell=values["cell"], pbc=periodic)
    results: dict[str, Any] = {}
    for field, value in values.items():
        told = dict(layouts[field].attributes)
        if field in _LABELS:
            atoms.info[_LABELS[field]] = float(value) if value.ndim == 0 else value.copy()
        elif field in _ATOM_LABELS:
            atoms.arrays[_ATOM_LABELS[field]] = value.copy()
        elif field == "source_index":
            atoms.info[field] = int(value)
        elif "key" in told:
            if told.get("encoding") == "json":
                plain = json.loads(str(value))
            else:
                plain = value.item() if value.ndim == 0 else value.copy()
            if told["key"] == "move_mask":
                atoms.set_constraint(FixAtoms(mask=~plain))
            elif told["place"] == "arrays":
                atoms.arrays[told["key"]] = plain
            else:
                home = results if told["place"] == "results" else atoms.info
                home[told["key"]] = plain
    if results:
        atoms.calc = SinglePointCalculator(atoms)
        atoms.calc.results.update(results)
    return atoms


_SUFFIXES = (".xyz", ".extxyz", ".xyz.gz", ".extxyz.gz", ".traj", ".db")


def _write(name: str, path: Path, frames: Iterator[Atoms]) -> None:
    if name.endswith(".traj"):
        from ase.io.trajectory import TrajectoryWriter

        with TrajectoryWriter(str(path)) as trajectory:
            for atoms in frames:
                trajectory.write(atoms)
    elif name.endswith(".db"):
        from ase.db import connect

        with connect(str(path), type="db", use_lock_file=False) as database:
            for atoms in frames:
                # Keys of a database are few and plain: arrays and all else go into its data.
                data = {**atoms.info, **{k: v for k, v in atoms.arrays.items() if k not in _OWN}}
                database.write(atoms, data=data)
    else:
        from ase.io.extxyz import write_extxyz

        opener = gzip.open if name.endswith(".gz") else open
        with opener(path, "wt", encoding="utf-8") as file:
            for atoms in frames:
                write_extxyz(file, [atoms])


_OWN = ("numbers", "positions")


def export_main(argv: Sequence[str] | None = None) -> int:
    """`mlsel export POOL FILE`; the name says the format."""
    parser = Parser(
        prog="mlsel export",
        description="Write a pool as extended XYZ (.xyz, .extxyz, .gz), an ASE trajectory (.traj) "
        "or an ASE database (.db): the name says which.",
    )
    parser.add_argument("pool", type=Path, metavar="POOL")
    parser.add_argument("target", type=Path, metavar="FILE")
    parser.add_argument(
        "--frames", default=":", metavar="A:B:C", help="slice of frame ids (default: all)"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it is there")
    args = parser.parse_args(argv)
    _refuse_existing(args.target, args)
    if not args.target.name.endswith(_SUFFIXES):
        raise MlselError(
            f"{args.target}: the name tells the format and must end in {', '.join(_SUFFIXES)}."
        )
    from mlsel.core.files import finishing
    from mlsel.pool.pool import Pool

    with Pool(args.pool) as pool:
        ids = range(len(pool))[_slice(args.frames)]
        if not len(ids):
            raise MlselError(
                f"--frames {args.frames} names no frame: {args.pool} has frames 0 to "
                f"{len(pool) - 1}."
            )
        with finishing(args.target) as partial:
            _write(args.target.name, partial, atoms_of(pool, ids))
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
