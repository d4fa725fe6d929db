"""GAP files without a fit: sparse points taken from configurations, weights by chance."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mlsel.training.gap.terms import SparsePoints

VERSION = 1600000000
"""Of GAP: what the file's numbers mean has changed over the years."""
LABEL = "GAP_test"
PAPER = {"n_max": 8, "l_max": 6, "atom_sigma": 0.825, "cutoff": 6.5, "cutoff_transition_width": 0.5}
"""The paper's Table 3."""
SMALL = {"n_max": 4, "l_max": 3, "atom_sigma": 0.6, "cutoff": 4.0, "cutoff_transition_width": 0.5}


def lines(numbers: Any) -> str:
    """A number a line: QUIP's reader loses blanks where its buffer ends, and joins two numbers."""
    return "".join(f"{x:.17e}\n" for x in numbers)


@dataclass(frozen=True)
class Term:
    """A descriptor and its kernel.

    Attributes
    ----------
    line : str
        The descriptor's words.
    attributes : dict
        Of <gpCoordinates>: covariance_type (1 is ard_se, 2 dot_product, 4 pp), zeta, and others.
    theta : sequence of float
        The kernel's widths, one a dimension.
    delta, mean : float
    points : array, optional
        (n, n_dimensions) sparse points; else they come from the configurations.
    """

    line: str
    attributes: Mapping[str, Any] = field(default_factory=lambda: {"covariance_type": 1})
    theta: Sequence[float] = ()
    delta: float = 0.7
    mean: float = 0.0
    points: Any = None


def words(options: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())


def soap(number: int, numbers: Sequence[int], zeta: float, delta: float, **options: Any) -> Term:
    """The SOAP of one element that sees all of them."""
    species = f"n_species={len(numbers)} species_Z={{{' '.join(map(str, numbers))}}}"
    line = f"soap {words(options)} Z={number} {species} zeta={zeta} delta={delta}"
    attributes = {"covariance_type": 2, "zeta": zeta}
    return Term(f"{line} covariance_type=dot_product", attributes, delta=delta)


def distance_2b(
    numbers: Sequence[int], theta: float = 1.0, n: int = 12, **options: Any
) -> list[Term]:
    """One for each pair of elements; of no numbers, one over all."""
    pairs = [f"Z1={a} Z2={b}" for a, b in combinations_with_replacement(numbers, 2)] or [""]
    points = np.linspace(1.5, 4.0, n)[:, None]
    return [
        Term(f"distance_2b {words(options)} {pair}", theta=[theta], points=points) for pair in pairs
    ]


def angle_3b(
    numbers: Sequence[int], theta: Sequence[float] = (1.2, 0.9, 0.8), **options: Any
) -> list[Term]:
    """One for each element and pair of neighbours'; of no numbers, one over all."""
    triplets = [
        f"Z={c} Z1={a} Z2={b}"
        for c in numbers
        for a, b in combinations_with_replacement(numbers, 2)
    ] or [""]
    return [
        Term(f"angle_3b {words(options)} {triplet}", theta=theta, delta=0.1) for triplet in triplets
    ]


def distance_nb(
    elements: Sequence[Sequence[int]], theta: float = 1.0, kernel: int = 1, **options: Any
) -> list[Term]:
    """One for each list of elements, of the order of their number."""
    return [
        Term(
            f"distance_Nb order={len(z)} {words(options)} Z={{{' '.join(map(str, z))}}}",
            {"covariance_type": kernel},
            theta=[theta] * (len(z) * (len(z) - 1) // 2),
            delta=0.2,
        )
        for z in elements
    ]


def glue(numbers: Sequence[int] = (11, 17), label: str = "") -> str:
    """<Glue_params>: pair potentials, densities as a spline and as a cube, embedding functions."""
    r = np.linspace(0.5, 3.6, 9)
    text = [f'<Glue_params n_types="{len(numbers)}"' + (f' label="{label}">' if label else ">")]
    for k, z in enumerate(numbers, 1):
        text.append(
            f'<per_type_data atomic_num="{z}" type="{k}">\n'
            f'<density num_points="9" density_y1="-0.2" density_yn="0.0"'
            + (' do_spline="T">' if k == 1 else ">")
        )
        text += [f'<point a="{x}" rho="{0.1 * k * (3.6 - x) ** 3}"/>' for x in r]
        text.append('</density>\n<potential_density num_points="9">')
        text += [f'<point rho="{x}" E="{-0.3 * np.sqrt(x)}"/>' for x in np.linspace(0, 2, 9)]
        text.append("</potential_density>\n</per_type_data>")
    for a, b in combinations_with_replacement(range(1, len(numbers) + 1), 2):
        text.append(
            f'<per_pair_data type1="{a}" type2="{b}">\n<potential_pair num_points="9" '
            f'y1="{"1e50" if a == b else -1.5}" yn="0.0">'
        )
        text += [f'<point r="{x}" E="{(a + b) * (3.6 - x) ** 4 / x}"/>' for x in r]
        text.append("</potential_pair>\n</per_pair_data>")
    return "\n".join([*text, "</Glue_params>\n"])


def stillinger_weber(numbers: Sequence[int] = (11, 17)) -> str:
    """<SW_params>, the same for all elements."""
    text = [f'<SW_params n_types="{len(numbers)}" label="sw">']
    text += [f'<per_type_data type="{k}" atomic_num="{z}"/>' for k, z in enumerate(numbers, 1)]
    for a, b in combinations_with_replacement(numbers, 2):
        text.append(
            f'<per_pair_data atnum_i="{a}" atnum_j="{b}" AA="7.05" BB="0.6" p="4" q="0" a="1.8" '
            'sigma="2.1" eps="0.5"/>'
        )
        text += [
            f'<per_triplet_data atnum_c="{c}" atnum_j="{a}" atnum_k="{b}" lambda="21.0" '
            'gamma="1.2" eps="0.5"/>'
            for c in numbers
        ]
    return "\n".join([*text, "</SW_params>\n"])


TURBO = {
    "l_max": 3, "alpha_max": "{3 3}", "atom_sigma_r": "{0.5 0.4}", "atom_sigma_t": "{0.5 0.6}",
    "atom_sigma_r_scaling": "{0.1 0.05}", "atom_sigma_t_scaling": "{0.1 0.0}", "rcut_hard": 4.0,
    "rcut_soft": 3.5, "nf": 8.0, "basis": "poly3gauss", "scaling_mode": "polynomial",
    "amplitude_scaling": "{1.0 2.0}", "radial_enhancement": 1, "central_weight": "{1.0 0.5}",
    "compress_mode": "trivial", "n_species": 2, "species_Z": "{11 17}",
}  # fmt: skip
"""With nf = 8 QUIP's own forces are the slopes of its energies; with 4, the default, not quite."""


def soap_turbo(**options: Any) -> list[Term]:
    """A soap_turbo for each of both species, or for those that `central_index` names."""
    centres = [options.pop("central_index")] if "central_index" in options else [1, 2]
    line = f"soap_turbo {words({**TURBO, **options})} zeta=4 covariance_type=dot_product"
    attributes = {"covariance_type": 2, "zeta": 4.0}
    return [Term(f"{line} central_index={one}", attributes) for one in centres]


def forget_turbo_basis() -> None:
    """QUIP before 2026 keeps soap_turbo's radial functions until another number of them is asked
    for, whatever else has changed."""
    from ase import Atoms
    from quippy.descriptors import Descriptor

    Descriptor(
        "soap_turbo l_max=0 alpha_max=1 atom_sigma=0.5 rcut_hard=3 rcut_soft=2.5 species_Z=1"
    ).calc_descriptor(Atoms("H"))


def other_soaps(numbers: Sequence[int] = (11, 17)) -> list[Term]:
    """soap_turbo, and SOAPs, one of them with radial functions that QUIP's library alone
    evaluates."""
    species = f"n_species=2 species_Z={{{numbers[0]} {numbers[1]}}}"
    small = f"soap n_max=3 l_max=3 atom_sigma=0.6 cutoff=4.0 Z={numbers[0]} {species}"
    lines = [f"{small} nu_R=2 nu_S=0", f"{small} radial_basis=GTO"]
    return [
        *soap_turbo(central_index=1),
        *(Term(line, {"covariance_type": 2, "zeta": 4.0}) for line in lines),
    ]


def mixed_soaps(how: Sequence[tuple[int, str]], **options: Any) -> list[Term]:
    """SOAPs of an element with channels mixed by chance, as some words say."""
    return [
        Term(
            f"soap {words({**SMALL, **options})} {one} Z={z} n_species=2 species_Z={{11 17}}",
            {"covariance_type": 2, "zeta": 4.0},
        )
        for z, one in how
    ]


MIXED = [
    (11, "R_mix=T Z_mix=T K=5 sym_mix=T"),
    (17, "R_mix=T Z_mix=T K=4"),
    (11, "R_mix=T K=2"),
    (17, "R_mix=T K=2 sym_mix=T"),
    (11, "Z_mix=T K=2 mix_shift=-300"),
    (17, "Z_mix=T K=2 sym_mix=T mix_shift=7"),
]


def write_gap(
    path: Path,
    frames: Sequence[Any],
    options: Mapping[str, Any] | None = SMALL,
    *,
    numbers: Sequence[int] = (11, 17),
    n_sparse: int = 12,
    zeta: float = 4.0,
    delta: float = 1.0,
    version: int | None = VERSION,
    separate: bool = False,
    scale: float = 1.0,
    seed: int = 1,
    soap_cutoffs: bool = True,
    terms: Sequence[Term] = (),
    core: str = "",
    core_init: str = "IP Glue",
) -> Path:
    """Write a GAP: one SOAP for each element, that sees all of them, and other terms.

    Parameters
    ----------
    path : Path
    frames : ASE's Atoms
        Where the sparse points come from; of none, they are made by chance.
    options : mapping, optional
        Words of the SOAPs beside species; None: no SOAP.
    zeta, delta, version, separate
        As in the file; `separate` writes the sparse points beside it.
    scale : float
        Of the random weights.
    soap_cutoffs : bool
        Sparse cutoffs of SOAPs by chance; in gap_fit's files they are 1.
    terms : sequence of Term
    core, core_init : str
        Parameters of a core potential, and its init string.
    """
    if any(term.line.startswith("soap_turbo") for term in terms):
        forget_turbo_basis()
    rng = np.random.default_rng(seed)
    all_terms = [] if options is None else [
        soap(number, numbers, zeta, delta, **options) for number in numbers
    ]  # fmt: skip
    all_terms += terms
    coordinates = [
        _coordinates(k, term, path, frames, n_sparse, scale, rng, separate, soap_cutoffs)
        for k, term in enumerate(all_terms, 1)
    ]
    e0 = "".join(
        f'<e0 Z="{z}" value="{-1.0 - 0.1 * z if z in numbers else 0.0!r}"/>\n'
        for z in range(1, len(chemical_symbols))
    )
    init = f"IP GAP label={LABEL}"
    if core:
        init = f"Sum init_args_pot1={{{core_init}}} init_args_pot2={{{init}}}"
    path.write_text(
        f'<{LABEL}>\n<Potential label="{LABEL}" init_args="{init}"/>\n'
        f'<GAP_params label="{LABEL}"'
        + (f' gap_version="{version}"' if version is not None else "")
        + f'>\n<GAP_data do_core="{"T" if core else "F"}">\n{e0}</GAP_data>\n'
        f'<gpSparse label="{LABEL}" n_coordinate="{len(all_terms)}" fitted="T">\n'
        + "\n".join(coordinates)
        + f"\n</gpSparse>\n</GAP_params>\n{core}</{LABEL}>\n",
        encoding="utf-8",
    )
    return path


def sparse_points_of(path: Path) -> list[SparsePoints]:
    """The sparse points of each term of a GAP file, with their cutoff functions."""
    found = []
    for term in ElementTree.parse(path).getroot().iter("gpCoordinates"):
        points = list(term.iter("sparseX"))
        found.append(
            SparsePoints(
                np.array([" ".join(one.itertext()).split() for one in points], float),
                np.array([one.get("sparseCutoff") for one in points], float),
            )
        )
    return found


def _coordinates(
    k: int,
    term: Term,
    path: Path,
    frames: Sequence[Any],
    n_sparse: int,
    scale: float,
    rng: np.random.Generator,
    separate: bool,
    soap_cutoffs: bool,
) -> str:
    """<gpCoordinates> of the k-th term."""
    from quippy.descriptors import Descriptor

    descriptor, points = Descriptor(term.line), term.points
    if points is None and not frames:
        points = rng.random((n_sparse, descriptor.n_dim))
    if points is None:
        found = np.concatenate(
            [x for x in map(descriptor.calc_descriptor, frames) if x.shape[0] and x.shape[1]]
        )
        points = found[rng.choice(len(found), n_sparse, replace=len(found) < n_sparse)]
    n_sparse, n_dimensions = points.shape
    alphas = scale * rng.standard_normal(n_sparse) / np.sqrt(n_sparse)
    cutoffs = rng.uniform(0.5, 1.0, n_sparse)
    if term.line.startswith("soap") and not soap_cutoffs:
        cutoffs[:] = 1.0
    permutations = descriptor.permutations()
    name = f"{path.name}.sparseX.{LABEL}{k}"
    attributes = {
        "label": f"{LABEL}{k}", "dimensions": n_dimensions, "signal_variance": term.delta,
        "signal_mean": term.mean, "sparsified": "T", "n_permutations": len(permutations),
        **term.attributes, "n_sparseX": n_sparse,
    }  # fmt: skip
    if separate:
        attributes["sparseX_filename"] = name
        path.with_name(name).write_text(lines(points.ravel()), encoding="utf-8")
    text = [
        "<gpCoordinates " + " ".join(f'{key}="{value}"' for key, value in attributes.items()) + ">"
    ]
    if term.theta:
        text.append(f"<theta>{' '.join(map(repr, term.theta))} </theta>")
    text.append(f"<descriptor>{term.line}</descriptor>")
    for i, permutation in enumerate(permutations, 1):
        text.append(f'<permutation i="{i}">{" ".join(map(str, permutation))} </permutation>')
    for i in range(n_sparse):
        head = f'<sparseX i="{i + 1}" alpha="{alphas[i]:.17e}" sparseCutoff="{cutoffs[i]:.17e}"'
        if separate:
            text.append(f"{head}/>")
            continue
        if n_dimensions <= 50:
            text.append(f"{head}>{lines(points[i])}</sparseX>")
            continue
        text.append(f'{head} sliced="T">')
        for start in range(0, n_dimensions, 50):
            piece = points[i, start : start + 50]
            text.append(
                f'<sparseX_slice start="{start + 1}" end="{start + len(piece)}">'
                f"{lines(piece)}</sparseX_slice>"
            )
        text.append("</sparseX>")
    return "\n".join([*text, "</gpCoordinates>"])
