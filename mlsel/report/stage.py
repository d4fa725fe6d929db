"""Stage 6: figures, tables and verdicts on one page.

    python -m mlsel.report [DIR]

reads what the other stages left in a study's folder and writes DIR/report.html, which needs nothing
beside it, and the figures as SVG and PNG in DIR/figures. What is missing is said in its place.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.core.parallel import on_root
from mlsel.report import page
from mlsel.report.answer import answer
from mlsel.report.figures import DISTRIBUTIONS, ERRORS, LEARNING, RDFS, figures
from mlsel.report.findings import Findings
from mlsel.report.pool_map import pool_map
from mlsel.report.refinement import refinement
from mlsel.report.tables import data_sets, errors
from mlsel.report.verdicts import verdicts
from mlsel.study.choice import kept_study
from mlsel.study.folder import StudyFolder
from mlsel.study.parts import members
from mlsel.study.stage import BEGUN, DONE, MISSING, Item

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.study.study import Study

log = logging.getLogger(__name__)

DEMO = (
    "This is a demo: its models were trained for seconds and its runs are short. It shows what "
    "each stage does, not what a selection is worth."
)


def report(study: Study, folder: Path, comm: MPI.Intracomm) -> None:
    """Write the report, and print its path."""
    path = on_root(comm, lambda: write_report(folder, study))
    if comm.rank == 0:
        print(path, flush=True)


def items(study: Study, folder: Path) -> list[Item]:
    """Return the page and its state."""
    place = StudyFolder(folder)
    if not place.report.is_file():
        return [Item(place.report.name, MISSING)]
    reports = (StudyFolder(part.folder).report for part in members(study, folder)[1:])
    sources = [
        path
        for path in (place.pool, place.errors, place.verdicts, place.refined, *reports)
        if path.is_file()
    ]
    written = place.report.stat().st_mtime
    newer = [path.relative_to(folder).as_posix() for path in sources
             if path.stat().st_mtime > written]  # fmt: skip
    if newer:
        return [Item(place.report.name, BEGUN, f"older than {', '.join(newer)}")]
    return [Item(place.report.name, DONE)]


def write_report(folder: Path, study: Study | None = None) -> Path:
    """Write DIR/report.html, of a study or the one that the folder is of; return its path.

    Raises
    ------
    MlselError
        If the folder holds nothing of a study.
    """
    from mlsel.core.files import write_text

    found = Findings.of(folder, study)
    title = f"mlsel: the study {found.name}"
    learning = dataclasses.replace(
        LEARNING, always=tuple(f"--level={level}" for level in found.levels)
    )
    parts = [
        page.heading(title, 1),
        page.answer(answer(found), DEMO if found.name == "quick" else ""),
        *figures(folder, found, *([learning] if found.learning else []), ERRORS),
        page.paragraph(
            "Which configurations should a machine-learned interatomic potential be trained on? "
            "Data sets were selected from one pool by several methods, a potential trained on "
            "each, its force errors measured, and each put to the test in molecular dynamics."
        ),
        *pool_map(folder),
        *figures(folder, found, DISTRIBUTIONS, RDFS),
        *verdicts(found),
        *refinement(folder, found),
        *errors(found),
        *data_sets(found),
        *_parts(folder, study),
        *_what_was_run(found),
        *_files(folder),
    ]
    path = StudyFolder(folder).report
    write_text(path, page.page(title, parts))
    return path


def _parts(folder: Path, study: Study | None) -> list[str]:
    """Links to the reports of the study's parts, or what is the last of a part without one."""
    study = study or kept_study(folder)
    others = members(study, folder)[1:] if study is not None else []
    if not others:
        return []
    rows = []
    for part in others:
        path, until = StudyFolder(part.folder).report, part.study.until
        if path.is_file():
            rows.append(
                f"<li>{page.link(path.relative_to(folder).as_posix(), part.study.part)}</li>"
            )
        else:
            why = f"no report: it ends with {until}" if until else "no report yet"
            rows.append(f"<li>{escape(part.study.part)} ({why})</li>")
    return [page.heading("Parts of the study"), f"<ul>{''.join(rows)}</ul>"]


def _what_was_run(found: Findings) -> list[str]:
    parts = [page.heading("What was run")]
    if found.pool:
        parts.append(
            page.paragraph(
                f"A pool of {found.pool['frames']} frames from {found.pool['runs']} runs; its "
                f"digest is {found.pool['digest']}."
            )
        )
    for section, values in found.settings.items():
        shown = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
        parts.append(page.folded(f"[{section}]", page.definitions(shown)))
    parts.append(page.folded("Versions", page.definitions(found.versions)))
    return parts


def _files(folder: Path) -> list[str]:
    patterns = (
        "pool.h5", "data/*.h5", "models/*/*/model.json", "evaluation/*.csv", "validation/*.csv",
        "refine/*.csv",
        "validation/**/results.h5", "validation/**/trajectory.h5", "validation/**/in.lammps",
        "figures/*",
    )  # fmt: skip
    paths = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    items = "".join(f"<li>{page.link(p.relative_to(folder).as_posix())}</li>" for p in paths)
    inner = f"<ul>{items}</ul>"
    return [page.heading("Files"), page.folded(f"{len(paths)} files beside this page", inner)]
