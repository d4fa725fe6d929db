"""Where a network is trained: a GPU of this machine, or the CPU."""

from __future__ import annotations

import os

from mlsel.core.errors import MlselError


def local_rank() -> int:
    """Return this process's number among those that the launcher started on this machine."""
    from mlsel.core.parallel import launched_rank

    for name in ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return launched_rank()


def choose_device(wanted: str, tf32: bool = False, place: int = 0) -> str:
    """Return the device to use: the GPU of this place, modulo their number, or the CPU.

    Raises
    ------
    MlselError
        If CUDA is asked for and torch sees none.
    """
    import torch

    if wanted == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        if wanted == "cuda":
            raise MlselError(
                "training.schnet.device is cuda, but torch sees no CUDA device here: "
                'set it to "cpu" or "auto", or start on a machine with a GPU and its driver.'
            )
        return "cpu"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    return f"cuda:{place % torch.cuda.device_count()}"
