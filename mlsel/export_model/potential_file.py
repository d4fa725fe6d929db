"""The file that `pair_style schnet` runs: TorchScript and two more entries in its archive."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core.errors import MlselError
from mlsel.core.files import DurableFile, creating
from mlsel.export_model.parts import Array, torchscript

FORMAT = "mlsel-potential"
FORMAT_VERSION = 1
METADATA_ENTRY = "mlsel.json"
ARRAYS_ENTRY = "mlsel.bin"


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return what a file tells of its model, without torch.

    Raises
    ------
    MlselError
        If there is no such file or it was not exported by mlsel.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(
                name for name in archive.namelist() if name.endswith("extra/" + METADATA_ENTRY)
            )
            metadata: dict[str, Any] = json.loads(archive.read(name))
    except FileNotFoundError:
        raise MlselError(f"There is no model {path}.") from None
    except (OSError, zipfile.BadZipFile, StopIteration, ValueError) as error:
        raise MlselError(
            f"{path} is no potential that mlsel exported ({type(error).__name__}): "
            "make one with mlsel.export_model."
        ) from None
    return metadata


def energy_offsets(
    symbols: Sequence[str], energy_offset: float | Mapping[str, float]
) -> dict[str, float]:
    """Return what is added to an atom of each species, eV.

    Raises
    ------
    MlselError
        If a mapping names other species than the model has.
    """
    if not isinstance(energy_offset, Mapping):
        return {symbol: float(energy_offset) for symbol in symbols}
    if set(energy_offset) != set(symbols):
        raise MlselError(
            f"energy_offset names {sorted(energy_offset)}, the species are {sorted(symbols)}."
        )
    return {symbol: float(energy_offset[symbol]) for symbol in symbols}


@dataclass(frozen=True)
class Potential:
    """What is written: the module with the four methods, and what the metadata tell of it.

    `offsets` are eV by symbol; `numbers` belong to them in order. `compressed` describes `arrays`,
    the tables of the compressed mode. `shortest` are the training set's distances (Å).
    """

    layers: Any
    name: str
    numbers: Sequence[int]
    offsets: Mapping[str, float]
    cutoff: float
    dtype: str
    widths: Sequence[int]
    provenance: Mapping[str, object]
    compressed: Mapping[str, object] | None = None
    arrays: Mapping[str, Array] = field(default_factory=dict)
    shortest: Sequence[Sequence[float]] | None = None

    def write(self, path: Path, check: Callable[[Path], None]) -> Path:
        """Write the file, and give it its name if `check` finds nothing wrong with it.

        Raises
        ------
        MlselError
            If the offsets are not finite, and what `check` raises; there is no file then.
        """
        import torch

        from mlsel.core.provenance import versions

        if not math.isfinite(sum(self.offsets.values())):
            raise MlselError(f"The energy offsets {dict(self.offsets)} are not finite numbers.")
        blob, index, offset = [], {}, 0
        for key, array in self.arrays.items():
            index[key] = {"shape": list(array.shape), "offset": offset}
            blob.append(array.tobytes())
            offset += array.nbytes
        metadata = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "model": self.name,
            "species": list(self.offsets),
            "numbers": list(self.numbers),
            "cutoff": self.cutoff,
            "units": {"length": "Angstrom", "energy": "eV"},
            "dtype": self.dtype,
            "n_layers": len(self.widths) - 1,
            "widths": list(self.widths),
            "energy_offsets": list(self.offsets.values()),
            "n_parameters": sum(one.numel() for one in self.layers.parameters()),
            "versions": versions("torch", "schnetpack"),
            "compressed": None if self.compressed is None else {**self.compressed, "arrays": index},
            "provenance": dict(self.provenance),
            **({} if self.shortest is None else {"shortest_distances": self.shortest}),
        }
        with torchscript():
            scripted = torch.jit.script(self.layers.eval())
            # In memory: torch crashes on a full disk, and puts a path's name into the file.
            image = io.BytesIO()
            torch.jit.save(
                scripted,
                image,
                _extra_files={
                    METADATA_ENTRY: json.dumps(metadata, indent=1).encode(),
                    ARRAYS_ENTRY: b"".join(blob),
                },
            )
            with creating(path, DurableFile) as unfinished:
                unfinished.write(image.getvalue())
                check(unfinished.path)
        return path


def read_arrays(path: Path, metadata: Mapping[str, Any]) -> dict[str, Array]:
    """Return the arrays of the compressed mode as the file holds them, float64."""
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("extra/" + ARRAYS_ENTRY))
        blob = archive.read(name)
    return {
        key: np.ndarray(one["shape"], "<f8", blob, one["offset"])
        for key, one in metadata["compressed"]["arrays"].items()
    }
