"""Which runs a study's validation has: the reference, its repeats, potentials, models."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.core.errors import MlselError
from mlsel.study.folder import StudyFolder, size_of
from mlsel.validate.held_against import LAMMPS, reference_kind

if TYPE_CHECKING:
    from mlsel.study.study import Study
    from mlsel.validate.nvt_run import ValidationRun


log = logging.getLogger(__name__)


def _is_meant(model: str, pattern: str) -> bool:
    """Whether a pattern of validation.models means a model.

    One of a learning curve's data set only where the pattern names the data set's size: else the
    curves would bring MD that nobody asked for.

    >>> _is_meant("force-n64/pair", "*"), _is_meant("force-n64/pair", "force-n*/pair")
    (False, True)
    """
    from fnmatch import fnmatch

    is_sized = size_of(model.partition("/")[0])[1] is not None
    return fnmatch(model, pattern) and (not is_sized or "-n" in pattern.partition("/")[0])


def run_names(study: Study, folder: Path) -> list[str]:
    """Return the names of all runs of a study, as `runs_of` orders them, those of models that are
    not yet trained too."""
    from mlsel.training.stage import model_names

    models = sorted({*model_names(study, folder), *StudyFolder(folder).finished_models()})
    chosen = [m for pattern in study.validation.models for m in models if _is_meant(m, pattern)]
    section = study.validation
    return [*reference_names(study), *section.potentials, *dict.fromkeys(chosen)]


def reference_names(study: Study) -> list[str]:
    """Return the names of the reference's own runs: none where it is no potential."""
    if reference_kind(study) != LAMMPS:
        return []
    return ["reference", *(f"reference-{i + 2}" for i in range(study.validation.repeats))]


def of_start(study: Study, place: StudyFolder) -> Study:
    """Return the study with the species of its snapshot alone: frames of a pool needn't have all.

    With a potential as the reference it is the study itself.
    """
    import dataclasses

    from mlsel.validate.start import read_start

    if reference_kind(study) == LAMMPS or not place.start.is_file():
        return study
    species = tuple(read_start(place.root)["species"])
    return dataclasses.replace(
        study, system=dataclasses.replace(study.system, species=species, composition=())
    )


def runs_of(
    study: Study, folder: Path, names: Collection[str] | None = None
) -> list[ValidationRun]:
    """Return all runs of a study, or those of these names: the reference, its repeats,
    potentials, models.

    Raises
    ------
    MlselError
        If a model or potential is not there or is for other species.
    """
    from mlsel.core.provenance import digest
    from mlsel.md import deck
    from mlsel.training.description import model_digest
    from mlsel.validate.nvt_run import ValidationRun
    from mlsel.validate.start import reference_potential
    from mlsel.validate.uncertainty import committee_of, not_watched

    study = of_start(study, StudyFolder(folder))
    section = study.validation

    def run(
        name: str, kind: str, potential: str, made_of: str, length: float, *committee: Path
    ) -> ValidationRun:
        return ValidationRun(name, kind, potential, made_of, length, folder, study, committee)

    references = [name for name in reference_names(study) if names is None or name in names]
    text = reference_potential(study) if references else ""
    made_of = digest(text.encode())
    runs = [run(name, "reference", text, made_of, section.duration) for name in references]
    for name, path in section.potentials.items():
        if names is not None and name not in names:
            continue
        if not Path(path).is_file() and path not in deck.potential_names():
            raise MlselError(
                f'{study.source}: validation.potentials.{name} is "{path}": give the path of a '
                f"LAMMPS include file, or one of {', '.join(deck.potential_names())}."
            )
        text = deck.read_potential(path, study.system.species)
        length = section.durations.get(name, section.duration)
        runs.append(run(name, "potential", text, digest(text.encode()), length))
    for model in chosen_models(study, folder, names):
        kind, commands = model_commands(model, study.system.species)
        text = f"# {model.parent.name}/{model.name}\n" + "\n".join(commands) + "\n"
        made_of = model_digest(model)
        length = section.durations.get(kind, section.duration)
        committee = committee_of(model) if section.watch else ()
        if section.watch and not committee:
            log.warning("%s", not_watched(model, kind))
        name = f"{model.parent.name}/{model.name}"
        runs.append(run(name, kind, text, made_of, length, *committee))
    return runs


def chosen_models(study: Study, folder: Path, names: Collection[str] | None = None) -> list[Path]:
    """Return the folders of the trained models that the study's patterns name, or of `names`."""
    place = StudyFolder(folder)
    models, named = place.models, place.finished_models()
    chosen: list[Path] = []
    if names is not None:
        absent = [name for name in names if "/" in name and name not in named]
        if absent:
            raise MlselError(
                f"{models} lacks the trained models {', '.join(absent)}: `mlsel training` first."
            )
        return [place.model(name) for name in named if name in names]
    for pattern in study.validation.models:
        found = [place.model(name) for name in named if _is_meant(name, pattern)]
        if not found:
            known = ", ".join(named[:12]) + (", …" if len(named) > 12 else "")
            raise MlselError(
                f'{study.source}: validation.models names "{pattern}", but {models} '
                + (
                    f"holds {known}."
                    if named
                    else "holds no trained model: `mlsel training` first."
                )
            )
        chosen += [path for path in found if path not in chosen]
    return chosen


def model_commands(model: Path, species: tuple[str, ...]) -> tuple[str, list[str]]:
    """Return a model's kind and its LAMMPS commands."""
    from mlsel.training import load_model

    trained = load_model(model)
    return trained.kind, trained.lammps_commands(species)
