"""`mlsel report`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mlsel.cli import Parser, add_folder_argument
from mlsel.core.parallel import launched_rank

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report."""
    parser = Parser(prog="mlsel report", description="Write report.html of a study's folder.")
    add_folder_argument(parser)
    args = parser.parse_args(argv)
    if launched_rank() == 0:
        from mlsel.report.stage import write_report

        log.info("%s", write_report(args.folder))
    return 0
