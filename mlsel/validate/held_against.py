"""What a study's MD is held against: a reference potential, the pool's trajectories, or bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlsel.core.errors import MlselError

if TYPE_CHECKING:
    from mlsel.study.study import Study

AUTO, LAMMPS, POOL, NONE = "auto", "lammps", "pool", "none"
"""Values of validation.reference."""


def reference_kind(study: Study) -> str:
    """Return "lammps", "pool" or "none", "" where the study has nothing to be put to the test.

    A potential of the study is the reference unless it says otherwise.

    Raises
    ------
    MlselError
        If the study has models to be put to the test, no potential, and does not say what they
        are held against; or names the potential that it does not have.
    """
    kind = stated_kind(study)
    if kind == LAMMPS and not study.system.potential:
        raise MlselError(
            f'{study.source}: validation.reference is "lammps", but system.potential is not given: '
            'name one, or set validation.reference to "pool" or "none".',
            everywhere=True,
        )
    if kind or not (study.validation.models or study.validation.potentials):
        return kind
    raise MlselError(
        f"{study.source}: without a system.potential nothing says what MD is held against: set "
        'validation.reference = "pool" (the imported trajectories at validation.temperature) or '
        '"none" (stability and energy conservation alone); validation.models = [] asks for no MD.',
        everywhere=True,
    )


def stated_kind(study: Study) -> str:
    """Like `reference_kind`, but "" where the study does not say."""
    stated = study.validation.reference
    if stated == AUTO:
        return LAMMPS if study.system.potential else ""
    return stated
