"""A trained SchNet: its files, its predictions, and the file that LAMMPS reads."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlsel.core.arrays import FloatArray
from mlsel.core.errors import MlselError, shortened
from mlsel.training.base import Prediction, TrainedModel
from mlsel.training.description import element_energies, numbers_of
from mlsel.training.frames import Frames

if TYPE_CHECKING:
    from mlsel.training.schnet.graphs import Batch
    from mlsel.training.schnet.rigidity import Rigidity

WEIGHTS = "weights.pt"
EXPORTED = "model.pt"
NETWORK = "network.json"
PREDICTION_BATCH = 16


class SchNetModel(TrainedModel):
    """A trained SchNet."""

    kind = "schnet"
    files = (WEIGHTS, NETWORK)
    pair_style = "schnet"

    def __init__(self, folder: Path, facts: Mapping[str, Any], model: Any) -> None:
        from mlsel.training.schnet.network import Network

        self.folder = folder
        self.facts = facts
        self.numbers = numbers_of(facts)
        self.references = element_energies(facts["reference_energies"], self.numbers)
        self.cutoff = float(facts["architecture"]["cutoff"])
        self.model = model.eval()
        """schnetpack's NeuralNetworkPotential with the weights."""
        self._network = Network(model, self.numbers, tabulate=True)
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        # from 0 on, whatever is asked: what is said of a frame depends on that frame alone
        self._network.lay_knots()
        self._network.freeze()
        self.rigidity: Rigidity | None = None
        """What `sigma` and the distances of the training set are read from; None in old models."""

    @classmethod
    def load(cls, folder: Path) -> SchNetModel:
        import json

        import torch

        from mlsel.training.schnet.architecture import Architecture
        from mlsel.training.schnet.network import potential

        path = folder / WEIGHTS
        try:
            facts = json.loads((folder / NETWORK).read_text(encoding="utf-8"))
            values = facts["architecture"]
            values = {**values, "n_neurons": tuple(values["n_neurons"])}
            if not 0 < float(values["cutoff"]) < float("inf"):
                raise ValueError(f"its cutoff is {values['cutoff']}")
            with torch.random.fork_rng(devices=[]):
                model = potential(Architecture(**values), facts["numbers"])
            model.to(torch.float64 if facts["dtype"] == "float64" else torch.float32)
            model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
            loaded = cls(folder, facts, model)
            loaded.rigidity = loaded._read_rigidity()
            return loaded
        except FileNotFoundError as error:
            raise MlselError(
                f"{folder} holds no SchNet ({Path(error.filename).name} is missing): train it with "
                "`mlsel training`."
            ) from None
        except torch.OutOfMemoryError:
            raise  # says nothing of the files
        except Exception as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise  # neither does this; EINVAL is a place in a damaged archive
            text = str(error).strip().splitlines()
            reason = shortened(text[0] if text else type(error).__name__, 160)
            raise MlselError(
                f"{folder} does not hold a SchNet that can be read ({reason}): train it again."
            ) from None

    def double(self) -> SchNetModel:
        """Return the same model computing in float64, filters at each pair (the reference)."""
        import copy

        made = SchNetModel(self.folder, self.facts, copy.deepcopy(self.model).double())
        made._network.tabulate = False
        made.rigidity = self.rigidity
        return made

    def _read_rigidity(self) -> Rigidity | None:
        from mlsel.training.schnet import rigidity

        if not (self.folder / rigidity.FILE).is_file():
            return None
        network = self._network
        return rigidity.Rigidity.read(
            self.folder, network.n_output_networks, network.n_last_features, len(self.numbers)
        )

    def _batches(self, frames: Frames) -> Iterator[Batch]:
        from mlsel.training.schnet.graphs import Graphs

        self.check(frames.numbers)
        dtype = next(self.model.parameters()).dtype
        graphs = frames.shared(
            ("graphs", tuple(self.numbers), self.cutoff, dtype),
            lambda: Graphs([frames.unlabelled()], self.numbers, self.cutoff, dtype),
        )
        self._network.place(graphs)
        yield from graphs.batches(PREDICTION_BATCH)

    @property
    def told_in_lammps(self) -> tuple[str, ...]:
        return ("sigma", "below") if self.has_uncertainty else ()

    @property
    def has_uncertainty(self) -> bool:
        return self.rigidity is not None

    def uncertainty(self, frames: Frames) -> FloatArray:
        import torch

        if self.rigidity is None:
            raise MlselError(
                f"{self.folder} was trained by a mlsel that kept no rigidity of the last layer: "
                "train it again."
            )
        with torch.no_grad():
            found = [self.rigidity.of_batch(self._network, b) for b in self._batches(frames)]
        sigma: FloatArray = np.concatenate([*found, np.empty(0)]).reshape(-1, frames.n_atoms)
        return sigma

    def predict(self, frames: Frames) -> Prediction:
        import torch

        n, n_atoms = len(frames), frames.n_atoms
        atomic, forces = np.empty((n, n_atoms)), np.empty((n, n_atoms, 3))
        virial = np.empty((n, 3, 3))
        row = 0
        with torch.no_grad():
            for batch in self._batches(frames):
                output = self._network(batch)
                part = slice(row, row + batch.n_frames)
                atomic[part] = output.atomic.numpy().reshape(-1, n_atoms)
                forces[part] = output.forces.numpy().reshape(-1, n_atoms, 3)
                virial[part] = self._network.virials(batch, output).numpy()
                row += batch.n_frames
        shift = np.array([self.references[int(z)] for z in frames.numbers])
        atomic += shift
        return Prediction(atomic.sum(1), forces, atomic, virial)

    def lammps_commands(self, species: Sequence[str]) -> list[str]:
        self.check_species(species)
        path = (self.folder / EXPORTED).resolve()
        return ["pair_style schnet", f'pair_coeff * * "{path}" {" ".join(species)}']

    def calculator(self) -> Any:
        from mlsel.training.calculator import ModelCalculator

        return ModelCalculator(self)

    def export(self) -> None:
        """Write model.pt, the file that `pair_style schnet` reads."""
        from ase.data import chemical_symbols

        from mlsel.export_model import export_schnet

        names = [chemical_symbols[z] for z in self.numbers]
        offsets = {n: self.references[z] for n, z in zip(names, self.numbers, strict=True)}
        with warnings.catch_warnings():
            # TorchScript is what LAMMPS can read; torch warns that it is deprecated
            warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
            export_schnet(
                self.model,
                self.folder / EXPORTED,
                names,
                energy_offset=offsets,
                rigidity=None if self.rigidity is None else self.rigidity.factors,
                shortest_distances=None if self.rigidity is None else self.rigidity.shortest,
                provenance={"network": dict(self.facts)},
            )
