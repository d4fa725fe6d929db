"""What a model of schnetpack is made of."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from mlsel.core.errors import MlselError

Array = npt.NDArray[Any]
DTYPES = ("float32", "float64")


@contextmanager
def torchscript() -> Iterator[None]:
    """Torch would have us leave TorchScript, which schnetpack uses and libtorch alone reads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit")
        yield


@dataclass(frozen=True)
class Parts:
    """A copy of the model, taken apart: on the CPU, in the precision asked for."""

    model: Any
    representation: Any
    readout: Any
    cutoff: float
    dtype: str
    scale: float
    mean: float
    atomic_references: Array | None

    @classmethod
    def of(cls, model: Any, kind: Any, dtype: str | None) -> Parts:
        import torch

        with torchscript():
            import schnetpack.transform as transforms
            from schnetpack.atomistic import Atomwise

        representation: Any = getattr(model, "representation", None)
        if not isinstance(representation, kind):
            raise MlselError(
                f"The model's representation is {type(representation).__name__}, "
                f"and this exports {kind.__name__}."
            )
        if len(representation.electronic_embeddings):
            raise MlselError("Electronic embeddings (charge, spin) cannot be exported.")
        own = str(next(model.parameters()).dtype).removeprefix("torch.")
        dtype = dtype or own
        if dtype not in DTYPES:
            raise MlselError(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}.")
        atomwise = [module for module in model.output_modules if isinstance(module, Atomwise)]
        if len(atomwise) != 1 or atomwise[0].n_out != 1:
            raise MlselError(
                f"The model has {len(atomwise)} Atomwise modules for energies; "
                "one, with n_out = 1, can be exported."
            )
        if atomwise[0].aggregation_mode == "avg":
            raise MlselError("The energy is an average over atoms; only a sum can be exported.")
        scale, mean, references = 1.0, 0.0, None
        for transform in model.postprocessors:
            if isinstance(transform, transforms.CastTo32 | transforms.CastTo64):
                continue
            if isinstance(transform, transforms.AddOffsets) and transform.is_extensive:
                if transform.add_mean:
                    mean += float(transform.mean)
                if transform.add_atomrefs:
                    own_references = transform.atomref.detach().cpu().double().numpy().ravel()
                    references = own_references + (0.0 if references is None else references)
            elif isinstance(transform, transforms.ScaleProperty):
                factor = float(transform.scale)
                scale, mean = scale * factor, mean * factor
                references = None if references is None else references * factor
            else:
                raise MlselError(
                    f"The postprocessor {type(transform).__name__} cannot be exported: AddOffsets "
                    "(extensive), ScaleProperty, CastTo32 and CastTo64 can."
                )
        model = copy.deepcopy(model).cpu().eval().to(getattr(torch, dtype))
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        readout = next(module for module in model.output_modules if isinstance(module, Atomwise))
        representation = model.representation
        cutoff = float(representation.cutoff_fn.cutoff)
        return cls(model, representation, readout, cutoff, dtype, scale, mean, references)


def atomic_numbers_of(species: Sequence[str | int]) -> list[int]:
    from ase.data import atomic_numbers

    try:
        numbers = [atomic_numbers[one] if isinstance(one, str) else int(one) for one in species]
    except KeyError as error:
        raise MlselError(f"{error.args[0]!r} among the species is no chemical element.") from None
    if not numbers or len(set(numbers)) != len(numbers) or not all(0 < n < 119 for n in numbers):
        raise MlselError(f"The species are {list(species)}; each must be an element, named once.")
    return numbers
