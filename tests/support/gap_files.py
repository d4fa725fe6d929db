"""GAP files without a fit: sparse points taken from configurations, weights by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

VERSION = 1600000000
"""Of GAP: what the file's numbers mean has changed over the years."""
PAPER = {"n_max": 8, "l_max": 6, "atom_sigma": 0.825, "cutoff": 6.5, "cutoff_transition_width": 0.5}
"""The paper's Table 3."""
SMALL = {"n_max": 4, "l_max": 3, "atom_sigma": 0.6, "cutoff": 4.0, "cutoff_transition_width": 0.5}


def lines(numbers: Any) -> str:
    """A number a line: QUIP's reader loses blanks where its buffer ends, and joins two numbers."""
    return "".join(f"{x:.17e}\n" for x in numbers)


def write_gap(
    path: Path,
    frames: Sequence[Any],
    options: Mapping[str, Any] = SMALL,
    *,
    numbers: Sequence[int] = (11, 17),
    n_sparse: int = 12,
    zeta: float = 4.0,
    delta: float = 1.0,
    version: int | None = VERSION,
    separate: bool = False,
    scale: float = 1.0,
    seed: int = 1,
    pairs: Mapping[str, Any] | None = None,
) -> Path:
    """Write a GAP: one SOAP for each element, that sees all of them, and perhaps a distance_2b for
    each pair of elements.

    Parameters
    ----------
    path : Path
    frames : ASE's Atoms
        Where the sparse points come from.
    options : mapping
        Words of the descriptors beside species.
    zeta, delta, version, separate
        As in the file; `separate` writes the sparse points beside it.
    scale : float
        Of the random weights.
    pairs : mapping, optional
        Words of the distance_2b beside the elements; theta (Å) and any_element, for one term over
        all pairs, stand among them.
    """
    from quippy.descriptors import Descriptor

    rng = np.random.default_rng(seed)
    label = "GAP_test"
    species = f"n_species={len(numbers)} species_Z={{{' '.join(map(str, numbers))}}}"
    coordinates = []
    for k, number in enumerate(numbers, 1):
        words = " ".join(f"{key}={value}" for key, value in options.items())
        soap = f"soap {words} Z={number} {species}"
        describe = Descriptor(soap)
        with_it = [atoms for atoms in frames if number in atoms.numbers]
        found = np.concatenate([describe.calc_descriptor(atoms) for atoms in with_it])
        points = found[rng.choice(len(found), n_sparse, replace=len(found) < n_sparse)]
        alphas = scale * rng.standard_normal(n_sparse) / np.sqrt(n_sparse)
        cutoffs = rng.uniform(0.5, 1.0, n_sparse)
        name = f"{path.name}.sparseX.{label}{k}"
        coordinates.append(
            f'<gpCoordinates label="{label}{k}" dimensions="{points.shape[1]}" '
            f'signal_variance="{delta}" signal_mean="0.0" sparsified="T" n_permutations="1" '
            f'covariance_type="2" zeta="{zeta}" n_sparseX="{n_sparse}"'
            + (f' sparseX_filename="{name}"' if separate else "")
            + f">\n<descriptor>{soap} zeta={zeta} delta={delta} n_sparse={n_sparse} "
            "covariance_type=dot_product</descriptor>\n"
            '<permutation i="1">1 </permutation>'
        )
        for i in range(n_sparse):
            head = f'<sparseX i="{i + 1}" alpha="{alphas[i]:.17e}" sparseCutoff="{cutoffs[i]:.17e}"'
            if separate:
                coordinates.append(f"{head}/>")
                continue
            coordinates.append(f'{head} sliced="T">')
            for start in range(0, points.shape[1], 50):
                piece = points[i, start : start + 50]
                coordinates.append(
                    f'<sparseX_slice start="{start + 1}" end="{start + len(piece)}">'
                    f"{lines(piece)}</sparseX_slice>"
                )
            coordinates.append("</sparseX>")
        coordinates.append("</gpCoordinates>")
        if separate:
            path.with_name(name).write_text(lines(points.ravel()), encoding="utf-8")
    extra, n_terms = dict(pairs or {}), len(numbers)
    theta, elements = extra.pop("theta", 1.0), list(combinations_with_replacement(numbers, 2))
    if extra.pop("any_element", False):
        elements = [(0, 0)]
    for a, b in elements if pairs is not None else []:
        n_terms += 1
        name = f"{label}{n_terms}"
        line = " ".join(f"{key}={value}" for key, value in extra.items())
        line = f"distance_2b {line} covariance_type=ard_se theta_uniform={theta}"
        if a:
            line += f" Z1={a} Z2={b}"
        coordinates.append(
            f'<gpCoordinates label="{name}" dimensions="1" signal_variance="0.7" signal_mean="0.0" '
            f'sparsified="T" n_permutations="1" covariance_type="1" n_sparseX="{n_sparse}">\n'
            f"<theta> {theta} </theta>\n<descriptor>{line}</descriptor>\n"
            '<permutation i="1">1 </permutation>'
        )
        for i, r in enumerate(np.linspace(1.5, 4.0, n_sparse)):
            coordinates.append(
                f'<sparseX i="{i + 1}" alpha="{scale * rng.standard_normal():.17e}" '
                f'sparseCutoff="{rng.uniform(0.5, 1.0):.17e}" sliced="T">'
                f'<sparseX_slice start="1" end="1">{lines([r])}</sparseX_slice></sparseX>'
            )
        coordinates.append("</gpCoordinates>")
    e0 = "".join(
        f'<e0 Z="{z}" value="{-1.0 - 0.1 * z if z in numbers else 0.0!r}"/>\n'
        for z in range(1, len(chemical_symbols))
    )
    path.write_text(
        f'<{label}>\n<Potential label="{label}" init_args="IP GAP label={label}"/>\n'
        f'<GAP_params label="{label}"'
        + (f' gap_version="{version}"' if version is not None else "")
        + f'>\n<GAP_data do_core="F">\n{e0}</GAP_data>\n'
        f'<gpSparse label="{label}" n_coordinate="{n_terms}" fitted="T">\n'
        + "\n".join(coordinates)
        + f"\n</gpSparse>\n</GAP_params>\n</{label}>\n",
        encoding="utf-8",
    )
    return path
