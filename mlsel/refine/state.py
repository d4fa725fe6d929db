"""The states of a study's refinements, read from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.core.record import read_json, told
from mlsel.study.folder import StudyFolder
from mlsel.study.stage import BEGUN, DONE, MISSING, STALE, Item

if TYPE_CHECKING:
    from mlsel.refine.outcome import Outcome
    from mlsel.study.study import Study


def items(study: Study, folder: Path) -> list[Item]:
    """Return the models that are refined, and how far they are."""
    from mlsel.refine.rounds import Refinement
    from mlsel.training.stage import model_names

    known = model_names(study, folder) if study.refine.models else []
    found = []
    for name in [n for n in known if any(fnmatch(n, p) for p in study.refine.models)]:
        refinement = Refinement(study, folder, name)
        found.append(Item(name, *_state_of(refinement), script="refine"))
    return found


def _state_of(refinement: object) -> tuple[str, str]:
    from mlsel.refine.rounds import Refinement

    assert isinstance(refinement, Refinement)
    if not (StudyFolder(refinement.root).model(refinement.name) / "model.json").is_file():
        return MISSING, ""
    changed = refinement.record.differences(refinement.made_from())
    if changed:
        return STALE, told(changed)
    rounds = refinement.outcomes()
    if refinement.outcome.is_file():
        if refinement.lacks_errors:
            return BEGUN, "its errors are of another test set: `mlsel refine` measures them anew"
        value = read_json(refinement.outcome)
        text = f"{value['ended']} after {value['rounds']} rounds, {value['labels']} labels"
        return DONE, text + _times(rounds)
    if not rounds:
        return (BEGUN, "MD of round 1") if refinement.round_folder(1).is_dir() else (MISSING, "")
    spent = sum(found.n_labelled for found in rounds)
    budget = refinement.study.refine.labels
    return BEGUN, f"{len(rounds)} rounds of MD, {spent} of {budget} labels{_times(rounds)}"


def _times(rounds: Sequence[Outcome]) -> str:
    """The shortest run of the first round, and of the last."""
    first, last = min(rounds[0].times), min(rounds[-1].times)
    return f"; shortest run {first:.3g} ps" + (f", now {last:.3g} ps" if len(rounds) > 1 else "")
