"""What a product was made from, kept beside it: whether it is used, refused or made anew.

A product without its record is stale, and one that is made anew is taken away in one step, so that
a job that is killed at any moment leaves nothing that stands for something else.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlsel.core.errors import MlselError, shortened
from mlsel.core.files import FORMAT as FORMAT
from mlsel.core.files import write_json
from mlsel.core.provenance import differing_keys

log = logging.getLogger(__name__)

AGAIN = "Give --again to make it anew"
"""To a command that has the option."""


class Record:
    """A JSON file that says what a product was made from.

    Parameters
    ----------
    path : path
        The file.
    product : path, optional
        What it is of, for the messages: its folder unless said.
    defaults : mapping, optional
        The values that keys had before there were such keys: a file that lacks one was made with
        it.
    """

    def __init__(
        self, path: Path, product: Path | None = None, defaults: Mapping[str, Any] | None = None
    ) -> None:
        self.path = path
        self.product = product or path.parent
        self._defaults = defaults or {}

    def read(self) -> dict[str, Any] | None:
        """Return what is recorded, None if nothing is.

        Raises
        ------
        MlselError
            If the file is damaged or of a later version of mlsel.
        """
        if not self.path.is_file():
            return None
        return read_json(self.path)

    def write(self, made_from: Mapping[str, Any]) -> None:
        write_json(self.path, dict(made_from))

    def differences(self, made_from: Mapping[str, Any]) -> list[str]:
        """Return in which keys of `made_from` the record differs, none where there is no record."""
        recorded = self.read()
        return [] if recorded is None else differences(recorded, made_from, self._defaults)

    def settle(self, made_from: Mapping[str, Any], *, again: bool | None = None) -> bool:
        """Whether the product may be used: it is recorded, and made from the same.

        Where it is not, what lies there must be taken away before it is made.

        Parameters
        ----------
        made_from : mapping
            What decides the product now.
        again : bool, optional
            Whether a product made from something else is to be made anew; None where the command
            has no --again.

        Raises
        ------
        MlselError
            If it was made from something else, and `again` is not true.
        """
        try:
            recorded = self.read()
        except MlselError as error:
            if not again:
                raise
            log.info("%s is made anew: %s", self.product, error)
            return False
        if recorded is None:
            return False
        return settle(self.product, recorded, made_from, again=again, defaults=self._defaults)


def settle(
    product: Path,
    recorded: Mapping[str, Any],
    made_from: Mapping[str, Any],
    *,
    again: bool | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> bool:
    """Like `Record.settle`, of a record that was read from somewhere else."""
    changed = differences(recorded, made_from, defaults or {})
    if not changed:
        return True
    text = told(changed)
    if not again:
        option = "" if again is None else f"{AGAIN}, "
        choose = "choose" if option else "Choose"
        raise MlselError(
            f"{product} was made otherwise than the study now says: {text}. {option}{choose} "
            "another folder with -o, or set these keys back."
        )
    log.info("%s is made anew: %s", product, text)
    return False


def told(changed: Sequence[str]) -> str:
    """Return differences in a sentence: the first of them, and not too long.

    >>> told(["a (1 there, 2 now)", "b", "c", "d"])
    'a (1 there, 2 now); b; c; …'
    """
    return shortened("; ".join(changed[:3]) + ("; …" if len(changed) > 3 else ""), 200)


def differences(
    recorded: Mapping[str, Any], made_from: Mapping[str, Any], defaults: Mapping[str, Any]
) -> list[str]:
    """Return in which keys of `made_from` a record differs, in words.

    >>> differences({"format_version": 1, "pool": {}}, {"pool": {"seed": 1}}, {"pool": {"seed": 1}})
    []
    """
    known = {key: recorded[key] for key in made_from if key in recorded}
    return differing_keys(_filled(known, made_from, defaults), made_from)


def _filled(value: Any, now: Any, default: Any) -> Any:
    """Return a record with the defaults of keys that it lacks and there now are."""
    if not all(isinstance(x, Mapping) for x in (value, now, default)):
        return value
    lacking = {key: default[key] for key in now if key in default and key not in value}
    known = {key: _filled(inner, now.get(key), default.get(key)) for key, inner in value.items()}
    return {**known, **lacking}


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object that mlsel wrote, without its format_version.

    Raises
    ------
    MlselError
        If the file is damaged or of a later version of mlsel.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        version = value.pop("format_version", 1)
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise MlselError(
            f"{path} is damaged: it is no JSON object. Remove it, or what lies beside it, too, and "
            "give the same command again."
        ) from None
    check_format(path, version)
    return dict(value)


@contextmanager
def shape_told(path: Path, remedy: str) -> Iterator[None]:
    """Turn what comes of a record of another shape than ours into a sentence.

    Parameters
    ----------
    remedy : what to do, without a full stop
    """
    try:
        yield
    except (
        KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError
    ) as error:  # fmt: skip
        found = shortened(f"{type(error).__name__}: {error}", 80)
        raise MlselError(f"{path} is damaged ({found}): {remedy}.") from None


def check_format(path: Path, version: Any) -> None:
    """Refuse a file whose format_version is another than those that are read."""
    if version != FORMAT:
        raise MlselError(
            f"{path} has format_version {shortened(str(version), 20)}, and this mlsel reads "
            f"{FORMAT}: a later version wrote it."
        )
