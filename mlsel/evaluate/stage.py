"""Stage 4: errors of every model on the common test set, and on each method's part of it.

    python -m mlsel.evaluate [STUDY] [-o DIR]

leaves in DIR/evaluation: errors.csv (Max, 99.99 % quantile, RMSE and MAE of forces, energies,
atomic energies and stresses, by model, part of the test set and element), summary.csv and
comparisons.csv (means over seeds with their standard errors, and paired differences between data
sets, of force components), learning.csv and learning-curve (where [learning] asks for sizes),
worst.csv (the ten worst frames of each model), figure-2, and for each model an HDF5 file of errors
per frame with its parity plot. The test set is read in chunks, which are shared over ranks and kept
as they are done, so that an interrupted evaluation goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.core.errors import MlselError
from mlsel.core.files import sweep_partials, take_away, write_text
from mlsel.core.parallel import on_root, share
from mlsel.core.progress import Progress, duration
from mlsel.core.record import read_json
from mlsel.evaluate import seeds
from mlsel.evaluate.doubts import TrainedOn
from mlsel.evaluate.measurement import Against, Chunk, Measured, measure, write_errors
from mlsel.evaluate.models import Entry, find_models
from mlsel.evaluate.parts import RUN, methods_of, runs_of
from mlsel.evaluate.probes import is_probed, probe_study
from mlsel.evaluate.statistics import ALL, STRESS_QUANTITY
from mlsel.evaluate.tables import COLUMNS, as_csv, of_components, rows_of, table, worst_of
from mlsel.evaluate.tested_on import require_test_set
from mlsel.pool.pool import Pool
from mlsel.study.folder import MODEL, StudyFolder, size_of
from mlsel.study.seeds import family
from mlsel.study.study import Study
from mlsel.training.ending import CONVERGED, ending

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.training.base import TrainedModel

log = logging.getLogger(__name__)

CHUNK = 256
"""Frames of a task."""
MOST_OPEN = 8
"""Models in memory at once."""


def evaluate(study: Study, folder: Path, comm: MPI.Intracomm, test: Path | None = None) -> None:
    """Measure all finished models and write the tables and figures.

    Raises
    ------
    MlselError
        If there are no models or no test set, or what they come from is stale.
    Stopped
        If a signal asked for it; chunks that are done are kept.
    """
    from mlsel.core.lock import FolderLock
    from mlsel.training.state import require_models

    on_root(comm, lambda: require_models(study, folder))
    place = StudyFolder(folder)
    test = on_root(comm, lambda: require_test_set(study, folder, test))
    lock = FolderLock(place.evaluation)
    on_root(comm, lock.acquire)
    try:
        entries, missing = on_root(comm, lambda: _prepare(folder, test))
        _measure(entries, missing, folder, test, comm)
        on_root(comm, lambda: _conclude(study, entries, test, place))
        if study.evaluation.probe and not on_root(comm, lambda: is_probed(study, folder, entries)):
            probe_study(study, folder, comm, test)
    finally:
        if comm.rank == 0:
            lock.release()


def _prepare(folder: Path, test: Path) -> tuple[list[Entry], list[tuple[int, int]]]:
    """Return the models, and which chunks of which are missing."""
    with Pool(test) as pool:
        pool.require("positions", "cell", "energy", "forces")
        if pool.n_frames == 0:
            raise MlselError(f"{test} holds no frames: there is nothing to measure errors on.")
        entries = find_models(folder, pool.digest)
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
        tables = (place.evaluation / name for name in seeds.TABLES)
        take_away(place.errors, place.worst, place.learning, *tables)
    missing = [
        (i, chunk)
        for i, entry in enumerate(entries)
        if not done[i]
        for chunk in range(n_chunks)
        if not entry.chunk_path(chunk).is_file()
    ]
    # a few models at a time, all of them on a chunk before the next is read
    return entries, sorted(missing, key=lambda task: (task[0] // MOST_OPEN, task[1], task[0]))


def _against(folder: Path, test: Pool) -> Against:
    """What all models are measured against."""
    runs = runs_of(test, StudyFolder(folder).pool)
    of_matter = {name: frames for name, frames in runs.items() if not name.startswith(RUN)}
    return Against.of(test, {**methods_of(test), **of_matter})


def _measure(
    entries: list[Entry],
    missing: list[tuple[int, int]],
    folder: Path,
    test: Path,
    comm: MPI.Intracomm,
) -> None:
    """Do the missing chunks, and put each model's together."""
    from mlsel.training.registry import load_model
    from mlsel.training.stage import use_threads

    use_threads()
    with Pool(test) as pool:
        n_frames = pool.n_frames
        against = on_root(comm, lambda: _against(folder, pool))
        frames = sum(min(CHUNK, n_frames - CHUNK * chunk) for _, chunk in missing)
        progress = Progress(frames, lambda done, rate: f"{rate:.0f} configurations/s")
        opened: dict[int, TrainedModel] = {}
        part = Chunk(pool, against)

        def work(task: tuple[int, int], *_: Any) -> None:
            index, chunk = task
            if index not in opened:
                if len(opened) == MOST_OPEN:
                    opened.clear()
                opened[index] = load_model(entries[index].folder)
            ids = range(CHUNK * chunk, min(n_frames, CHUNK * (chunk + 1)))
            measured = measure(opened[index], part.frames(ids), against)
            measured.write_chunk(entries[index].chunk_path(chunk))

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
        on_root(comm, lambda: _join(entries, n_frames, against))


def _join(entries: list[Entry], n_frames: int, against: Against) -> None:
    """Make one file of each model's chunks."""
    for entry in entries:
        if entry.is_done():
            continue
        chunks = range(-(-n_frames // CHUNK))
        whole = Measured.join([Measured.read_chunk(entry.chunk_path(c)) for c in chunks])
        write_errors(entry.product, whole, against, entry.identity)
        take_away(entry.chunks)


def _conclude(study: Study, entries: list[Entry], test: Path, place: StudyFolder) -> None:
    """Write the tables and figures."""
    from mlsel.evaluate import figure, learning_curve, learning_figure, parity

    with Pool(test) as pool:
        methods = methods_of(pool)
        parts = {**methods, **runs_of(pool, place.pool)}
        sources = [
            pool.values(name) if name in pool.fields else None
            for name in ("source_run", "source_frame")
        ]
    rows: list[dict[str, Any]] = []
    worst: list[dict[str, Any]] = []
    order = {name: k for k, name in enumerate(study.selection.data_sets())}

    def place_of(entry: Entry) -> tuple[int, str, int, str]:
        base, n = size_of(entry.dataset)
        return order.get(base, len(order)), base, n or 0, entry.name

    described = {entry.title: read_json(entry.folder / MODEL) for entry in entries}
    for entry in sorted(entries, key=place_of):
        rows += rows_of(entry, described[entry.title]["kind"], parts)
        worst += worst_of(entry, methods, sources)
    write_text(place.errors, as_csv(COLUMNS, rows))
    write_text(place.worst, as_csv(tuple(worst[0]), worst))
    whole = [row for row in rows if size_of(row["dataset"])[1] is None]
    trained_on = TrainedOn.of(entries, test, place)
    if whole:
        print(table(whole, _notes(described, trained_on.shared)))
    for sentence in trained_on.told(test, place):
        log.warning("%s", sentence)
    frames = {title: int(of["data"]["n_frames"]) for title, of in described.items()}
    whole += _seeds_of_curves(rows, frames)
    of_stress = [row for row in whole if (row["part"], row["quantity"]) == (ALL, STRESS_QUANTITY)]
    seeds.write_tables(of_components(whole), place.evaluation, {"stress": of_stress})
    print("\n".join(seeds.sentences(seeds.comparisons(of_components(whole)))))
    figure.draw(place.errors, place.evaluation / "figure-2")
    points = learning_curve.points_of(of_components(rows), frames)
    made = "errors.csv, summary.csv, comparisons.csv, worst.csv, figure-2.svg, parity plots"
    if points:
        learning_curve.write_points(points, place.learning)
        print("\n".join(learning_curve.sentences(points, study.learning.levels)))
        learning_figure.draw(
            place.learning, place.evaluation / "learning-curve", study.learning.levels
        )
        made += ", learning.csv, learning-curve.svg"
    for entry in entries:
        if size_of(entry.dataset)[1] is not None:
            continue  # there are many: `mlsel figure parity` draws one that is asked for
        parity.draw(entry.product, entry.title, entry.product.with_suffix(""))
    log.info("%s: %s", place.evaluation, made)


def _notes(
    described: Mapping[str, Mapping[str, Any]], shared: Mapping[str, int]
) -> dict[tuple[str, str], str]:
    """What is to be said of models whose training patience did not end, and of those that were
    trained on frames of the test set, by data set and name."""
    notes = {}
    for title, of in described.items():
        said = [f"trained on {shared[title]} of the test frames"] if title in shared else []
        ended = ending(of.get("parameters", {}), of.get("result", {}))
        said += [f"{ended}: not converged"] if ended not in ("", CONVERGED) else []
        dataset, _, name = title.partition("/")
        notes[dataset, name] = "; ".join(said)
    return notes


def _seeds_of_curves(
    rows: Sequence[dict[str, Any]], frames: Mapping[str, int]
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of learning curves' models that repeat the study's own with a seed that it lacks: on as
    many frames by the same method; under the names that such data sets would have."""
    own: dict[tuple[str, str], set[int]] = {}
    for row in rows:
        if size_of(row["dataset"])[1] is None:
            key = family(row["dataset"])[0], family(row["model"])[0]
            own.setdefault(key, set()).add(frames[f"{row['dataset']}/{row['model']}"])
    there = {(row["dataset"], row["model"]) for row in rows}
    found = []
    for row in rows:
        base, n = size_of(row["dataset"])
        key = family(base)[0], family(row["model"])[0]
        if n is not None and own.get(key) == {n} and (base, row["model"]) not in there:
            found.append({**row, "dataset": base})
    return found
