"""Reading the tables that the stage wrote: each row whole, and a number where one belongs."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from mlsel.core.errors import MlselError, shortened

TEXTS = ("dataset", "model", "kind", "part", "element", "quantity", "unit", "family", "first",
         "second", "measure", "smaller")  # fmt: skip
"""Columns that hold words; all others hold numbers, nan where one is not known."""
ERRORS = (*TEXTS[:7], "n", "max", "rmse", "mae")
"""What errors.csv has had from the first version on."""


def read_table(
    path: Path, needed: Sequence[str] = (), made_by: str = "mlsel evaluate"
) -> list[dict[str, str]]:
    """Return the rows of a table, none where the file is empty.

    Parameters
    ----------
    needed : sequence of str
        Columns that must be there.
    made_by : str
        The command that makes it anew.

    Raises
    ------
    MlselError
        If the file is damaged: by line and column.
    """

    def damaged(what: str) -> MlselError:
        return MlselError(
            f"{path} is damaged ({shortened(what, 160)}): remove it and give `{made_by}` again."
        )

    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = list(reader.fieldnames or ())
            rows = list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise damaged(str(error)) from None
    lacking = [name for name in needed if name not in columns]
    if columns and (lacking or len(set(columns)) < len(columns)):
        raise damaged(f"it lacks the column {lacking[0]}" if lacking else "a column stands twice")
    for place, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise damaged(f"row {place} has another number of columns than the first line")
        for column, value in row.items():
            if column not in TEXTS and not _is_number(value):
                raise damaged(f"row {place} has {value!r} as its {column}, which is no number")
            if column in ("dataset", "model", "family") and not value:
                raise damaged(f"row {place} has no {column}")
        if "n" in row and not row["n"].isdecimal():
            raise damaged(f"row {place} has {row['n']!r} as its n, which is no count")
    return rows


def _is_number(text: str) -> bool:
    try:
        return not math.isinf(float(text))
    except ValueError:
        return False
