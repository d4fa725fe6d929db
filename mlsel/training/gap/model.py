"""A fitted GAP: its file, and its predictions, by our own C++ or by QUIP."""

from __future__ import annotations

import atexit
import functools
import json
import os
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core.errors import MlselError, shortened
from mlsel.training.base import Prediction, TrainedModel
from mlsel.training.description import numbers_of
from mlsel.training.frames import FloatArray, Frames
from mlsel.training.gap.evaluator import SoapGap, open_gap

PRODUCT = "gap.xml"
FACTS = "gap.json"


def xml_label(path: Path) -> str:
    """Return the label of a GAP file, after reading all of it.

    QUIP ends the process when a file is wrong, so that this must be known before.

    Raises
    ------
    MlselError
        If it is not a whole GAP file.
    """
    label, has_points = "", False
    try:
        for _, element in ElementTree.iterparse(path):
            if element.tag == "Potential":
                label = element.get("label", "")
            has_points = has_points or element.tag == "sparseX"
            element.clear()
    except FileNotFoundError:
        raise MlselError(f"There is no potential {path}.") from None
    except ElementTree.ParseError as error:
        raise MlselError(f"{path} is no whole XML file ({error}).") from None
    if not label or not has_points:
        raise MlselError(f"{path} is no GAP: it has no labelled Potential with sparse points.")
    return label


def _try_in_a_child(words: str, path: str) -> None:
    """Let a forked child open a potential: QUIP ends the process that opens a file it can't read.

    Raises
    ------
    MlselError
        If it did.
    """
    from quippy.potential import Potential

    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                Potential(words, param_filename=path)
                status = 0
            except BaseException as error:
                os.write(2, str(error).encode())
            finally:
                os._exit(status)  # nothing of the parent's is flushed or finalized twice
        _, status = os.waitpid(child, 0)
        if status:
            said.seek(0)
            lines = said.read().decode("utf-8", "replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "no word")
            raise MlselError(
                f"{path} can't be read by QUIP ({shortened(last, 160)}): fit the GAP again."
            )


class GapModel(TrainedModel):
    """A fitted GAP."""

    kind = "gap"
    files = (PRODUCT, FACTS)
    pair_style = "quip"

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder, self.facts = folder, facts
        self.numbers = numbers_of(facts)
        self._label = xml_label(folder / PRODUCT)
        self._potential: Any = None

    @functools.cached_property
    def _evaluator(self) -> SoapGap | None:
        return open_gap(self.folder / PRODUCT)

    @classmethod
    def load(cls, folder: Path) -> GapModel:
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            return cls(folder, facts)
        except FileNotFoundError:
            raise MlselError(
                f"{folder} holds no GAP ({FACTS} is missing): train it with `mlsel training`."
            ) from None
        except (ValueError, KeyError, TypeError):
            raise MlselError(f"{folder / FACTS} is damaged: train the model again.") from None

    def _quip(self) -> Any:
        if self._potential is None:
            import quippy
            from quippy.potential import Potential

            # Its clean-up at exit ends the process with an error where pair_style quip ran too:
            # the two share QUIP's state, and a process that ends needs none.
            atexit.unregister(quippy.quippy_cleanup)

            path, words = str(self.folder / PRODUCT), f"IP GAP label={self._label}"
            _try_in_a_child(words, path)
            self._potential = Potential(words, param_filename=path)
        return self._potential

    def predict(self, frames: Frames) -> Prediction:
        self.check(frames.numbers)
        if self._evaluator is None:
            return self.predict_with_quippy(frames)
        return self._evaluator.predict(frames)

    @property
    def has_uncertainty(self) -> bool:
        return self._evaluator is not None

    def uncertainty(self, frames: Frames) -> FloatArray:
        self.check(frames.numbers)
        if self._evaluator is None:
            raise MlselError(
                f"{self.folder / PRODUCT} is evaluated by quippy, whose local_gap_variance tells "
                "the uncertainty of atoms."
            )
        sigma: FloatArray = np.sqrt(np.maximum(self._evaluator.variances(frames), 0.0))
        return sigma

    def predict_with_quippy(self, frames: Frames) -> Prediction:
        """Like `predict`, by QUIP: slow, and what `predict` is tested against."""
        self.check(frames.numbers)
        quip = self._quip()
        n = len(frames)
        energy, virial = np.empty(n), np.empty((n, 3, 3))
        atomic, forces = np.empty((n, frames.n_atoms)), np.empty((n, frames.n_atoms, 3))
        for k in range(n):
            atoms = frames.atoms(k)
            wanted = ["energy", "forces", "energies", *(["stress"] if all(atoms.pbc) else [])]
            quip.calculate(atoms, wanted, ["positions", "numbers", "cell", "pbc"])
            energy[k] = quip.results["energy"]
            forces[k] = quip.results["forces"]
            atomic[k] = quip.results["energies"]
            if all(atoms.pbc):
                stress = quip.results["stress"]
                virial[k] = -stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3) * atoms.get_volume()
        return Prediction(energy, forces, atomic, virial if all(frames.periodic) else None)

    def lammps_commands(self, species: Sequence[str]) -> list[str]:
        from ase.data import atomic_numbers

        self.check_species(species)
        path = (self.folder / PRODUCT).resolve()
        numbers = " ".join(str(atomic_numbers[symbol]) for symbol in species)
        return [
            "pair_style quip",
            f'pair_coeff * * "{path}" "Potential xml_label={self._label}" {numbers}',
        ]

    def calculator(self) -> Any:
        from mlsel.training.calculator import ModelCalculator

        return ModelCalculator(self)
