"""The two-ion probe of a study's models.

    mlsel evaluate [STUDY] [-o DIR] --probe

writes DIR/evaluation/probe.csv, a row for each model and pair of species, and the figure probe.
Each model's probe is kept beside its errors and made once; the models are shared over ranks.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.files import write_json, write_text
from mlsel.core.parallel import on_root, share
from mlsel.core.plotting import save
from mlsel.core.provenance import digest
from mlsel.core.record import Record, shape_told
from mlsel.evaluate.models import Entry, find_models
from mlsel.evaluate.probe import Approach, Energies, Probe, approaches, judge
from mlsel.evaluate.tested_on import require_test_set
from mlsel.study.folder import StudyFolder

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.study.study import Study

log = logging.getLogger(__name__)

BOLTZMANN = 8.617333262e-5  # eV/K
COLUMNS = {
    "dataset": "",
    "model": "",
    "pair": "",
    "shortest": "Angstrom",
    "barrier": "eV",
    "barrier_over_kT": "",
    "hole": "eV",
    "error": "eV",
}
"""The columns of probe.csv and their units."""


@dataclass(frozen=True)
class Probed:
    """A model's probe: what it came to for each pair of species, and the first approach of each.

    Attributes
    ----------
    curves : eV, by pair
    """

    probes: Sequence[Probe]
    curves: Mapping[str, FloatArray]

    def write(self, path: Path, made_from: Mapping[str, Any]) -> None:
        """Keep it. Numbers are texts: JSON has none for what is no number, or infinite."""
        pairs = {
            probe.pair: {
                **{key: repr(float(getattr(probe, key))) for key in NUMBERS},
                "curve": [repr(float(value)) for value in self.curves[probe.pair]],
            }
            for probe in self.probes
        }
        write_json(path, {**made_from, "pairs": pairs})

    @classmethod
    def read(cls, path: Path, made_from: Mapping[str, Any]) -> Probed | None:
        """Read it; None where there is none, or it was made from something else.

        Raises
        ------
        MlselError
            If it is damaged.
        """
        known = Record(path).read()
        if known is None or any(known.get(key) != value for key, value in made_from.items()):
            return None
        with shape_told(path, "remove it and give `mlsel evaluate` again"):
            pairs = known["pairs"]
            probes = [
                Probe(pair, *(float(of[key]) for key in NUMBERS)) for pair, of in pairs.items()
            ]
            curves = {pair: np.array([float(x) for x in of["curve"]]) for pair, of in pairs.items()}
            return cls(probes, curves)


NUMBERS = ("shortest", "barrier", "hole", "error")


def product_of(entry: Entry) -> Path:
    """Where a model's probe is kept."""
    return entry.product.with_name(f"{entry.name}.probe.json")


def made_from(study: Study, folder: Path, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return what decides the table of a study's probes, where these are its models."""
    return {
        "models": {entry.title: entry.identity for entry in entries},  # and the test set
        "reference": _reference_digest(study, folder),
        "temperature": study.validation.temperature,
    }


def is_probed(study: Study, folder: Path, entries: Sequence[Entry]) -> bool:
    """Whether the table is there, of these models and the test set that they are entered for."""
    place = StudyFolder(folder)
    recorded = Record(place.probe_record).read()
    return place.probe.is_file() and recorded == made_from(study, folder, entries)


def probe_study(
    study: Study, folder: Path, comm: MPI.Intracomm, test: Path | None = None
) -> list[Path]:
    """Probe every finished model of a study's folder that was not; return the table and the figure.

    Raises
    ------
    MlselError
        If there is no test set or no finished model, or what they come from is stale.
    Stopped
        If a signal asked for it; models that are done are kept.
    """
    entries, made, missing = on_root(comm, lambda: _prepare(study, folder, test))
    by_pair: dict[str, list[Approach]] = {}
    for one in made:
        by_pair.setdefault(one.pair, []).append(one)
    of = {"reference": on_root(comm, lambda: _reference_digest(study, folder))}
    if missing:
        with _reference(study, folder) as reference:

            def work(index: int, *_: Any) -> None:
                entry = entries[index]
                found = _probed(entry, by_pair, reference)
                found.write(product_of(entry), {"identity": entry.identity, **of})

            share(comm, missing, work)
    return on_root(comm, lambda: _conclude(study, folder, entries, by_pair))


def _prepare(
    study: Study, folder: Path, test: Path | None
) -> tuple[list[Entry], list[Approach], list[int]]:
    """Return the models, the approaches, and which models are to be probed."""
    from mlsel.pool.pool import Pool
    from mlsel.training.state import require_models

    require_models(study, folder)
    test = require_test_set(study, folder, test)
    with Pool(test) as pool:
        entries = find_models(folder, pool.digest)
        made = approaches(pool)
    of = {"reference": _reference_digest(study, folder)}
    missing = [
        k
        for k, entry in enumerate(entries)
        if Probed.read(product_of(entry), {"identity": entry.identity, **of}) is None
    ]
    return entries, made, missing


def _probed(
    entry: Entry, by_pair: Mapping[str, Sequence[Approach]], reference: Energies | None
) -> Probed:
    from mlsel.training.registry import load_model

    energies = _of_model(load_model(entry.folder))
    return Probed(
        [judge(each, energies, reference) for each in by_pair.values()],
        {pair: each[0].energy(energies) for pair, each in by_pair.items()},
    )


def _conclude(
    study: Study,
    folder: Path,
    entries: Sequence[Entry],
    by_pair: Mapping[str, Sequence[Approach]],
) -> list[Path]:
    """Write the table, the figure, and what they were made from."""
    place, kT = StudyFolder(folder), BOLTZMANN * study.validation.temperature
    of = {"reference": _reference_digest(study, folder)}
    rows: list[dict[str, Any]] = []
    curves: dict[str, dict[str, FloatArray]] = {pair: {} for pair in by_pair}
    with _reference(study, folder) as reference:
        for pair, each in by_pair.items():
            if reference is not None:
                curves[pair]["reference"] = each[0].energy(reference)
    for entry in entries:
        known = Probed.read(product_of(entry), {"identity": entry.identity, **of})
        assert known is not None
        for found in known.probes:
            curves[found.pair][entry.title] = known.curves[found.pair]
            rows.append(
                {
                    "dataset": entry.dataset,
                    "model": entry.name,
                    "pair": found.pair,
                    "shortest": found.shortest,
                    "barrier": found.barrier,
                    "barrier_over_kT": found.barrier / kT,
                    "hole": found.hole,
                    "error": found.error,
                }
            )
            log.info(
                "%-40s %-6s rises by %.3g eV (%.3g kT) before it falls, hole %.3g eV",
                entry.title, found.pair, found.barrier, found.barrier / kT, found.hole,
            )  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
                     for row in rows)  # fmt: skip
    write_text(place.probe, text.getvalue())
    figure = _draw(curves, {pair: each[0] for pair, each in by_pair.items()},
                   place.evaluation / "probe")  # fmt: skip
    Record(place.probe_record).write(made_from(study, folder, entries))
    return [place.probe, *figure]


def _reference_text(study: Study, folder: Path) -> str:
    """The potential that made the pool, "" where none of the study's did."""
    from mlsel.md.deck import read_potential

    if not StudyFolder(folder).runs_record.is_file():
        return ""
    return read_potential(study.system.potential, study.system.species)


def _reference_digest(study: Study, folder: Path) -> str:
    return digest(_reference_text(study, folder).encode())


@contextmanager
def _reference(study: Study, folder: Path) -> Iterator[Energies | None]:
    """Yield the potential that made the pool, None where none of the study's did."""
    from mlsel.md.include import IncludePotential

    text, system = _reference_text(study, folder), study.system
    if not text:
        yield None
        return
    with IncludePotential(text, system.species, system.potential) as potential:
        yield lambda *frames: potential.evaluate(*frames).energy


def _of_model(model: Any) -> Energies:
    from mlsel.training.frames import Frames

    def energies(
        numbers: IntArray,
        positions: FloatArray,
        cells: FloatArray,
        periodic: tuple[bool, bool, bool],
    ) -> FloatArray:
        return np.asarray(model.predict(Frames(numbers, positions, cells, periodic)).energy)

    return energies


def _draw(
    curves: dict[str, dict[str, FloatArray]], of_pair: dict[str, Approach], output: Path
) -> list[Path]:
    """Draw the first approach of each pair of species."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}):
        figure, axes = plt.subplots(
            1, len(curves), figsize=(3.8 * len(curves), 3.8), layout="constrained", squeeze=False
        )
        for axis, (pair, by_model) in zip(axes[0], curves.items(), strict=True):
            one = of_pair[pair]
            for k, (name, energy) in enumerate(by_model.items()):
                is_reference = name == "reference"
                axis.plot(
                    one.distances,
                    energy,
                    color="black" if is_reference else f"C{k % 10}",
                    lw=2.0 if is_reference else 1.1,
                    label=name,
                )
            axis.axvline(one.shortest, color="0.7", lw=0.8, ls=":")
            axis.set_xlabel(f"{pair} distance / Å")
            axis.set_ylim(-4, 12)
        axes[0][0].set_ylabel("energy above the start / eV")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        figure.suptitle(
            "two atoms pushed together; dotted: the shortest distance in the test set", fontsize=10
        )
        made = save(figure, output)
        plt.close(figure)
    return made
