"""The stage: from a selection to a potential that survives.

    mlsel refine [STUDY] [-o DIR]
    mpirun -n 8 python -m mlsel.refine mine.toml

For each model that [refine] names, rounds of MD under its conditions: frames that the training set
does not cover are noted before the run is lost, thinned by a selection method given the training
set, labelled, and learnt; until a round meets nothing new, or the labels or rounds are spent. Each
round is a folder; the stage can be stopped at any moment, and no label is computed twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.cli import run_stage
from mlsel.core.errors import MlselError
from mlsel.core.parallel import on_root
from mlsel.study.folder import StudyFolder

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.refine.labeller import Labeller
    from mlsel.refine.rounds import Refinement
    from mlsel.study.study import Study

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage."""
    return run_stage(
        argv,
        "mlsel refine",
        "Let MD find what the data lack, label it and learn it.",
        refine_study,
        "begin anew where the model or [refine] changed",
    )


def refine_study(study: Study, folder: Path, comm: MPI.Intracomm, *, again: bool = False) -> None:
    """Refine every model that the study names.

    Raises
    ------
    MlselError
        If a model is missing, there is no labeller, or what is there was made from something else.
    Stopped
        If a signal asked for it.
    """
    from mlsel.core.lock import FolderLock
    from mlsel.plugins import show_plugins

    if not study.refine.models:
        if comm.rank == 0:
            log.info("refine.models names no model: nothing is refined")
        return
    lock = FolderLock(StudyFolder(folder).refine)
    on_root(comm, lock.acquire)
    try:
        chosen = on_root(comm, lambda: refinements(study, folder))
        show_plugins(comm)
        labeller = labeller_of(study)
        for refinement in chosen:
            ended = refinement.perform(labeller, comm, again=again)
            if comm.rank == 0:
                log.info("%s: %s", refinement.name, ended)
                write_table(StudyFolder(folder).refined, chosen)
        if comm.rank == 0:
            log.info("%s", StudyFolder(folder).refined)
    finally:
        if comm.rank == 0:
            lock.release()


def refinements(study: Study, folder: Path) -> list[Refinement]:
    """Return the refinements of the models that the study's patterns name.

    Raises
    ------
    MlselError
        If a pattern fits no finished model, or one that can't be refined as the study says.
    """
    from mlsel.refine.rounds import Refinement

    named = StudyFolder(folder).finished_models()
    chosen: list[str] = []
    for pattern in study.refine.models:
        found = [name for name in named if fnmatch(name, pattern)]
        if not found:
            known = ", ".join(named[:12]) + (", …" if len(named) > 12 else "")
            raise MlselError(
                f'{study.source}: refine.models names "{pattern}", and the trained models are '
                f"{known or 'none'}: `mlsel training` first, or another pattern."
            )
        chosen += [name for name in found if name not in chosen]
    made = [Refinement(study, folder, name) for name in chosen]
    for refinement in made:
        check(refinement)
    return made


def check(refinement: Refinement) -> None:
    """Refuse, before anything is computed, what would end a round.

    Raises
    ------
    MlselError
        If the model is not what [training] now makes, or what it comes from not what the study now
        says; if it does not tell what is watched, or refine.method can't choose among new frames.
    """
    from mlsel.pool.pool import Pool
    from mlsel.refine.harvest import check_method
    from mlsel.training.registry import load_model
    from mlsel.training.state import require_models

    study, name, folder = refinement.study, refinement.name, refinement.model(1)
    if not refinement.trainer_is_known:
        raise MlselError(
            f"{study.source}: refine.models names {name}, which [training] does not make: its "
            "trainer's parameters are not known. Add it to [training]."
        )
    require_models(study, refinement.root, [name])
    chosen_from = StudyFolder(refinement.root).data_set(name.split("/")[0])
    model = load_model(folder)
    mute = [what for what in study.refine.watch if what not in model.told_in_lammps]
    if mute:
        raise MlselError(
            f"refine.watch asks for {', '.join(mute)} of {folder}, which tells "
            f"{', '.join(model.told_in_lammps) or 'none of them'}: models of an older mlsel are "
            "trained again for it; leave out what a kind of model can't tell."
        )
    with Pool(refinement.base if refinement.base.is_file() else chosen_from) as pool:
        check_method(study.refine.method, pool)


def labeller_of(study: Study) -> Labeller:
    """Return what labels the new frames: refine.labeller, or the study's reference potential.

    Raises
    ------
    MlselError
        If there is neither.
    """
    from mlsel.refine.labeller import include_of, make_labeller

    path = include_of(study)
    if path is not None:
        labeller = make_labeller(str(path))
        labeller.name = study.refine.labeller or study.system.potential
        return labeller
    if study.refine.labeller:
        return make_labeller(study.refine.labeller)
    raise MlselError(
        f'{study.source}: [refine] needs labeller = "ase:MODULE:FUNCTION" or the path of a '
        "LAMMPS include: the study has no reference potential."
    )


def write_table(path: Path, refinements: Iterable[Refinement]) -> None:
    """Write the table of these refinements, of the rounds whose MD has ended."""
    from mlsel.core.files import write_text
    from mlsel.evaluate.tables import as_csv
    from mlsel.refine.table import COLUMNS

    rows: list[dict[str, Any]] = []
    for refinement in refinements:
        spent = 0
        for k, found in enumerate(refinement.outcomes(), 1):
            errors = refinement.errors(k)
            rows.append(
                {
                    "model": refinement.name,
                    "round": k,
                    "labels_before": spent,
                    "shortest_time": min(found.times),
                    "mean_time": sum(found.times) / len(found.times),
                    "runs_lost": found.n_lost,
                    "runs": len(found.times),
                    "new": found.n_new,
                    "labelled": found.n_labelled,
                    "rmse": errors.rmse if errors else float("nan"),
                    "max": errors.max if errors else float("nan"),
                }
            )
            spent += found.n_labelled
    write_text(path, as_csv(COLUMNS, rows))
