"""The order in which a study and its parts are done, here and on a cluster.

Parts whose test sets others are measured on come first, up to their data sets; then the study; then
its parts in the order of the file. The study's report is last: it tells of the parts' reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mlsel.study.parts import place_in_order
from mlsel.workflow.stages import IMPORT, STAGES, stages_of

if TYPE_CHECKING:
    from mlsel.study.parts import Member
    from mlsel.study.stage import Stage

SELECTION = "selection"


def in_order(group: Sequence[Member], until: str) -> Iterator[tuple[Member, list[Stage]]]:
    """Yield the study and its parts with stages of each, in the order in which they are done."""
    left = {one.study.part: stages_until(one, until) for one in group}

    def some(name: str, names: Sequence[str]) -> list[Stage]:
        taken = [stage for stage in left[name] if stage.name in names]
        left[name] = [stage for stage in left[name] if stage.name not in names]
        return taken

    to_select = [s.name for s in (IMPORT, *STAGES[: place_in_order(SELECTION) + 1])]
    tested = dict.fromkeys(name for one in group for name in one.test_parts())
    steps = [(one, to_select) for one in group if one.study.part in tested]
    all_names = [s.name for s in (IMPORT, *STAGES)]
    steps += [(one, all_names if one.study.part else all_names[:-1]) for one in group]
    steps.append((group[0], all_names))
    for one, names in steps:
        stages = some(one.study.part, names)
        if stages:
            yield one, stages


def stages_until(one: Member, until: str) -> list[Stage]:
    """The stages of the study or a part that a command does."""
    last = place_in_order(until)
    return [stage for stage in stages_of(one.study) if place_in_order(stage.name) <= last]
