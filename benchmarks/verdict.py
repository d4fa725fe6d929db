"""Whether the verdict tells liquids apart, and calls the same liquid the same.

    python -m benchmarks.verdict -o DIR [--atoms 216] [--runs 14] [--duration 10] [--first-seed 101]
                                 [--null] [--cut 3 5]

Runs of the reference (NaCl of Tosi and Fumi, 1400 K), of the same with the sign of D that many
public decks have by mistake, and of one with a Na–Cl repulsion 5 % too strong, all with velocities
of their own, are kept in DIR: what is there is not made again, so that a benchmark that was ended
goes on. Each run is judged beside each run of the reference alone. 42 runs of 216 ions and 10 ps
take about 20 minutes of one core. The way of telling the error of a mean (blocking, its largest
level) was chosen on runs with the seeds 1 to 14; those from 101 on took no part in it. With --null
the reference alone is run. With --cut its runs are also judged in pieces of so many ps, as runs of
that length: a verdict on a short run must not be wrong, it may only say less.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claims import Claims
from mlsel.core.files import write_text
from mlsel.core.parallel import world
from mlsel.core.provenance import digest
from mlsel.md import deck
from mlsel.pool.pool import Pool
from mlsel.study.sections.validation import ToleranceSection
from mlsel.study.study import load_study
from mlsel.validate.criteria import UNITS
from mlsel.validate.diffusion import mean_square_displacement
from mlsel.validate.nvt_run import ValidationRun
from mlsel.validate.reference import Reference
from mlsel.validate.results import Measured, Results, read_results
from mlsel.validate.snapshot import prepare_start
from mlsel.validate.start import compressibility, make_start
from mlsel.validate.verdict import AGREES, UNKNOWN, Verdict, judge

STUDY = """
[system]
species = ["Na", "Cl"]
potential = "nacl-tosi-fumi"
spacing = 3.1
[pool]
temperatures = [1400]
pressures = [1]
melt_temperature = 3000
melt = 3.0
equilibration = 5.0
[validation]
models = []
temperature = 1400
density_time = 30.0
equilibration = 2.5
nve = 1.0
block = 0.25
sampling_interval = 25
trajectory_interval = 50
checkpoint_interval = 2.5
rdf_bins = 180
rdf_cutoff = 9.0
"""
UNLIKE = "pair_coeff 1 2  0.2110 "
STRONGER = "pair_coeff 1 2  0.22155 "
OTHERS = ("positive-d", "repulsion")
Pieces = Sequence[Sequence[Results]]
"""Runs, or parts of runs, in groups of the same time."""
APART, FALSE = 13 / 14, 0.01
"""At least this share of runs of another liquid is told apart; at most this share of pairs of runs
of one liquid is said to differ."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a claim; return 1 if one falls short."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--atoms", type=int, default=216, help="1000 for the larger proof")
    parser.add_argument("--runs", type=int, default=14, help="of each potential")
    parser.add_argument("--duration", type=float, default=10.0, help="ps, of each run")
    parser.add_argument("--first-seed", type=int, default=101, help="of the runs' velocities")
    parser.add_argument("--null", action="store_true", help="run the reference alone")
    parser.add_argument(
        "--cut", type=float, nargs="*", default=[], metavar="PS", help="also judge pieces as long"
    )
    args = parser.parse_args(argv)
    claims = Claims()
    seeds = range(args.first_seed, args.first_seed + args.runs)
    others = () if args.null else OTHERS
    made, reference = runs_of(args.output, args.atoms, seeds, args.duration, others)
    for run in reference.runs:
        Reference((run,), reference.compressibility, reference.tolerances).check()
    for length in (args.duration, *args.cut):
        starts = np.arange(0.0, args.duration - length + 1e-9, length)

        def pieces(runs: Sequence[Results], length: float = length, starts: Any = starts) -> Pieces:
            """Runs that are as long are their only pieces."""
            if length == args.duration:
                return [runs]
            return [[piece(run, args.output, start, length) for run in runs] for start in starts]

        title = f"{length:g} ps"
        own = pieces(reference.runs)
        if len(reference.runs) > 1:
            null(claims, reference, own, title)
        bound = (APART if args.atoms < 1000 else 1.0) if length == args.duration else 0.0
        for name, runs in made.items():
            apart(claims, reference, own, pieces(runs), f"{name}, {title}", bound)
    return claims.end()


def runs_of(
    output: Path, n_atoms: int, seeds: Sequence[int], duration: float, others: Sequence[str]
) -> tuple[dict[str, list[Results]], Reference]:
    """Make what is missing; return the runs of each other liquid, and the reference's."""
    comm = world()
    path = output / "verdict.toml"
    write_text(path, STUDY)
    kspace = ["validation.kspace_style=pppm 1e-5"] if n_atoms >= 1000 else []
    study = load_study(
        str(path),
        [f"validation.n_atoms={n_atoms}", f"validation.duration={duration}", *kspace],
    )
    prepare_start(study, output, again=False)
    make_start(study, output, comm, lambda steps: None)
    text = deck.read_potential("nacl-tosi-fumi", study.system.species)
    if UNLIKE not in text:
        raise AssertionError("potentials/nacl-tosi-fumi.lmp has another line for Na-Cl")
    potentials = {
        "reference": text,
        "positive-d": deck.read_potential("nacl-tosi-fumi-positive-d", study.system.species),
        "repulsion": text.replace(UNLIKE, STRONGER),
    }
    made: dict[str, list[Results]] = {name: [] for name in ("reference", *others)}
    for seed in seeds:
        seeded = dataclasses.replace(
            study, validation=dataclasses.replace(study.validation, seed=seed)
        )
        for name in made:
            potential = potentials[name]
            if kspace:
                potential += "kspace_style pppm 1e-5\n"
            kind = "reference" if name == "reference" else "potential"
            run = ValidationRun(
                f"{name}-run-{seed}", kind, potential, digest(potential.encode()), duration,
                output, seeded,
            )  # fmt: skip
            if not run.product.is_file():
                write_text(run.folder / "potential.lmp", run.potential)
                write_text(run.folder / "in.lammps", run.deck_text())
                run.perform(comm, lambda steps: None)
            made[name].append(read_results(run.product))
    own = tuple(made.pop("reference"))
    return made, Reference(own, compressibility(study, output), ToleranceSection())


def null(claims: Claims, reference: Reference, groups: Pieces, length: str) -> None:
    """Judge runs of one liquid beside each other, those of a group."""
    pairs = [(a, b) for runs in groups for a in runs for b in runs if a is not b]
    verdicts = [verdict(a, b, reference) for a, b in pairs]
    said = sum(is_told(one) for one in verdicts)
    claims.at_most(
        f"{len(pairs)} pairs of one liquid, {length}, share said to differ",
        said / len(pairs), FALSE,
    )  # fmt: skip
    claims.note(", ".join(f"{n} {word}" for word, n in Counter(v.word for v in verdicts).items()))
    describe(claims, verdicts)


def apart(
    claims: Claims, reference: Reference, own: Pieces, groups: Pieces, title: str, bound: float
) -> None:
    """Judge runs of another liquid, each beside the reference's of the same velocities."""
    verdicts = [
        verdict(run, beside, reference)
        for runs, others in zip(groups, own, strict=True)
        for run, beside in zip(runs, others, strict=True)
    ]
    told, n = sum(is_told(one) for one in verdicts), len(verdicts)
    claims.at_least(f"{title}: share of {n} told apart", told / n, bound)
    silent = sum(differs_without(one, "energy") for one in verdicts)
    claims.note(f"{told} of {n}; without the mean energy {silent}")
    every = [
        verdict(run, beside, reference)
        for runs, others in zip(groups, own, strict=True)
        for run in runs
        for beside in others
    ]
    told = sum(is_told(one) for one in every)
    claims.note(f"of all {len(every)} pairs with runs of the reference {told}; of these")
    describe(claims, every)


def is_told(one: Verdict) -> bool:
    """Whether a difference is said to be there; a run that is too short says nothing."""
    return one.word not in (AGREES, UNKNOWN)


def piece(run: Results, output: Path, start: float, length: float) -> Results:
    """Return a part of a run's average, as a run of that length gives it; times in ps."""
    from ase.data import atomic_masses, atomic_numbers

    first, last = (
        run.phase_ends[0] + round(time / run.timestep) for time in (start, start + length)
    )
    block = (run.phase_ends[1] - run.phase_ends[0]) * run.timestep / len(run.g)
    rows = slice(round(start / block), round((start + length) / block))
    with Pool(output / "validation" / run.name / "trajectory.h5") as pool:
        blocks = list(pool.blocks("positions", "step"))
    steps = np.concatenate([part["step"] for part in blocks])
    positions = np.concatenate([part["positions"] for part in blocks])
    chosen = (steps > first) & (steps <= last)
    types = [atomic_numbers[symbol] for symbol in run.species]
    lag, msd = mean_square_displacement(
        positions[chosen],
        np.array([types.index(z) for z in run.numbers]),
        float(steps[1] - steps[0]) * run.timestep,
        atomic_masses[run.numbers],
    )
    samples = run.samples
    kept = (samples.step > first) & (samples.step <= last) | (samples.step > run.phase_ends[1])
    return dataclasses.replace(
        run,
        samples=Measured(
            samples.step[kept],
            {name: values[kept] for name, values in samples.numbers.items()},
            samples.closest[kept],
        ),
        phase_ends=(first, last, run.phase_ends[2]),
        g=run.g[rows],
        coordination=run.coordination[rows],
        msd_lag=lag,
        msd=msd,
    )


def verdict(run: Results, beside: Results, reference: Reference) -> Verdict:
    """The verdict on a run beside one run of the reference."""
    alone = dataclasses.replace(reference, runs=(beside,))
    return judge(run, alone)


def differs_without(one: Verdict, criterion: str) -> bool:
    return any(c.differs for c in one.comparisons if c.criterion != criterion)


def describe(claims: Claims, verdicts: Sequence[Verdict]) -> None:
    """Note for each criterion how often it differs, how large and how sure it is."""
    found = Counter(name for one in verdicts for name, c in one.numbers.items() if c.differs)
    for name, unit in UNITS.items():
        numbers = [one.numbers[name] for one in verdicts]
        sizes = np.abs([one.size for one in numbers])
        sigmas = [one.sigmas for one in numbers]
        if np.isnan(sigmas).all():
            claims.note(f"  {name:14} was not measured: {numbers[0].missing}")
            continue
        claims.note(
            f"  {name:14} differs in {found[name]:3}; size {np.nanmedian(sizes):8.3g} (largest "
            f"{np.nanmax(sizes):.3g}) {unit}, {np.nanmedian(sigmas):.1f} σ (surest "
            f"{np.nanmax(sigmas):.1f})"
        )


if __name__ == "__main__":
    sys.exit(main())
