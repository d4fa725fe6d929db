"""Labels for frames: energies, forces and virials by a LAMMPS include or any ASE calculator.

    mlsel label frames.h5 -o labelled.h5 --with potential.lmp
    mpirun -n 8 python -m mlsel.refine.label frames.h5 -o labelled.h5 --with ase:my_dft:make
    mlsel label pool.h5 -o taught.h5 --atomic-energies-from models/random/pair

The last one leaves the frames' own labels as they are, and puts a trained model's atomic energies
beside them, for the methods that choose by these. Frames are shared over ranks, or by `--part K/N`
over the jobs of an array. What is labelled is kept frame by frame, in a hidden folder beside the
product, so that nothing is computed twice; a frame whose calculation came to nothing is told and
left out, and tried again by the next start.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlsel.cli import Parser, run_main
from mlsel.core import stopping
from mlsel.core.errors import MlselError, StageIncomplete, Stopped, shortened
from mlsel.core.parallel import on_root, share, world
from mlsel.core.shards import Part, add_part_option
from mlsel.pool.teacher import ATTRIBUTE
from mlsel.refine.labelled import OWN, label_file, tell_left_out, write_labelled

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.core.arrays import FloatArray, IntArray
    from mlsel.core.lock import FolderLock
    from mlsel.pool.pool import Pool
    from mlsel.refine.labeller import Labeller
    from mlsel.refine.teacher import Teacher
    from mlsel.study.study import Study

    Makers = tuple["Labeller | None", "Teacher | None"]
    """Who makes labels, and atomic energies; one of the two at least."""

log = logging.getLogger(__name__)

N_COMPARED = 5
"""Frames whose own labels are compared with the new ones first."""
CONTENT = "labeller_content"
"""Key of a record: the hash of what made the labels. Records that lack it, or say nothing there,
are of versions that did not look."""
CODE = "labeller_code"
"""The same of a calculator's code, where CONTENT was written for includes alone."""


def main(argv: Sequence[str] | None = None) -> int:
    """Label frames.

    Raises
    ------
    StageIncomplete
        If some frames could not be labelled; the others are there.
    """
    parser = Parser(prog="mlsel label", description="Give frames energies, forces and virials.")
    parser.add_argument("frames", type=Path, metavar="POOL", help="a pool or data set")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--with",
        dest="labeller",
        metavar="WHAT",
        help="the path of a LAMMPS include in metal units, or ase:MODULE:FUNCTION",
    )
    parser.add_argument(
        "--atomic-energies-from",
        dest="teacher",
        type=Path,
        metavar="MODEL",
        help="the folder of a trained model whose atomic energies stand beside the labels; without "
        "--with the frames' own labels stay",
    )
    add_part_option(parser, "frame")
    args = parser.parse_args(argv)
    if args.labeller is None and args.teacher is None:
        raise MlselError(
            "what is to label the frames? Give --with WHAT (a LAMMPS include, or "
            "ase:MODULE:FUNCTION), --atomic-energies-from MODEL, or both."
        )
    comm = world()
    with stopping.heard():
        return _label(args, comm)


def _label(args: argparse.Namespace, comm: MPI.Intracomm) -> int:
    from mlsel.pool.pool import Pool
    from mlsel.refine.labeller import make_labeller

    labeller = None if args.labeller is None else make_labeller(args.labeller)
    teacher = None
    if args.teacher is not None:
        from mlsel.refine.teacher import Teacher
        from mlsel.training.stage import use_threads

        use_threads()
        teacher = Teacher(args.teacher)
    on_root(comm, lambda: Pool(args.frames).close())
    with Pool(args.frames) as pool:
        label_pool(pool, args.output, labeller, comm, args.part, teacher)
    return 0


def label_pool(
    pool: Pool,
    output: Path,
    labeller: Labeller | None,
    comm: MPI.Intracomm,
    part: Part | None = None,
    teacher: Teacher | None = None,
) -> None:
    """Label every frame of a pool, and write them as a data set with nothing else changed.

    Without a labeller the frames keep their own labels, and get atomic energies of the teacher.

    Raises
    ------
    MlselError
        If what is there was labelled by another labeller, the labels are in other units, or the
        teacher does not know an element or has no atomic energies.
    StageIncomplete
        If some frames could not be labelled; the data set then has the others.
    Stopped
        After a frame, if a signal asked for it.
    """
    from mlsel.core.files import sweep
    from mlsel.core.lock import FolderLock

    if on_root(comm, output.is_dir):
        raise MlselError(f"{output} is a folder: give the name of a file with -o.", everywhere=True)
    folder = output.with_name(f".{output.name}.labels")
    made_from = {
        "pool": pool.digest,
        "labeller": OWN if labeller is None else labeller.name,
        CONTENT: "" if labeller is None else labeller.content,
        ATTRIBUTE: "" if teacher is None else teacher.name,
    }
    if teacher is not None:
        teacher.check(pool)

    def is_done() -> bool:
        sweep(folder)  # a job was killed before it had removed the labels that were done with
        return _is_done(output, folder, made_from)

    if on_root(comm, is_done):
        if comm.rank == 0:
            log.info("%s is there already, of the same frames and labeller", output)
            tell_left_out(output)
        return
    names = [str(frame) for frame in range(len(pool))]
    lock = FolderLock(folder, part.label(names) if part is not None else "")
    on_root(comm, lock.acquire)
    try:
        mine = [int(name) for name in (names if part is None else part.of(names))]
        _label_missing(pool, output, (labeller, teacher), comm, mine, made_from, lock)
    finally:
        if comm.rank == 0:
            lock.release()


def _label_missing(
    pool: Pool,
    output: Path,
    makers: Makers,
    comm: MPI.Intracomm,
    mine: Sequence[int],
    made_from: Mapping[str, Any],
    lock: FolderLock,
) -> None:
    """Label those of some frames that are not yet, and write the data set where that is due."""
    from mlsel.core.files import take_away
    from mlsel.core.lock import lock_files
    from mlsel.core.record import Record, settle

    folder = output.with_name(f".{output.name}.labels")

    def begin() -> list[int]:
        record = Record(folder / "made-from.json", output)
        there = _filled(record.read() or made_from, made_from)
        _refuse_edited(output, there, made_from)
        settle(output, there, made_from)
        record.write(made_from)
        return [frame for frame in mine if not label_file(folder, frame).is_file()]

    missing = on_root(comm, begin)
    failures = _perform(pool, folder, makers, missing, comm)

    def finish() -> tuple[int, int]:
        done = [frame for frame in range(len(pool)) if label_file(folder, frame).is_file()]
        if len(mine) == len(pool) or len(done) == len(pool):
            if done:
                write_labelled(pool, done, folder, output, made_from)
            # The job of another part may be reading them; the last one removes them.
            if len(done) == len(pool) and len(lock_files(folder)) == 1:
                lock.retire()
                take_away(folder)
        return len(done), len(pool)

    n_done, n_frames = on_root(comm, finish)
    if comm.rank == 0:
        by = " and ".join(filter(None, (made_from["labeller"], made_from[ATTRIBUTE])))
        log.info("%s: %d of %d frames are labelled by %s", output, n_done, n_frames, by)
        if output.is_file():
            tell_left_out(output)
    if failures:
        told = shortened("; ".join(f"frame {frame}: {text}" for frame, text in failures[:2]), 200)
        raise StageIncomplete(
            f"{len(failures)} of {len(missing)} frames could not be labelled and are left out of "
            f"{output} ({told}{'; …' if len(failures) > 2 else ''}). The same command tries them "
            "again.",
            everywhere=True,
        )


def _is_done(output: Path, folder: Path, made_from: Mapping[str, Any]) -> bool:
    """Whether the product is there, whole; raise if something else has its name."""
    from mlsel.core.files import sweep
    from mlsel.pool.pool import Pool

    sweep(folder)  # a kill can come while it is taken away
    if not output.is_file():
        return False
    with Pool(output) as there:
        stamp = {key: there.attributes.get(f"label_{key}") for key in made_from}
    stamp = _filled({key: value for key, value in stamp.items() if value is not None}, made_from)
    _refuse_edited(output, stamp, made_from)
    if stamp != dict(made_from):
        taught = " and the same teacher's atomic energies" if made_from[ATTRIBUTE] else ""
        raise MlselError(
            f"{output} is there already, and is not {made_from['labeller']}'s labels of these "
            f"frames{taught}: choose another name with -o."
        )
    return not folder.is_dir()


def _refuse_edited(output: Path, there: Mapping[str, Any], made_from: Mapping[str, Any]) -> None:
    """Raise if the labeller's content is all that has changed."""
    if dict(made_from) != there == {**made_from, CONTENT: there.get(CONTENT)}:
        raise MlselError(
            f"{made_from['labeller']} was edited since it made the labels of {output}: set it "
            "back, or choose another name with -o, so that labels of one kind are together."
        )


def _filled(recorded: Mapping[str, Any], made_from: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with what earlier versions did not tell of their labels."""
    content = recorded.get(CONTENT) or made_from[CONTENT]
    return {ATTRIBUTE: "", **recorded, CONTENT: content}


def content_of(study: Study) -> dict[str, str]:
    """Return a hash of what labels a study's new frames, under its key in a record; none where that
    is not here."""
    from mlsel.refine.labeller import ASE, calculator_content, include_content, include_of

    path, labeller = include_of(study), study.refine.labeller
    if path is not None:
        return {CONTENT: include_content(path)} if path.is_file() else {}
    code = calculator_content(labeller.removeprefix(ASE)) if labeller else ""
    return {CODE: code} if code else {}


def _perform(
    pool: Pool, folder: Path, makers: Makers, missing: list[int], comm: MPI.Intracomm
) -> list[tuple[int, str]]:
    """Label frames; return those that could not be, and why."""
    from mlsel.refine.agreement import refuse_other_units
    from mlsel.refine.labeller import NotLabelled

    labeller, teacher = makers

    def work(frame: int, group: MPI.Intracomm, report: Any) -> tuple[int, str] | None:
        import numpy as np

        from mlsel.core.files import DurableFile, creating

        if stopping.asked():
            raise Stopped
        atoms, old, energy = _frame(pool, frame)
        arrays: dict[str, Any] = {"left_out": "{}", "old": np.square(old).mean()}
        arrays["old_energy"] = energy
        arrays["label_energy"] = energy
        try:
            if labeller is not None:
                label = labeller.label(*atoms)
                left_out = dict(label.left_out)
                arrays |= label.arrays()
                arrays |= {"new": np.square(label.forces).mean(), "label_energy": label.energy}
                arrays["along"] = (old * label.forces).mean()
                if teacher is not None:
                    left_out.pop("atomic_energies", None)
                arrays["left_out"] = json.dumps(left_out)
            if teacher is not None:
                arrays["atomic_energies"], forces = teacher.atomic_energies(*atoms)
                arrays["taught"] = np.square(forces).mean()
        except NotLabelled as error:
            return frame, str(error)
        with creating(label_file(folder, frame), DurableFile) as file:
            np.savez(file, allow_pickle=False, **arrays)
        return None

    first = missing[:N_COMPARED]
    found = share(comm, first, work)
    on_root(comm, lambda: refuse_other_units(pool, folder, first))
    found += share(comm, missing[N_COMPARED:], work)
    return sorted(failure for failure in found if failure is not None)


def _frame(
    pool: Pool, frame: int
) -> tuple[tuple[IntArray, FloatArray, FloatArray, tuple[bool, bool, bool]], FloatArray, float]:
    """Return a frame's atoms, and the forces and the energy that it came with (NaN: none)."""
    import numpy as np

    (block,) = pool.blocks(
        "positions", "cell", frame_ids=np.array([frame]), optional=("forces", "energy")
    )
    forces, energy = block.fields.get("forces"), block.fields.get("energy")
    old = np.full((1, 3), np.nan) if forces is None else forces[0]
    numbers, periodic = pool.numbers(block.run), pool.periodic(block.run)
    own = np.nan if energy is None else float(energy[0])
    return (numbers, block["positions"][0], block["cell"][0], periodic), old, own


if __name__ == "__main__":
    sys.exit(run_main(main))
