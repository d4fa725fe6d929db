"""The section [evaluation]: what the models are measured on."""

from __future__ import annotations

from dataclasses import dataclass

from mlsel.study.schema import quantity

OF_PART = "part:"


@dataclass(frozen=True)
class EvaluationSection:
    """What the models are measured on."""

    test: str = quantity(
        "",
        doc='the path of a data set, or "part:NAME" for the test set of a part of the study; '
        '"": the study\'s own, data/test.h5',
    )
    probe: bool = quantity(
        False, doc="push two atoms together, too, as `mlsel evaluate --probe` does"
    )

    @property
    def part(self) -> str:
        """The part whose test set it is, "" for none."""
        return self.test.removeprefix(OF_PART) if self.test.startswith(OF_PART) else ""
