"""The stages of a study, in order: the one place where a stage is entered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlsel.study.parts import place_in_order
from mlsel.study.stage import Stage

if TYPE_CHECKING:
    from mlsel.study.study import Study

STAGES = (
    Stage(
        "generate",
        "make the pool: MD runs through LAMMPS",
        "mlsel.generate",
        "mlsel.generate",
        "generate",
        {"generate": ()},
    ),
    Stage(
        "selection",
        "choose the data sets from the pool",
        "mlsel.selection.command",
        "mlsel.selection.stage",
        "select_study",
        {"select": ("generate", "import")},
        state_module="mlsel.selection.state",
    ),
    Stage(
        "training",
        "train every model on every data set",
        "mlsel.training.command",
        "mlsel.training.stage",
        "train_study",
        {"train": ("generate", "import", "select")},
        "models",
        "mlsel.training.state",
    ),
    Stage(
        "evaluate",
        "measure every model's errors on the test set",
        "mlsel.evaluate.command",
        "mlsel.evaluate.stage",
        "evaluate",
        {"evaluate": ("generate", "import", "select", "train")},
        "evaluation",
        "mlsel.evaluate.state",
    ),
    Stage(
        "validate",
        "drive large MD with trained potentials",
        "mlsel.validate.command",
        "mlsel.validate.stage",
        "validate",
        {"start": ("import",), "validate": ("generate", "import", "select", "train", "start")},
        "validation",
        "mlsel.validate.state",
    ),
    Stage(
        "refine",
        "let MD find what the data lack, label and learn it",
        "mlsel.refine.stage",
        "mlsel.refine.stage",
        "refine_study",
        {"refine": ("generate", "import", "select", "train")},
        "refine",
        "mlsel.refine.state",
    ),
    Stage(
        "report",
        "write figures, tables and verdicts on one page",
        "mlsel.report.command",
        "mlsel.report.stage",
        "report",
        {
            "report": (
                "generate",
                "import",
                "select",
                "train",
                "evaluate",
                "start",
                "validate",
                "refine",
            )
        },
    ),
)

IMPORT = Stage(
    "import",
    "make the pool: files of frames",
    "mlsel.pool.import_command",
    "mlsel.pool.stage",
    "import_study",
    {"import": ()},
)
"""Takes the place of generate in a study of files."""


def stages_of(study: Study) -> tuple[Stage, ...]:
    """Return the stages of a study, in order, to the last that it asks for; refine where it names
    models."""
    stages = (IMPORT, *STAGES[1:]) if study.pool.import_ else STAGES
    last = place_in_order(study.until) if study.until else len(STAGES)
    return tuple(
        stage
        for stage in stages
        if place_in_order(stage.name) <= last and (stage.name != "refine" or study.refine.models)
    )
