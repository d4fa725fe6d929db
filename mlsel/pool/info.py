"""`mlsel info POOL`: what a pool or data set holds, as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.cli import Parser
from mlsel.core import units
from mlsel.pool.teacher import ATTRIBUTE

if TYPE_CHECKING:
    from mlsel.pool.pool import Pool

_MEANS = ("temperature", "pressure", "volume", "energy")


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = Parser(prog="mlsel info", description=__doc__)
    parser.add_argument("pool", type=Path, metavar="POOL")
    args = parser.parse_args(argv)
    from mlsel.pool.pool import Pool

    with Pool(args.pool) as pool:
        for line in describe(pool):
            print(line)
    return 0


def describe(pool: Pool) -> list[str]:
    """Return the lines of the table: the pool as a whole, then a line a run."""
    from ase.data import atomic_masses, chemical_symbols
    from ase.formula import Formula

    from mlsel.pool.copies import hashes, later_copies
    from mlsel.pool.correlation import spacings

    lines = [f"{pool.path}: {len(pool)} frames in {len(pool.runs)} runs", ""]
    held = [(field, pool.unit(field)) for field in pool.fields] if pool.runs else []
    lines += [f"  {field:26} {unit}" for field, unit in held]
    for name in ("study", "method", "n", "seed", "pool", "sources", "ensemble", ATTRIBUTE):
        if name in pool.attributes:
            lines.append(f"  {name}: {_text(pool.attributes[name])}")
    if "versions" in pool.attributes:
        made_by = json.loads(pool.attributes["versions"])
        lines.append("  made with " + ", ".join(f"{k} {v}" for k, v in made_by.items()))
    found = hashes(pool)
    if found is not None:
        lines.append(f"  copies: {len(later_copies(found))} frames are copies of another")
    lines += [f"  digest: {pool.digest}", ""]
    means = [name for name in _MEANS if name in pool.fields]
    heads = {"temperature": "T/K", "pressure": "P/bar", "volume": "V/Å³", "energy": "E/eV"}
    lines.append(
        f"{'run':26} {'frames':>8} {'atoms':12}"
        + "".join(f"{heads[name]:>11}" for name in means)
        + f"{'ρ/g cm⁻³':>10}  molten"
    )
    sums_of = [dict.fromkeys(means, 0.0) for _ in pool.runs]
    for block in pool.blocks(*means) if means else ():
        for name in means:
            sums_of[block.run.index][name] += float(block[name].sum())
    for run, sums in zip(pool.runs, sums_of, strict=True):
        numbers = pool.numbers(run)
        symbols = [chemical_symbols[z] for z in numbers]
        formula = Formula.from_list(symbols).format("hill")
        row = f"{run.name:26} {run.n_frames:8} {formula:12}"
        row += "".join(f"{sums[name] / run.n_frames:11.4g}" for name in means)
        if sums.get("volume"):
            density = atomic_masses[numbers].sum() * units.DENSITY / (sums["volume"] / run.n_frames)
            row += f"{density:10.4f}"
        else:
            row += f"{'':10}"
        molten = pool.run_attributes(run).get("molten")
        row += "" if molten is None else f"  {'yes' if molten else 'NO'}"
        lines.append(row.rstrip())
    solid = [run for run in pool.runs if not pool.run_attributes(run).get("molten", True)]
    if solid:
        meaning = pool.run_attributes(solid[0])["molten_means"]
        lines += ["", f"molten: {meaning}"]
    spaced = spacings(pool)
    if spaced:
        lines += ["", *spaced]
    return lines


def _text(value: object) -> str:
    many = not isinstance(value, str) and hasattr(value, "__len__")
    return ", ".join(map(str, value)) if many else str(value)  # type: ignore[call-overload]
