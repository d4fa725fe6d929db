"""Errors of a round's model on the study's test set, kept with the test set that they are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlsel.core.record import read_json, shape_told
from mlsel.pool.pool import Pool

ERRORS = "errors.json"


@dataclass(frozen=True)
class Errors:
    """Errors of a round's model on the study's test set.

    Attributes
    ----------
    rmse, max : eV/Å
        Of force components.
    n_frames : of the test set, that it was measured on
    test : digest of the test set; "" of an earlier mlsel, which didn't say
    """

    rmse: float
    max: float
    n_frames: int
    test: str

    @classmethod
    def read(cls, path: Path, test: Path) -> Errors | None:
        """Read errors.json; None where there is none, or it is of another test set than is here.

        Raises
        ------
        MlselError
            If it is damaged.
        """
        if not path.is_file():
            return None
        value: Mapping[str, Any] = read_json(path)
        with shape_told(path, "remove it and give `mlsel refine` again"):
            found = cls(
                float(value["rmse"]),
                float(value["max"]),
                int(value["n_frames"]),
                str(value.get("test", "")),
            )
        return found if found.test == (digest_of(test) or found.test) else None


def digest_of(test: Path) -> str:
    """Return the digest of a test set, "" where there is none, or one without frames."""
    if not test.is_file():
        return ""
    with Pool(test) as pool:
        return pool.digest if len(pool) else ""
