"""What SchNet's options do to its errors: the same data, the same seeds, one table.

    python -m benchmarks.schnet_options POOL -o DIR [-n 64] [--epochs 40] [--seeds 3]
                                        [--only hard]

Frames of POOL are dealt out once, at random: to train on, to stop by, and to be judged on; none of
them is a test set. Every option is trained from every seed and judged with the weights of its best
epoch. The last column is the difference of the force error to the plain network's from the same
seed, with its standard error. A hard cutoff is no option of mlsel: the cosine is taken out here, to
see what it does. With --only it is the options whose names begin so, and the plain network. DIR
keeps what is done, so that a benchmark that was ended goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.claims import Claims
from mlsel.core.files import write_json
from mlsel.pool.pool import Pool
from mlsel.training.frames import Frames, read_frames

DECAY = {"decay_factor": 0.8, "decay_patience": 3, "decay_to": 1e-6}
"""The paper's factor and floor; its patience of 25 epochs is longer than these trainings."""
HARD = "hard cutoff: no cosine"
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "plain: silu, one output network, constant rate": {},
    "softplus": {"activation": "shifted_softplus"},
    "a network for each element": {"output_per_element": True},
    "decay": DECAY,
    "these three: the paper's": {
        "activation": "shifted_softplus", "output_per_element": True, **DECAY,
    },
    "Huber, 0.1": {"loss": "huber", "huber_delta": 0.1},
    "energy of an atom": {"energy_per_atom": True},
    "energy of an atom, Huber 0.1": {
        "energy_per_atom": True, "loss": "huber", "huber_delta": 0.1,
    },
    "energy of an atom, the paper's three": {
        "energy_per_atom": True, "activation": "shifted_softplus", "output_per_element": True,
        **DECAY,
    },
    "atomic energies, weight 0.1": {"atomic_energy_weight": 0.1},
    HARD: {},
}  # fmt: skip
COLUMNS = {
    "force": "forces, meV/Å", "energy": "energy, meV/atom", "atomic_energy": "atomic energies, meV",
}  # fmt: skip


def deal(path: Path, sizes: Sequence[int]) -> list[list[Frames]]:
    """Return disjoint random parts of a pool of these sizes, always the same."""
    with Pool(path) as pool:
        if sum(sizes) > pool.n_frames:
            raise SystemExit(f"{path} has {pool.n_frames} frames, and {sum(sizes)} are needed.")
        order = np.random.default_rng(1).permutation(pool.n_frames)
        parts = np.split(order, np.cumsum(sizes))[:-1]
        return [list(read_frames(pool, np.sort(rows), more=["atomic_energies"])) for rows in parts]


def errors_of(
    options: Mapping[str, Any], seed: int, parts: Sequence[list[Frames]], epochs: int
) -> dict[str, float]:
    """Train, and return root mean square errors of the frames to be judged on, in 10⁻³ units."""
    import torch

    from mlsel.training.schnet.graphs import Graphs
    from mlsel.training.schnet.loss import Errors, Loss
    from mlsel.training.schnet.run import Run
    from mlsel.training.schnet.trainer import SchNetTrainer

    trainer = SchNetTrainer(
        name="schnet", size="small", n_gaussians=32, batch_size=4, learning_rate=2e-3, seed=seed,
        max_epochs=epochs, patience=epochs, device="cpu", **options,
    )  # fmt: skip
    train, held_out, judged = parts
    with tempfile.TemporaryDirectory() as folder:
        run = Run(trainer, train, held_out, Path(folder))
        while not run.is_over:
            run.do_epoch()
    run.network.model.load_state_dict(run.best)
    run.network.tabulate = False
    graphs = Graphs(judged, run.numbers, trainer.cutoff, torch.float32, run.references)
    errors = Errors()
    with torch.no_grad():
        for batch in graphs.batches(4):
            errors += Loss(0.5, energy_per_atom=True, atomic_energy_weight=1.0)(run.network, batch)[
                1
            ]
    return {name: 1000 * errors.mean(f"{name}_square") ** 0.5 for name in COLUMNS}


@contextmanager
def without_cosine(name: str) -> Iterator[None]:
    """Let networks made meanwhile see neighbours up to the cutoff in full, where the name asks."""
    import torch

    from mlsel.training.schnet.network import Network

    usual = Network._radial

    def hard(network: Network, r: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        both, cut, slope = usual(network, r, dtype)
        return both, torch.ones_like(cut), torch.zeros_like(slope)

    with patch.object(Network, "_radial", hard if name == HARD else usual):
        yield


def with_error(values: Sequence[float]) -> str:
    """Return a mean and its standard error."""
    spread = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{np.mean(values):.1f} ± {spread:.1f}"


def main() -> int:
    """Train what is missing, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("pool", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-n", type=int, default=64, help="training frames")
    parser.add_argument("--held-out", type=int, default=24)
    parser.add_argument("--judged", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[""], metavar="NAME")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    parts = deal(args.pool, (args.n, args.held_out, args.judged))
    plain, *others = OPTIONS
    chosen = [plain, *(name for name in others if name.startswith(tuple(args.only)))]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    for seed in range(1, args.seeds + 1):
        for name in found:
            file = args.output / f"{name.partition(':')[0].replace(' ', '-')}-{seed}.json"
            if not file.is_file():
                with without_cosine(name):
                    write_json(file, errors_of(OPTIONS[name], seed, parts, args.epochs))
            found[name].append(json.loads(file.read_text(encoding="utf-8")))
    claims = Claims()
    claims.note(
        f"{args.n} frames of {args.pool.name}, {args.epochs} epochs, {args.seeds} seeds, judged on "
        f"{args.judged} others"
    )
    print(f"| | {' | '.join(COLUMNS.values())} | forces less plain's |")
    print(f"| --- |{' ---: |' * (len(COLUMNS) + 1)}")
    for name, rows in found.items():
        cells = [with_error([row[column] for row in rows]) for column in COLUMNS]
        pairs = zip(rows, found[plain], strict=True)
        last = "" if name == plain else with_error([a["force"] - b["force"] for a, b in pairs])
        print(f"| {name} | {' | '.join(cells)} | {last} |")
    return claims.end()


if __name__ == "__main__":
    sys.exit(main())
