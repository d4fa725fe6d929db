"""checkpoint.pt: the state of a training after its last whole epoch."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlsel.core.errors import MlselError
from mlsel.core.files import write_bytes
from mlsel.core.record import differences

NAME = "checkpoint.pt"


def read(
    path: Path, identity: Mapping[str, Any], defaults: Mapping[str, Any], device: str
) -> dict[str, Any] | None:
    """Return a checkpoint's state, None where there is none.

    `defaults` are the values that parts of an identity had before there were keys for them.

    Raises
    ------
    MlselError
        If it is damaged, or of a training of another identity.
    """
    import torch

    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (OSError, torch.OutOfMemoryError):
        raise  # says nothing of the file
    except Exception as error:
        raise MlselError(
            f"{path} is damaged ({type(error).__name__}): remove it, the training then starts anew."
        ) from None
    changed = differences(state["identity"], identity, defaults)
    if changed:
        raise MlselError(
            f"{path} belongs to another training: {'; '.join(changed)}. Choose another folder "
            "with -o, or remove this one."
        )
    return state


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Write what torch.save makes; made in memory, since torch crashes on a full disk."""
    import torch

    image = io.BytesIO()
    torch.save(state, image)
    write_bytes(path, image.getvalue())
