"""Whether the memory of a stage grows with its input: peak RSS at n and at 8 n frames.

    python -m benchmarks.memory [--frames 8000] [--only NAME]

Each command runs in a process of its own on a synthetic pool of n frames of 200 atoms and on one of
8 n. A command that reads in blocks (32 MiB) has its block at n frames already, so that the ratio
tells what it keeps of each frame. MD, import and training have inputs of their own sizes, told in
their lines. Selection's methods are those that docs/selection.md calls out of core.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.claims import Claims

TIMES = 8
UNFINISHED = 1
"""Exit code of `status` where a stage isn't done."""
BOUND = 1.25
"""Of the ratio; a few numbers a frame (an id, a key, a hash) are allowed for."""
N_ATOMS = 200
FEW_ATOMS = 20
"""Of the pool that is checked, exported as text and imported: these take long."""
OUT_OF_CORE = (
    "random", "global-energy", "atomic-energy", "force", "single-md-random"
)  # fmt: skip
STUDY = """
[system]
species = ["Na", "Cl"]
potential = "nacl-tosi-fumi"
n_atoms = 64
[pool]
temperatures = [1800]
pressures = [1]
melt_temperature = 3000
melt = 0.01
equilibration = 0.01
frames_per_run = {n}
sampling_interval = 1
checkpoint_interval = 400
"""


@dataclass(frozen=True)
class Input:
    """What commands are given: n frames of everything, in a folder."""

    folder: Path
    n: int


def mlsel(*words: object) -> list[str]:
    return [sys.executable, "-m", "mlsel", *map(str, words)]


def peak(command: Sequence[str], folder: Path) -> float:
    """Return the peak resident memory of a command that succeeds, MiB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in ((0, UNFINISHED) if "status" in command else (0,)):
            said.seek(0)
            raise SystemExit(f"{' '.join(command)}:\n{said.read().decode()[-2000:]}")
    return used.ru_maxrss / 1024


def prepare(folder: Path, n: int) -> None:
    """Write a pool, a folder with it as two data sets and a test set, and a trajectory."""
    from benchmarks.synthetic import write_synthetic_pool

    write_synthetic_pool(folder / "pool.h5", n, N_ATOMS, frames_per_run=max(200, n // 8))
    study = folder / "study"
    (study / "data").mkdir(parents=True)
    for name in ("random", "force", "test"):
        os.link(folder / "pool.h5", study / "data" / f"{name}.h5")
    os.link(folder / "pool.h5", study / "pool.h5")
    write_synthetic_pool(folder / "small.h5", n // 10, FEW_ATOMS, frames_per_run=max(200, n // 80))
    subprocess.run(mlsel("export", "small.h5", "in.extxyz"), cwd=folder, check=True,
                   capture_output=True)  # fmt: skip
    (folder / "tiny.toml").write_text(STUDY.format(n=n // 10), encoding="utf-8")


def commands(given: Input) -> dict[str, list[str]]:
    """Return each command, by what it is called in the claims."""
    n_small = given.n // 10
    found = {
        "info": mlsel("info", "pool.h5"),
        "status": mlsel("status", "study"),
        f"check ({n_small} frames of {FEW_ATOMS} atoms)": mlsel("check", "small.h5"),
        "figure pool": mlsel("figure", "pool", "pool.h5", "-o", "pool.png"),
        "figure distributions": mlsel(
            "figure", "distributions", "--pool", "pool.h5", "study/data/random.h5", "-o", "f.png"
        ),
        f"export ({n_small} frames)": mlsel("export", "small.h5", "out.extxyz", "--force"),
        "report": mlsel("report", "study"),
        f"import ({n_small} frames)": mlsel("import", "in.extxyz", "imported.h5", "--force"),
        f"generate ({n_small} frames)": mlsel("generate", "tiny.toml", "-o", "made"),
    }
    for method in OUT_OF_CORE:
        found[f"selection {method}"] = mlsel(
            "selection", "--pool", "pool.h5", "--method", method, "-n", "64",
            "-o", f"{method}.h5",
        )  # fmt: skip
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--frames", type=int, default=8000, metavar="N")
    parser.add_argument("--prepare", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--only", action="append", metavar="NAME", help="commands that begin so")
    args = parser.parse_args(argv)
    if args.prepare is not None:
        prepare(args.prepare, args.frames)
        return 0
    claims = Claims()
    with tempfile.TemporaryDirectory(prefix="mlsel-memory-") as name:
        inputs = []
        for k, n in enumerate((args.frames, TIMES * args.frames)):
            folder = Path(name, str(k))
            folder.mkdir()
            # elsewhere: a child's peak begins with what its parent has
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.memory",
                    "--prepare",
                    folder,
                    "--frames",
                    str(n),
                ],
                check=True,
            )
            inputs.append(Input(folder, n))
        frame_bytes = inputs[1].folder.joinpath("pool.h5").stat().st_size / inputs[1].n
        claims.note(f"{args.frames} and {TIMES * args.frames} frames of {frame_bytes:.0f} bytes")
        few, many = (commands(given) for given in inputs)
        for (title, command), other in zip(few.items(), many.values(), strict=True):
            if args.only and not any(title.startswith(word) for word in args.only):
                continue
            low, high = peak(command, inputs[0].folder), peak(other, inputs[1].folder)
            claims.note(f"{title}: {low:.0f} and {high:.0f} MiB")
            claims.at_most(f"peak RSS of {title}, {TIMES} times the frames", high / low, BOUND)
    return claims.end()


if __name__ == "__main__":
    sys.exit(main())
