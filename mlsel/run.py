"""All stages of a study in order, and of its parts, ending with the report.

    python -m mlsel.run [STUDY] [-o DIR]
    mpirun -n 2 python -m mlsel.run quick

Each stage does only what is missing, so that the same command goes on where it was stopped. Parts
whose test sets others are measured on come first, up to their data sets; then the study, then its
parts in the order of the file. The study's report is last: it tells of the parts' reports.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlsel import cli
from mlsel.core import stopping
from mlsel.core.errors import MlselError, StageIncomplete, Stopped, shortened
from mlsel.core.parallel import on_root, world
from mlsel.core.progress import duration
from mlsel.core.record import AGAIN
from mlsel.study.parts import members, record_members
from mlsel.study.stage import command
from mlsel.study.study import record_study, recorded_study
from mlsel.validate.held_against import reference_kind
from mlsel.workflow.order import in_order, stages_until
from mlsel.workflow.stages import IMPORT, STAGES, stages_of

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.study.parts import Member
    from mlsel.study.stage import Stage

log = logging.getLogger(__name__)

VALIDATE, REPORT = "validate", "report"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stages.

    Raises
    ------
    StageIncomplete
        At the end, if some stage left something undone; the stages after it were run all the same.
    """
    parser = cli.study_parser(
        "mlsel run", "Do all stages of a study and its parts, then the report."
    )
    parser.add_argument(
        "--until",
        choices=[stage.name for stage in (IMPORT, *STAGES)],
        default=REPORT,
        help="the last stage to do",
    )
    args = parser.parse_args(argv)
    comm = world()
    study, folder = cli.open_study(args, comm)
    with stopping.heard():
        return _Run(members(study, folder), args.until, comm).perform()


class _Run:
    """What one command does."""

    def __init__(self, group: Sequence[Member], until: str, comm: MPI.Intracomm) -> None:
        self._group, self._until, self._comm = group, until, comm
        self._begun = time.monotonic()
        self._incomplete: list[str] = []

    def perform(self) -> int:
        self._check()
        study, folder = self._group[0].study, self._group[0].folder
        on_root(self._comm, lambda: record_members(study, folder))
        for member, stages in in_order(self._group, self._until):
            if len(self._group) > 1:
                self._tell("=== %s, in %s (%s)", member.title, member.folder)
            self._do(member, stages)
        self._tell("== done in %s")
        if self._incomplete:
            raise StageIncomplete(
                "some stages ended incomplete: " + "; ".join(self._incomplete), everywhere=True
            )
        return 0

    def _check(self) -> None:
        """Refuse what would be told only after hours."""
        names = dict.fromkeys(s.name for one in self._group for s in stages_of(one.study))
        if self._until not in names and self._until != REPORT:
            raise MlselError(
                f"--until {self._until}: the stages of this study are {', '.join(names)}.",
                everywhere=True,
            )
        for one in self._group:
            if any(s.name == VALIDATE for s in stages_until(one, self._until)):
                reference_kind(one.study)

    def _do(self, member: Member, stages: Sequence[Stage]) -> None:
        """Do some stages of the study or a part."""
        study, folder = member.study, member.folder
        of = f"{member.title}, " if len(self._group) > 1 else ""
        for stage in stages:
            self._tell("== %s (%s)", stage.name)
            try:
                stage.run(study, folder, self._comm)
            except StageIncomplete as error:
                self._note(f"{of}{stage.name}", error)
            except MlselError as error:
                if AGAIN in str(error):  # which this command has not
                    way = f"`{command(stage.name, study, folder)} --again` makes it anew"
                    error.args = (str(error).replace(AGAIN, way),)
                is_of_all = error.is_everywhere or self._comm.size == 1
                if of and self._incomplete and is_of_all and not isinstance(error, Stopped):
                    self._note(f"{of}{stage.name}", error)  # it lacks what is incomplete
                    return
                raise
        is_whole = bool(stages) and stages[-1].name == stages_of(study)[-1].name
        if is_whole and self._comm.rank == 0 and recorded_study(folder) != study:
            record_study(study, folder)  # all that is there is of it now

    def _note(self, what: str, error: MlselError) -> None:
        if self._comm.rank == 0:
            log.warning("%s: %s", what, error)
        self._incomplete.append(f"{what} ({shortened(str(error))})")

    def _tell(self, text: str, *words: object) -> None:
        if self._comm.rank == 0:
            log.info(text, *words, duration(time.monotonic() - self._begun))


if __name__ == "__main__":
    sys.exit(cli.run_main(main))
