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

ENERGY_KEYS = ("REF_energy", "energy", "dft_energy", "DFT_energy")
FORCES_KEYS = ("REF_forces", "forces", "dft_forces", "DFT_forces", "force")
ATOMIC_ENERGIES_KEYS = ("REF_atomic_energies", "atomic_energies", "energies")


def import_trajectories(
    sources: Sequence[Path],
    target: Path,
    *,
    energy_key: str | None = None,
    forces_key: str | None = None,
    atomic_energies_key: str | None = None,
) -> int:
    """Make a pool of trajectories that ASE reads; return its number of frames.

    Consecutive frames of the same atoms become one run. Energies and forces are looked for under
    the key given, or under the usual ones (energy_key: REF_energy, energy, …) and in ASE's
    calculator results.

    Raises
    ------
    MlselError
        If a file can't be read, or a frame lacks a key that was asked for or that the frame
        before had.
    """
    import numpy as np

    from mlsel.pool.writer import PoolWriter

    # The first pass finds the runs and what every frame holds; a pool's sizes are fixed when it
    # is made, and the frames needn't all fit into memory.
    runs: list[dict[str, Any]] = []
    keys: dict[str, str | None] = {}
    given = {
        "energy": energy_key,
        "forces": forces_key,
        "atomic_energies": atomic_energies_key,
    }
    for source, number, atoms in _frames(sources):
        here = {field: _find_key(atoms, field, key) for field, key in given.items()}
        for field, key in given.items():
            if key is not None and here[field] is None:
                raise MlselError(
                    f"{source}, frame {number}: there is no {field} under the key {key}; it has "
                    f"{', '.join(_keys_of(atoms)) or 'none at all'}."
                )
        if not runs:
            keys = here
        elif any(keys[field] is not None and here[field] is None for field in keys):
            lost = next(field for field in keys if keys[field] is not None and here[field] is None)
            raise MlselError(
                f"{source}, frame {number} has no {lost}, which the frames before it have "
                f"(under {keys[lost]}): give all frames or leave those out."
            )
        kind = (source, atoms.numbers.tobytes(), tuple(atoms.pbc))
        off_diagonal = atoms.cell.array[~np.eye(3, dtype=bool)]
        if not runs or runs[-1]["kind"] != kind:
            runs.append({"kind": kind, "numbers": atoms.numbers, "pbc": atoms.pbc, "n": 0})
            runs[-1]["orthogonal"] = True
        runs[-1]["n"] += 1
        runs[-1]["orthogonal"] &= not off_diagonal.any() and bool(atoms.cell.array.any())
    if not runs:
        raise MlselError(f"there are no frames in {', '.join(map(str, sources))}.")

    atom_fields = [f for f in ("forces", "atomic_energies") if keys[f] is not None]
    observables = {"energy": "eV"} if keys["energy"] is not None else {}
    if all(all(run["pbc"]) for run in runs):
        observables["volume"] = "Angstrom+3"
    parameters = {
        "sources": [str(s) for s in sources],
        "imported_keys": [f"{field}={key}" for field, key in keys.items() if key is not None],
    }
    with PoolWriter(target, parameters) as writer:
        names = _names(runs)
        frames = _frames(sources)
        for run, name in zip(runs, names, strict=True):
            out = writer.add_run(
                name,
                run["numbers"],
                run["n"],
                ["positions", *atom_fields],
                observables,
                periodic=[bool(p) for p in run["pbc"]],
                orthogonal=run["orthogonal"],
            )
            for index in range(run["n"]):
                source, number, atoms = next(frames)
                values: dict[str, Any] = {
                    field: [_value(atoms, field, keys[field], source, number)]
                    for field in [*atom_fields, *(f for f in ("energy",) if keys[f])]
                }
                if "volume" in observables:
                    values["volume"] = [atoms.get_volume()]
                out.append(
                    [index], [0.0], positions=[atoms.positions], cell=[atoms.cell.array], **values
                )
    return sum(run["n"] for run in runs)


def _frames(sources: Sequence[Path]) -> Iterator[tuple[Path, int, Atoms]]:
    from ase.io import iread

    for source in sources:
        if not source.is_file():
            raise MlselError(f"there is no file {source}.")
        try:
            for number, atoms in enumerate(iread(source, index=":", parallel=False)):
                yield source, number, atoms
        except MlselError:
            raise
        except Exception as error:  # ASE's readers raise whatever they like
            raise MlselError(f"ASE can't read {source}: {error!r}.") from None


def _names(runs: Sequence[dict[str, Any]]) -> list[str]:
    stems = [run["kind"][0].stem for run in runs]
    return [
        stem if stems.count(stem) == 1 else f"{stem}-{stems[:i].count(stem)}"
        for i, stem in enumerate(stems)
    ]


def _find_key(atoms: Atoms, field: str, wanted: str | None) -> str | None:
    usual = {
        "energy": ENERGY_KEYS,
        "forces": FORCES_KEYS,
        "atomic_energies": ATOMIC_ENERGIES_KEYS,
    }[field]
    present = _keys_of(atoms)
    return next((key for key in ([wanted] if wanted else usual) if key in present), None)


def _keys_of(atoms: Atoms) -> list[str]:
    results = atoms.calc.results if atoms.calc is not None else {}
    return [*results, *atoms.info, *(key for key in atoms.arrays if key not in ("numbers",))]


def _value(atoms: Atoms, field: str, key: str | None, source: Path, number: int) -> Any:
    import numpy as np

    places = (atoms.calc.results if atoms.calc is not None else {}, atoms.info, atoms.arrays)
    found = next((place[key] for place in places if key in place), None)
    shape = {"energy": (), "forces": (len(atoms), 3), "atomic_energies": (len(atoms),)}[field]
    array = np.asarray(found)
    if array.shape != shape or not np.issubdtype(array.dtype, np.number):
        raise MlselError(
            f"{source}, frame {number}: {key} has the shape {array.shape} and type {array.dtype}; "
            f"{field} must be numbers of shape {shape}."
        )
    if not np.isfinite(array).all():
        raise MlselError(f"{source}, frame {number}: {key} holds a value that is not finite.")
    return array


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


def import_main(argv: Sequence[str] | None = None) -> int:
    """`mlsel import TRAJECTORY … POOL`."""
    parser = Parser(
        prog="mlsel import", description="Make a pool from trajectories that ASE reads."
    )
    parser.add_argument("sources", nargs="+", type=Path, metavar="TRAJECTORY")
    parser.add_argument("pool", type=Path, metavar="POOL", help="the HDF5 file to make")
    parser.add_argument("--energy-key", metavar="KEY", help="total energy, eV")
    parser.add_argument("--forces-key", metavar="KEY", help="forces, eV/Å")
    parser.add_argument("--atomic-energies-key", metavar="KEY", help="energies per atom, eV")
    parser.add_argument("--force", action="store_true", help="replace POOL if it is there")
    args = parser.parse_args(argv)
    _refuse_existing(args.pool, args)
    n_frames = import_trajectories(
        args.sources,
        args.pool,
        energy_key=args.energy_key,
        forces_key=args.forces_key,
        atomic_energies_key=args.atomic_energies_key,
    )
    from mlsel.pool.pool import Pool

    with Pool(args.pool) as pool:
        print(f"{args.pool}: {n_frames} frames with {', '.join(pool.fields)}")
    return 0


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
