"""What in a pool may be wrong, by frame; nothing of it is certain.

Blocks are read once, by the ranks in shares; what is kept of a frame is a few numbers. The command
is `mlsel.check`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.core.errors import MlselError
from mlsel.pool import correlation
from mlsel.pool.admission import CONVERGED
from mlsel.pool.copies import content_hash, later_copies
from mlsel.pool.elements import formula
from mlsel.pool.incoming import SOURCE_FILE, SOURCE_INDEX
from mlsel.pool.offsets import offsets
from mlsel.pool.plausible import closeness
from mlsel.pool.thresholds import Thresholds
from mlsel.pool.volumes import shape_hash, slopes
from mlsel.pool.work import told, works

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.pool.block import Block
    from mlsel.pool.pool import Pool

MAX_NAMED = 6
FEWEST = 8
"""Frames of a composition, below which none can stand out."""
NET_FORCE = 0.05
"""eV/Å; electrons' convergence leaves a hundredth of it."""


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
class Numbers:
    """What is kept of every frame, (n_frames,) each; NaN where there is none."""

    content: IntArray
    labels: IntArray
    composition: IntArray
    n_atoms: IntArray
    shape: IntArray
    closeness: FloatArray
    energy: FloatArray
    force: FloatArray
    net_force: FloatArray
    volume: FloatArray
    trace: FloatArray
    finite: Array
    converged: Array

    @classmethod
    def of(cls, n: int) -> Numbers:
        a, b, c, d, e = (np.zeros(n, dtype=np.int64) for _ in range(5))
        f, g, h, i, j, k = (np.full(n, np.nan) for _ in range(6))
        return cls(a, b, c, d, e, f, g, h, i, j, k, np.ones(n, dtype=bool), np.ones(n, dtype=bool))

    def share(self, stretch: slice, comm: MPI.Intracomm) -> None:
        """Give all ranks what each has of its stretch."""
        for field in fields(self):
            array = getattr(self, field.name)
            array[:] = np.concatenate(comm.allgather(array[stretch]))


@dataclass
class Checked:
    """The findings, and what is told beside them.

    Attributes
    ----------
    findings : list of Finding
    table : list of str
        The compositions.
    notes : list of str
        Of the pool as a whole.
    numbers : Numbers
    """

    findings: list[Finding]
    table: list[str]
    notes: list[str]
    numbers: Numbers

    def frames(self, *, spare: bool = False) -> IntArray:
        """Return all frames that may be wrong, and those to spare if told so, sorted."""
        some = [f.frames for f in self.findings if f.is_wrong or (spare and f.is_spare)]
        frames: IntArray = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *some]))
        return frames


def check(
    pool: Pool, thresholds: Thresholds | None = None, comm: MPI.Intracomm | None = None
) -> Checked:
    """Look at every frame of a pool once; collective over comm, if one is given."""
    limits = thresholds or Thresholds()
    kept = Numbers.of(len(pool))
    rank, size = (0, 1) if comm is None else (comm.rank, comm.size)
    own = range(len(pool) * rank // size, len(pool) * (rank + 1) // size)
    formulas: dict[bytes, int] = {}
    for run in pool.runs:
        formulas.setdefault(np.sort(pool.numbers(run)).tobytes(), len(formulas))
    known = (*pool.fields, *pool.partial_fields)
    labels = [field for field in ("energy", "forces", "virial", *CONVERGED) if field in known]
    for block in pool.blocks("positions", "cell", frame_ids=own, optional=labels):
        _look(pool, block, kept, formulas, limits)
    if comm is not None:
        kept.share(slice(own.start, own.stop), comm)
    names = [formula(np.frombuffer(key, dtype=np.int64)) for key in formulas]
    findings = _findings(pool, kept, names, limits)
    by_volume = slopes(kept.shape, kept.composition, kept.volume, kept.energy * kept.n_atoms,
                       kept.trace)  # fmt: skip
    notes = [by_volume.told()] if len(by_volume.ratio) else []
    if by_volume.is_wrong:
        findings.append(
            Finding("have virials that their energies contradict", np.unique(by_volume.frames))
        )
    found = works(pool)
    notes += told(found)
    wrong = [work.frames for work in found if work.is_wrong]
    if wrong:
        contradicted = np.sort(np.concatenate(wrong))
        findings.append(Finding("have forces that their energies contradict", contradicted))
    if SOURCE_FILE in pool.fields:
        files = [str(name) for name in pool.attributes.get("sources", ())]
        source = pool.values(SOURCE_FILE)
        if source.dtype.kind == "i":
            notes += offsets(kept.energy, kept.composition, source, names, files)
    return Checked(
        findings,
        _table(kept, names),
        [*notes, *_independent(pool, kept), *correlation.spacings(pool)],
        kept,
    )


def _independent(pool: Pool, kept: Numbers) -> list[str]:
    """Tell how many independent frames the runs are worth, by energies and by volumes."""
    runs = [run for run in pool.runs if run.n_frames >= correlation.FEWEST]
    if not runs or not pool.is_ordered:
        return []
    told = []
    for what, values in (("energies", kept.energy), ("volumes", kept.volume)):
        each, n, worth = [], 0, 0.0
        for run in runs:
            of_run = values[run.first_frame : run.first_frame + run.n_frames]
            if np.isfinite(of_run).all() and np.ptp(of_run) > 1e-9 * np.abs(of_run).max():
                each.append(correlation.inefficiency(of_run))
                n, worth = n + run.n_frames, worth + run.n_frames / each[-1]
        if each:
            told.append(
                f"by their {what} {n} frames of {len(each)} runs are worth {worth:.0f} independent "
                f"ones, if they follow each other: {min(each):.1f} to {max(each):.1f} frames each"
            )
    return told


def _look(
    pool: Pool, block: Block, kept: Numbers, formulas: dict[bytes, int], limits: Thresholds
) -> None:
    from ase.data import covalent_radii

    numbers, periodic = pool.numbers(block.run), pool.periodic(block.run)
    ids, n = block.frame_ids, len(numbers)
    kept.composition[ids] = formulas[np.sort(numbers).tobytes()]
    kept.n_atoms[ids] = n
    cutoff = 2 * limits.closest * float(covalent_radii[numbers].max())
    has_virial = "virial" in block.fields and all(periodic)
    if all(periodic):
        with np.errstate(invalid="ignore"):
            kept.volume[ids] = np.abs(np.linalg.det(block["cell"]))
    if has_virial:
        kept.trace[ids] = np.trace(block["virial"], axis1=1, axis2=2)
    for i, frame in enumerate(ids):
        positions, cell = block["positions"][i], block["cell"][i]
        kept.content[frame] = content_hash(numbers, positions, cell, periodic)
        if np.isfinite(positions).all() and np.isfinite(cell).all():
            kept.closeness[frame] = closeness(numbers, positions, cell, all(periodic), cutoff)
        else:
            kept.finite[frame] = False
        if has_virial:
            kept.shape[frame] = shape_hash(positions, cell)
        told = b"".join(block[f][i].tobytes() for f in ("energy", "forces") if f in block.fields)
        digest = hashlib.blake2b(told, digest_size=8).digest()
        kept.labels[frame] = int.from_bytes(digest, "little", signed=True)
    for key in CONVERGED:
        if key in block.fields and block[key].dtype.kind in "bif":
            kept.converged[ids] &= block[key].reshape(len(ids), -1).astype(bool).all(axis=1)
    if "energy" in block.fields:
        kept.energy[ids] = block["energy"] / n
        kept.finite[ids] &= np.isfinite(block["energy"])
    if "forces" in block.fields:
        forces = block["forces"]
        kept.finite[ids] &= np.isfinite(forces).all(axis=(1, 2))
        kept.force[ids] = np.linalg.norm(forces, axis=2).max(axis=1)
        kept.net_force[ids] = np.linalg.norm(forces.sum(axis=1), axis=1)


def _findings(pool: Pool, kept: Numbers, names: list[str], limits: Thresholds) -> list[Finding]:
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
    failed = np.flatnonzero(~kept.converged)
    found.append(
        Finding("have electrons that did not converge, by the source: labels may be wrong", failed)
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
    values: FloatArray, kept: Numbers, n_kinds: int, limit: float, smallest: float
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


def _table(kept: Numbers, names: list[str]) -> list[str]:
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
    lines += checked.notes
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


def write_without(pool: Pool, frames: IntArray, path: Path) -> None:
    from mlsel.pool.subset import write_subset

    left = np.setdiff1d(np.arange(len(pool)), frames)
    if not len(left):
        raise MlselError(f"all {len(pool)} frames of {pool.path} may be wrong: none is left.")
    write_subset(pool, left, path, {"made_by": "mlsel check", "checked_pool": pool.digest})
    print(f"{path}: {len(left)} frames, {len(frames)} dropped")
