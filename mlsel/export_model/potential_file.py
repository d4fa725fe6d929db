"""The file that `pair_style schnet` runs: TorchScript and two more entries in its archive."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlsel.core.errors import MlselError
from mlsel.core.files import finishing
from mlsel.export_model.parts import Array, Parts, torchscript

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


def write_potential(
    layers: Any,
    path: Path,
    numbers: Sequence[int],
    parts: Parts,
    name: str,
    widths: Sequence[int],
    energy_offset: float | Mapping[str, float],
    provenance: Mapping[str, object] | None,
    compressed: dict[str, object] | None,
    arrays: Mapping[str, Array],
) -> Path:
    import torch
    from ase.data import chemical_symbols

    from mlsel.core.provenance import versions

    symbols = [chemical_symbols[number] for number in numbers]
    if isinstance(energy_offset, Mapping) and set(energy_offset) != set(symbols):
        raise MlselError(
            f"energy_offset names {sorted(energy_offset)}, the species are {sorted(symbols)}."
        )
    offsets = [
        float(energy_offset[symbol] if isinstance(energy_offset, Mapping) else energy_offset)
        + parts.mean
        + (0.0 if parts.atomic_references is None else float(parts.atomic_references[number]))
        for symbol, number in zip(symbols, numbers, strict=True)
    ]
    blob, index, offset = [], {}, 0
    for key, array in arrays.items():
        index[key] = {"shape": list(array.shape), "offset": offset}
        blob.append(array.tobytes())
        offset += array.nbytes
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": name,
        "species": symbols,
        "numbers": list(numbers),
        "cutoff": parts.cutoff,
        "units": {"length": "Angstrom", "energy": "eV"},
        "dtype": parts.dtype,
        "n_layers": len(widths) - 1,
        "widths": list(widths),
        "energy_offsets": offsets,
        "n_parameters": sum(parameter.numel() for parameter in layers.parameters()),
        "versions": versions("torch", "schnetpack"),
        "compressed": None if compressed is None else {**compressed, "arrays": index},
        "provenance": dict(provenance or {}),
    }
    if not math.isfinite(sum(offsets)):
        raise MlselError(f"The energy offsets {offsets} are not finite numbers.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with torchscript():
        scripted = torch.jit.script(layers.eval())
        with finishing(path) as unfinished:
            torch.jit.save(
                scripted,
                str(unfinished),
                _extra_files={
                    METADATA_ENTRY: json.dumps(metadata, indent=1).encode(),
                    ARRAYS_ENTRY: b"".join(blob),
                },
            )
    return path
