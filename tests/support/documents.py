"""Code blocks of a Markdown document, run as they stand there, one after the other in one folder.

A block whose fence has a title (```toml title="lif.toml") becomes that file; a block of sh is given
to bash, one of python to Python.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support import environment

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r'^```(\w+)(?: title="(\S+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block: its language, its title ("" for none) and its text."""

    language: str
    title: str
    text: str


def code_blocks(document: Path, heading: str = "") -> list[CodeBlock]:
    """Return the blocks of a document, or of its section with this heading."""
    text = document.read_text(encoding="utf-8")
    if heading:
        marks = heading.split()[0]
        _, found, text = text.partition(f"\n{heading}\n")
        assert found, f"{document} has no heading {heading}"
        text = re.split(rf"^#{{1,{len(marks)}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]
    return [CodeBlock(*block) for block in _BLOCK.findall(text)]


def run_blocks(blocks: list[CodeBlock], place: Path) -> str:
    """Run blocks in a folder, with the tree under test as mlsel; return what they printed."""
    programs = place / "bin"
    programs.mkdir(exist_ok=True)
    for name, words in (("python", ""), ("mlsel", "-m mlsel")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        program.chmod(0o755)
    known = environment()
    known["PATH"] = f"{programs}:{Path(sys.executable).parent}:{known['PATH']}"
    known["PYTHONPATH"] = f"{ROOT}:{known.get('PYTHONPATH', '')}"
    printed = ""
    for block in blocks:
        if block.title:
            (place / block.title).write_text(block.text, encoding="utf-8")
            continue
        if block.language not in ("sh", "python"):
            continue
        program_of = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
        done = subprocess.run(
            [*program_of[block.language], block.text],
            cwd=place, env=known, capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, f"{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        printed += done.stdout
    return printed
