"""TOML as users write it, to plain values; whatever is wrong with it is one sentence."""

from __future__ import annotations

import codecs
import tomllib
from pathlib import Path
from typing import Any

from mlsel.core.errors import MlselError

MAX_BYTES = 65_536
"""Of a study file: a preset has two thousand."""
MAX_DEPTH = 8
"""Of keys in keys: a study has three."""
UTF_16_32 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file.

    Raises
    ------
    MlselError
        If it can't be read, is too long for a study, no UTF-8 or no TOML.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MlselError(f"{path} can't be read: {error.strerror}.") from None
    if len(data) > MAX_BYTES:
        raise MlselError(
            f"{path} has more than {MAX_BYTES} bytes: that is no study file, which is a short "
            "text in TOML."
        )
    if data.startswith(UTF_16_32):
        raise MlselError(
            f"{path} is UTF-16 or UTF-32 (by its first bytes), and TOML is UTF-8: save it as UTF-8."
        )
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MlselError(
            f"{path} is not UTF-8: line {line} has the byte 0x{data[error.start]:02x}. Save it as "
            "UTF-8."
        ) from None
    return parse_toml(text, str(path))


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """Return the values of a TOML text; `source` is named where it is wrong.

    >>> parse_toml("a.b = 1", "mine.toml")
    {'a': {'b': 1}}
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MlselError(f"{source} is not valid TOML: {error}.") from None
    except ValueError:  # Python's limit on the digits of a number
        raise MlselError(f"{source} has a number of thousands of digits.") from None
    except RecursionError:
        raise MlselError(f"{source} has brackets nested too deeply.") from None
    if _is_deeper(values, MAX_DEPTH):
        raise MlselError(f"{source} has tables or lists nested more than {MAX_DEPTH} deep.")
    return values


def _is_deeper(value: Any, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (depth < 0) or any(_is_deeper(x, depth - 1) for x in inner)
