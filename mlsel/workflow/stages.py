"""The stages of a study, in order: the one place where a stage is entered."""

from __future__ import annotations

from mlsel.study.stage import Stage

STAGES = (
    Stage(
        "generate",
        "make the pool: MD runs through LAMMPS",
        "mlsel.generate",
        "generate",
        {"generate": ()},
    ),
    Stage(
        "selection",
        "choose the data sets from the pool",
        "mlsel.selection.stage",
        "select_study",
        {"select": ("generate",)},
    ),
    Stage(
        "training",
        "train every model on every data set",
        "mlsel.training.stage",
        "train_study",
        {"train": ("generate", "select")},
        "models",
        "mlsel.training.state",
    ),
    Stage(
        "evaluate",
        "measure every model's errors on the test set",
        "mlsel.evaluate.stage",
        "evaluate",
        {"evaluate": ("generate", "select", "train")},
        "evaluation",
        "mlsel.evaluate.state",
    ),
    Stage(
        "validate",
        "drive large MD with trained potentials",
        "mlsel.validate.stage",
        "validate",
        {"start": (), "validate": ("generate", "select", "train", "start")},
        "validation",
        "mlsel.validate.state",
    ),
    Stage(
        "report",
        "write figures, tables and verdicts on one page",
        "mlsel.report.stage",
        "report",
        {"report": ("generate", "select", "train", "evaluate", "start", "validate")},
    ),
)
