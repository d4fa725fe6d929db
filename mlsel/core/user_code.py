"""A user's own code, which makes models or labels: a hash by which an edit is noticed."""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from mlsel.core.provenance import digest, file_digest

_IMPORTED: dict[str, tuple[ModuleType, str]] = {}


def code_digest(name: str) -> str:
    """Return a hash of a module's file and of the files beside it that it imports, and these.

    What is beside it lies in the folder that holds its topmost package; of a module that is
    installed, only the module's own file counts. A module that was imported is what it was when
    this was first asked: whoever imports one asks at once, so that an edit after that is no edit
    of what runs.

    Parameters
    ----------
    name : str
        Dotted. Only the packages that it lies in are imported.

    Returns
    -------
    str
        "" where there is no such file here.
    """
    module = sys.modules.get(name)
    if module is not None and name in _IMPORTED and _IMPORTED[name][0] is module:
        return _IMPORTED[name][1]
    path = _file_of(name)
    found = "" if path is None else _digest(path, path.parents[name.count(".") + _is_package(path)])
    if module is not None:
        _IMPORTED[name] = module, found
    return found


def _file_of(name: str) -> Path | None:
    try:
        spec = find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    return Path(spec.origin).resolve()


def _is_package(path: Path) -> bool:
    return path.name == "__init__.py"


def _digest(path: Path, root: Path) -> str:
    installed = {
        Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "purelib", "platlib")
    }
    if installed & {root, *root.parents}:
        return file_digest(path)
    known: dict[Path, str] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in known:
            known[file] = file_digest(file)
            waiting += _imported(file, root)
    return digest({str(file.relative_to(root)): of for file, of in known.items()})


def _imported(path: Path, root: Path) -> Iterator[Path]:
    """Yield the files below `root` that a file imports; mlsel itself is none of a user's."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # compiled, or not Python
        return
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            here = path.relative_to(root).parts[: -node.level] if node.level else ()
            within = ".".join([*here, *([node.module] if node.module else [])])
            names = [f"{within}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            for n in range(1, len(parts) + 1 if parts[0] != "mlsel" else 0):
                place = root.joinpath(*parts[:n])
                yield from (
                    file
                    for file in (place.with_name(f"{place.name}.py"), place / "__init__.py")
                    if file.is_file()
                )
