"""gap_fit, the program that quippy-ase brings: its input, its run, what came of it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mlsel.core import stopping
from mlsel.core.errors import MlselError
from mlsel.core.files import DurableFile, creating_text, remove, write_bytes
from mlsel.core.provenance import digest
from mlsel.training.frames import Frames, symbols
from mlsel.training.gap.model import PRODUCT, xml_label

LOG = "gap_fit.log"
TRAINING_FILE = "train.extxyz"
VIRIAL = "REF_virial"
SCRATCH = ".gap_fit.partial"
"""The folder that gap_fit runs in, below the model's: killed, it leaves more than its product."""
UNFINISHED = f".{PRODUCT}.partial"
"""What gap_fit writes; always the same, since the name stands in the file."""
PROGRAM = "MLSEL_GAP_FIT"
"""Environment variable that names another gap_fit than quippy's."""


def find_program() -> str:
    """Return gap_fit's path.

    Raises
    ------
    MlselError
        If there is none.
    """
    from importlib.util import find_spec

    named = os.environ.get(PROGRAM)
    spec = find_spec("quippy")
    path = Path(named) if named else Path((spec and spec.origin) or "quippy").with_name("gap_fit")
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise MlselError(
            f"gap_fit is not at {path}: "
            + (f"set {PROGRAM} to a program." if named else "pip install quippy-ase brings it.")
        )
    return str(path)


@contextmanager
def scratch(out: Path) -> Iterator[Path]:
    """Yield an empty folder for gap_fit below a model's, for as long as it runs."""
    folder = out / SCRATCH
    remove(folder)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove(folder)


def write_frames(path: Path, frames: Sequence[Frames]) -> None:
    """Write gap_fit's input: extended XYZ with REF_energy, REF_forces and, of frames that have
    one, REF_virial: QUIP's virial is ours, −∂E/∂ε."""
    with creating_text(path) as file:
        for part in frames:
            assert part.energy is not None and part.forces is not None
            names = [symbols([int(z)]) for z in part.numbers]
            periodic = " ".join("T" if p else "F" for p in part.periodic)
            for k in range(len(part)):
                lattice = " ".join(f"{x:.12g}" for x in part.cell[k].ravel())
                virial = ""
                if part.virial is not None:
                    numbers = " ".join(f"{x:.12g}" for x in part.virial[k].ravel())
                    virial = f'{VIRIAL}="{numbers}" '
                file.write(
                    f'{part.n_atoms}\nLattice="{lattice}" pbc="{periodic}" '
                    f"REF_energy={part.energy[k]:.12g} {virial}"
                    "Properties=species:S:1:pos:R:3:REF_forces:R:3\n"
                )
                rows = np.concatenate((part.positions[k], part.forces[k]), axis=1)
                for name, row in zip(names, rows.tolist(), strict=True):
                    file.write(f"{name} " + " ".join(f"{x:.12g}" for x in row) + "\n")


def run(
    command: Sequence[str],
    folder: Path,
    log: Path,
    n_parts: int,
    on_stage: Callable[[float, str], None],
    inherited: Sequence[int] = (),
) -> int:
    """Run gap_fit in a folder, its output streamed to the log; return its code.

    Parameters
    ----------
    n_parts : int
        Coordinates of the fit: one of each descriptor's.
    on_stage : callable
        Told the share done (0 … 1) and a few words, whenever a stage begins.
    inherited : file descriptors
        That gap_fit holds open for as long as it lives.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = 0.0
    on_stage(0.0, "gap_fit starts")
    with (
        io.BufferedWriter(DurableFile(log, "w")) as kept,
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=inherited,
        ) as process,
        stopping.calling(process.terminate),
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                kept.write(line.encode())
                stage = _stage(line, n_parts)
                if stage and stage[0] > done:
                    kept.flush()
                    done = stage[0]
                    on_stage(done, stage[1])
        except BaseException:
            process.kill()
            raise
        return process.wait()


def judge(name: str, code: int, product: Path, log: Path) -> None:
    """Raise MlselError unless gap_fit ended with a potential."""
    tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = next((x.strip() for x in reversed(tail) if "ABORT" in x or "rror" in x), "")
    if code < 0:
        reason = f"was killed by signal {-code} ({signal.Signals(-code).name})"
        if -code == signal.SIGKILL:
            reason += ", as happens when memory runs out"
    elif not product.is_file():
        reason = f"ended with code {code} and left no potential"
    else:
        try:
            xml_label(product)
            return
        except MlselError as error:
            reason = f"ended with code {code}: {error}"
    raise MlselError(
        f"{name}: gap_fit {reason}{f' ({said})' if said else ''}. Its output is in {log}."
    )


def relabel(path: Path) -> None:
    """Name a GAP by its content: gap_fit names it by the time of day, so that no two are alike."""
    text, label = path.read_bytes(), xml_label(path).encode()
    name = f"GAP_{digest(text.replace(label, b'GAP'))[:16]}"
    write_bytes(path, text.replace(label, name.encode()))


def _stage(line: str, n_parts: int) -> tuple[float, str] | None:
    """Return share done and a few words, where a line of gap_fit's tells a new stage."""
    line = line.strip()
    if line.startswith(("XML file written", "TIMER: GP sparsify")):
        return 0.99, "writes the potential"
    if line.startswith("TIMER: Build linear system"):
        return 0.93, "solves the linear system"
    if line.startswith("Cartesian coordinates transformed"):
        return 0.15, "descriptors are there"
    for word, step in (("Started", 0), ("Finished", 1)):
        head = f"{word} sparse covariance matrix calculation of coordinate "
        if line.startswith(head) and line.removeprefix(head).isdigit():
            k = int(line.removeprefix(head))
            share = 0.15 + 0.75 * (k - 1 + step) / n_parts
            return min(0.9, share + 0.001), f"covariances, part {min(k + step, n_parts)}"
    return None
