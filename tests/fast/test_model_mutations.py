"""Trained models whose files are damaged, by chance: they predict, or are refused in a sentence."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlsel.export_model.saved_model import load_model as load_saved
from mlsel.training.baseline import Baseline
from mlsel.training.description import describe
from mlsel.training.gap.trainer import GapTrainer
from mlsel.training.pair.trainer import PairTrainer
from mlsel.training.registry import load_model
from mlsel.training.schnet.trainer import SchNetTrainer
from tests.plugins import potentials
from tests.support.gap_files import SMALL, distance_2b, write_gap
from tests.support.mutations import damaged, damaged_json_bytes, damaged_text, run_cases
from tests.support.training_data import CUTOFF, frames

SOAP = {**SMALL, "n_max": 2, "l_max": 2}
KINDS = ("schnet", "gap", "pair")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A child of a process with several threads may wait for them for ever."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("originals"))


def make(folder: Path) -> Path:
    """A trained model of each kind, one on a baseline; and a model as schnetpack saves it."""
    import torch

    part = frames(6)
    schnet = SchNetTrainer(name="schnet", cutoff=4.0, batch_size=4, max_epochs=1)
    schnet.fit([part], [frames(2, seed=2)], folder / "schnet")
    pair = PairTrainer(cutoff=CUTOFF)
    pair.fit([part], [], folder / "pair")
    Baseline(zbl=(0.5, 1.0)).write(folder / "pair")
    gap = GapTrainer(name="gap")
    (folder / "gap").mkdir()
    atoms = [part.atoms(row) for row in range(len(part))]
    write_gap(
        folder / "gap" / "gap.xml", atoms, SOAP, n_sparse=4, terms=distance_2b((11, 17), cutoff=3.0)
    )
    (folder / "gap" / "gap.json").write_text('{"numbers": [11, 17]}')
    for trainer in (schnet, pair, gap):
        described = {**describe(trainer, {"n_frames": 6}), "format_version": 1}
        (folder / trainer.kind / "model.json").write_text(json.dumps(described))
    torch.save(potentials.potential(), folder / "best_model")
    return folder


def hunted(originals: Path, folder: Path) -> dict[str, Callable[[random.Random], None]]:
    """Return the cases of each kind."""
    part = frames(1, seed=3)

    def trained(kind: str) -> Callable[[random.Random], None]:
        whole = {path.name: path.read_bytes() for path in (originals / kind).iterdir()
                 if path.is_file()}  # fmt: skip
        read = {"schnet": ("weights.pt", "network.json"), "gap": ("gap.xml",) * 3 + ("gap.json",),
                "pair": ("pair.json", "baseline.json")}[kind]  # fmt: skip

        def one(chance: random.Random) -> None:
            place = folder / kind
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            for name, data in whole.items():
                (place / name).write_bytes(data)
            name = chance.choice((*read * 2, "model.json"))
            (place / name).write_bytes(hurt(name, whole[name], chance))
            found = load_model(place).predict(part)
            assert found.energy.shape == (1,) and found.forces.shape == (1, 8, 3)

        return one

    whole = (originals / "best_model").read_bytes()

    def saved(chance: random.Random) -> None:
        path = folder / "best_model"
        path.write_bytes(damaged(whole, chance))
        load_saved(path)

    return {**{kind: trained(kind) for kind in KINDS}, "saved": saved}


def hurt(name: str, data: bytes, chance: random.Random) -> bytes:
    if name.endswith(".json"):
        return damaged_json_bytes(json.loads(data), chance)
    if name.endswith(".xml") and chance.random() < 0.8:
        return damaged_text(data.decode(), chance)
    return damaged(data, chance)


def look(kind: str, n: int, seed: int, originals: Path, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        run_cases(hunted(originals, folder)[kind], n, seed).require(least_taken=0.0)


@pytest.mark.parametrize("kind", [*KINDS, "saved"])
def test_some_damaged_models(kind: str, originals: Path, tmp_path: Path) -> None:
    look(kind, 40, 1, originals, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 7))
@pytest.mark.parametrize("kind", [*KINDS, "saved"])
def test_many_damaged_models(kind: str, seed: int, originals: Path, tmp_path: Path) -> None:
    look(kind, 200, seed, originals, tmp_path)
