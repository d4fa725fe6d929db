"""What made a product: versions, hashes, seeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def digest(value: Any) -> str:
    """Return a hash (32 hex digits) of bytes, or of the canonical JSON of anything else.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    if not isinstance(value, bytes):
        value = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.blake2b(value, digest_size=16).hexdigest()


def derived_seed(seed: int, *labels: object) -> int:
    """Return a seed in 1 … 900 000 000 − 1 (LAMMPS's range) for a named part of a study.

    It depends on the study's seed and the labels alone, not on how many parts there are or in
    which order they are done.

    >>> derived_seed(1, "run", "a") == derived_seed(1, "run", "b")
    False
    """
    return 1 + int(digest([seed, *map(str, labels)]), 16) % 899_999_999


def versions(*packages: str) -> dict[str, str]:
    """Return the installed versions of mlsel and of the packages named."""
    from importlib.metadata import version

    from mlsel.core.version import __version__

    return {"mlsel": __version__, **{name: version(name) for name in packages}}


def differing_keys(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted keys in which two nested mappings differ, each with both values.

    >>> differing_keys({"pool": {"seed": 1}}, {"pool": {"seed": 2}})
    ['pool.seed (1 there, 2 now)']
    """
    found: list[str] = []
    for key in [*old, *(key for key in new if key not in old)]:
        there, now = old.get(key), new.get(key)
        if isinstance(there, Mapping) and isinstance(now, Mapping):
            found += differing_keys(there, now, f"{prefix}{key}.")
        elif there != now:
            found.append(f"{prefix}{key} ({_short(there)} there, {_short(now)} now)")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:24]}…{text[-15:]}"


def file_digest(path: Path) -> str:
    """Return the hash of a file's bytes, as `digest` of them."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
