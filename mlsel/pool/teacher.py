"""Atomic energies that a trained model gave frames whose own labels have none: a teacher's.

They are there to be selected by, and are no labels: their sum is the model's energy, not the
frame's. The attribute `atomic_energies_from` of /parameters says so, in a pool and in what is
chosen from it; what would take them for labels asks `teacher_of` first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlsel.pool.pool import Pool

ATTRIBUTE = "atomic_energies_from"


def teacher_of(pool: Pool) -> str:
    """Return the model that a pool's atomic energies are of; "" where they are labels, or none."""
    return str(pool.attributes.get(ATTRIBUTE, ""))


def stamp_of(pool: Pool) -> dict[str, str]:
    """Return what a file of frames of this pool must say of its atomic energies."""
    teacher = teacher_of(pool)
    return {ATTRIBUTE: teacher} if teacher else {}
