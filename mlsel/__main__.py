"""`mlsel COMMAND …`: the same as `python -m mlsel.COMMAND …`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from mlsel import __version__
from mlsel.cli import run_main
from mlsel.core.errors import MlselError, nearest
from mlsel.workflow.stages import STAGES

COMMANDS = {
    **{stage.name: (stage.command, stage.summary) for stage in STAGES},
    "run": ("mlsel.run", "do all stages in order"),
}
TOOLS = {
    "status": ("mlsel.workflow.status", "tell what of a study is done, and what is missing"),
    "slurm": ("mlsel.workflow.slurm", "submit a study to Slurm, a job a stage"),
    "info": ("mlsel.pool.info", "print what a pool holds"),
    "pack": ("mlsel.pool.export_command", "copy a pool of many files into one"),
    "import": ("mlsel.pool.import_command", "make a pool from other people's trajectories"),
    "check": ("mlsel.check", "tell what in a pool may be wrong"),
    "export": ("mlsel.pool.export_command", "write a pool for other programs"),
    "label": ("mlsel.refine.label", "give frames energies and forces, by LAMMPS or ASE"),
    "predict": ("mlsel.training.predict_command", "write the forces of models on a pool's frames"),
    "figure": ("mlsel.figure", "draw a figure"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Pass the arguments on to the command's module."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in ("--version", "-V"):
        print(f"mlsel {__version__}")
        return 0
    if not words or words[0] in ("--help", "-h"):
        print(_usage())
        return 0
    name, *rest = words
    commands = COMMANDS | TOOLS
    if name not in commands:
        raise MlselError(
            f"there is no command {name}{nearest(name, commands)}: "
            f"the commands are {', '.join(commands)}."
        )
    module = import_module(commands[name][0])
    function = getattr(module, f"{name}_main", None) or module.main
    code: int = function(rest)
    return code


def _usage() -> str:
    lines = [
        "mlsel: which configurations should a machine-learned potential be trained on?",
        "",
        "usage: mlsel COMMAND [STUDY] [-o DIR] …      (mlsel COMMAND --help tells the rest)",
    ]
    for title, commands in (("stages", COMMANDS), ("tools", TOOLS)):
        lines += ["", f"{title}:"]
        lines += [f"  {name:10} {text}" for name, (_, text) in commands.items()]
    return "\n".join(lines)


def console() -> int:
    """Be the entry point `mlsel`."""
    return run_main(main)


if __name__ == "__main__":
    sys.exit(run_main(main))
