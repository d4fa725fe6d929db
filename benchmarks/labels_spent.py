"""How many labels a selection needs until MD with what is trained on it holds.

    nice -n 10 python -m benchmarks.labels_spent -o DIR [--seeds 3] [--hours 2] [--only bare-64]
    python -m benchmarks.labels_spent -o DIR --table

Small SchNets on data sets of 512 and of 64 configurations, chosen by the methods of
benchmarks/labels_spent.toml, bare, with a wide ZBL, and with charges and that ZBL: each is refined
(`mlsel refine`), then its last model held beside the reference (`mlsel validate`). What is in DIR
is not made again, so that it can be ended and started at any time; the models of the first seed
come first. `--duration 100` asks for the runs of the full measure.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.claims import Claims
from mlsel.core.files import write_text
from mlsel.core.parallel import world
from mlsel.core.record import read_json
from mlsel.study.folder import StudyFolder
from mlsel.study.seeds import seeded
from mlsel.study.study import Study, load_study

log = logging.getLogger(__name__)

STUDY = Path(__file__).with_suffix(".toml")
BASELINES = {
    "bare": [],
    "zbl": ["training.baseline.zbl=[2.0, 4.0]"],
    "charges": ["training.baseline.zbl=[2.0, 4.0]", "training.baseline.charges={Na=1, Cl=-1}"],
}
SIZES = {
    512: [],
    # a quarter of the steps that the 512 get
    64: ["selection.n_train=64", "training.schnet.n_train=64", "training.schnet.max_epochs=300",
         "training.schnet.decay_patience=20", "training.schnet.patience=60"],
}  # fmt: skip
METHODS = ("random", "global-energy", "atomic-energy")
MODEL = "schnet-small-e0.1"
LABELS, ROUNDS = 64, 4
"""The bound from 512 configurations without a baseline."""
COLUMNS = (
    "baseline", "n", "method", "seed", "first_time", "labels", "rounds", "ended", "last_time",
    "verdict", "verdict_time", "first_rmse", "last_rmse", "first_max", "last_max",
)  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """One model that is refined."""

    root: Path
    duration: float
    baseline: str
    n: int
    method: str
    seed: int

    @property
    def folder(self) -> Path:
        return self.root / f"{self.baseline}-{self.n}"

    @property
    def dataset(self) -> str:
        return seeded(self.method, self.seed)

    @property
    def title(self) -> str:
        return f"{self.folder.name}/{self.dataset}"

    @property
    def model(self) -> str:
        """<data set>/<model>; each data set of a seed has models of its own seed."""
        return f"{self.dataset}/{seeded(MODEL, 1)}"

    @property
    def study(self) -> Study:
        return load_study(
            str(STUDY),
            [*BASELINES[self.baseline], *SIZES[self.n], f"refine.duration={self.duration}"],
        )

    def refinement(self) -> Any:
        from mlsel.refine.rounds import Refinement

        return Refinement(self.study, self.folder, self.model)


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=1, help="data sets and models of each kind")
    parser.add_argument("--duration", type=float, default=20.0, help="ps, of a run (default: 20)")
    parser.add_argument("--hours", type=float, default=1e9, help="begin nothing after these")
    parser.add_argument(
        "--only", action="append", metavar="PART", help="of a name; may be repeated"
    )
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    units = [
        Unit(args.output.resolve(), args.duration, baseline, n, method, seed)
        for seed in range(1, args.seeds + 1)
        for baseline in BASELINES
        for n in (64, 512)
        for method in METHODS
    ]
    if args.only:
        units = [unit for unit in units if any(part in unit.title for part in args.only)]
    begun = time.monotonic()
    if not args.table:
        make_pool(args.output.resolve())
        for unit in units:
            if time.monotonic() - begun > 3600 * args.hours:
                log.info("%g hours are over: the rest is left", args.hours)
                break
            perform(unit)
            write_table(args.output, list(rows_of(units)))
    rows = list(rows_of(units))
    if rows:
        write_table(args.output, rows)
    return state(rows)


def make_pool(root: Path) -> None:
    """Make the pool that all choose from."""
    from mlsel.generate import generate

    folder = root / "pool"
    if not StudyFolder(folder).pool.is_file():
        generate(load_study(str(STUDY)), folder, world())


def perform(unit: Unit) -> None:
    """Select, train, refine and validate one model, as far as that is missing."""
    from mlsel.refine.stage import labeller_of
    from mlsel.selection.stage import select_study
    from mlsel.training.stage import tasks_of, use_threads

    study, folder, comm = unit.study, unit.folder, world()
    pool = StudyFolder(folder).pool
    if not pool.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pool.symlink_to(StudyFolder(unit.root / "pool").pool)
    select_study(study, folder, comm)
    use_threads()
    (task,) = [t for t in tasks_of(study, folder) if t.dataset == unit.dataset]
    if not task.is_done():
        log.info("%s: training", unit.title)
        task.perform(lambda report: None)
    refinement = unit.refinement()
    log.info("%s: %s", unit.title, refinement.perform(labeller_of(study), comm))
    for k in {1, len(refinement.outcomes())}:
        errors_of(unit, k)
    verdict_of(unit)


def errors_of(unit: Unit, k: int) -> dict[str, float]:
    """Return the errors of the model of a round on the test set, measured once."""
    import numpy as np

    from mlsel.core.files import write_json
    from mlsel.pool.pool import Pool
    from mlsel.training.frames import read_frames
    from mlsel.training.registry import load_model

    refinement = unit.refinement()
    path = refinement.round_folder(k) / "test-errors.json"
    if not path.is_file():
        model = load_model(refinement.model(k))
        with Pool(StudyFolder(unit.folder).test_set) as pool:
            off = np.concatenate(
                [
                    (model.predict(part).forces - np.asarray(part.forces)).ravel()
                    for part in read_frames(pool)
                ]
            )
        write_json(path, {"rmse": float((off**2).mean() ** 0.5), "max": float(np.abs(off).max())})
    return dict(read_json(path))


def verdict_of(unit: Unit, *, perform: bool = True) -> dict[str, Any]:
    """Return the verdict on a refinement's last model beside the reference: its word and time."""
    from mlsel.validate.stage import validate

    refinement = unit.refinement()
    if not refinement.outcome.is_file():
        return {}
    k = len(refinement.outcomes())
    kept = refinement.folder / "verdict.json"
    if kept.is_file():
        return dict(read_json(kept))
    if not perform:
        return {}
    from mlsel.core.files import write_json

    name = f"{unit.baseline}-{unit.n}-{unit.dataset}"
    (potential, *_) = sorted((refinement.round_folder(k) / "md").glob("*/potential.lmp"))
    study = load_study(str(STUDY), [f'validation.potentials.{name}="{potential}"'])
    verdicts = validate(study, unit.root / "verdicts", world())
    (said,) = [verdict for verdict in verdicts if verdict.name == name]
    write_json(kept, {"word": said.word, "stable_time": said.stable_time})
    return dict(read_json(kept))


def rows_of(units: Sequence[Unit]) -> Iterator[dict[str, Any]]:
    """Return a row for each refinement that has ended."""
    for unit in units:
        refinement = unit.refinement()
        if not refinement.outcome.is_file():
            continue
        ended, rounds = read_json(refinement.outcome), refinement.outcomes()
        verdict = verdict_of(unit, perform=False)
        first, last = errors_of(unit, 1), errors_of(unit, len(rounds))
        yield {
            "baseline": unit.baseline,
            "n": unit.n,
            "method": unit.method,
            "seed": unit.seed,
            "first_time": min(rounds[0].times),
            "labels": ended["labels"],
            "rounds": len(rounds) - 1,
            "ended": ended["ended"],
            "last_time": min(rounds[-1].times),
            "verdict": verdict.get("word", ""),
            "verdict_time": verdict.get("stable_time", ""),
            **{f"first_{key}": first[key] for key in ("rmse", "max")},
            **{f"last_{key}": last[key] for key in ("rmse", "max")},
        }


def write_table(root: Path, rows: Sequence[dict[str, Any]]) -> None:
    lines = [",".join(COLUMNS)]
    lines += [",".join(f"{row[c]:.6g}" if isinstance(row[c], float) else str(row[c])
                       for c in COLUMNS) for row in rows]  # fmt: skip
    write_text(root / "labels-spent.csv", "\n".join(lines) + "\n")


def state(rows: Sequence[dict[str, Any]]) -> int:
    """Print the table, and the bound as a claim."""
    claims = Claims()
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["baseline"], row["n"], row["method"]), []).append(row)
    for (baseline, n, method), own in groups.items():
        stable = [row for row in own if row["ended"] == "stable"]
        labels = [row["labels"] for row in own]
        claims.note(
            f"{baseline:8} {n:4} {method:14} {len(stable)} of {len(own)} stable; labels "
            f"{', '.join(map(str, labels))}; first MD {_list(own, 'first_time')} ps, last "
            f"{_list(own, 'last_time')} ps; RMSE {_mean(own, 'first_rmse')} to "
            f"{_mean(own, 'last_rmse')} meV/Å; " + ", ".join(row["verdict"] for row in own)
        )
    bound = [row for row in rows if row["baseline"] == "bare" and row["n"] == 512]
    if bound:
        held = [row["ended"] == "stable" and row["labels"] <= LABELS and row["rounds"] <= ROUNDS
                for row in bound]  # fmt: skip
        claims.at_least(
            f"of {len(bound)} from 512, bare: share stable by {LABELS} labels and {ROUNDS} rounds",
            statistics.mean(held), 1.0,
        )  # fmt: skip
    return claims.end()


def _list(rows: Sequence[dict[str, Any]], key: str) -> str:
    return ", ".join(f"{row[key]:.3g}" for row in rows)


def _mean(rows: Sequence[dict[str, Any]], key: str) -> str:
    values = [1000 * row[key] for row in rows]
    if len(values) < 2:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values) / len(values) ** 0.5:.1f}"


if __name__ == "__main__":
    sys.exit(main())
