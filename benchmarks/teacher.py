"""What a selection by a teacher's atomic energies is worth against one by the true ones.

    python -m benchmarks.teacher POOL -o DIR [--teacher pair schnet] [--student pair schnet]
                                 [-n 64] [--taught-on 32] [--seeds 5]

POOL holds true atomic energies. For each seed a teacher is trained on frames drawn at random, its
atomic energies put in place of the true ones (`mlsel label --atomic-energies-from`), and sets
chosen by the true ones, by the teacher's and at random, of which a student is trained; all with the
same random numbers, from the frames that are in no test set. Told are the rank correlation of the
two atomic energies within each element, how many frames the sets share, and the paired differences
of the students' force errors, with the standard error over seeds. Models are kept in DIR.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claims import Claims
from mlsel.core.arrays import FloatArray, IntArray
from mlsel.core.parallel import world
from mlsel.pool.pool import Pool
from mlsel.pool.subset import write_subset
from mlsel.refine.label import label_pool
from mlsel.refine.teacher import Teacher
from mlsel.selection import make_selector
from mlsel.study.study import load_study
from mlsel.training.frames import read_frames
from mlsel.training.registry import load_model, trainer_named
from mlsel.training.stage import use_threads
from mlsel.training.task import Task

METHOD = "atomic-energy"
N_TEST = 200
SCHNET = [
    'training.schnet.sizes=["small"]', "training.schnet.n_gaussians={small=32}",
    "training.schnet.energy_weights=[0.1]", "training.schnet.energy_per_atom=true",
    "training.schnet.learning_rate=1e-3", "training.schnet.batch_size=4",
]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--teacher", nargs="+", default=["pair"], choices=("pair", "schnet"))
    parser.add_argument("--student", nargs="+", default=["pair"], choices=("pair", "schnet"))
    parser.add_argument("-n", type=int, default=64, help="frames of a set")
    parser.add_argument("--taught-on", type=int, default=32, help="frames of a teacher's set")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=100, help="of SchNets")
    args = parser.parse_args(argv)
    use_threads()
    claims = Claims()
    for teacher in args.teacher:
        found = [one_seed(args, teacher, seed) for seed in range(1, args.seeds + 1)]
        state(claims, teacher, args, found)
    return claims.end()


def one_seed(args: argparse.Namespace, teacher: str, seed: int) -> dict[str, Any]:
    """Return what one seed shows."""
    place = args.output / f"seed-{seed}"
    place.mkdir(parents=True, exist_ok=True)
    with Pool(args.pool) as pool:
        order = np.random.default_rng(seed).permutation(len(pool))
    test, rest = order[:N_TEST], np.sort(order[N_TEST:])
    taught_on = np.sort(order[N_TEST : N_TEST + args.taught_on])
    subset(args.pool, test, place / "test.h5")
    subset(args.pool, taught_on, place / "taught-on.h5")
    model = trained(place / "taught-on.h5", place / f"teacher-{teacher}", teacher, seed, args)
    taught = place / f"taught-{teacher}.h5"
    with Pool(args.pool) as pool:
        label_pool(pool, taught, None, world(), teacher=Teacher(model))
    sets = {
        "true": chosen(args.pool, METHOD, args.n, test, seed),
        "teacher": chosen(taught, METHOD, args.n, test, seed),
        "random": chosen(args.pool, "random", args.n, test, seed),
    }
    found: dict[str, Any] = {
        "correlation": correlation(args.pool, taught, rest),
        "shared": len(np.intersect1d(sets["true"], sets["teacher"])),
        "by chance": len(sets["true"]) ** 2 / len(rest),
    }
    for student in args.student:
        for name, frames in sets.items():
            title = f"{name}-{teacher}" if name == "teacher" else name
            data = place / f"{title}-{args.n}.h5"
            subset(args.pool, frames, data)
            out = trained(data, place / f"{title}-{args.n}-{student}", student, seed, args)
            found[f"{student} {name}"] = errors(out, place / "test.h5")
    return found


def subset(pool: Path, frames: IntArray, path: Path) -> None:
    """Write frames as a data set, once."""
    if not path.is_file():
        with Pool(pool) as held:
            write_subset(held, frames, path)


def chosen(pool: Path, method: str, n: int, without: IntArray, seed: int) -> IntArray:
    """Return the frames that a method chooses."""
    with Pool(pool) as held:
        rng = np.random.default_rng(seed)
        return make_selector(method).select(held, n, rng, exclude=without).frame_ids


def trained(data: Path, out: Path, kind: str, seed: int, args: argparse.Namespace) -> Path:
    """Return the folder of a model, which is trained where it is not there."""
    overrides = [
        *SCHNET, f"training.schnet.seed={seed}", f"training.schnet.max_epochs={args.epochs}",
        "training.schnet.patience=1000",
    ]  # fmt: skip
    name = "pair" if kind == "pair" else "schnet-small"
    trainer = trainer_named(load_study("quick", overrides).training, name)
    task = Task(data.stem, data, None, trainer, None, out)
    if not task.is_done():
        task.perform(lambda report: None)
    return out


def errors(model: Path, test: Path) -> tuple[float, float]:
    """Return RMSE and Max of force components, meV/Å."""
    opened = load_model(model)
    with Pool(test) as pool:
        off = np.concatenate(
            [
                (opened.predict(part).forces - np.asarray(part.forces)).ravel()
                for part in read_frames(pool)
            ]
        )
    return 1000 * float((off**2).mean() ** 0.5), 1000 * float(np.abs(off).max())


def correlation(true: Path, taught: Path, frames: IntArray) -> dict[str, float]:
    """Return the rank correlation of the two atomic energies within each element."""
    from ase.data import chemical_symbols

    values: list[dict[int, list[FloatArray]]] = []
    some = frames[:: max(1, len(frames) // 200)]
    for path in (true, taught):
        values.append({})
        with Pool(path) as pool:
            for block in pool.blocks("atomic_energies", frame_ids=some):
                numbers = pool.numbers(block.run)
                for z in np.unique(numbers).tolist():
                    own = block["atomic_energies"][:, numbers == z].ravel()
                    values[-1].setdefault(z, []).append(own)
    a, b = values
    found = {}
    for z in a:
        ranks = [np.concatenate(x[z]).argsort().argsort() for x in (a, b)]
        found[chemical_symbols[z]] = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    return found


def state(
    claims: Claims, teacher: str, args: argparse.Namespace, found: Sequence[dict[str, Any]]
) -> None:
    """Print what the seeds show together."""
    elements = list(found[0]["correlation"])
    told = ", ".join(f"{e} {told_mean([f['correlation'][e] for f in found])}" for e in elements)
    claims.note(
        f"teacher {teacher} ({args.taught_on} frames), {len(found)} seeds: rank correlation {told}"
    )
    claims.note(
        f"sets of {args.n} share {told_mean([f['shared'] for f in found])} frames, by chance "
        f"{found[0]['by chance']:.1f}"
    )
    for student in args.student:
        for k, measure in enumerate(("RMSE", "Max")):
            by = {
                name: [f[f"{student} {name}"][k] for f in found]
                for name in ("true", "teacher", "random")
            }
            means = ", ".join(f"{name} {told_mean(values)}" for name, values in by.items())
            apart = [
                f"{a} − {b} {told_mean([x - y for x, y in zip(by[a], by[b], strict=True)])}"
                for a, b in (("teacher", "true"), ("teacher", "random"), ("true", "random"))
            ]
            claims.note(f"  {student} {measure} / meV/Å: {means}; {', '.join(apart)}")


def told_mean(values: Sequence[float]) -> str:
    """Return mean ± standard error.

    >>> told_mean([1.0, 2.0, 3.0])
    '2 ± 0.58'
    """
    if len(values) < 2:
        return f"{values[0]:.4g}"
    return f"{statistics.mean(values):.4g} ± {statistics.stdev(values) / len(values) ** 0.5:.2g}"


if __name__ == "__main__":
    sys.exit(main())
