"""Stage 4: errors of every model on the common test set, and on each method's part of it.

    python -m mlsel.evaluate [STUDY] [-o DIR]

leaves in DIR/evaluation: errors.csv (Max, RMSE and MAE of forces, energies and, where test set and
model have virials, stresses, by model, part of the test set and element), summary.csv and
comparisons.csv (means over seeds with their standard errors, and paired differences between data
sets, of force components), worst.csv (the ten worst frames of each model), figure-2, and for each
model an HDF5 file of errors per frame with its parity plot. The test set is read in chunks, which
are shared over ranks and kept as they are done, so that an interrupted evaluation goes on.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from mlsel.cli import open_study, study_parser
from mlsel.core import stopping
from mlsel.core.errors import MlselError
from mlsel.core.files import FORMAT, DurableFile, creating, sweep_partials, write_text
from mlsel.core.hdf5_file import creating_hdf5
from mlsel.core.parallel import on_root, share, world
from mlsel.core.progress import Progress, duration
from mlsel.core.provenance import digest, versions
from mlsel.core.record import read_json, take_away
from mlsel.evaluate import seeds
from mlsel.evaluate.statistics import (
    ALL,
    ENERGY_QUANTITY,
    FORCE_QUANTITIES,
    STRESS_QUANTITY,
    FrameErrors,
    Summary,
    frame_errors,
    stress_errors,
)
from mlsel.pool.pool import Pool
from mlsel.study.folder import MODEL, StudyFolder
from mlsel.study.study import Study

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.training.base import TrainedModel

log = logging.getLogger(__name__)

PRODUCTS = ("weights.pt", "gap.xml", "pair.json", "baseline.json")
"""What a model is, beside its description; a model has some of them."""

CHUNK = 256
N_WORST = 10
N_BINS = 200
UNITS = {**dict.fromkeys(FORCE_QUANTITIES, "eV/Å"), ENERGY_QUANTITY: "eV/atom",
         STRESS_QUANTITY: "GPa"}  # fmt: skip
COLUMNS = ("dataset", "model", "kind", "part", "element", "quantity", "unit", "n", "max", "rmse",
           "mae")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage."""
    parser = study_parser("mlsel evaluate", "Measure every model's errors on the test set.")
    parser.add_argument(
        "--test", type=Path, metavar="FILE", help="a data set (default: DIR/data/test.h5)"
    )
    parser.add_argument(
        "--probe", action="store_true", help="push two atoms together instead: probe.csv, a figure"
    )
    args = parser.parse_args(argv)
    comm = world()
    study, folder = open_study(args, comm, needs_study=False)
    if args.probe:
        from mlsel.evaluate.probe import probe_study

        for path in on_root(comm, lambda: probe_study(study, folder, args.test)):
            if comm.rank == 0:
                print(path)
        return 0
    with stopping.heard():
        evaluate(study, folder, comm, args.test)
    return 0


@dataclass(frozen=True)
class Entry:
    """A trained model to be measured."""

    dataset: str
    name: str
    folder: Path
    product: Path
    """Errors per frame, HDF5."""
    identity: str
    """Hash of the model and the test set."""

    @property
    def title(self) -> str:
        return f"{self.dataset}/{self.name}"

    @property
    def chunks(self) -> Path:
        """Folder of what is done of it."""
        return self.product.with_suffix("")

    def chunk_path(self, chunk: int) -> Path:
        return self.chunks / f"{self.identity[:12]}-{chunk:05d}.npz"

    def stored_identity(self) -> str:
        """Return the identity that the product was made for."""
        with h5py.File(self.product, "r", locking=False) as file:
            return str(file.attrs.get("identity"))

    def is_done(self) -> bool:
        """Whether the product is there and was made of this model and this test set."""
        if not self.product.is_file():
            return False
        if self.stored_identity() == self.identity:
            return True
        log.info("%s is stale: the model or the test set changed; it is made anew", self.product)
        return False


def find_models(folder: Path, test_digest: str, *more: str) -> list[Entry]:
    """Return the finished models of DIR/models.

    Parameters
    ----------
    test_digest, more : str
        Of the test set, and what else is measured than once was.

    Raises
    ------
    MlselError
        If there is none.
    """
    found, place = [], StudyFolder(folder)
    for title in place.finished_models():
        dataset, _, name = title.partition("/")
        model = place.model(title)
        parts = [model / file for file in (MODEL, *PRODUCTS)]
        made_of = [digest(p.read_bytes()) for p in parts if p.is_file()]
        identity = digest([test_digest, *more, *made_of])
        found.append(Entry(dataset, name, model, place.evaluation / f"{title}.h5", identity))
    if not found:
        raise MlselError(
            f"{place.models} holds no finished model: train some with `mlsel training`."
        )
    return found


def parts_of(pool: Pool) -> dict[str, range]:
    """Return the frames of each method's part of a test set (none if it says nothing of parts)."""
    text = pool.attributes.get("parts")
    if text is None:
        return {}
    parts, start = {}, 0
    for part in json.loads(text):
        parts[str(part["method"])] = range(start, start + int(part["n"]))
        start += int(part["n"])
    return parts


def evaluate(study: Study, folder: Path, comm: MPI.Intracomm, test: Path | None = None) -> None:
    """Measure all finished models and write the tables and figures.

    Raises
    ------
    MlselError
        If there are no models or no test set.
    Stopped
        If a signal asked for it; chunks that are done are kept.
    """
    from mlsel.core.lock import FolderLock

    place = StudyFolder(folder)
    test = test or place.test_set
    lock = FolderLock(place.evaluation)
    on_root(comm, lock.acquire)
    try:
        entries, missing = on_root(comm, lambda: _prepare(folder, test))
        _measure(entries, missing, test, comm)
        on_root(comm, lambda: _conclude(study, entries, test, place))
    finally:
        if comm.rank == 0:
            lock.release()


def _prepare(folder: Path, test: Path) -> tuple[list[Entry], list[tuple[int, int]]]:
    """Return the models, and which chunks of which are missing."""
    if not test.is_file():
        raise MlselError(f"There is no test set {test}: make it with `mlsel selection`.")
    with Pool(test) as pool:
        pool.require("positions", "cell", "energy", "forces")
        if pool.n_frames == 0:
            raise MlselError(f"{test} holds no frames: there is nothing to measure errors on.")
        has_stress = "virial" in (*pool.fields, *pool.partial_fields)
        entries = find_models(folder, pool.digest, *(STRESS_QUANTITY,) * has_stress)
        for folder_of in {entry.product.parent for entry in entries}:
            sweep_partials(folder_of)
        n_chunks = -(-pool.n_frames // CHUNK)
    done = [entry.is_done() for entry in entries]
    for entry, is_done in zip(entries, done, strict=True):
        if is_done:
            take_away(entry.chunks)  # a job was killed between the product and this
    if any(entry.product.is_file() for entry, is_done in zip(entries, done, strict=True)
           if not is_done):  # fmt: skip
        place = StudyFolder(folder)  # the tables would speak of models that there are no longer
        take_away(place.errors, place.worst, *(place.evaluation / name for name in seeds.TABLES))
    missing = [
        (i, chunk)
        for i, entry in enumerate(entries)
        if not done[i]
        for chunk in range(n_chunks)
        if not entry.chunk_path(chunk).is_file()
    ]
    return entries, missing


def _measure(
    entries: list[Entry], missing: list[tuple[int, int]], test: Path, comm: MPI.Intracomm
) -> None:
    """Do the missing chunks."""
    from mlsel.training.registry import load_model
    from mlsel.training.stage import use_threads

    use_threads()
    with Pool(test) as pool:
        n_frames = pool.n_frames
        limit = on_root(comm, lambda: _force_limit(pool))
        elements = sorted({int(z) for run in pool.runs for z in pool.numbers(run)})
        frames = sum(min(CHUNK, n_frames - CHUNK * chunk) for _, chunk in missing)
        progress = Progress(frames, lambda done, rate: f"{rate:.0f} configurations/s")
        opened: dict[int, TrainedModel] = {}

        def work(task: tuple[int, int], *_: Any) -> None:
            index, chunk = task
            if index not in opened:
                opened.clear()
                opened[index] = load_model(entries[index].folder)
            ids = range(CHUNK * chunk, min(n_frames, CHUNK * (chunk + 1)))
            errors, parity = measure(opened[index], pool, ids, elements, limit)
            path = entries[index].chunk_path(chunk)
            with creating(path, DurableFile) as file:
                np.savez(file, parity=parity, **{f.name: getattr(errors, f.name)
                                                 for f in fields(errors)})  # fmt: skip

        def on_report(place: int, value: Any) -> None:
            if value is None:
                chunk = missing[place][1]
                progress.advance(min(CHUNK, n_frames - CHUNK * chunk))

        share(comm, missing, work, on_report=on_report)
        progress.end()
        if comm.rank == 0 and missing:
            log.info(
                "%d predictions in %s: %.0f configurations/s",
                frames,
                duration(progress.elapsed),
                progress.rate,
            )
        on_root(comm, lambda: _join(entries, n_frames, elements, limit))


def _force_limit(pool: Pool) -> float:
    """The largest force component of the test set."""
    return max(float(np.abs(block["forces"]).max()) for block in pool.blocks("forces"))


def measure(
    model: TrainedModel, pool: Pool, frame_ids: range, elements: Sequence[int], limit: float
) -> tuple[FrameErrors, Any]:
    """Return the errors on some frames, and a histogram of force components.

    The histogram, int64 (200, 200), counts reference (first axis) and predicted components from
    −limit to limit; those beyond count in the outermost bins.
    """
    from mlsel.training.base import Frames

    parts = []
    histogram = np.zeros((N_BINS, N_BINS), np.int64)
    fields = ("positions", "cell", "energy", "forces")
    for block in pool.blocks(*fields, frame_ids=frame_ids, optional=("virial",)):
        numbers = pool.numbers(block.run)
        is_periodic = all(pool.periodic(block.run))
        virial = block.fields.get("virial") if is_periodic else None
        frames = Frames(numbers, block["positions"], block["cell"], pool.periodic(block.run))
        prediction = model.predict(frames)
        reference = block["forces"], block["energy"]
        parts.append(
            frame_errors(
                block.frame_ids,
                numbers,
                elements,
                reference,
                (prediction.forces, prediction.energy),
                stress_errors(block["cell"], virial, prediction.virial),
            )
        )
        places = [
            np.clip((f.ravel() / limit + 1) * (N_BINS / 2), 0, N_BINS - 1).astype(np.int64)
            for f in (block["forces"], np.nan_to_num(prediction.forces))
        ]
        flat = np.bincount(places[0] * N_BINS + places[1], minlength=N_BINS**2)
        histogram += flat.reshape(N_BINS, N_BINS)
    return FrameErrors.join(parts), histogram


def _join(entries: list[Entry], n_frames: int, elements: list[int], limit: float) -> None:
    """Make one file of each model's chunks."""
    for entry in entries:
        if entry.is_done():
            continue
        parts, parity = [], np.zeros((N_BINS, N_BINS), np.int64)
        for chunk in range(-(-n_frames // CHUNK)):
            with np.load(entry.chunk_path(chunk), allow_pickle=False) as file:
                parts.append(_errors_in(dict(file)))
                parity += file["parity"]
        errors = FrameErrors.join(parts)
        with creating_hdf5(entry.product) as (file, _):
            for f in fields(errors):
                file[f.name] = getattr(errors, f.name)
            for name in ("sums", "largest"):
                file[name].attrs["unit"] = "eV Angstrom-1"
            file["squares"].attrs["unit"] = "eV+2 Angstrom-2"
            file["energy"].attrs["unit"] = "eV"
            file["stress"].attrs["unit"] = "GPa"
            file["parity"] = parity
            file["parity"].attrs["limit"] = limit
            file["parity"].attrs["unit"] = "eV Angstrom-1"
            file.attrs["force_quantities"] = list(FORCE_QUANTITIES)
            file.attrs["elements"] = elements
            file.attrs["format_version"] = FORMAT
            file.attrs["identity"] = entry.identity
            file.attrs["versions"] = json.dumps(versions("numpy", "h5py"))
        take_away(entry.chunks)


def read_errors(path: Path) -> tuple[FrameErrors, list[int]]:
    """Return the errors per frame and the elements that a model's file holds."""
    with h5py.File(path, "r", locking=False) as file:
        errors = _errors_in(
            {f.name: file[f.name][()] for f in fields(FrameErrors) if f.name in file}
        )
        return errors, [int(z) for z in file.attrs["elements"]]


def _errors_in(arrays: dict[str, Any]) -> FrameErrors:
    """The errors in a file; one of an earlier version says nothing of stress."""
    unknown = np.full((len(arrays["frame_id"]), 6), np.nan)
    return FrameErrors(**{f.name: arrays.get(f.name, unknown) for f in fields(FrameErrors)})


def _conclude(study: Study, entries: list[Entry], test: Path, place: StudyFolder) -> None:
    """Write the tables and figures."""
    from mlsel.evaluate import figure, parity

    with Pool(test) as pool:
        parts = parts_of(pool)
        sources = [
            pool.values(name) if name in pool.fields else None
            for name in ("source_run", "source_frame")
        ]
    rows: list[dict[str, Any]] = []
    worst: list[dict[str, Any]] = []
    order = {name: k for k, name in enumerate(study.selection.data_sets())}
    for entry in sorted(entries, key=lambda e: (order.get(e.dataset, len(order)), e.title)):
        errors, elements = read_errors(entry.product)
        kind = read_json(entry.folder / MODEL)["kind"]
        rows += _rows(entry, kind, errors, elements, parts)
        worst += _worst(entry, errors, parts, sources)
    write_text(place.errors, _csv(COLUMNS, rows))
    write_text(place.worst, _csv(tuple(worst[0]), worst))
    print(table(rows))
    of_forces = [
        row
        for row in rows
        if (row["part"], row["element"], row["quantity"])
        == (ALL, ALL, next(iter(FORCE_QUANTITIES)))
    ]
    of_stress = [row for row in rows if (row["part"], row["quantity"]) == (ALL, STRESS_QUANTITY)]
    seeds.write_tables(of_forces, place.evaluation, {"stress": of_stress})
    print("\n".join(seeds.sentences(seeds.comparisons(of_forces))))
    figure.draw(place.errors, place.evaluation / "figure-2")
    for entry in entries:
        parity.draw(entry.product, entry.title, entry.product.with_suffix(""))
    log.info(
        "%s: errors.csv, summary.csv, comparisons.csv, worst.csv, figure-2.svg, parity plots",
        place.evaluation,
    )


def _rows(
    entry: Entry, kind: str, errors: FrameErrors, elements: list[int], parts: dict[str, range]
) -> list[dict[str, Any]]:
    """Rows of errors.csv for one model."""
    from ase.data import chemical_symbols

    made = []

    def add(part: str, element: str, quantity: str, summary: Summary) -> None:
        key = (entry.dataset, entry.name, kind, part, element, quantity, UNITS[quantity])
        values = (summary.n, summary.max, summary.rmse, summary.mae)
        made.append(dict(zip(COLUMNS, (*key, *values), strict=True)))

    for part, frames in {ALL: None, **parts}.items():
        chosen = errors
        if frames is not None:
            inside = (errors.frame_id >= frames.start) & (errors.frame_id < frames.stop)
            chosen = errors.take(inside)
        for quantity in FORCE_QUANTITIES:
            add(part, ALL, quantity, chosen.forces(quantity))
            for s, z in enumerate(elements):
                add(part, chemical_symbols[z], quantity, chosen.forces(quantity, s))
        add(part, ALL, ENERGY_QUANTITY, chosen.energies())
        stresses = chosen.stresses()
        if stresses.n:
            add(part, ALL, STRESS_QUANTITY, stresses)
    return made


def _worst(
    entry: Entry, errors: FrameErrors, parts: dict[str, range], sources: list[Any]
) -> list[dict[str, Any]]:
    """Rows of worst.csv for one model."""
    made = []
    for rank, row in enumerate(errors.worst(N_WORST), 1):
        frame = int(errors.frame_id[row])
        part = next((name for name, frames in parts.items() if frame in frames), "")
        run, source = (None if s is None else int(s[frame]) for s in sources)
        made.append(
            {
                "dataset": entry.dataset,
                "model": entry.name,
                "rank": rank,
                "frame_id": frame,
                "part": part,
                "source_run": run,
                "source_frame": source,
                "atom": int(errors.worst_atom[row]),
                "force_vector_error_eV_per_A": float(errors.largest[row, :, 2].max()),
                "energy_error_eV_per_atom": float(errors.energy[row]),
            }
        )
    return made


def _csv(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([f"{v:.8g}" if isinstance(v, float) else v for v in row.values()])
    return out.getvalue()


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the errors on the whole test set as a table for a terminal."""
    head = f"{'data set':18} {'model':22} {'Max':>8} {'RMSE':>8} {'MAE':>8} {'energy RMSE':>12}"
    units = f"{'':18} {'':22} {'force components, meV/Å':>26} {'meV/atom':>12}"
    whole = [row for row in rows if row["part"] == ALL and row["element"] == ALL]
    energies, stresses = (
        {(r["dataset"], r["model"]): r["rmse"] for r in whole if r["quantity"] == quantity}
        for quantity in (ENERGY_QUANTITY, STRESS_QUANTITY)
    )
    if stresses:
        head, units = f"{head} {'stress RMSE':>12}", f"{units} {'GPa':>12}"
    lines = [head, units]
    components = [row for row in whole if row["quantity"] == "force_component"]
    floors = {row["dataset"]: row["rmse"] for row in components if row["kind"] == "pair"}
    for row in whole:
        if row["quantity"] == "force_component":
            loses = row["rmse"] > floors.get(row["dataset"], float("inf"))
            numbers = "".join(f" {1000 * row[k]:8.1f}" for k in ("max", "rmse", "mae"))
            energy = 1000 * energies[row["dataset"], row["model"]]
            lines.append(f"{row['dataset']:18} {row['model']:22}{numbers} {energy:12.2f}")
            if stresses:
                stress = stresses.get((row["dataset"], row["model"]))
                lines[-1] += f" {'–' if stress is None else f'{stress:.3f}':>12}"
            lines[-1] += "  loses to the pair potential" if loses else ""
    return "\n".join(lines)
