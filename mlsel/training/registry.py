"""The kinds of models: which there are, the trainers of a study, opening a trained model.

A kind is a module with two things: `trainers(section)`, which returns the trainers that a
study's [training] asks for, and `MODEL`, the class that opens what they leave. It is named in
`training.kinds`: one of `KINDS`, or the dotted name of any module that can be imported, so that
a kind can be added without touching mlsel (docs/training.md has one on a page).
"""

from __future__ import annotations

import copy
import dataclasses
from importlib import import_module
from pathlib import Path
from typing import Any

from mlsel.core.errors import MlselError, nearest, shortened
from mlsel.core.user_code import code_digest
from mlsel.study.sections.training import TrainingSection
from mlsel.study.seeds import MOST, seeded
from mlsel.training.base import TrainedModel, Trainer
from mlsel.training.baseline import FILE as BASELINE
from mlsel.training.baseline import SumModel, read_baseline
from mlsel.training.core import read_core
from mlsel.training.description import read_description, require_files

KINDS = {
    "schnet": "mlsel.training.schnet.trainer",
    "gap": "mlsel.training.gap.trainer",
    "pair": "mlsel.training.pair.trainer",
}


def kind_module(name: str) -> Any:
    """Return the module of a kind.

    Raises
    ------
    MlselError
        If there is none of this name.
    """
    path = KINDS.get(name, name)
    if not all(part.isidentifier() for part in path.split(".")):
        raise MlselError(
            f"There is no kind of model {shortened(name, 80)}: give one of {', '.join(KINDS)}, or "
            "the name of a module that can be imported."
        )
    try:
        module = import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not path.startswith(error.name):
            raise
        raise MlselError(
            f"There is no kind of model {shortened(name, 80)}{nearest(name, KINDS)}: give one of "
            f"{', '.join(KINDS)}, or the name of a module that can be imported."
        ) from None
    if name not in KINDS:
        code_digest(name)  # so that what a model says of its code is what was imported
    if not (hasattr(module, "trainers") and hasattr(module, "MODEL")):
        raise MlselError(f"{path} is no kind of model: it must define trainers() and MODEL.")
    return module


def trainers(section: TrainingSection, selection: int = 1) -> list[Trainer]:
    """Return one trainer for each model that is wanted of a data set.

    Parameters
    ----------
    section : TrainingSection
    selection : int
        Which of a method's data sets it is, from 1 on: the models of each begin from seeds of
        their own, those of the same data set of another method from the same ones.
    """
    made: list[Trainer] = [
        one
        for kind in section.kinds
        for trainer in kind_module(kind).trainers(section)
        for beside in ("", *section.baselines)
        for one in _with_seeds(trainer, section.seeds, selection, beside)
    ]
    names = [trainer.name for trainer in made]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise MlselError(f"Two models of the study have the name {', '.join(sorted(twice))}.")
    return made


def _with_seeds(trainer: Trainer, seeds: int, selection: int, beside: str) -> list[Trainer]:
    """Return the trainer of a baseline with each seed, the first under the model's name; one
    without a seed alone."""
    if beside:
        trainer = copy.copy(trainer)
        trainer.name, trainer.beside = f"{trainer.name}-{beside}", beside
    seed = getattr(trainer, "seed", None)
    if seeds == selection == 1 or seed is None or not dataclasses.is_dataclass(trainer):
        return [trainer]
    # Numbers that stay whatever `seeds` become, here and of the selection.
    first = seed + MOST * (selection - 1)
    made = [
        dataclasses.replace(trainer, name=seeded(trainer.name, k + 1), seed=first + k)
        for k in range(seeds)
    ]
    for one in made:
        one.beside = beside
    return made


def trainer_named(section: TrainingSection, name: str) -> Trainer:
    """Return the trainer of this name, or the first whose name begins with it.

    >>> trainer_named(TrainingSection(kinds=("schnet",)), "schnet-small").name
    'schnet-small-e0.01'
    """
    known = trainers(section)
    for trainer in known:
        if trainer.name == name:
            return trainer
    for trainer in known:
        if trainer.name.startswith(f"{name}-"):
            return trainer
    names = [trainer.name for trainer in known]
    raise MlselError(
        f"The study has no model {name}{nearest(name, names)}: it has {', '.join(names)}."
    )


def load_model(folder: str | Path) -> TrainedModel:
    """Open a trained model of any kind.

    Raises
    ------
    MlselError
        If the folder holds none, or its kind is unknown here.
    """
    folder = Path(folder)
    description = read_description(folder)
    name = description.get("module", description["kind"])
    module = kind_module(name)
    learnt_by = description.get("code", {}).get(name)  # an earlier mlsel didn't say it
    if learnt_by is not None and learnt_by != code_digest(name):
        raise MlselError(
            f"{shortened(str(folder), 100)} was trained by other code than the module "
            f"{shortened(name, 60)} now has ({module.__file__}): set that back, or train the model "
            "anew with `mlsel training --again`."
        )
    require_files(folder, description)
    model: TrainedModel = module.MODEL.load(folder)
    baseline = read_baseline(folder)
    learnt_beside = description.get("baseline")  # some trainings of an earlier mlsel don't say it
    if learnt_beside is not None and learnt_beside != (baseline.identity if baseline else {}):
        raise MlselError(
            f"{folder / BASELINE} is {'another' if baseline else 'gone'}: the model was trained on "
            "what a baseline leaves, and is nothing without it. `mlsel training` writes it anew."
        )
    if baseline is not None:
        baseline.require_files(folder)
    for known in (baseline, read_core(folder)):
        if known is not None:
            model = SumModel(known, model)
    return model
