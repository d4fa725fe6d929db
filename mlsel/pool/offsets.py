"""Sources whose energies have another zero: other pseudopotentials, another functional."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.errors import shortened

APART = 1.0
"""eV/atom. By judgement: more than phases and temperatures of one composition usually differ by."""
SIGMAS = 10.0
FEWEST = 8
"""Frames of a source, below which nothing is said."""
MAX_TOLD = 4


def offsets(
    energy: FloatArray,
    composition: IntArray,
    source: IntArray,
    names: Sequence[str],
    files: Sequence[str],
) -> list[str]:
    """Return a sentence for each source whose energies lie apart from those of the largest source
    of the same composition.

    Parameters
    ----------
    energy : (F,), eV/atom
        NaN where there is none.
    composition, source : int64, (F,)
    names : of the compositions
    files : of the sources

    Examples
    --------
    >>> energy, source = np.array([-3.3] * 9 + [-7.1] * 8), np.repeat([0, 1], [9, 8])
    >>> offsets(energy, np.zeros(17, int), source, ["Cu4"], ["pbe.xyz", "lda.xyz"])[0][:54]
    'energies of Cu4 in lda.xyz lie 3.8 eV/atom below those'
    """
    of_kind: dict[int, list[tuple[int, int, float, float]]] = defaultdict(list)
    known = np.flatnonzero(np.isfinite(energy) & (source >= 0) & (source < len(files)))
    order = known[np.lexsort((source[known], composition[known]))]
    keys = np.stack([composition[order], source[order]])
    ends = np.flatnonzero(np.diff(keys, axis=1).any(axis=0)) + 1
    for part in np.split(order, ends):
        if len(part) >= FEWEST:
            middle = float(np.median(energy[part]))
            width = 1.4826 * float(np.median(np.abs(energy[part] - middle)))
            summary = len(part), -int(source[part[0]]), middle, width
            of_kind[int(composition[part[0]])].append(summary)
    told = []
    for kind, parts in of_kind.items():
        _, first, middle, width = max(parts)
        for _, other, its_middle, its_width in parts:
            gap = its_middle - middle
            if abs(gap) > max(APART, SIGMAS * max(width, its_width)):
                here, there = (shortened(Path(files[-k]).name, 60) for k in (other, first))
                told.append(
                    f"energies of {names[kind]} in {here} lie {abs(gap):.3g} eV/atom "
                    f"{'above' if gap > 0 else 'below'} those in {there}: were they computed by "
                    "other settings?"
                )
    more = [f"the same {len(told) - MAX_TOLD} times more"] if len(told) > MAX_TOLD else []
    return told[:MAX_TOLD] + more
