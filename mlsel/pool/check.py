"""`mlsel check POOL`: what in a pool may be wrong, by frame; nothing of it is certain.

Blocks are read once; what is kept of a frame is a few numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlsel.cli import Parser
from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.core.errors import MlselError
from mlsel.pool.copies import content_hash, later_copies
from mlsel.pool.elements import formula
from mlsel.pool.incoming import SOURCE_FILE, SOURCE_INDEX
from mlsel.pool.plausible import closeness

if TYPE_CHECKING:
    from mlsel.pool.pool import Block, Pool

MAX_NAMED = 6
FEWEST = 8
"""Frames of a composition, below which none can stand out."""
NET_FORCE = 0.05
"""eV/Å; electrons' convergence leaves a hundredth of it."""


@dataclass(frozen=True)
class Thresholds:
    """From where on a frame is told.

    Attributes
    ----------
    closest : share of the two covalent radii's sum
    outlier : distance from the median in units of 1.4826 × MAD, the standard deviation of a normal
        distribution (Rousseeuw & Croux 1993, doi:10.1080/01621459.1993.10476408)
    """

    closest: float = 0.5
    outlier: float = 10.0


@dataclass(frozen=True)
class Finding:
    """Frames of which something is told.

    Attributes
    ----------
    is_wrong : whether --write-exclude and --drop take them
    is_spare : whether --drop alone takes them: a selection takes one of many copies by itself, and
        none of what is excluded
    """

    what: str
    frames: IntArray
    is_wrong: bool = True
    is_spare: bool = False


@dataclass
class _Numbers:
    """What is kept of every frame, (n_frames,) each; NaN where there is none."""

    content: IntArray
    labels: IntArray
    composition: IntArray
    n_atoms: IntArray
    closeness: FloatArray
    energy: FloatArray
    force: FloatArray
    net_force: FloatArray
    finite: Array

    @classmethod
    def of(cls, n: int) -> _Numbers:
        a, b, c, d = (np.zeros(n, dtype=np.int64) for _ in range(4))
        e, f, g, h = (np.full(n, np.nan) for _ in range(4))
        return cls(a, b, c, d, e, f, g, h, np.ones(n, dtype=bool))


@dataclass
class Checked:
    """The findings, and the table of compositions."""

    findings: list[Finding]
    table: list[str]

    def frames(self, *, spare: bool = False) -> IntArray:
        """Return all frames that may be wrong, and those to spare if told so, sorted."""
        some = [f.frames for f in self.findings if f.is_wrong or (spare and f.is_spare)]
        frames: IntArray = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *some]))
        return frames


def check(pool: Pool, thresholds: Thresholds | None = None) -> Checked:
    """Look at every frame of a pool once."""
    limits = thresholds or Thresholds()
    kept = _Numbers.of(len(pool))
    formulas: dict[bytes, int] = {}
    for run in pool.runs:
        formulas.setdefault(np.sort(pool.numbers(run)).tobytes(), len(formulas))
    labels = [f for f in ("energy", "forces") if f in (*pool.fields, *pool.partial_fields)]
    ids = np.arange(len(pool)) if pool.partial_fields else None
    if ids is None:
        for block in pool.blocks("positions", "cell", *labels):
            _look(pool, block, kept, formulas, limits)
    else:  # not every run has each label
        for block in pool.blocks("positions", "cell", everything=True):
            _look(pool, block, kept, formulas, limits)
    names = [formula(np.frombuffer(key, dtype=np.int64)) for key in formulas]
    return Checked(_findings(pool, kept, names, limits), _table(kept, names))


def _look(
    pool: Pool, block: Block, kept: _Numbers, formulas: dict[bytes, int], limits: Thresholds
) -> None:
    from ase.data import covalent_radii

    numbers, periodic = pool.numbers(block.run), pool.periodic(block.run)
    ids, n = block.frame_ids, len(numbers)
    kept.composition[ids] = formulas[np.sort(numbers).tobytes()]
    kept.n_atoms[ids] = n
    cutoff = 2 * limits.closest * float(covalent_radii[numbers].max())
    for i, frame in enumerate(ids):
        positions, cell = block["positions"][i], block["cell"][i]
        kept.content[frame] = content_hash(numbers, positions, cell, periodic)
        if np.isfinite(positions).all() and np.isfinite(cell).all():
            kept.closeness[frame] = closeness(numbers, positions, cell, all(periodic), cutoff)
        else:
            kept.finite[frame] = False
        told = b"".join(block[f][i].tobytes() for f in ("energy", "forces") if f in block.fields)
        digest = hashlib.blake2b(told, digest_size=8).digest()
        kept.labels[frame] = int.from_bytes(digest, "little", signed=True)
    if "energy" in block.fields:
        kept.energy[ids] = block["energy"] / n
        kept.finite[ids] &= np.isfinite(block["energy"])
    if "forces" in block.fields:
        forces = block["forces"]
        kept.finite[ids] &= np.isfinite(forces).all(axis=(1, 2))
        kept.force[ids] = np.linalg.norm(forces, axis=2).max(axis=1)
        kept.net_force[ids] = np.linalg.norm(forces.sum(axis=1), axis=1)


def _findings(pool: Pool, kept: _Numbers, names: list[str], limits: Thresholds) -> list[Finding]:
    found = [Finding("hold a NaN or an infinity", np.flatnonzero(~kept.finite))]
    _, inverse = np.unique(kept.content, return_inverse=True)
    pairs = np.unique(np.stack([inverse, kept.labels]), axis=1)
    torn = np.flatnonzero(np.bincount(pairs[0], minlength=1) > 1)
    contradict = np.flatnonzero(np.isin(inverse, torn))
    copies = np.setdiff1d(later_copies(kept.content), contradict)
    found += [
        Finding("are exact copies of a frame before", copies, is_wrong=False, is_spare=True),
        Finding("are copies of each other with other energies or forces", contradict),
    ]
    with np.errstate(invalid="ignore"):
        near = np.flatnonzero(kept.closeness < limits.closest)
        net = np.flatnonzero(kept.net_force > NET_FORCE)
    share = f"{limits.closest:g} of the covalent radii's sum"
    found.append(Finding(f"have atoms closer than {share}", near))
    for what, values, smallest in (
        ("energies per atom", kept.energy, 1e-3),
        ("largest forces (their logarithms)", _logarithm(kept.force), 0.05),
    ):
        odd = _standing_out(values, kept, len(names), limits.outlier, smallest)
        found.append(
            Finding(
                f"have {what} that stand out of their composition's by {limits.outlier:g} σ", odd
            )
        )
    alone = np.flatnonzero((kept.n_atoms == 1) & ~(kept.closeness < np.inf))
    found += [
        Finding(f"have forces whose sum is above {NET_FORCE} eV/Å", net, is_wrong=False),
        Finding("are of a single atom", alone, is_wrong=False),
    ]
    return [finding for finding in found if len(finding.frames)]


def _logarithm(values: FloatArray) -> FloatArray:
    logarithm: FloatArray = np.log(np.maximum(values, 1e-3))
    return logarithm


def _standing_out(
    values: FloatArray, kept: _Numbers, n_kinds: int, limit: float, smallest: float
) -> IntArray:
    """Return the frames far from the median of their composition; `smallest` bounds the scale."""
    odd: list[IntArray] = []
    for kind in range(n_kinds):
        ids = np.flatnonzero((kept.composition == kind) & np.isfinite(values))
        if len(ids) < FEWEST:
            continue
        away = np.abs(values[ids] - np.median(values[ids]))
        scale = max(1.4826 * float(np.median(away)), smallest)
        odd.append(ids[away > limit * scale])
    frames: IntArray = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *odd]))
    return frames


def _table(kept: _Numbers, names: list[str]) -> list[str]:
    lines = [f"{'composition':20} {'frames':>9} {'E/atom, eV':>12} {'σ':>9} {'max |F|, eV/Å':>14}"]
    sizes = np.bincount(kept.composition, minlength=len(names))
    for kind in np.argsort(-sizes, kind="stable")[:40]:
        ids = kept.composition == kind
        row = f"{names[kind]:20} {sizes[kind]:9}"
        energy = kept.energy[ids & np.isfinite(kept.energy)]
        force = kept.force[ids & np.isfinite(kept.force)]
        if len(energy):
            middle = np.median(energy)
            row += f" {middle:12.6g} {1.4826 * np.median(np.abs(energy - middle)):9.3g}"
        else:
            row += f" {'none':>12} {'':9}"
        row += f" {np.median(force):14.3g}" if len(force) else f" {'none':>14}"
        lines.append(row)
    if len(names) > 40:
        lines.append(f"and {len(names) - 40} more compositions")
    return [*lines, "(medians; σ from the median absolute deviation)"]


def report(pool: Pool, checked: Checked) -> list[str]:
    """Return the report's lines: the table, then each finding with the first of its frames."""
    from ase.data import chemical_symbols

    lines = [f"{pool.path}: {len(pool)} frames, {len(checked.frames())} that may be wrong", ""]
    lines += [*checked.table, ""]
    for finding in checked.findings:
        n = len(finding.frames)
        lines.append(f"{n} frame{'s' if n > 1 else ''} {finding.what}:")
        lines.append(f"  {_named(pool, finding.frames)}")
    if not checked.findings:
        lines.append("nothing stands out")
    references = pool.element_references
    if references:
        told = ", ".join(f"{chemical_symbols[z]} {e:.6g} eV" for z, e in references.items())
        lines.append(f"energies of isolated atoms: {told}")
    return lines


def _named(pool: Pool, frames: IntArray) -> str:
    some = frames[:MAX_NAMED]
    names = [str(frame) for frame in some]
    if SOURCE_FILE in pool.fields and "sources" in pool.attributes:
        sources = list(pool.attributes["sources"])
        where: dict[int, str] = {}
        for block in pool.blocks(SOURCE_FILE, SOURCE_INDEX, frame_ids=some):
            for i, frame in enumerate(block.frame_ids):
                file = Path(str(sources[int(block[SOURCE_FILE][i])])).name
                where[int(frame)] = f"{frame} ({file}, {block[SOURCE_INDEX][i]})"
        names = [where[int(frame)] for frame in some]
    return ", ".join(names) + (", …" if len(frames) > len(some) else "")


def main(argv: Sequence[str] | None = None) -> int:
    """`mlsel check POOL`."""
    parser = Parser(
        prog="mlsel check",
        description="Tell what in a pool may be wrong: copies, copies with other labels, atoms too "
        "close, energies and forces that stand out, forces whose sum is not zero.",
    )
    parser.add_argument("pool", type=Path, metavar="POOL")
    parser.add_argument(
        "--closest",
        type=float,
        default=Thresholds.closest,
        metavar="SHARE",
        help="of the two covalent radii's sum, below which atoms are too close "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--outlier",
        type=float,
        default=Thresholds.outlier,
        metavar="SIGMAS",
        help="robust standard deviations from the median (default: %(default)s)",
    )
    parser.add_argument(
        "--write-exclude",
        type=Path,
        metavar="FILE",
        help="write the ids of frames that may be wrong, for `mlsel selection --exclude`",
    )
    parser.add_argument("--drop", type=Path, metavar="NEWPOOL", help="write a pool without these")
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    args = parser.parse_args(argv)
    for name in ("closest", "outlier"):
        if not getattr(args, name) > 0:
            raise MlselError(f"--{name} {getattr(args, name)}: it must be above 0.")
    for path in (args.write_exclude, args.drop):
        if path is not None and path.exists() and not args.force:
            raise MlselError(
                f"{path} is there already: choose another name, or --force to replace it."
            )
    from mlsel.pool.pool import Pool

    with Pool(args.pool) as pool:
        checked = check(pool, Thresholds(args.closest, args.outlier))
        print("\n".join(report(pool, checked)))
        if args.write_exclude is not None:
            write_exclude(pool, checked, args.write_exclude)
        if args.drop is not None:
            _drop(pool, checked.frames(spare=True), args.drop)
    return 0


EXCLUDE_HEAD = "# frames of the pool with the digest "


def write_exclude(pool: Pool, checked: Checked, path: Path) -> None:
    """Write ids of frames that may be wrong, one a line, each with its reasons."""
    from mlsel.core.files import write_text

    reasons: dict[int, list[str]] = {}
    for finding in checked.findings:
        if finding.is_wrong:
            for frame in finding.frames.tolist():
                reasons.setdefault(frame, []).append(finding.what)
    rows = [f"{frame}  # {'; '.join(why)}" for frame, why in sorted(reasons.items())]
    write_text(path, "\n".join([f"{EXCLUDE_HEAD}{pool.digest}", *rows, ""]))
    print(f"{path}: {len(rows)} frames")


def read_exclude(path: Path, pool: Pool) -> list[int]:
    """Return the frames that a text names: an id a line, what follows a # is not read.

    Raises
    ------
    MlselError
        If the text is of another pool or a line is no frame id.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise MlselError(f"{path} is neither a data set nor a text of frame ids.") from None
    frames = []
    for number, line in enumerate(lines, 1):
        if line.startswith(EXCLUDE_HEAD) and line.removeprefix(EXCLUDE_HEAD) != pool.digest:
            raise MlselError(
                f"{path} names frames of a pool with the digest {line.removeprefix(EXCLUDE_HEAD)}, "
                f"{pool.path} has {pool.digest}: run `mlsel check` on this pool."
            )
        word = line.partition("#")[0].strip()
        if not word:
            continue
        if not word.isdecimal() or int(word) >= len(pool):
            raise MlselError(
                f"{path}, line {number}: {word[:40]!r} is no frame of {pool.path}: write "
                f"an id from 0 to {len(pool) - 1} a line."
            )
        frames.append(int(word))
    return frames


def _drop(pool: Pool, frames: IntArray, path: Path) -> None:
    from mlsel.pool.writer import write_subset

    left = np.setdiff1d(np.arange(len(pool)), frames)
    if not len(left):
        raise MlselError(f"all {len(pool)} frames of {pool.path} may be wrong: none is left.")
    write_subset(pool, left, path, {"made_by": "mlsel check", "checked_pool": pool.digest})
    print(f"{path}: {len(left)} frames, {len(frames)} dropped")
