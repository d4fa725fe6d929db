"""Labels for frames: energies, forces and virials by a LAMMPS include or any ASE calculator.

    mlsel label frames.h5 -o labelled.h5 --with potential.lmp
    mpirun -n 8 python -m mlsel.refine.label frames.h5 -o labelled.h5 --with ase:my_dft:make

Frames are shared over ranks, or by `--part K/N` over the jobs of an array. What is labelled is kept
frame by frame, in a hidden folder beside the product, so that nothing is computed twice; a frame
whose calculation came to nothing is told and left out, and tried again by the next start.
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
from mlsel.core.errors import MlselError, StageIncomplete, Stopped
from mlsel.core.parallel import on_root, share, world
from mlsel.core.shards import Part, add_part_option

if TYPE_CHECKING:
    from mpi4py import MPI

    from mlsel.core.arrays import FloatArray, IntArray
    from mlsel.pool.pool import Pool
    from mlsel.refine.labeller import Labeller

log = logging.getLogger(__name__)

N_COMPARED = 5
"""Frames whose own labels are compared with the new ones first."""
LEFT_OUT = "label_left_out"
"""Attribute of a product: which labels it lacks, and why."""
CONTENT = "labeller_content"
"""Key of a record: the hash of what made the labels. Records that lack it are of versions that did
not look."""
ALIKE = 3.0
"""Ratio of forces beyond which the labels are in other units, or of another material."""


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
        required=True,
        metavar="WHAT",
        help="the path of a LAMMPS include in metal units, or ase:MODULE:FUNCTION",
    )
    add_part_option(parser, "frame")
    args = parser.parse_args(argv)
    comm = world()
    with stopping.heard():
        return _label(args, comm)


def _label(args: argparse.Namespace, comm: MPI.Intracomm) -> int:
    from mlsel.pool.pool import Pool
    from mlsel.refine.labeller import make_labeller

    labeller = make_labeller(args.labeller)
    on_root(comm, lambda: Pool(args.frames).close())
    with Pool(args.frames) as pool:
        label_pool(pool, args.output, labeller, comm, args.part)
    return 0


def label_pool(
    pool: Pool, output: Path, labeller: Labeller, comm: MPI.Intracomm, part: Part | None = None
) -> None:
    """Label every frame of a pool, and write them as a data set with nothing else changed.

    Raises
    ------
    MlselError
        If what is there was labelled by another labeller, or the labels are in other units.
    StageIncomplete
        If some frames could not be labelled; the data set then has the others.
    Stopped
        After a frame, if a signal asked for it.
    """
    from mlsel.core.files import sweep
    from mlsel.core.lock import FolderLock

    folder = output.with_name(f".{output.name}.labels")
    made_from = {"pool": pool.digest, "labeller": labeller.name, CONTENT: labeller.content}

    def is_done() -> bool:
        sweep(folder)  # a job was killed before it had removed the labels that were done with
        return _is_done(output, folder, made_from)

    if on_root(comm, is_done):
        if comm.rank == 0:
            log.info("%s is there already, of the same frames and labeller", output)
            _tell_left_out(output)
        return
    names = [str(frame) for frame in range(len(pool))]
    lock = FolderLock(folder, part.label(names) if part is not None else "")
    on_root(comm, lock.acquire)
    try:
        mine = [int(name) for name in (names if part is None else part.of(names))]
        _label_missing(pool, output, labeller, comm, mine, made_from)
    finally:
        if comm.rank == 0:
            lock.release()


def _label_missing(
    pool: Pool,
    output: Path,
    labeller: Labeller,
    comm: MPI.Intracomm,
    mine: Sequence[int],
    made_from: Mapping[str, Any],
) -> None:
    """Label those of some frames that are not yet, and write the data set where that is due."""
    from mlsel.core.files import take_away
    from mlsel.core.lock import lock_files
    from mlsel.core.record import Record

    folder = output.with_name(f".{output.name}.labels")

    def begin() -> list[int]:
        record = Record(folder / "made-from.json", output, {CONTENT: made_from[CONTENT]})
        _refuse_edited(output, record.read() or made_from, made_from)
        record.settle(made_from)
        record.write(made_from)
        return [frame for frame in mine if not _file(folder, frame).is_file()]

    missing = on_root(comm, begin)
    failures = _perform(pool, folder, labeller, missing, comm)

    def finish() -> tuple[int, int]:
        done = [frame for frame in range(len(pool)) if _file(folder, frame).is_file()]
        if len(mine) == len(pool) or len(done) == len(pool):
            if done:
                _write(pool, done, folder, output, made_from)
            # The job of another part may be reading them; the last one removes them.
            if len(done) == len(pool) and len(lock_files(folder)) == 1:
                take_away(folder)
        return len(done), len(pool)

    n_done, n_frames = on_root(comm, finish)
    if comm.rank == 0:
        log.info("%s: %d of %d frames are labelled by %s", output, n_done, n_frames, labeller.name)
        if output.is_file():
            _tell_left_out(output)
    if failures:
        told = "; ".join(f"frame {frame}: {text}" for frame, text in failures[:2])
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
    if stamp[CONTENT] is None:
        stamp[CONTENT] = made_from[CONTENT]
    _refuse_edited(output, stamp, made_from)
    if stamp != dict(made_from):
        raise MlselError(
            f"{output} is there already, and is not {made_from['labeller']}'s labels of these "
            "frames: choose another name with -o."
        )
    return not folder.is_dir()


def _refuse_edited(output: Path, there: Mapping[str, Any], made_from: Mapping[str, Any]) -> None:
    """Raise if the labeller's content is all that has changed."""
    if dict(made_from) != there == {**made_from, CONTENT: there.get(CONTENT)}:
        raise MlselError(
            f"{made_from['labeller']} was edited since it made the labels of {output}: set it "
            "back, or choose another name with -o, so that labels of one kind are together."
        )


def _file(folder: Path, frame: int) -> Path:
    return folder / f"{frame}.npz"


def _perform(
    pool: Pool, folder: Path, labeller: Labeller, missing: list[int], comm: MPI.Intracomm
) -> list[tuple[int, str]]:
    """Label frames; return those that could not be, and why."""
    from mlsel.refine.labeller import NotLabelled

    def work(frame: int, group: MPI.Intracomm, report: Any) -> tuple[int, str] | None:
        from mlsel.core.files import DurableFile, creating

        if stopping.asked():
            raise Stopped
        numbers, positions, cell, periodic, old = _frame(pool, frame)
        try:
            label = labeller.label(numbers, positions, cell, periodic)
        except NotLabelled as error:
            return frame, str(error)
        import numpy as np

        with creating(_file(folder, frame), DurableFile) as file:
            left_out = json.dumps(dict(label.left_out))
            np.savez(file, allow_pickle=False, old=old, left_out=left_out, **label.arrays())
        return None

    first = missing[:N_COMPARED]
    found = share(comm, first, work)
    on_root(comm, lambda: _compare(pool, folder, first))
    found += share(comm, missing[N_COMPARED:], work)
    return sorted(failure for failure in found if failure is not None)


def _frame(
    pool: Pool, frame: int
) -> tuple[IntArray, FloatArray, FloatArray, tuple[bool, bool, bool], float]:
    """Return a frame's atoms, and the mean square of the forces that it came with (NaN: none)."""
    import numpy as np

    has_forces = "forces" in pool.fields
    fields = ["positions", "cell", *(["forces"] if has_forces else [])]
    (block,) = pool.blocks(*fields, frame_ids=np.array([frame]))
    old = float(np.square(block["forces"][0]).mean()) if has_forces else np.nan
    numbers, periodic = pool.numbers(block.run), pool.periodic(block.run)
    return numbers, block["positions"][0], block["cell"][0], periodic, old


def _compare(pool: Pool, folder: Path, frames: Sequence[int]) -> None:
    """Refuse labels that are in other units than those the frames came with."""
    import numpy as np

    old, new = [], []
    for frame in frames:
        if _file(folder, frame).is_file():
            with np.load(_file(folder, frame)) as held:
                old.append(float(held["old"]))
                new.append(float(np.square(held["forces"]).mean()))
    known = np.isfinite(old)
    if not known.any() or not np.sum(np.array(old)[known]) or not np.sum(np.array(new)[known]):
        return
    ratio = float(np.sqrt(np.sum(np.array(new)[known]) / np.sum(np.array(old)[known])))
    if not 1 / ALIKE <= ratio <= ALIKE:
        from mlsel.core.files import take_away

        take_away(folder)
        raise MlselError(
            f"on {int(known.sum())} frames the new forces are {ratio:.3g} times those that "
            f"{pool.path} has, and must be within a factor of {ALIKE:g}: other units (Hartree/Bohr "
            "to eV/Å is 51.4), or another material? Nothing is labelled."
        )


def _write(
    pool: Pool, done: list[int], folder: Path, output: Path, made_from: Mapping[str, Any]
) -> None:
    import numpy as np

    from mlsel.pool.writer import write_subset
    from mlsel.refine.labeller import FIELDS

    names: list[tuple[str, ...]] = []
    left_out: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for frame in done:
        with np.load(_file(folder, frame)) as file:
            names.append(tuple(name for name in FIELDS if name in file.files))
            reasons = json.loads(str(file["left_out"])) if "left_out" in file.files else {}
        for name, (reason, found) in reasons.items():
            left_out.setdefault((name, reason), []).append((frame, found))

    def labels(frames: IntArray, names: Sequence[str]) -> dict[str, FloatArray]:
        found: dict[str, list[FloatArray]] = {name: [] for name in names}
        for frame in frames.tolist():
            with np.load(_file(folder, frame)) as file:
                for name in names:
                    found[name].append(file[name])
        return {name: np.array(values) for name, values in found.items()}

    stamp = {"made_by": "mlsel.label", **{f"label_{k}": v for k, v in made_from.items()}}
    told = [
        f"{name} left out of {len(frames)} of {len(done)} frames: {reason}"
        + (f" (frame {frames[0][0]}: {frames[0][1]})" if frames[0][1] else "")
        for (name, reason), frames in sorted(left_out.items())
    ]
    if told:
        stamp[LEFT_OUT] = "; ".join(told)
    write_subset(pool, done, output, stamp, labels=labels, label_names=names)


def _tell_left_out(output: Path) -> None:
    """Say which labels a product lacks, as it records it."""
    from mlsel.pool.pool import Pool

    with Pool(output) as pool:
        told = pool.attributes.get(LEFT_OUT)
    if told:
        log.warning("%s: %s", output, told)


if __name__ == "__main__":
    sys.exit(run_main(main))
