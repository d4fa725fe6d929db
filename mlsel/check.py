"""`mlsel check POOL`: what in a pool may be wrong, as text and as a page with pictures.

mlsel check POOL [--page FILE.html] [--write-exclude FILE] [--drop NEWPOOL]
mpirun -n 4 python -m mlsel.check POOL
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.cli import Parser, run_main
from mlsel.core.errors import MlselError
from mlsel.core.parallel import on_root, world
from mlsel.pool.thresholds import Thresholds

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.pool.check import Checked
    from mlsel.pool.pool import Pool

NEAR = 0.01
"""Å. Vibrations at room temperature are ten times as large."""
CUTOFF = 6.0
"""Å, of the descriptor by which near duplicates are told."""


def main(argv: Sequence[str] | None = None) -> int:
    """`mlsel check POOL`."""
    args = _parser(Thresholds()).parse_args(argv)
    for name in ("closest", "outlier"):
        if not getattr(args, name) > 0:
            raise MlselError(f"--{name} {getattr(args, name)}: it must be above 0.")
    if not 0 <= args.near <= 1:
        raise MlselError(f"--near {args.near}: it must be from 0 (not looked for) to 1 Å.")
    for path in (args.write_exclude, args.drop, args.page):
        if path is not None and path.exists() and not args.force:
            raise MlselError(
                f"{path} is there already: choose another name, or --force to replace it."
            )
    from mlsel.pool.check import report, write_exclude, write_without
    from mlsel.pool.pool import Pool

    comm = world()
    on_root(comm, lambda: Pool(args.pool).close())
    with Pool(args.pool) as pool:
        checked = checked_pool(pool, Thresholds(args.closest, args.outlier), args.near, comm)

        def write() -> None:
            print("\n".join(report(pool, checked)))
            if args.write_exclude is not None:
                write_exclude(pool, checked, args.write_exclude)
            if args.drop is not None:
                write_without(pool, checked.frames(spare=True), args.drop)
            if args.page is not None:
                write_page(pool, checked, args.page)

        on_root(comm, write)
    return 0


def _parser(limits: Thresholds) -> Parser:
    parser = Parser(
        prog="mlsel check",
        description="Tell what in a pool may be wrong: copies, near copies, copies with other "
        "labels, atoms too close, energies and forces that stand out, electrons that did not "
        "converge, forces whose sum is not zero, virials that energies contradict; and how many "
        "independent frames there are.",
    )
    parser.add_argument("pool", type=Path, metavar="POOL")
    parser.add_argument(
        "--closest",
        type=float,
        default=limits.closest,
        metavar="SHARE",
        help="of the two covalent radii's sum, below which atoms are too close "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--outlier",
        type=float,
        default=limits.outlier,
        metavar="SIGMAS",
        help="robust standard deviations from the median (default: %(default)s)",
    )
    parser.add_argument(
        "--near",
        type=float,
        default=NEAR,
        metavar="DISTANCE",
        help="Å, a displacement of all atoms below which frames are nearly the same; 0: not "
        "looked for, which is faster (default: %(default)s)",
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write a page with pictures, one HTML file"
    )
    parser.add_argument(
        "--write-exclude",
        type=Path,
        metavar="FILE",
        help="write the ids of frames that may be wrong, for `mlsel selection --exclude`",
    )
    parser.add_argument("--drop", type=Path, metavar="NEWPOOL", help="write a pool without these")
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    return parser


def checked_pool(
    pool: Pool, limits: Thresholds, near: float, comm: MPI.Intracomm | None
) -> Checked:
    """Look at every frame, near duplicates too if `near` (Å) is above 0; collective over comm."""
    import numpy as np

    from mlsel.pool.check import Finding, check
    from mlsel.pool.copies import later_copies
    from mlsel.selection.base import Task
    from mlsel.selection.near import near_duplicates

    checked = check(pool, limits, comm)
    if near > 0 and len(pool):
        numbers = checked.numbers
        eligible = numbers.finite & (numbers.volume > 0)
        eligible[later_copies(numbers.content)] = False
        rng = np.random.default_rng(1)
        task = Task(pool, 0, eligible, rng, comm)
        found = near_duplicates(task, numbers.composition, near, CUTOFF)
        if len(found):
            what = f"are nearly a frame before: no more than {near:g} Å of every atom apart"
            checked.findings.append(Finding(what, found, is_wrong=False))
    return checked


def write_page(pool: Pool, checked: Checked, path: Path) -> None:
    """Write a page that needs no other file."""
    from mlsel.core.files import write_text
    from mlsel.report import page

    parts = [
        page.heading(f"{pool.path.name}: {len(pool)} frames", 1),
        page.paragraph(f"{len(checked.frames())} may be wrong. Nothing here is certain."),
        page.heading("Findings"),
    ]
    rows: list[dict[str, page.Cell]] = [
        {
            "what": finding.what,
            "n": len(finding.frames),
            "frames": ", ".join(map(str, finding.frames[:20].tolist()))
            + (", …" if len(finding.frames) > 20 else ""),
        }
        for finding in checked.findings
    ]
    columns = {"n": "frames", "what": "that", "frames": "which"}
    parts.append(page.table(columns, rows) if rows else page.paragraph("Nothing stands out."))
    parts += [page.paragraph(note) for note in checked.notes]
    parts.append(page.heading("Pictures"))
    parts += [page.drawing(*one) for one in _drawings(checked)]
    parts += [page.heading("Compositions"), f"<pre>{chr(10).join(checked.table)}</pre>"]
    write_text(path, page.page(f"mlsel check {pool.path.name}", parts))
    print(f"{path}: the page")


def _drawings(checked: Checked) -> list[tuple[bytes, str, str]]:
    """Return pictures as SVG, each with its caption and what it is."""
    import matplotlib as mpl

    mpl.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt

    numbers, told = checked.numbers, checked.frames()
    middle = np.full(int(numbers.composition.max(initial=0)) + 1, np.nan)
    for kind in np.unique(numbers.composition):
        of_kind = numbers.energy[(numbers.composition == kind) & np.isfinite(numbers.energy)]
        if len(of_kind):
            middle[kind] = np.median(of_kind)
    energies = numbers.energy - middle[numbers.composition]
    made = []
    for values, label, caption in (
        (energies, "energy per atom less its composition's median / eV", "Energies"),
        (numbers.force, "largest force / eV Å$^{-1}$", "The largest force of each frame"),
        (numbers.closeness, "shortest distance / covalent radii's sum", "Shortest distances, where "
         "any is below the threshold's reach"),
    ):  # fmt: skip
        finite = np.isfinite(values)
        if not finite.any():
            continue
        odd = told[finite[told]]
        with plt.rc_context({"axes.spines.top": False, "axes.spines.right": False,
                             "font.size": 9, "svg.hashsalt": "mlsel"}):  # fmt: skip
            figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
            step = max(1, int(finite.sum()) // 20_000)
            ids = np.flatnonzero(finite)[::step]
            left.plot(ids, values[ids], ".", ms=2, color="tab:blue", rasterized=True)
            left.plot(odd, values[odd], "o", ms=4, color="tab:red", mfc="none")
            left.set(xlabel="frame", ylabel=label)
            right.hist(values[finite], 100, color="tab:blue", log=True)
            right.set(xlabel=label, ylabel="frames")
            image = io.BytesIO()
            figure.savefig(image, format="svg", metadata={"Date": None}, dpi=150)
            plt.close(figure)
        made.append((image.getvalue(), f"{caption}. Circles: frames that may be wrong.", caption))
    return made


if __name__ == "__main__":
    sys.exit(run_main(main))
