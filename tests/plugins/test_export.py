"""The export: a model of schnetpack whole or refused by the part's name, as the cases have it.

The cases of wrong numbers that were found in use: spk_modules_dropped (ZBL and charges were left
out), spk_bessel (a table with another value at r = 0 than the limit).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsel.core.errors import MlselError
from mlsel.export_model import (
    SLOPE_ERROR_WANTED,
    export_message_passing,
    export_painn,
    export_schnet,
    read_metadata,
)
from mlsel.export_model.written_file import Answer, WrittenFile
from tests.plugins.potentials import (
    CUTOFF,
    atomwise,
    elemental,
    modules,
    potential,
    schnetpack_says,
    with_charges,
    with_zbl,
)
from tests.plugins.support import Agreement, evaluate_lammps, melts
from tests.support import Tolerance

SPECIES = ("Na", "Cl")
SENTENCE = 400


def refused(model: Any, folder: Path, export: Any = export_schnet, **more: Any) -> str:
    """The sentence with which a model is refused; no file is left."""
    with pytest.raises(MlselError) as error:
        export(model, folder / "model.pt", SPECIES, **more)
    assert list(folder.iterdir()) == []
    assert len(str(error.value)) <= SENTENCE
    return str(error.value)


def check_lammps(path: Path, mode: str, atoms: Any, right: Answer) -> None:
    found = evaluate_lammps(atoms, f"schnet {mode} threads 1", f"{path} Na Cl")
    assert found.energy == pytest.approx(right.energy, rel=Agreement.ENERGY_SAME_MODEL.value)
    scale = max(1.0, float(np.abs(right.forces).max()))
    difference = np.abs(found.forces - right.forces).max()
    assert difference < Agreement.FORCE_SAME_MODEL.value * scale


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("zbl_cutoff", [CUTOFF, 3.0, None])
@pytest.mark.parametrize(("kind", "export"), [("SchNet", export_schnet), ("PaiNN", export_painn)])
def test_zbl_is_exported_whole(
    kind: str, export: Any, zbl_cutoff: float | None, tmp_path: Path
) -> None:
    """spk_modules_dropped, its first half."""
    model = with_zbl(zbl_cutoff, kind=kind)
    more = {"compress": False} if kind == "SchNet" else {}
    path = export(model, tmp_path / "model.pt", SPECIES, **more)
    atoms = melts()[2]
    right = schnetpack_says(model, atoms)
    assert np.abs(right.forces).max() > 1  # the repulsion is felt
    check_lammps(path, "torchscript", atoms, right)


@pytest.mark.usefixtures("plugins")
def test_a_network_for_each_element_runs_in_both_modes(tmp_path: Path) -> None:
    """Elements named in another order than the networks', against schnetpack."""
    model = potential([elemental((17, 11))])
    path = export_schnet(model, tmp_path / "model.pt", SPECIES)
    metadata = read_metadata(path)
    assert metadata["widths"] == [13, 13, 13] and metadata["compressed"]["readout_per_element"]
    atoms = melts()[0]
    right = schnetpack_says(model, atoms)
    check_lammps(path, "torchscript", atoms, right)
    check_lammps(path, "compressed", atoms, right)
    assert WrittenFile(path).tables(atoms).energy == pytest.approx(right.energy, rel=Tolerance.SUMS)
    swapped = potential([elemental((11, 17))])  # the other element has each network
    assert abs(schnetpack_says(swapped, atoms).energy - right.energy) > 1e-3


def test_painn_with_a_network_for_each_element(tmp_path: Path) -> None:
    model = potential([elemental()], kind="PaiNN")
    path = export_painn(model, tmp_path / "model.pt", SPECIES)
    atoms = melts()[0]
    found = WrittenFile(path).torchscript(atoms, 2)
    assert found.energy == pytest.approx(schnetpack_says(model, atoms).energy, rel=Tolerance.SUMS)


def test_an_element_without_a_network_is_refused(tmp_path: Path) -> None:
    sentence = refused(potential([elemental((11, 9))]), tmp_path)
    assert "no output network for Cl: it has some for Na, F" in sentence


def test_tables_know_no_zbl(tmp_path: Path) -> None:
    assert "--no-tables" in refused(with_zbl(), tmp_path)


def test_charges_are_refused_by_name(tmp_path: Path) -> None:
    """spk_modules_dropped, its second half."""
    sentence = refused(with_charges(), tmp_path)
    assert "EnergyCoulomb" in sentence
    assert "coul/long" in sentence


def test_what_is_no_part_of_the_energy_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spk = modules()
    dipole = spk.atomistic.DipoleMoment(12, dipole_key="dipole")
    model = potential(
        [atomwise(), atomwise("gap", 5, aggregation_mode="avg"), dipole],
        postprocessors=[spk.transform.ScaleProperty("dipole", scale=np_tensor(7.0))],
    )
    with caplog.at_level(logging.INFO, "mlsel.export_model"):
        path = export_schnet(model, tmp_path / "model.pt", SPECIES)
    assert "gap (Atomwise)" in caplog.text
    assert "dipole (ScaleProperty)" in caplog.text
    atoms = melts()[0]
    right = schnetpack_says(model, atoms)
    assert WrittenFile(path).tables(atoms).energy == pytest.approx(right.energy, rel=Tolerance.SUMS)


def np_tensor(value: float) -> Any:
    import torch

    return torch.tensor([value])


def unknown(what: str) -> Any:
    """A module that the export cannot know."""
    import torch

    class Own(torch.nn.Module):  # type: ignore[misc]
        def forward(self, inputs: dict[str, Any]) -> dict[str, Any]:
            return inputs

    Own.__name__ = what
    return Own()


def derived(base: Any, *args: Any, **more: Any) -> Any:
    class Derived(base):  # type: ignore[misc]
        def forward(self, inputs: dict[str, Any]) -> dict[str, Any]:
            inputs = super().forward(inputs)
            return {key: 2 * value for key, value in inputs.items()}

    return Derived(*args, **more)


def scaled(*keys: str) -> list[Any]:
    return [modules().transform.ScaleProperty(key, scale=np_tensor(3.0)) for key in keys]


def offsets(**more: Any) -> list[Any]:
    return [modules().transform.AddOffsets("energy", add_mean=True, **more)]


REFUSED: dict[str, Callable[[], Any]] = {
    "output module Surprise": lambda: potential([atomwise(), unknown("Surprise")]),
    "input module Dressing": lambda: potential(inputs=[unknown("Dressing")]),
    "input module StaticExternalFields": lambda: potential(
        inputs=[modules().atomistic.StaticExternalFields(["electric_field"])]
    ),
    "postprocessor Polish": lambda: potential(postprocessors=[unknown("Polish")]),
    "postprocessor RemoveOffsets": lambda: potential(
        postprocessors=[modules().transform.RemoveOffsets("energy", remove_mean=True)]
    ),
    "output module Derived": lambda: potential(
        [derived(modules().atomistic.Atomwise, 12, output_key="energy")]
    ),
    "output module Response": lambda: potential(
        forces=[modules().atomistic.Response("energy", ["forces"])]
    ),
    "aggregation_mode = 'avg'": lambda: potential([atomwise(aggregation_mode="avg")]),
    "n_out = 2": lambda: potential([atomwise(n_out=2)]),
    "a sum of Atomwise, Atomwise": lambda: potential(
        [atomwise("a"), atomwise("b", 3), modules().atomistic.Aggregation(["a", "b"], "energy")]
    ),
    "2 energies (a, b)": lambda: potential([atomwise("a"), atomwise("b")], forces=[]),
    "no output module gives energy": lambda: potential([atomwise("other")]),
    "dipole_moment is DipoleMoment's, no energy": lambda: potential(
        [modules().atomistic.DipoleMoment(12)], forces=[]
    ),
    "Scale both alike ('energy' and 'forces')": lambda: potential(postprocessors=scaled("energy")),
    "the slope of 3 times": lambda: potential(postprocessors=scaled("forces")),
    "EnergyEwald is part of the energy": lambda: potential(
        [
            modules().atomistic.EnergyEwald(
                0.2, 2, "eV", "Ang", "ewald", use_neighbors_lr=False, charges_key="charges"
            ),
            atomwise("network"),
            modules().atomistic.Aggregation(["network", "ewald"], "energy"),
        ]
    ),
    "is_extensive = False": lambda: potential(postprocessors=offsets(is_extensive=False)),
    "do_postprocessing off": lambda: without_postprocessing(potential(postprocessors=offsets())),
    "FilterShortRange ends at 4": lambda: potential(
        inputs=[modules().atomistic.FilterShortRange(4.0)]
    ),
    "reaches to 6": lambda: with_zbl(6.0),
    "representation is SO3net": lambda: potential(kind="SO3net", lmax=1),
    "is a Derived": lambda: derived_model(),
}


def without_postprocessing(model: Any) -> Any:
    model.do_postprocessing = False
    return model


def derived_model() -> Any:
    model = potential()
    model.__class__ = type("Derived", (type(model),), {})
    return model


@pytest.mark.parametrize("part", REFUSED)
def test_refused_by_the_name_of_the_part(part: str, tmp_path: Path) -> None:
    assert part in refused(REFUSED[part](), tmp_path)


def test_elements_that_the_model_cannot_know(tmp_path: Path) -> None:
    """spk_cli, its last part."""
    with pytest.raises(MlselError, match="Md, number 101, is beyond the model's embedding"):
        export_schnet(potential(), tmp_path / "model.pt", ["Na", "Md"])
    short = modules().transform.AddOffsets(
        "energy", add_atomrefs=True, atomrefs=np_tensor(0.0).repeat(12)
    )
    with pytest.raises(MlselError, match="no reference energy for Cl, number 17: it ends at 11"):
        export_schnet(potential(postprocessors=[short]), tmp_path / "model.pt", SPECIES)


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("embedding", ["plain", "nuclear"])
def test_a_whole_model(embedding: str, tmp_path: Path) -> None:
    """Everything that is understood in one model: Strain, a long-range list, references, scales."""
    import torch

    spk = modules()
    references = torch.linspace(-3.0, 5.0, 100)
    nuclear = spk.nn.NuclearEmbedding(101, 12, zero_init=False) if embedding == "nuclear" else None
    model = potential(
        [atomwise("network", per_atom_output_key="local"), *scaled("network"),
         spk.atomistic.Aggregation(["network"], output_key="energy")],
        inputs=[spk.atomistic.Strain(), spk.atomistic.PairwiseDistances(),
                spk.atomistic.FilterShortRange(CUTOFF)],
        forces=[spk.atomistic.Forces(calc_stress=True)],
        nuclear_embedding=nuclear,
        postprocessors=[
            spk.transform.CastTo64(),
            spk.transform.AddOffsets("energy", add_atomrefs=True, atomrefs=references),
            *scaled("energy", "forces"),
            spk.transform.AddOffsets("energy", add_mean=True, property_mean=np_tensor(-1e5)),
        ],
    )  # fmt: skip
    atoms = melts()[1]
    path = export_schnet(model, tmp_path / "model.pt", SPECIES, energy_offset={"Na": 1, "Cl": 2})
    right = schnetpack_says(model, atoms)
    right = Answer(right.energy + 32 * 3.0, right.forces)
    for mode in ("compressed", "torchscript"):
        check_lammps(path, mode, atoms, right)


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_bessel_functions(dtype: str, tmp_path: Path) -> None:
    """spk_bessel: schnetpack's value at r = 0 is not the limit, which a table must have."""
    model = potential(basis=modules().nn.BesselRBF(8, CUTOFF))
    path = export_schnet(model, tmp_path / "model.pt", SPECIES, dtype=dtype)
    for error in read_metadata(path)["compressed"]["table_errors"]:
        assert error["slope"] <= SLOPE_ERROR_WANTED[dtype] * error["largest_slope"] * 1.2
    if dtype == "float64":
        atoms = melts()[0]
        check_lammps(path, "compressed", atoms, schnetpack_says(model, atoms))


def test_the_limit_at_zero() -> None:
    """Against schnetpack's own filters in steps so small that only their rounding is left."""
    from mlsel.export_model.tables import _Filters

    representation = potential(basis=modules().nn.BesselRBF(8, CUTOFF)).representation
    filters = _Filters(representation, 0, CUTOFF, 1.0)
    value, slope, curvature = filters.at_zero
    h = 1e-3
    beside = filters(np.array([h, 2 * h]), 1)
    # Bessel functions and cutoff are even in r: slopes c r + d r³
    expected = (8 * beside[1, 0] - beside[1, 1]) / (6 * h)
    scale = np.abs(curvature).max()
    assert np.abs(value - beside[0, 0] + curvature * h * h / 2).max() < 1e-10
    assert np.abs(slope).max() < 1e-9 * scale
    assert np.abs(curvature - expected).max() < 1e-6 * scale


def test_a_table_that_falls_short_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlsel.export_model.tables.MOST_KNOTS", 129)
    model = potential(basis=modules().nn.GaussianRBF(20, CUTOFF))
    with caplog.at_level(logging.WARNING, "mlsel.export_model"):
        export_schnet(model, tmp_path / "model.pt", SPECIES)
    assert "with 129 knots: more than the 2e-09" in caplog.text


def test_a_table_that_is_wrong_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlsel.export_model.tables.MOST_KNOTS", 65)
    sentence = refused(potential(basis=modules().nn.GaussianRBF(100, CUTOFF)), tmp_path)
    assert "its tables would give" in sentence
    assert "compress=False" in sentence


@pytest.mark.parametrize("kind", ["SchNet", "PaiNN"])
@pytest.mark.parametrize("fault", ["scale", "length", "mean", "mirror"])
def test_a_file_that_differs_gets_no_name(
    fault: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export made wrong on purpose, by one part in a hundred; float32 is compared with most
    tolerance."""
    import mlsel.export_model as rooms
    from mlsel.export_model.parts import Parts

    made = Parts.of
    if fault == "mirror":
        name = f"{kind.lower()}_layers"
        right = getattr(rooms, name)
        monkeypatch.setattr(rooms, name, lambda parts: without_mirror(right(parts)))
    else:

        def wrong(*args: Any) -> Any:
            import dataclasses

            parts = made(*args)
            value = getattr(parts, fault)
            return dataclasses.replace(parts, **{fault: value * 1.01 + 0.01 * (fault == "mean")})

        monkeypatch.setattr(Parts, "of", wrong)
    export = export_schnet if kind == "SchNet" else export_painn
    sentence = refused(potential(kind=kind), tmp_path, export, dtype="float32")
    assert sentence.startswith("The file was not written: at ")


def without_mirror(layers: Any) -> Any:
    """A module that forgets what the mirrored pairs carry."""
    import torch

    class Forgetful(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers

        @torch.jit.export
        def embed(self, numbers: torch.Tensor) -> torch.Tensor:
            return self.layers.embed(numbers)

        @torch.jit.export
        def edges(self, vectors: torch.Tensor) -> list[torch.Tensor]:
            return self.layers.edges(vectors)  # type: ignore[no-any-return]

        @torch.jit.export
        def interact(
            self,
            layer: int,
            x: torch.Tensor,
            edges: list[torch.Tensor],
            receivers: torch.Tensor,
            senders: torch.Tensor,
            n_local: int,
            n_mirrored: int,
        ) -> torch.Tensor:
            return self.layers.interact(layer, x, edges, receivers, senders, n_local, 0)

        @torch.jit.export
        def readout(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers.readout(x)

        def forward(self, numbers: torch.Tensor) -> torch.Tensor:
            return self.embed(numbers)

    return Forgetful()


def test_a_module_of_ones_own_must_be_the_same_on_two_ranks(tmp_path: Path) -> None:
    from schnetpack.representation import SchNet

    from mlsel.export_model.layers import schnet_layers
    from mlsel.export_model.parts import Parts

    layers = schnet_layers(Parts.of(potential(), SchNet, [11, 17], None, 1.0, 1.0))
    facts: dict[str, Any] = {
        "cutoff": CUTOFF, "widths": [12, 12, 12], "name": "own", "dtype": "float64",
    }  # fmt: skip
    path = export_message_passing(layers, tmp_path / "own.pt", SPECIES, **facts)
    right = schnetpack_says(potential(), melts()[0])
    found = WrittenFile(path).torchscript(melts()[0], 2)
    assert found.energy == pytest.approx(right.energy, rel=Tolerance.ROUNDING)
    path.unlink()
    assert "two ranks" in refused(without_mirror(layers), tmp_path, export_message_passing, **facts)
