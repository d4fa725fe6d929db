"""The file of a GAP as QUIP reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from mlsel.core.arrays import FloatArray
from mlsel.core.files import creating_text
from mlsel.core.provenance import digest
from mlsel.training.gap.covariances import VERSION, text_of
from mlsel.training.gap.terms import SparsePoints, Term

SQUARED_EXPONENTIAL, DOT_PRODUCT = 1, 2
"""QUIP's numbers of covariances."""
SLICE = 50
"""Numbers of a sparse point that stand together, where it has more."""
N_ELEMENTS = 118


def write_gap(
    path: Path,
    terms: Sequence[Term],
    sparse: Sequence[SparsePoints],
    weights: Sequence[FloatArray],
    references: Mapping[int, float],
) -> str:
    """Write a GAP; return its label, which its content decides.

    Parameters
    ----------
    path : Path
    terms : sequence of Term
    sparse : sequence of SparsePoints
        Of each term.
    weights : sequence of float64 arrays (n)
        The sparse points' α.
    references : mapping of atomic number to energy
        eV; e0.
    """
    content = [
        [VERSION, *(f"{z} {e!r}" for z, e in references.items())],
        [digest(term.line.encode()) for term in terms],
        *([digest(np.ascontiguousarray(x).tobytes()) for x in (one.points, one.cutoffs, alpha)]
          for one, alpha in zip(sparse, weights, strict=True)),
    ]  # fmt: skip
    label = f"GAP_{digest(content)[:16]}"
    with creating_text(path) as file:
        file.write(
            f'<{label}>\n<Potential label="{label}" init_args="IP GAP label={label}"/>\n'
            f'<GAP_params label="{label}" gap_version="{VERSION}">\n<GAP_data do_core="F">\n'
        )
        for z in range(1, N_ELEMENTS + 1):
            file.write(f'<e0 Z="{z}" value="{references.get(z, 0.0)!r}"/>\n')
        file.write(
            f'</GAP_data>\n<gpSparse label="{label}" n_coordinate="{len(terms)}" fitted="T">\n'
        )
        for k, (term, one, alpha) in enumerate(zip(terms, sparse, weights, strict=True), 1):
            _write_coordinates(file, f"{label}{k}", term, one, alpha)
        file.write(f"</gpSparse>\n</GAP_params>\n</{label}>\n")
    return label


def _write_coordinates(
    file: IO[str], label: str, term: Term, sparse: SparsePoints, weights: FloatArray
) -> None:
    # a number a line: QUIP's reader loses blanks where its buffer ends, and joins two numbers
    n, n_dimensions = sparse.points.shape
    kind = (
        f'covariance_type="{SQUARED_EXPONENTIAL}"'
        if term.is_pair
        else f'covariance_type="{DOT_PRODUCT}" zeta="{term.zeta!r}"'
    )
    file.write(
        f'<gpCoordinates label="{label}" dimensions="{n_dimensions}" '
        f'signal_variance="{term.delta!r}" signal_mean="0.0" sparsified="T" n_permutations="1" '
        f'{kind} n_sparseX="{n}">\n'
    )
    if term.is_pair:
        file.write(f"<theta>{term.theta!r} </theta>\n")
    file.write(f'<descriptor>{term.line}</descriptor>\n<permutation i="1">1 </permutation>\n')
    for i in range(n):
        head = (
            f'<sparseX i="{i + 1}" alpha="{float(weights[i])!r}" '
            f'sparseCutoff="{float(sparse.cutoffs[i])!r}"'
        )
        point = sparse.points[i]
        if n_dimensions <= SLICE:
            file.write(f"{head}>{text_of(point)}</sparseX>\n")
            continue
        file.write(f'{head} sliced="T">\n')
        for start in range(0, n_dimensions, SLICE):
            piece = point[start : start + SLICE]
            file.write(
                f'<sparseX_slice start="{start + 1}" end="{start + len(piece)}">'
                f"{text_of(piece)}</sparseX_slice>\n"
            )
        file.write("</sparseX>\n")
    file.write("</gpCoordinates>\n")
