"""What the commands need to know of a stage: its name, its module, its products and jobs.

The stages themselves stand in one tuple, `mlsel.workflow.stages.STAGES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from mlsel.core.errors import MlselError, shortened

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.study.study import Study

DONE, BEGUN, FAILED, STALE, MISSING = "done", "begun", "failed", "stale", "missing"


@dataclass(frozen=True)
class Item:
    """A product: a run, a data set, a model, a table.

    Attributes
    ----------
    name : as the stage calls it
    state : done, begun, failed, stale (made from something else than the study now says), missing
    text : how far it is, or why not
    part : its number for --part, 0 where the stage has no parts
    script : of the job that makes it, where it is not the stage's first
    on_gpu : whether it is computed on a GPU where there is one
    needs : scripts of the jobs that must have succeeded, beside those of its own job
    """

    name: str
    state: str
    text: str = ""
    part: int = 0
    script: str = ""
    on_gpu: bool = False
    needs: tuple[str, ...] = ()


class StateModule(Protocol):
    """A module that tells a stage's state."""

    def items(self, study: Study, folder: Path) -> list[Item]:
        """Return the stage's products, those that are still to be made too."""


@dataclass(frozen=True)
class Stage:
    """A stage of a study.

    Attributes
    ----------
    name : the command
    summary : what it does, for `mlsel --help`
    command : a module that imports little; its main(argv) is the command
    module, function : function(study, folder, comm) does what is missing
    scripts : the jobs that do it on a cluster, each with those that must have succeeded before
    place : the folder, in the study's, whose lock says who works on it
    state_module : has items(study, folder); the module itself unless said
    """

    name: str
    summary: str
    command: str
    module: str
    function: str
    scripts: Mapping[str, Sequence[str]]
    place: str = ""
    state_module: str = ""

    def run(self, study: Study, folder: Path, comm: MPI.Intracomm) -> None:
        """Do what is missing of the stage."""
        getattr(import_module(self.module), self.function)(study, folder, comm)

    def items(self, study: Study, folder: Path) -> list[Item]:
        """Return the stage's products and their states, read from the folder."""
        module: Any = import_module(self.state_module or self.module)
        return cast("StateModule", module).items(study, folder)

    def workers(self, folder: Path) -> list[str]:
        """Return the jobs that hold the stage's lock and are not known to have ended, in words."""
        from mlsel.core.lock import holder_of, lock_files

        holders = [holder_of(path) for path in lock_files(folder / self.place)]
        return [str(holder) for holder in holders if holder is not None and not holder.has_ended()]


@dataclass(frozen=True)
class StageState:
    """How far a stage is.

    Attributes
    ----------
    name : the command
    items : products
    workers : jobs that work on it, in words
    """

    name: str
    items: list[Item] = field(default_factory=list)
    workers: list[str] = field(default_factory=list)

    @property
    def undone(self) -> list[Item]:
        return [item for item in self.items if item.state != DONE]

    @property
    def is_done(self) -> bool:
        return not self.undone


def require_fresh(stage: str, items: Iterable[Item], study: Study, folder: Path) -> None:
    """Refuse to go on from products that were made from something else than the study now says.

    Each stage asks it of those that it builds on, so that no product of an old setting gets into
    another without a word.

    Parameters
    ----------
    stage : the command that makes them
    items : its products

    Raises
    ------
    MlselError
        If one is stale.
    """
    stale = [item for item in items if item.state == STALE]
    if not stale:
        return
    n = len(stale)
    more, was, it = (f" and {n - 1} more", "were", "them") if n > 1 else ("", "was", "it")
    way = f"`{command(stage, study, folder)} --again` makes {it} anew"
    if stage == "generate":  # MD is never thrown away by an option
        way = "Make another pool in another folder (-o)"
    raise MlselError(
        f"{shortened(str(folder), 50)}: {stale[0].name}{more} of {stage} {was} made otherwise than "
        f"the study now says: {shortened(stale[0].text, 130)}. {way}, or set these keys back."
    )


def command(stage: str, study: Study, folder: Path) -> str:
    """Return the command that does a stage, as a user gives it.

    >>> from mlsel.study.study import load_study
    >>> command("training", load_study("quick"), Path("other"))
    'mlsel training quick -o other'
    """
    where = "" if folder == Path(study.name) else f" -o {shortened(str(folder), 50)}"
    return f"mlsel {stage} {shortened(study.source, 50)}{where}"
