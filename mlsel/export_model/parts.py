"""What a model of schnetpack is made of."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from mlsel.core.errors import MlselError
from mlsel.export_model.energy import Energy, reach

log = logging.getLogger(__name__)

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
    """A copy of the model, taken apart: on the CPU, in the precision asked for.

    `cutoff` is in Å, `length` the model's unit of length in Å; `scale`, `repulsion_scale`, `mean`
    and `atomic_references` (by atomic number) make eV of what the modules give.
    """

    representation: Any
    readout: Any
    cutoff: float
    dtype: str
    length: float
    scale: float
    mean: float
    atomic_references: Array | None
    repulsion: Any | None
    repulsion_scale: float
    left_out: tuple[str, ...]

    @classmethod
    def of(
        cls,
        model: Any,
        kind: Any,
        numbers: Sequence[int],
        dtype: str | None,
        ev: float,
        angstrom: float,
    ) -> Parts:
        """Take a model apart whose units are `ev` eV and `angstrom` Å.

        Raises
        ------
        MlselError
            If there is a part that the file cannot express, by its name.
        """
        import torch

        with torchscript():
            from schnetpack.model import NeuralNetworkPotential

        representation: Any = getattr(model, "representation", None)
        if type(model) is not NeuralNetworkPotential:
            raise MlselError(
                f"The model is a {type(model).__name__}; schnetpack's NeuralNetworkPotential can "
                "be exported."
            )
        if type(representation) is not kind:
            raise MlselError(
                f"The model's representation is {type(representation).__name__}, "
                f"and this exports {kind.__name__}."
            )
        if len(getattr(representation, "electronic_embeddings", ())):
            raise MlselError("Electronic embeddings (charge, spin) cannot be exported.")
        own = str(next(model.parameters()).dtype).removeprefix("torch.")
        dtype = dtype or own
        if dtype not in DTYPES:
            raise MlselError(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}.")
        with torchscript():
            energy = Energy.of(model)
        _check_inputs(model.input_modules, reach(representation.cutoff_fn))
        # converted before eval(): NuclearEmbedding then works its rows out in this precision
        try:
            taken = copy.deepcopy((representation, energy.readout, energy.repulsion))
        except RuntimeError as error:
            raise MlselError(
                f"The model cannot be copied ({str(error)[:120]}): call its eval() first."
            ) from error
        for module in taken:
            if module is not None:
                module.cpu().to(getattr(torch, dtype)).eval()
                for parameter in module.parameters():
                    parameter.requires_grad_(False)
        _check_elements(taken[0].embedding, energy.references, numbers)
        _check_networks(taken[1], numbers)
        parts = cls(
            representation=taken[0],
            readout=taken[1],
            cutoff=reach(taken[0].cutoff_fn) * angstrom,
            dtype=dtype,
            length=angstrom,
            scale=energy.scale * ev,
            mean=energy.mean * ev,
            atomic_references=None if energy.references is None else energy.references * ev,
            repulsion=taken[2],
            repulsion_scale=energy.repulsion_scale * ev,
            left_out=energy.left_out,
        )
        parts.check_repulsion()
        return parts

    @property
    def networks(self) -> dict[int, list[Any]] | None:
        """The dense layers of each element's output network; None where all share one."""
        elements = getattr(self.readout, "elements", None)
        if elements is None:
            return None
        return dict(zip(elements, map(list, self.readout.outnets), strict=True))

    def offset(self, number: int) -> float:
        """Return what an atom of an element has beside its network's energy, eV."""
        references = self.atomic_references
        return self.mean + (0.0 if references is None else float(references[number]))

    def check_repulsion(self) -> None:
        if self.repulsion is None:
            return
        function = self.repulsion.cutoff_fn
        if function is not None and reach(function) * self.length > self.cutoff * (1 + 1e-6):
            raise MlselError(
                f"ZBLRepulsionEnergy reaches to {reach(function) * self.length:g} Å, farther than "
                f"the representation's cutoff of {self.cutoff:g} Å: that cannot be exported. Train "
                "without it, and add LAMMPS's zbl by pair_style hybrid/overlay."
            )

    def tell(self) -> None:
        """Log what a user may not expect."""
        if self.left_out:
            log.info("Left out, as no part of the energy: %s.", ", ".join(self.left_out))
        if self.repulsion is not None and self.repulsion.cutoff_fn is None:
            log.info(
                "ZBLRepulsionEnergy has no cutoff function: as in schnetpack its energy ends where "
                "the list of neighbours does, here at the representation's cutoff, %g Å.",
                self.cutoff,
            )


def _check_networks(readout: Any, numbers: Sequence[int]) -> None:
    from ase.data import chemical_symbols

    known = getattr(readout, "elements", numbers)
    for number in numbers:
        if number not in known:
            raise MlselError(
                f"The model has no output network for {chemical_symbols[number]}: it has some for "
                f"{', '.join(chemical_symbols[z] for z in known)}. Name these elements."
            )


def _check_inputs(modules: Any, cutoff: float) -> None:
    with torchscript():
        from schnetpack.atomistic import FilterShortRange, PairwiseDistances, Strain

    for module in modules:
        kind = type(module)
        if kind is FilterShortRange:
            if module.short_range_cutoff < cutoff * (1 - 1e-6):
                raise MlselError(
                    f"FilterShortRange ends at {module.short_range_cutoff:g}, before the cutoff of "
                    f"the representation, {cutoff:g}: pairs between them cannot be left out."
                )
        elif kind not in (PairwiseDistances, Strain):
            raise MlselError(
                f"The input module {kind.__name__} cannot be exported: nothing is known here of "
                "what it does to the energy. Known are PairwiseDistances, Strain and "
                "FilterShortRange."
            )


def _check_elements(embedding: Any, references: Array | None, numbers: Sequence[int]) -> None:
    import torch
    from ase.data import chemical_symbols

    for number in numbers:
        try:
            row = embedding(torch.tensor([number]))
        except IndexError:
            row = None
        symbol = chemical_symbols[number]
        if row is None:
            raise MlselError(
                f"{symbol}, number {number}, is beyond the model's embedding of elements: it "
                "cannot have been trained on it. Name the elements that it was trained on."
            )
        if not torch.isfinite(row).all():
            raise MlselError(f"The model's embedding of {symbol} is not finite numbers.")
        if references is not None and number >= len(references):
            raise MlselError(
                f"AddOffsets has no reference energy for {symbol}, number {number}: it ends at "
                f"{len(references) - 1}."
            )


def atomic_numbers_of(species: Sequence[str | int]) -> list[int]:
    from ase.data import atomic_numbers

    try:
        numbers = [atomic_numbers[one] if isinstance(one, str) else int(one) for one in species]
    except KeyError as error:
        raise MlselError(f"{error.args[0]!r} among the species is no chemical element.") from None
    if not numbers or len(set(numbers)) != len(numbers) or not all(0 < n < 119 for n in numbers):
        raise MlselError(f"The species are {list(species)}; each must be an element, named once.")
    return numbers
