"""Whether the memory of a stage grows with its input: peak RSS at n and at 8 n frames.

    python -m benchmarks.memory [--frames 2000] [--only NAME]

Each command runs in a process of its own on a synthetic pool of n frames of 200 atoms and on one of
8 n, or on a part of it where that would take long; MD and import have inputs of their own sizes. A
command that reads in blocks (32 MiB) has its block at n frames already. Where the input grows by
32 MiB and more, the claim is how much of that the memory grows by (a few numbers a frame are
allowed for: an id, a key, an error); where by less, the ratio of the peaks. Selection's methods are
those that docs/selection.md calls out of core. Training holds the frames that it trains on, as
docs/training.md says: the growth with these is told, not judged.
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
SHARE = 0.25
"""Of the input's growth, that the memory may grow by."""
RATIO = 1.25
SMALL = 32.0
"""MiB of the input's growth, below which it would not be seen."""
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
cutoff = 6.0
[pool]
temperatures = [1800]
pressures = [1]
melt_temperature = 3000
melt = 1.0
equilibration = 1.0
frames_per_run = {n}
sampling_interval = 1
checkpoint_interval = 400
[training]
kinds = ["pair", "schnet"]
[training.schnet]
sizes = ["small"]
energy_weights = [0.01]
cutoff = 4.0
max_epochs = 1
[validation]
models = []
repeats = 0
n_atoms = 64
density_time = 0.1
density_parts = 2
equilibration = 0.1
duration = {duration}
nve = 0.02
block = 0.05
sampling_interval = 1
trajectory_interval = 1
checkpoint_interval = 0.5
rdf_cutoff = 6.0
rdf_bins = 30
"""


@dataclass(frozen=True)
class Input:
    """What commands are given: n frames of everything, in a folder."""

    folder: Path
    n: int


@dataclass(frozen=True)
class Measurement:
    """A command, and what of the folder grows with n: its input, or MD's own product."""

    words: list[str]
    grows: str
    is_judged: bool = True

    def size(self, given: Input) -> float:
        """Of what grows, MiB."""
        found = given.folder.glob(self.grows)
        return sum(path.stat().st_size for path in found) / 2**20


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
    """Write a pool, folders with it as data sets and a model, and a trajectory."""
    from benchmarks.synthetic import write_synthetic_pool

    def write(name: str, n_frames: int, n_atoms: int) -> None:
        path = folder / name
        write_synthetic_pool(path, n_frames, n_atoms, frames_per_run=max(200, n_frames // 8))

    write("pool.h5", n, N_ATOMS)
    write("part.h5", n // 4, N_ATOMS)
    write("small.h5", n // 10, FEW_ATOMS)
    write("few.h5", 64, N_ATOMS)
    (folder / "study/data").mkdir(parents=True)
    (folder / "measured/data").mkdir(parents=True)
    for name in ("random", "force", "test"):
        os.link(folder / "pool.h5", folder / f"study/data/{name}.h5")
    os.link(folder / "pool.h5", folder / "study/pool.h5")
    os.link(folder / "few.h5", folder / "measured/data/random.h5")
    os.link(folder / "part.h5", folder / "measured/data/test.h5")
    study = STUDY.format(n=2 * n, duration=n / 500)
    (folder / "tiny.toml").write_text(study, encoding="utf-8")
    for words in (
        mlsel("export", "small.h5", "in.extxyz"),
        mlsel("training", "tiny.toml", "--data", "few.h5", "--model", "pair",
              "-o", "measured/models/random/pair"),
    ):  # fmt: skip
        subprocess.run(words, cwd=folder, check=True, capture_output=True)


def commands(given: Input) -> dict[str, Measurement]:
    """Return each command, by what it is called in the claims."""
    n = given.n
    small, part = f"{n // 10} frames of {FEW_ATOMS} atoms", f"{n // 4} frames"

    def trained(model: str, n_frames: int) -> list[str]:
        return mlsel("training", "tiny.toml", "--data", "part.h5", "--model", model, "--validation",
                     "few.h5", "-n", n_frames, "-o", f"{model}-{n_frames}")  # fmt: skip

    found = {
        "info": Measurement(mlsel("info", "pool.h5"), "pool.h5"),
        "status": Measurement(mlsel("status", "study"), "pool.h5"),
        f"check ({small})": Measurement(mlsel("check", "small.h5"), "small.h5"),
        "figure pool": Measurement(mlsel("figure", "pool", "pool.h5", "-o", "pool.png"), "pool.h5"),
        "figure distributions": Measurement(
            mlsel("figure", "distributions", "--pool", "pool.h5", "study/data/random.h5",
                  "-o", "f.png"), "pool.h5"),
        f"export ({small})": Measurement(
            mlsel("export", "small.h5", "out.extxyz", "--force"), "small.h5"),
        "report": Measurement(mlsel("report", "study"), "pool.h5"),
        f"import ({small})": Measurement(
            mlsel("import", "in.extxyz", "imported.h5", "--force"), "in.extxyz"),
        f"generate ({2 * n} frames of 64 atoms)": Measurement(
            mlsel("generate", "tiny.toml", "-o", "made"), "made/runs/*/run.h5"),
        f"validate ({2 * n} frames of 64 atoms)": Measurement(
            mlsel("validate", "tiny.toml", "-o", "made"), "made/validation/*/trajectory.h5"),
        f"evaluate, a pair potential ({part})": Measurement(
            mlsel("evaluate", "-o", "measured"), "part.h5"),
        "training pair (64 frames of the file)": Measurement(trained("pair", 64), "part.h5"),
        f"training pair ({part})": Measurement(trained("pair", n // 4), "part.h5", False),
        "training schnet (64 frames of the file)": Measurement(
            trained("schnet-small-e0.01", 64), "part.h5"),
        f"training schnet ({n // 32} frames)": Measurement(
            trained("schnet-small-e0.01", n // 32), "part.h5", False),
    }  # fmt: skip
    for method in OUT_OF_CORE:
        found[f"selection {method}"] = Measurement(
            mlsel("selection", "--pool", "pool.h5", "--method", method, "-n", "64",
                  "-o", f"{method}.h5"), "pool.h5")  # fmt: skip
    return found


def compare(
    claims: Claims, title: str, few: Measurement, many: Measurement, inputs: Sequence[Input]
) -> None:
    """Measure a command at both sizes and state what its memory does."""
    low, high = (peak(m.words, given.folder)
                 for m, given in zip((few, many), inputs, strict=True))  # fmt: skip
    size, larger = (m.size(given) for m, given in zip((few, many), inputs, strict=True))
    told = f"{low:.0f} and {high:.0f} MiB of memory, {size:.1f} and {larger:.1f} MiB of data"
    claims.note(f"{title}: {told}")
    if not few.is_judged:
        return
    if larger - size >= SMALL:
        claims.at_most(f"{title}: growth over its data's", (high - low) / (larger - size), SHARE)
    else:
        claims.at_most(f"{title}: ratio of the peaks", high / low, RATIO)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--frames", type=int, default=2000, metavar="N")
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
        for (title, one), other in zip(few.items(), many.values(), strict=True):
            if not args.only or any(title.startswith(word) for word in args.only):
                compare(claims, title, one, other, inputs)
    return claims.end()


if __name__ == "__main__":
    sys.exit(main())
