"""The states of a study's MD with trained potentials, read from its folder."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.core.errors import MlselError
from mlsel.core.provenance import differing_keys
from mlsel.core.record import Record, read_json, told
from mlsel.md.state import last_checkpoint, state_of_run
from mlsel.study.folder import MODEL, StudyFolder
from mlsel.study.stage import BEGUN, DONE, MISSING, STALE, Item
from mlsel.validate.held_against import LAMMPS, stated_kind

if TYPE_CHECKING:
    from mlsel.study.study import Study


def items(study: Study, folder: Path) -> list[Item]:
    """Return the snapshot, the runs and the verdicts, and their states."""
    from mlsel.validate.judgement import judged_by
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
    known: dict[str, Any] = {}
    if place.validation_record.is_file() and place.verdicts.is_file():
        known = read_verdicts(place.verdicts) or {"verdicts": []}
        judged = {str(verdict["name"]) for verdict in known["verdicts"]}
    state = DONE if {*names} <= judged else BEGUN if judged else MISSING
    text = f"{len(judged)} runs"
    now = judged_by(study, kind)
    changed = differing_keys(known.get("judged_by", now), now)  # an earlier mlsel didn't say
    if judged and changed:
        state, text = BEGUN, f"{told(changed)}: `mlsel validate` judges anew"
    verdicts = Item("verdicts.csv", state, text, script="report")
    # A frame of the pool is there as soon as the pool is, its bounds when the data sets are.
    needs = () if kind == LAMMPS else ("generate", "import", "select")
    start = Item("start", *_state_of_start(study, place), needs=needs)
    return [start, *runs, verdicts]


def _state_of_start(study: Study, place: StudyFolder) -> tuple[str, str]:
    from mlsel.validate.snapshot import made_from_of, record_of, settings_of_runs
    from mlsel.validate.start import density_run

    made_from = {"validation": settings_of_runs(study)}
    with suppress(MlselError):  # what else decides it may not be here
        made_from = made_from_of(study, place)
    changed = record_of(place).differences(made_from)
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


def _made_from(
    study: Study, place: StudyFolder, name: str, length: float, record: Record
) -> dict[str, Any]:
    """What decides a run beside the settings of the stage, of that what is known without opening a
    model: `ValidationRun.identity`."""
    from mlsel.core.provenance import digest
    from mlsel.md.deck import files_since, read_potential
    from mlsel.training.description import model_digest
    from mlsel.validate.nvt_run import seed_of
    from mlsel.validate.runs import reference_names
    from mlsel.validate.start import reference_potential
    from mlsel.validate.uncertainty import committee_of

    section, model = study.validation, place.model(name)
    known: dict[str, Any] = {"seed": seed_of(name, section.seed)}
    if name in reference_names(study):
        known["duration"] = section.duration
        with suppress(MlselError):  # a folder that was copied, without the include
            text = reference_potential(study)
            known |= {"potential": digest(text.encode()), **files_since(text, record)}
    elif name in section.potentials:
        known["duration"] = length
        with suppress(MlselError):
            text = read_potential(section.potentials[name], study.system.species)
            known |= {"potential": digest(text.encode()), **files_since(text, record)}
    elif (model / MODEL).is_file():
        committee = committee_of(model) if section.watch else ()
        known |= {
            "duration": length,
            "potential": model_digest(model),
            "watched_by": [path.name for path in committee],
        }
    return known


def _state_of(study: Study, place: StudyFolder, name: str) -> tuple[str, str]:
    """Return the state of a run, and how far it is in a few words."""
    from mlsel.validate.schedule import Schedule

    here, model = place.validation / name, place.model(name) / MODEL
    kind = read_json(model)["kind"] if model.is_file() else name
    length = study.validation.durations.get(kind, study.validation.duration)
    record = Record(here / "run.json", defaults={"watched_by": []})
    changed = record.differences(_made_from(study, place, name, length, record))
    if changed and changed[0].startswith("potential"):
        return STALE, f"the potential changed; --again drives it anew ({here})"
    if changed:
        return STALE, told(changed)
    if (here / "results.h5").is_file():
        if not record.path.is_file():
            return BEGUN, "nothing says what it was made from; validate makes it anew"
        failure = here / "failure.json"
        if failure.is_file():
            return DONE, f"LAMMPS ended it: {json.loads(failure.read_text())['message']}"
        return DONE, ""
    total = Schedule.of(study, length).total
    step = last_checkpoint(here)
    return (BEGUN, f"{step / total:.0%} of {total} steps") if step else (MISSING, "")
