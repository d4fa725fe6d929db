"""Change one critical line at a time, and see whether the tests that must notice it fail.

    python -m tests.mutants.run            all mutants (many minutes)
    python -m tests.mutants.run --only NAME
    python -m tests.mutants.run --list

First the tests must pass as they are. Then a line a mutant: killed, or SURVIVES. The exit status is
1 if one survives that is not known to, if one is killed that is marked as a survivor, or if a
mutant's text no longer stands in its file once. The change is made in a copy of the tree in a
temporary folder.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mlsel.core import native
from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
LIMIT = 600
"""s of processor time, for each process of a mutant's tests: one that goes round in a circle is
noticed, however busy the machine is."""
PATIENCE = 3600.0
"""s, after which tests that wait for something are given up."""
KILLED, SURVIVES, BROKEN = "killed", "SURVIVES", "BROKEN"
FAILED = 1
"""pytest's exit status where tests ran and some failed; others are no tests, or no such file."""


def problem(mutant: Mutant, root: Path = ROOT) -> str:
    """Return why a mutant can't be tried, "" if it can."""
    path = root / mutant.file
    if not path.is_file():
        return f"there is no {mutant.file}"
    n = path.read_text(encoding="utf-8").count(mutant.text)
    if n != 1:
        return f"its text stands in {mutant.file} {n} times"
    return ""


def copy_tree(target: Path) -> None:
    """Copy what git has or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def tried(mutant: Mutant, tree: Path) -> tuple[str, str]:
    """Return what became of a mutant, and the last line that pytest wrote."""
    wrong = problem(mutant, tree)
    if wrong:
        return BROKEN, wrong
    path = tree / mutant.file
    original = path.read_text(encoding="utf-8")
    path.write_text(original.replace(mutant.text, mutant.becomes), encoding="utf-8")
    settings = build_settings(mutant, tree)
    try:
        if (
            settings
            and path.is_relative_to(tree / "mlsel/plugins")
            and build_plugins(tree, settings)
        ):
            return BROKEN, "it does not compile"
        status, last = run_tests(mutant.tests, tree, settings, PATIENCE)
    except subprocess.TimeoutExpired:
        return KILLED, "the tests do not end"
    finally:
        path.write_text(original, encoding="utf-8")
    if status == 0:
        return SURVIVES, last
    if status == -signal.SIGXCPU:
        return KILLED, "the tests do not end"
    return (KILLED if status == FAILED else BROKEN), last


def build_settings(mutant: Mutant, tree: Path) -> dict[str, str]:
    """Return the environment in which changed C++ is built: for this mutant alone, since nobody
    else can use it, and from what was compiled for others as far as that is the same."""
    if Path(mutant.file).suffix not in (".cpp", ".h"):
        return {}
    objects = tree / ".objects"
    objects.mkdir(exist_ok=True)
    return {
        native.CACHE_VARIABLE: str(tree / ".builds" / mutant.name),
        "CXX": str(Path(__file__).with_name("cached_compiler.py")),
        "MLSEL_MUTANTS_COMPILER": native.Compiler.find().path,
        "MLSEL_MUTANTS_OBJECTS": str(objects),
    }


def build_plugins(tree: Path, settings: Mapping[str, str]) -> int:
    """Build the pair styles, so that the time that takes is not the tests'; return the status."""
    command = [sys.executable, "-m", "mlsel.plugins", "build"]
    environment = {**os.environ, "PYTHONPATH": str(tree), **settings}
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True).returncode


def run_tests(
    tests: Iterable[str], tree: Path, environment: Mapping[str, str], patience: float | None = None
) -> tuple[int, str]:
    """Return pytest's exit status, and the last line that it wrote."""
    limit = (LIMIT, LIMIT) if patience else (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=patience,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, limit),
    )
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or [""]
    return done.returncode, lines[-1]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.run", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--list", action="store_true", help="list the mutants and end")
    args = parser.parse_args(argv)
    unknown = set(args.only or ()) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"no mutant {', '.join(sorted(unknown))}: see --list")
    chosen = [mutant for mutant in MUTANTS if not args.only or mutant.name in args.only]
    if args.list:
        for mutant in chosen:
            print(f"{mutant.name:28} {mutant.file}: {mutant.wrong}")
        return 0
    n_bad = 0
    with tempfile.TemporaryDirectory(prefix="mlsel-mutants-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        status, told = run_tests(dict.fromkeys(t for m in chosen for t in m.tests), tree, {})
        if status:
            print(f"the tests fail where nothing was changed: {told}")
            return 1
        for mutant in chosen:
            state, told = tried(mutant, tree)
            expected = SURVIVES if mutant.survives else KILLED
            n_bad += state != expected
            known = f" (known: {mutant.survives})" if mutant.survives else ""
            print(f"{state:9} {mutant.name:28} {mutant.wrong}{known} [{told}]", flush=True)
    print(f"{len(chosen)} mutants, {n_bad} otherwise than the table says")
    return int(n_bad > 0)


if __name__ == "__main__":
    sys.exit(main())
