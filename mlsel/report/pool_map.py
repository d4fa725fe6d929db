"""The map of the pool: its frames in two dimensions, and which of them each method chose.

Frames are placed by the two leading principal components of their radial descriptors (mean and
standard deviation over the atoms of each element), the same that `fps` and `entropy` look at.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.errors import MlselError
from mlsel.pool.pool import Pool
from mlsel.report import page
from mlsel.selection.figure import colours_of
from mlsel.study.folder import StudyFolder
from mlsel.study.seeds import family

MOST_FRAMES = 20_000
"""Of a larger pool so many, evenly spaced, beside those that were chosen: the page stays small."""
MOST_SETS = 12
STRUCTURES = 300_000
"""Bytes of positions at most that the page holds, so that a click shows a structure."""
CUTOFF = 6.0
"""Å, of the descriptor."""
PROPERTIES = {
    "energy": "energy per atom / eV",
    "force": "largest |F| / eV Å⁻¹",
    "volume": "volume per atom / Å³",
}
STEPS = 65535
"""Numbers go as 16 bits between the least and the largest."""


@dataclass(frozen=True)
class Map:
    """Frames of a pool on a plane.

    Attributes
    ----------
    frame_ids : int64, (n,), rising
    places : (n, 2)
        Principal components.
    shares : (2,)
        Of the descriptors' variance.
    properties : by name of PROPERTIES, (n,)
    """

    frame_ids: IntArray
    places: FloatArray
    shares: FloatArray
    properties: Mapping[str, FloatArray]

    @classmethod
    def of(cls, pool: Pool, chosen: IntArray) -> Map:
        """Place frames: all, or so many of a large pool beside the chosen ones."""
        from mlsel.selection.base import Task
        from mlsel.selection.descriptors.features import frame_features

        n = len(pool)
        some = np.unique(np.linspace(0, n - 1, min(n, MOST_FRAMES)).astype(np.int64))
        ids = np.union1d(some, chosen)
        eligible = np.zeros(n, dtype=bool)
        eligible[ids] = True
        task = Task(pool, len(ids), eligible, np.random.default_rng(0))
        places, shares = components(frame_features(task, "radial", CUTOFF))
        return cls(ids, places, shares, _properties(pool, ids))


def components(features: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the two leading principal components and their shares of the variance.

    The sign is such that the largest weight is positive.

    Examples
    --------
    >>> places, shares = components([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]])
    >>> places.round(3).tolist(), shares.round(3).tolist()
    ([[-2.236, 0.0], [0.0, 0.0], [2.236, 0.0]], [1.0, 0.0])
    """
    rows = np.asarray(features, np.float64)
    rows = rows - rows.mean(axis=0)
    if rows.shape[1] < 2:
        rows = np.hstack([rows, np.zeros((len(rows), 2 - rows.shape[1]))])
    values, vectors = np.linalg.eigh(rows.T @ rows)
    order = np.argsort(-values, kind="stable")[:2]
    axes = vectors[:, order]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    total = max(float(values.sum()), np.finfo(float).tiny)
    return rows @ axes, np.clip(values[order], 0, None) / total


def _properties(pool: Pool, ids: IntArray) -> dict[str, FloatArray]:
    fields = ["cell", *(f for f in ("energy", "forces") if f in pool.fields)]
    found = {name: np.full(len(ids), np.nan) for name in PROPERTIES}
    for block in pool.blocks(*fields, frame_ids=ids):
        at = np.searchsorted(ids, block.frame_ids)
        n = block.run.n_atoms
        if "energy" in block.fields:
            found["energy"][at] = block["energy"] / n
        if "forces" in block.fields:
            found["force"][at] = np.linalg.norm(block["forces"], axis=2).max(axis=1)
        if all(pool.periodic(block.run)):
            found["volume"][at] = np.abs(np.linalg.det(block["cell"])) / n
    return {name: values for name, values in found.items() if np.isfinite(values).all()}


def pool_map(folder: Path) -> list[str]:
    """Return the section; none where there is no pool or no data set of it."""
    place = StudyFolder(folder)
    if not place.pool.is_file():
        return []
    with Pool(place.pool) as pool:
        sets = _chosen(place, pool)
        if not sets or not len(pool):
            return []
        head = page.heading("Map of the pool")
        try:
            found = Map.of(pool, np.unique(np.concatenate(list(sets.values()))))
        except MlselError as error:
            return [head, page.paragraph(f"The map could not be made: {error}")]
        told = _as_dict(pool, found, sets)
    n, of = len(found.frame_ids), told["n_frames"]
    shown = f"all {of}" if n == of else f"{n} of {of}"
    return [
        head,
        page.paragraph(
            f"Frames of the pool ({shown}) by the two leading components of their radial "
            f"descriptors ({found.shares[0]:.0%} and {found.shares[1]:.0%} of the variance): "
            "shaded where there are many, dots where a method chose. The bars are shares of the "
            "frames, the pool's in grey. Choose methods; a click on the map tells the frame."
        ),
        _html(told),
    ]


def _chosen(place: StudyFolder, pool: Pool) -> dict[str, IntArray]:
    """The frames of this pool that each data set holds; sets of the first seed first."""
    found = {}
    names = sorted(place.data_sets(), key=lambda name: family(name)[1])
    for name in names[:MOST_SETS]:
        with Pool(place.data_set(name)) as data:
            is_of_it = data.attributes.get("pool_digest") in (None, pool.digest)
            if is_of_it and "source_frame" in data.fields:
                found[name] = np.asarray(data.values("source_frame"), np.int64)
    return found


def _as_dict(pool: Pool, found: Map, sets: Mapping[str, IntArray]) -> dict[str, Any]:
    """What the script draws."""
    from ase.data import chemical_symbols
    from matplotlib.colors import to_hex

    run_of, row_of = pool.locate(found.frame_ids)
    colours = colours_of(list(sets))
    compositions = []
    for run in pool.runs:
        numbers, counts = np.unique(pool.numbers(run), return_counts=True)
        words = [f"{n} {chemical_symbols[z]}" for z, n in zip(numbers, counts, strict=True)]
        compositions.append(" ".join(words))
    return {
        "n_frames": len(pool),
        "frames": _integers(found.frame_ids),
        "runs": [run.name for run in pool.runs],
        "compositions": compositions,
        "run": _integers(run_of),
        "row": _integers(row_of),
        "x": _numbers(found.places[:, 0]),
        "y": _numbers(found.places[:, 1]),
        "properties": [
            {"head": PROPERTIES[name], **_numbers(values)}
            for name, values in found.properties.items()
        ],
        "sets": [
            {
                "name": name,
                "colour": to_hex(colours[name]),
                "shown": family(name)[1] == 1,
                "places": _integers(np.searchsorted(found.frame_ids, np.sort(frames))),
            }
            for name, frames in sets.items()
        ],
        "structures": _structures(pool, sets),
    }


def _structures(pool: Pool, sets: Mapping[str, IntArray]) -> dict[str, Any]:
    """Positions of the first chosen frames of each set, as many as the page may hold."""
    from ase.data import chemical_symbols, covalent_radii
    from ase.data.colors import jmol_colors

    found: dict[str, Any] = {}
    left = STRUCTURES
    longest = max(len(frames) for frames in sets.values())
    order = [int(frames[k]) for k in range(longest) for frames in sets.values() if k < len(frames)]
    for frame in dict.fromkeys(order):
        (run_index,), _ = pool.locate([frame])
        run = pool.runs[run_index]
        left -= 8 * run.n_atoms
        if left < 0:
            break
        (block,) = pool.blocks("positions", "cell", frame_ids=np.array([frame]))
        positions, cell = block["positions"][0], np.asarray(block["cell"][0], float)
        if all(pool.periodic(run)):
            scaled = np.linalg.solve(cell.T, np.asarray(positions, float).T).T
            positions = (scaled - np.floor(scaled)) @ cell
        middle = positions.mean(axis=0)
        size = max(float(np.abs(positions - middle).max()), 1e-6)
        whole = np.round((positions - middle) / size * 32767).astype("<i2")
        text = base64.b64encode(whole.tobytes()).decode("ascii")
        found[str(frame)] = {"size": round(size, 4), "at": text}
    elements = sorted({int(z) for run in pool.runs for z in pool.numbers(run)})
    place_of = {z: k for k, z in enumerate(elements)}
    return {
        "frames": found,
        "elements": [
            {
                "name": chemical_symbols[z],
                "radius": round(float(covalent_radii[z]), 2),
                "colour": "#" + "".join(f"{round(255 * c):02x}" for c in jmol_colors[z]),
            }
            for z in elements
        ],
        "kinds": [
            base64.b64encode(bytes(place_of[int(z)] for z in pool.numbers(run))).decode("ascii")
            for run in pool.runs
        ],
    }


def _numbers(values: FloatArray) -> dict[str, Any]:
    """Numbers as 16 bits between their least and largest."""
    low, high = float(values.min()), float(values.max())
    scaled = np.round((values - low) / ((high - low) or 1.0) * STEPS).astype("<u2")
    return {
        "low": low,
        "high": high,
        "of": base64.b64encode(scaled.tobytes()).decode("ascii"),
    }


def _integers(values: IntArray) -> str:
    return base64.b64encode(np.asarray(values).astype("<u4").tobytes()).decode("ascii")


def _html(told: Mapping[str, Any]) -> str:
    data = json.dumps(told, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    bars = "".join(
        f'<canvas class="bars" role="img" aria-label="distribution of {escape(one["head"])}">'
        "</canvas>"
        for one in told["properties"]
    )
    return (
        '<div class="toggles" id="sets"></div><div class="map"><div>'
        '<canvas class="plot" role="img" aria-label="map of the pool"></canvas>'
        '<p class="told" aria-live="polite">Click on the map to see a frame.</p></div>'
        f'<div>{bars}<canvas class="structure" role="img" aria-label="structure of the frame" '
        "hidden></canvas></div></div>"
        f'<script type="application/json" id="pool-map">{data}</script>'
    )
