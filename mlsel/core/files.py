"""How a product is finished: written under a temporary name, and renamed when it is whole.

So its final name is the only sign of completion: a killed job leaves nothing that looks finished.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial"


def partial_path(path: Path) -> Path:
    """Return the temporary name of a product: hidden, beside it, and without its suffix.

    >>> partial_path(Path("runs/a/run.h5")).name
    '.run.h5.partial'
    """
    return path.with_name(f".{path.name}{PARTIAL}")


def publish(partial: Path, path: Path) -> None:
    """Give a finished temporary file its final name, durably."""
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(path)


@contextmanager
def finishing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` if the block succeeds and vanishes if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    try:
        yield partial
        publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file by rename."""
    with finishing(path) as partial:
        partial.write_text(text, encoding="utf-8")


FORMAT = 1
"""Of the files that mlsel writes; one without `format_version` is of version 1."""


def write_json(path: Path, value: Any) -> None:
    """Write JSON by rename, keys in the order given; an object says its format_version."""
    if isinstance(value, dict):
        value = {"format_version": FORMAT, **value}
    write_text(path, json.dumps(value, indent=2) + "\n")
