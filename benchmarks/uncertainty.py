"""Which uncertainty of atoms is worth trusting, and what each costs.

    python -m benchmarks.uncertainty cost [--gap gap.xml]
    python -m benchmarks.uncertainty trust MODEL MODEL MODEL --data set.h5 --test test.h5

cost: a step of 1000 ions of molten NaCl (`benchmarks.melt`) that asks a pair style for a
quantity every 10 steps, or every step, against one that asks for nothing, in turns. It is processor
time of one thread (set OMP_NUM_THREADS=1), so that a busy machine counts for little.

trust: every model drives MD from a frame of its data set until two ions are closer than `LOST`
times the data's shortest distance of their pair and stay so, with all models as its committee.
Along the last `KEPT` samples before that, forces are compared with the reference's: how well each
quantity ranks the atoms whose force is off by more than `WRONG` (the area under the ROC curve), how
it goes with the size of the error (Spearman), and since when its largest value has been beyond the
largest one of the test set. The exit code of cost is 1 when a claim falls short.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claims import Claims
from benchmarks.melt import create, melt
from benchmarks.pair_styles import SIZES
from benchmarks.steps import in_turns, open_step
from mlsel.core.arrays import FloatArray
from mlsel.export_model import export_schnet
from mlsel.plugins import ensure
from mlsel.pool.pool import Pool
from mlsel.training.frames import Frames, read_frames
from mlsel.validate.distances import closest_distances
from tests.plugins.support import box_commands, open_lammps, schnet

ASKED = ("sigma", "deviation", "below")
INTERVAL = 10
LOST, STAYS = 0.75, 10
KEPT = 40
"""Samples before the collapse that the reference labels."""
WRONG = 1.0  # eV/Å
SPECIES = ("Na", "Cl")


def use_plugins() -> None:
    os.environ["MLSEL_PLUGINS"] = "off"
    import lammps  # noqa: F401

    os.environ["LAMMPS_PLUGIN_PATH"] = str(ensure().folder)


# What it costs


def processor_step(lmp: Any, n_steps: int) -> Callable[[], float]:
    """Seconds of processor time a step."""

    def run() -> float:
        started = time.process_time()
        lmp.command(f"run {n_steps} pre no post no")
        return (time.process_time() - started) / n_steps

    return run


def asking(atoms: Any, style: str, coeff: str, fix: str) -> Any:
    """LAMMPS ready to step, with a fix pair."""
    lmp = open_step(atoms, style, coeff)
    if fix:
        lmp.commands_string(f"fix u all {fix}\nrun 0 post no")
    return lmp


def cost(args: argparse.Namespace) -> int:
    use_plugins()
    claims = Claims()
    atoms = melt()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        width = SIZES["small"]["n_hidden"][-1] + 1
        rigidity = np.random.default_rng(1).normal(size=(1, width, width))
        files = [
            export_schnet(
                schnet(**{**SIZES["small"], "scale": 8.0 + k}, dtype="float32"),
                folder / f"{k}.pt", SPECIES, rigidity=rigidity,
                shortest_distances=np.full((2, 2), 2.0),
            )
            for k in range(3)
        ]  # fmt: skip
        one, three = f"{files[0]} Na Cl", " ".join([*map(str, files), "Na Cl"])
        cases = {
            "asks for nothing, the noise": (one, "schnet", "", 0.0),
            "sigma every 10 steps": (one, "schnet", "pair 10 schnet sigma 1", 1.03),
            "sigma every step": (one, "schnet", "pair 1 schnet sigma 1", 0.0),
            "below every 10 steps": (one, "schnet", "pair 10 schnet below 1", 1.03),
            "committee of 3, deviation every 10 steps": (
                three, "schnet", "pair 10 schnet deviation 1", 2.2),
            "committee of 3, deviation every step": (
                three, "schnet", "pair 1 schnet deviation 1", 0.0),
            "committee of 3, its mean drives": (three, "schnet drive mean", "", 0.0),
        }  # fmt: skip
        plain = asking(atoms, "schnet", one, "")
        for case, (coeff, style, fix, bound) in cases.items():
            lmp = asking(atoms, style, coeff, fix)
            steps = [processor_step(plain, args.steps), processor_step(lmp, args.steps)]
            state(claims, f"small SchNet: {case}, a step", steps, bound, args.repeats)
            lmp.close()
        plain.close()
        if args.gap:
            coeff = f"{args.gap.resolve()} 11 17"
            plain = asking(atoms, "quip", coeff, "")
            lmp = asking(atoms, "quip", coeff, "pair 10 quip sigma 1")
            steps = [processor_step(plain, 10), processor_step(lmp, 10)]
            state(claims, "GAP: sigma every 10 steps, a step", steps, 1.03, args.repeats)
    return claims.end()


def state(claims: Claims, case: str, steps: Sequence[Any], bound: float, repeats: int) -> None:
    before, after = in_turns(steps, repeats)
    if bound:
        claims.at_most(case, after / before, bound)
    else:
        claims.note(f"{case}: {after / before:.2f} of one model without")


# What it is worth


def kinds(numbers: Any) -> Any:
    return (np.asarray(numbers) == 17).astype(np.int64)


def area(score: FloatArray, is_wrong: Any) -> float:
    """The area under the ROC curve: how often a wrong one has the larger score, ties halved."""
    from scipy.stats import rankdata

    n_wrong, n_right = int(is_wrong.sum()), int((~is_wrong).sum())
    if not n_wrong or not n_right:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[is_wrong].sum() - n_wrong * (n_wrong + 1) / 2) / (n_wrong * n_right))


class Committee:
    """LAMMPS with the models, the first of which drives; and what it tells of atoms."""

    def __init__(self, files: Sequence[Path], atoms: Any) -> None:
        self.lmp, self.n = open_lammps(), len(atoms)
        self.lmp.commands_string(box_commands(atoms))
        create(self.lmp, atoms)
        asked = " ".join(f"{name} 1" for name in ASKED)
        self.lmp.commands_string(
            f"pair_style schnet\npair_coeff * * {' '.join(map(str, files))} Na Cl\n"
            f"fix u all pair {INTERVAL} schnet {asked}\nthermo 1000000\ntimestep 0.001\n"
        )

    def told(self) -> FloatArray:
        """(3, N), of the step just done."""
        return np.array(self.lmp.gather("f_u", 1, len(ASKED))).reshape(self.n, -1).T

    def array(self, name: str) -> FloatArray:
        return np.array(self.lmp.gather_atoms(name, 1, 3)).reshape(-1, 3)


def told_of(files: Sequence[Path], frames: Sequence[Frames]) -> tuple[FloatArray, FloatArray]:
    """Each quantity of all atoms of some frames (3, n), and the error of the first's forces (n)."""
    told, errors = [], []
    for part in frames:
        assert part.forces is not None
        for row in range(len(part)):
            committee = Committee(files, upright(part.atoms(row)))
            committee.lmp.command("run 0 post no")
            told.append(committee.told())
            turned = upright(part.atoms(row), part.forces[row])
            errors.append(np.linalg.norm(committee.array("f") - turned, axis=1))
            committee.lmp.close()
    return np.concatenate(told, axis=1), np.concatenate(errors)


def upright(atoms: Any, vectors: FloatArray | None = None) -> Any:
    """Atoms with their cell as LAMMPS wants it, or vectors turned with it."""
    cell, turn = atoms.cell.standard_form()
    if vectors is not None:
        return vectors @ np.asarray(turn).T
    copy = atoms.copy()
    copy.set_cell(cell, scale_atoms=True)
    copy.wrap()
    return copy


def collapse(
    files: Sequence[Path], start: Any, temperature: float, seed: int, held: FloatArray, most: int
) -> tuple[list[FloatArray], list[FloatArray], list[FloatArray], int | None]:
    """MD until it is lost: the last samples' positions, forces and quantities, and which of them
    (from behind) was the first lost one; None if it never was."""
    committee = Committee(files, start)
    committee.lmp.commands_string(
        f"velocity all create {temperature} {seed} loop geom\n"
        f"fix m all nvt temp {temperature} {temperature} 0.1\nrun 0 post no"
    )
    positions: list[FloatArray] = []
    forces: list[FloatArray] = []
    told: list[FloatArray] = []
    types, n_lost = kinds(start.numbers), 0
    for _ in range(most // INTERVAL):
        try:
            committee.lmp.command(f"run {INTERVAL} pre no post no")
        except Exception as error:
            print(f"# LAMMPS ended it: {error}", flush=True)
            break
        positions.append(committee.array("x"))
        forces.append(committee.array("f"))
        told.append(committee.told())
        closest = closest_distances(positions[-1], start.cell.array, types, 2)
        n_lost = n_lost + 1 if (closest < LOST * held).any() else 0
        if n_lost == STAYS:
            break
    committee.lmp.close()
    return positions, forces, told, n_lost or None


def trust(args: argparse.Namespace) -> int:
    from scipy.stats import spearmanr

    from mlsel.md.deck import read_potential
    from mlsel.md.include import IncludePotential

    use_plugins()
    with Pool(args.data) as pool:
        data = list(read_frames(pool))
    with Pool(args.test) as pool:
        test = list(read_frames(pool))
    held: FloatArray = np.full(3, np.inf)
    for part in data:
        for x, cell in zip(part.positions, part.cell, strict=True):
            held = np.minimum(held, closest_distances(x, cell, kinds(part.numbers), 2))
    print(f"# shortest distances of the data, Å: {np.round(held, 3)}", flush=True)
    text = read_potential(args.reference, SPECIES)
    files = [(model / "model.pt").resolve() for model in args.models]
    for k, name in enumerate(args.models):
        order = [files[k], *files[:k], *files[k + 1 :]]
        of_test, test_error = told_of(order, test)
        usual = of_test.max(1)
        for seed in args.seeds:
            rng = np.random.default_rng(seed)
            part = data[rng.integers(len(data))]
            start = upright(part.atoms(int(rng.integers(len(part))))).repeat((2, 1, 1))
            positions, forces, told, n_lost = collapse(
                order, start, args.temperature, seed, held, args.steps
            )
            title = f"{name}, seed {seed}, {args.temperature:g} K"
            if n_lost is None:
                print(f"# {title}: not lost in {INTERVAL * len(told)} steps", flush=True)
                continue
            last = len(told) - n_lost
            chosen = slice(max(0, last - KEPT), last)
            frames = Frames(
                np.asarray(start.numbers), np.array(positions[chosen]),
                np.repeat(start.cell.array[None], len(positions[chosen]), 0),
            )  # fmt: skip
            with IncludePotential(text, SPECIES) as reference:
                truth = reference.evaluate(
                    frames.numbers, frames.positions, frames.cell, frames.periodic
                )
            error = np.linalg.norm(np.array(forces[chosen]) - truth.forces, axis=2).ravel()
            is_wrong = error > WRONG
            print(
                f"# {title}: lost after {INTERVAL * last} steps; {100 * is_wrong.mean():.1f} % of "
                f"the atoms are off by more than {WRONG:g} eV/Å "
                f"({100 * (test_error > WRONG).mean():.1f} % of the test set)",
                flush=True,
            )
            for q, quantity in enumerate(ASKED):
                score = np.array([one[q] for one in told[chosen]]).ravel()
                tops = np.array([one[q].max() for one in told[:last]])
                beyond = tops > usual[q]
                # since when it has been beyond without a break
                run = int(np.argmin(beyond[::-1])) if not beyond.all() else len(beyond)
                print(
                    f"{quantity:10} AUC {area(score, is_wrong):.3f}  Spearman "
                    f"{spearmanr(score, error).statistic:.2f}  of the test set "
                    f"{spearmanr(of_test[q], test_error).statistic:.2f}  beyond the test set's "
                    f"{usual[q]:.3g}: for the last {INTERVAL * run} steps, and in "
                    f"{100 * beyond.mean():.0f} % of all samples before", flush=True,
                )  # fmt: skip
            ratio = [
                np.sqrt(np.mean(e**2) / np.mean(d**2))
                for e, d in (
                    (test_error, of_test[1]),
                    (error, np.array([one[1] for one in told[chosen]]).ravel()),
                )
            ]
            print(
                f"# rms error over rms deviation: {ratio[0]:.2f} on the test set, {ratio[1]:.2f} "
                "before the collapse", flush=True,
            )  # fmt: skip
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("cost")
    one.add_argument("--gap", type=Path, help="a GAP's XML file")
    one.add_argument("--repeats", type=int, default=9, help="turns (9)")
    one.add_argument("--steps", type=int, default=100, help="of a turn (100)")
    two = parts.add_parser("trust")
    two.add_argument("models", nargs="+", type=Path, help="folders of trained SchNets")
    two.add_argument("--data", type=Path, required=True, help="what they were trained on")
    two.add_argument("--test", type=Path, required=True)
    two.add_argument("--reference", default="nacl-tosi-fumi", help="a LAMMPS include")
    two.add_argument("--temperature", type=float, default=1400.0, help="K (1400)")
    two.add_argument("--steps", type=int, default=10000, help="at most (10000)")
    two.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="of MD (1 2)")
    args = parser.parse_args(argv)
    return cost(args) if args.part == "cost" else trust(args)


if __name__ == "__main__":
    sys.exit(main())
