"""What two ranks of the compressed mode compute, beside two independent runs: waiting left out.

    python -m benchmarks.rank_work [--size medium] [--copies 1 2 3] [--turns 4]

Samples of Linux's perf (cpu-clock, user space) in the plugins: what a rank computes, packs and
adds, not what it waits for the other, so that other work on the machine counts little. The median
of the turns: a run of one rank, two of them side by side, which share nothing but the machine, and
two ranks. What two independent runs gain is the most there is; the share of it that the busier
rank's work leaves is held against the model of cost in docs/pair-styles.md. Exit code 1 when a
claim falls short.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.claims import Claims
from benchmarks.melt import TEMPERATURE, melt
from benchmarks.pair_styles import IDEAL_SHARE, SIZES, expected_share
from mlsel.export_model import export_schnet
from mlsel.plugins import ensure
from tests.plugins.support import environment, schnet

RATE = 997
"""Samples a second."""
PLUGINS = "mlselplugin.so"
PARTS = {"pairs": r"forward<|backward_all<|splines<", "dense layers": r"tile<|activate<"}
RECORD = (
    f"#!/bin/sh\nexec perf record -q -F {RATE} -e cpu-clock:u -o $NAME.$PMI_RANK lmp -in in.work "
    "-log none >$NAME.$PMI_RANK.out 2>&1\n"
)
SECONDS = 2.0
"""About what a run takes, beside its start."""
MS_AN_ATOM = {"small": 0.003, "medium": 0.007, "large": 0.013}


def samples(file: Path) -> dict[str, int]:
    """Of a rank: in the plugins, and in parts of them."""
    told = subprocess.run(
        ["perf", "script", "-i", file, "-F", "ip,sym,dso"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    ours = [line for line in told.splitlines() if line.rstrip().endswith(f"{PLUGINS})")]
    parts = {
        name: sum(bool(re.search(what, line)) for line in ours) for name, what in PARTS.items()
    }
    return {"all": len(ours), **parts}


class Runs:
    """A box and a model, run in one folder."""

    def __init__(self, folder: Path, size: str, copies: int) -> None:
        n_steps = max(5, round(1e3 * SECONDS / (MS_AN_ATOM[size] * 1000 * copies**3)))
        self.folder = folder
        self.environment = environment(ensure().folder)
        (folder / "in.work").write_text(f"""
            units metal
            read_data melt.data
            replicate {copies} {copies} {copies}
            pair_style schnet compressed
            pair_coeff * * {size}.pt Na Cl
            velocity all create {TEMPERATURE} 1 loop geom
            fix 1 all nve
            timestep 0.00001
            run {n_steps}
        """)

    def start(self, name: str, ranks: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["mpirun", "-n", str(ranks), "./record.sh"],
            cwd=self.folder, env={**self.environment, "NAME": name},
        )  # fmt: skip

    def turn(self) -> dict[str, list[dict[str, int]]]:
        """Samples of each rank: alone, of two runs side by side, and of two ranks."""
        found = {}
        for kind, started in (("one", [1]), ("apart", [1, 1]), ("two", [2])):
            runs = [self.start(f"{kind}{k}", ranks) for k, ranks in enumerate(started)]
            codes = [run.wait() for run in runs]
            if any(codes):
                raise RuntimeError(f"a run failed in {self.folder}")
            found[kind] = [
                samples(self.folder / f"{kind}{k}.{rank}")
                for k, ranks in enumerate(started)
                for rank in range(ranks)
            ]
        return found


def measure(claims: Claims, runs: Runs, size: str, copies: int, turns: int) -> None:
    found = [runs.turn() for _ in range(turns)]
    for part in ("all", *PARTS):
        ranks = {kind: [[rank[part] for rank in turn[kind]] for turn in found] for kind in found[0]}
        one, apart, busier = (median(map(max, ranks[kind])) for kind in ("one", "apart", "two"))
        mean = median(sum(both) / 2 for both in ranks["two"])
        share = apart / busier / 2
        name = f"{size}, {1000 * copies**3} ions, {part}"
        claims.note(
            f"{name}: a run {one:.0f} samples, beside another {apart:.0f}, of two ranks the busier "
            f"{busier:.0f}, their mean {mean:.0f}"
        )
        if part != "all":
            claims.note(f"{name}: share {share:.3f}")
            continue
        expected = expected_share(size, copies)
        what = f"{name}: of what two independent runs gain ({expected:.2f} expected)"
        if expected >= IDEAL_SHARE:
            claims.at_least(what, share, IDEAL_SHARE)
        else:
            claims.note(f"{what}: {share:.3f}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="medium")
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--turns", type=int, default=4)
    args = parser.parse_args(argv)
    claims = Claims()
    ensure()
    os.environ["MLSEL_PLUGINS"] = "off"
    with tempfile.TemporaryDirectory(prefix="mlsel-work-") as name:
        folder = Path(name)
        os.environ["LAMMPS_PLUGIN_PATH"] = str(ensure().folder)
        from ase.io import write

        write(folder / "melt.data", melt(), format="lammps-data", specorder=["Na", "Cl"],
              atom_style="atomic", masses=True)  # fmt: skip
        export_schnet(schnet(**SIZES[args.size], dtype="float32"), folder / f"{args.size}.pt",
                      (11, 17))  # fmt: skip
        (folder / "record.sh").write_text(RECORD)
        (folder / "record.sh").chmod(0o755)
        for copies in args.copies:
            measure(claims, Runs(folder, args.size, copies), args.size, copies, args.turns)
    return claims.end()


if __name__ == "__main__":
    sys.exit(main())
