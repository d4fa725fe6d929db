#!/usr/bin/env python3
"""A C++ compiler that compiles nothing twice: mutants change one file of the plugins' thirty.

Called as the compiler is. MLSEL_MUTANTS_COMPILER names the real one, MLSEL_MUTANTS_OBJECTS the
folder of what was compiled, by a hash of the arguments, the sources and what they include.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

INCLUDED = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def closure(sources: Sequence[Path]) -> list[Path]:
    """Return sources and all files beside them that they include."""
    found, waiting = dict.fromkeys(sources), list(sources)
    while waiting:
        path = waiting.pop()
        for name in INCLUDED.findall(path.read_text(encoding="utf-8")):
            one = path.with_name(name)
            if one.is_file() and one not in found:
                found[one] = None
                waiting.append(one)
    return sorted(found)


def key(words: Sequence[str]) -> str:
    """Return what decides a compilation, "" where objects are linked."""
    sources = [Path(word) for word in words if word.endswith(".cpp")]
    if not sources or any(word.endswith(".o") for word in words[: words.index("-o")]):
        return ""
    told = [word for k, word in enumerate(words) if word != "-o" and words[k - 1] != "-o"]
    parts = [Path(word).name if word.endswith(".cpp") else word for word in told]
    parts += [text for path in closure(sources) for text in (path.name, path.read_text("utf-8"))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def main(words: Sequence[str]) -> int:
    command = [os.environ["MLSEL_MUTANTS_COMPILER"], *words]
    name = key(words) if "-o" in words else ""
    if not name:
        return subprocess.call(command)
    output = Path(words[words.index("-o") + 1])
    kept = Path(os.environ["MLSEL_MUTANTS_OBJECTS"], name)
    if kept.is_file():
        shutil.copyfile(kept, output)
        return 0
    status = subprocess.call(command)
    if status == 0:
        shutil.copyfile(output, partial := kept.with_suffix(f".{os.getpid()}"))
        partial.replace(kept)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
