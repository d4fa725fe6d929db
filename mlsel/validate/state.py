"""The states of a study's MD with trained potentials, read from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.core.record import read_json, told
from mlsel.md.state import last_checkpoint, state_of_run
from mlsel.study.folder import MODEL, StudyFolder
from mlsel.study.stage import BEGUN, DONE, MISSING, STALE, Item
from mlsel.validate.held_against import LAMMPS, stated_kind

if TYPE_CHECKING:
    from mlsel.study.study import Study


def items(study: Study, folder: Path) -> list[Item]:
    """Return the snapshot, the runs and the verdicts, and their states."""
    from mlsel.validate.runs import run_names
    from mlsel.validate.verdict import read_verdicts

    kind = stated_kind(study)
    if not kind:
        has_runs = study.validation.models or study.validation.potentials
        return (
            [Item("verdicts.csv", MISSING, "validation.reference is not set")] if has_runs else []
        )
    place = StudyFolder(folder)
    names = run_names(study, folder)
    runs = [
        Item(name, *_state_of(study, place, name), part, "validate")
        for part, name in enumerate(names, 1)
    ]
    judged: set[str] = set()
    if place.validation_record.is_file() and place.verdicts.is_file():
        known = read_verdicts(place.verdicts) or {"verdicts": []}
        judged = {str(verdict["name"]) for verdict in known["verdicts"]}
    state = DONE if {*names} <= judged else BEGUN if judged else MISSING
    verdicts = Item("verdicts.csv", state, f"{len(judged)} runs", script="report")
    # A frame of the pool is there as soon as the pool is, its bounds when the data sets are.
    needs = () if kind == LAMMPS else ("generate", "import", "select")
    start = Item("start", *_state_of_start(study, place), needs=needs)
    return [start, *runs, verdicts]


def _state_of_start(study: Study, place: StudyFolder) -> tuple[str, str]:
    from mlsel.validate.snapshot import record_of, settings_of_runs
    from mlsel.validate.start import density_run

    changed = record_of(place).differences({"validation": settings_of_runs(study)})
    if changed:
        return STALE, told(changed)
    if place.start.is_file():
        if place.validation_record.is_file():
            return DONE, ""
        return BEGUN, "nothing says what it was made from; validate makes it anew"
    if stated_kind(study) != LAMMPS:
        return MISSING, ""
    state, text = state_of_run(density_run(study, place.root))
    return (BEGUN if state == DONE else state), text


def _state_of(study: Study, place: StudyFolder, name: str) -> tuple[str, str]:
    """Return the state of a run, and how far it is in a few words."""
    from mlsel.training.core import model_digest
    from mlsel.validate.schedule import Schedule

    here, model = place.validation / name, place.model(name) / MODEL
    kind = read_json(model)["kind"] if model.is_file() else name
    record = here / "run.json"
    made_of = read_json(record)["potential"] if record.is_file() else ""
    if made_of and model.is_file() and made_of != model_digest(model.parent):
        return STALE, f"the model changed; --again drives it anew ({here})"
    if (here / "results.h5").is_file():
        if not record.is_file():
            return BEGUN, "nothing says what it was made from; validate makes it anew"
        failure = here / "failure.json"
        if failure.is_file():
            return DONE, f"LAMMPS ended it: {json.loads(failure.read_text())['message']}"
        return DONE, ""
    length = study.validation.durations.get(kind, study.validation.duration)
    total = Schedule.of(study, length).total
    step = last_checkpoint(here)
    return (BEGUN, f"{step / total:.0%} of {total} steps") if step else (MISSING, "")
