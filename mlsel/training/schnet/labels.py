"""The labels that a SchNet is trained on: their references, their sums, their hash."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mlsel.core.errors import MlselError
from mlsel.core.provenance import digest
from mlsel.training.frames import Frames, reference_energies

LARGEST_DIFFERENCE = 1e-3
"""eV/atom: atomic energies whose sum is farther from the energy are of something else."""


def references(frames: Sequence[Frames], use_atomic_energies: bool) -> dict[int, float]:
    """Return what is taken off an atom's energy, eV, for each element.

    Where the energies of the atoms are learnt, their means; else `reference_energies`.

    Raises
    ------
    MlselError
        If the atomic energies of a frame don't add up to its energy.
    """
    if not use_atomic_energies:
        return reference_energies(frames)
    sums: dict[int, list[float]] = {}
    for part in frames:
        assert part.atomic_energies is not None and part.energy is not None
        total = part.atomic_energies.sum(1)
        wrong = np.abs(total - part.energy) / part.n_atoms
        worst = int(np.argmax(wrong))
        if not wrong[worst] <= LARGEST_DIFFERENCE:
            raise MlselError(
                f"The atomic energies of a training frame add up to {total[worst]:.6g} eV where "
                f"its energy is {part.energy[worst]:.6g} eV: they belong to different "
                "calculations. Set training.schnet.atomic_energy_weight to 0, or label the frames "
                "anew."
            )
        for z in np.unique(part.numbers).tolist():
            own = part.atomic_energies[:, part.numbers == z]
            found = sums.setdefault(z, [0.0, 0.0])
            found[0] += float(own.sum())
            found[1] += own.size
    return {z: round(total / n, 9) for z, (total, n) in sorted(sums.items())}


def check(frames: Sequence[Frames], labels: Mapping[str, str]) -> None:
    """Raise MlselError unless all frames have these labels; each has the key that asks for it."""
    for label, key in labels.items():
        if any(getattr(part, label) is None for part in frames):
            more = " (one that is periodic in all directions)" if label == "virial" else ""
            raise MlselError(
                f"{key} is above 0, and some training frames have no {label}{more}: set it to 0, "
                "or leave these frames out."
            )


def fingerprint(frames: Sequence[Frames], more: Iterable[str]) -> list[str]:
    """Return hashes of what is trained on: energies, forces, and the labels of `more`."""
    names = ("numbers", "positions", "cell", "energy", "forces", *more)
    return [
        digest(b"".join(np.ascontiguousarray(getattr(part, name)).tobytes() for name in names))
        for part in frames
    ]
