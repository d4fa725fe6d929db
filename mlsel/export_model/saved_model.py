"""Reading what schnetpack saved: a whole model, or a sentence that says what it is instead."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlsel.core.errors import MlselError, shortened
from mlsel.export_model.parts import torchscript
from mlsel.export_model.potential_file import METADATA_ENTRY

WANTED = "give the best_model that spktrain writes, or what torch.save(model, …) saved"


def load_model(path: Path) -> Any:
    """Return schnetpack's model in a file of torch.save.

    schnetpack saves whole objects: reading one runs its code, as opening it with schnetpack does.

    Raises
    ------
    MlselError
        If there is no such file, or it is something else: a checkpoint, a state dict, a
        TorchScript archive, text.
    """
    import torch

    if path.is_dir():
        inside = path / "best_model"
        more = f": give {inside}." if inside.is_file() else f": {WANTED}."
        raise MlselError(f"{path} is a folder{more}")
    if not path.is_file():
        raise MlselError(f"There is no model {path}: {WANTED}.")
    _refuse_archives(path)
    try:
        with torchscript():
            model = torch.load(path, map_location="cpu", weights_only=False)
    except (ModuleNotFoundError, AttributeError) as error:
        raise MlselError(
            f"{path} needs Python code that is not installed here "
            f"({shortened(str(error), 120)}): install what the model was trained with."
        ) from None
    except Exception as error:  # unpickling raises whatever the bytes lead it to
        raise MlselError(
            f"{path} is no file of torch.save ({type(error).__name__}): {WANTED}."
        ) from None
    _refuse_others(path, model)
    if not hasattr(getattr(model, "representation", None), "electronic_embeddings"):
        model.representation.electronic_embeddings = []  # models of schnetpack before 2.1
    return model


def _refuse_archives(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError):
        return  # torch says what it is not
    if any(name.endswith("extra/" + METADATA_ENTRY) for name in names):
        raise MlselError(f"{path} is a file for pair_style schnet already, as pair_coeff reads it.")
    if any(name.endswith("constants.pkl") for name in names):
        raise MlselError(
            f"{path} is TorchScript, as spkdeploy writes it for schnetpack's own LAMMPS patch: "
            "give the model that was deployed, spktrain's best_model."
        )


def _refuse_others(path: Path, model: Any) -> None:
    import torch

    if isinstance(model, Mapping) and "state_dict" in model:
        raise MlselError(
            f"{path} is a checkpoint of a training: give the best_model that spktrain keeps in the "
            "run's folder, or save the checkpoint's model: torch.save(AtomisticTask."
            f"load_from_checkpoint('{path.name}', weights_only=False).model, 'best_model')."
        )
    if isinstance(model, Mapping) and any(torch.is_tensor(one) for one in model.values()):
        raise MlselError(
            f"{path} is a state dict, parameters without their model: build the model, "
            "load_state_dict them, and give what torch.save(model, 'best_model') saves."
        )
    if type(model).__name__ == "AtomisticTask":
        raise MlselError(
            f"{path} is schnetpack's training task: give the best_model beside it, or what "
            "torch.save(task.model, 'best_model') saves."
        )
    if not isinstance(model, torch.nn.Module) or not hasattr(model, "representation"):
        held = type(model).__name__
        raise MlselError(f"{path} holds a {held}, no model of schnetpack: {WANTED}.")
