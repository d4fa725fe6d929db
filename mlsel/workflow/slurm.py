"""A study on a cluster: a chain of Slurm jobs, one a stage, from the job scripts in slurm/.

    mlsel slurm --init            write ./slurm: a script for each stage, and site.sh; edit these
    mlsel slurm [STUDY] [-o DIR]  submit what of the study is missing

Training and validation are arrays, an element a model or run. Each job begins when those before it
have succeeded; if one fails, those after it are taken off the queue. The same command again submits
what is still missing.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlsel.cli import study_parser
from mlsel.core.errors import MlselError
from mlsel.core.record import told
from mlsel.study.parts import members
from mlsel.study.stage import STALE
from mlsel.validate.held_against import reference_kind
from mlsel.workflow.order import in_order
from mlsel.workflow.stages import STAGES, stages_of

if TYPE_CHECKING:
    from mlsel.study.parts import Member
    from mlsel.study.stage import Item, StageState
    from mlsel.study.study import Study

log = logging.getLogger(__name__)

FOLDER = Path("slurm")
JOBS = "slurm-jobs.json"
"""In the study's folder: the jobs that were submitted last."""
LOGS = "logs"


@dataclass(frozen=True)
class Job:
    """A job to be submitted.

    Attributes
    ----------
    script : of the job, without .sbatch
    after : the scripts of the jobs that must have succeeded
    parts : numbers of array elements; empty for a job that is no array
    on_gpu : whether the site's options for GPUs are for it
    """

    script: str
    after: tuple[str, ...] = ()
    parts: tuple[int, ...] = ()
    on_gpu: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Submit a study, or write the job scripts."""
    parser = study_parser("mlsel slurm", "Submit what is missing of a study, a job a stage.")
    parser.add_argument(
        "--scripts",
        type=Path,
        default=FOLDER,
        metavar="FOLDER",
        help="the job scripts and site.sh (default: ./%(default)s)",
    )
    parser.add_argument(
        "--init", action="store_true", help="write the job scripts into FOLDER, to be edited"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the commands and submit nothing"
    )
    args = parser.parse_args(argv)
    if args.init:
        write_scripts(args.scripts)
        return 0
    from mlsel.study.choice import choose_study

    study, folder = choose_study(args.study, args.output, args.set)
    words = ["-o", str(folder.resolve())]
    if args.study is not None:
        words.insert(0, str(Path(args.study).resolve()) if Path(args.study).is_file()
                     else args.study)  # fmt: skip
    for override in args.set:
        words += ["--set", override]
    submit(study, folder, args.scripts, words, dry_run=args.dry_run)
    return 0


def write_scripts(folder: Path) -> None:
    """Copy the job scripts into a folder that is not there yet.

    Raises
    ------
    MlselError
        If it is there.
    """
    from mlsel.md.deck import packaged_folder

    if folder.exists():
        raise MlselError(
            f"{folder} is there already: edit the scripts in it, or name another folder with "
            "--scripts."
        )
    shutil.copytree(packaged_folder("slurm"), folder)
    log.info("%s: edit %s, then the numbers of tasks and times in *.sbatch", folder,
             folder / "site.sh")  # fmt: skip


def jobs_of(study: Study, states: Sequence[StageState], *, use_gpus: bool = False) -> list[Job]:
    """Return the jobs for what of a study is missing, each after those that it needs.

    With `use_gpus` the models that compute on GPUs are an array of their own.

    Raises
    ------
    MlselError
        If something is stale: it must be removed, or made anew, by the user's decision.
    """
    stale = [f"{item.name} ({item.text})" for s in states for item in s.items
             if item.state == STALE]  # fmt: skip
    if stale:
        raise MlselError(
            f"{len(stale)} products were made otherwise than the study now says: "
            + told(stale)
            + ". Remove them or make them anew (--again of their stages), or set the study back."
        )
    stages = stages_of(study)
    undone: dict[str, list[Item]] = {}
    for stage, state in zip(stages, states, strict=True):
        for item in state.undone:
            undone.setdefault(item.script or next(iter(stage.scripts)), []).append(item)
    last = next(iter(STAGES[-1].scripts))
    if last in undone and stages[-1] is not STAGES[-1]:
        stages = (*stages, STAGES[-1])  # its job has the verdicts, too
    if undone and stages[-1] is STAGES[-1]:
        undone.setdefault(last, [])  # it sums up what the others do
    jobs: list[Job] = []
    for stage in stages:
        for script, needs in stage.scripts.items():
            more = [name for item in undone.get(script, ()) for name in item.needs]
            after = tuple(name for name in dict.fromkeys((*needs, *more)) if name in undone)
            for on_gpu in (True, False):
                chosen = [item for item in undone.get(script, ())
                          if (use_gpus and item.on_gpu) == on_gpu]  # fmt: skip
                if chosen or (script == last and undone and not on_gpu):
                    parts = tuple(item.part for item in chosen if item.part)
                    jobs.append(Job(script, after, parts, on_gpu))
    return jobs


def submit(
    study: Study, folder: Path, scripts: Path, words: Sequence[str], *, dry_run: bool = False
) -> None:
    """Submit what of a study is missing.

    Parameters
    ----------
    scripts : path
        Folder of the job scripts.
    words : sequence of str
        The arguments of each stage.
    dry_run : bool
        Print the commands instead.

    Raises
    ------
    MlselError
        If there are no scripts or no Slurm, jobs of this study are still in the queue, products
        are stale, or sbatch refuses.
    """
    from mlsel.core.files import write_json
    from mlsel.study.study import record_study
    from mlsel.workflow.status import states

    site = scripts / "site.sh"
    if not site.is_file():
        raise MlselError(
            f"{site} is not there: `mlsel slurm --init` writes the job scripts into ./{FOLDER}; "
            "edit them for your cluster, or name their folder with --scripts."
        )
    if not dry_run and shutil.which("sbatch") is None:
        raise MlselError(
            "there is no sbatch on PATH: give this command on a login node of a Slurm cluster, or "
            "--dry-run to see what it would do."
        )
    group = members(study, folder)
    for one in group:
        if any(stage.name == "validate" for stage in stages_of(one.study)):
            reference_kind(one.study)  # told before anything waits in a queue
    gpu_options, limit = _site_values(site)
    jobs = {
        one.study.part: jobs_of(
            one.study, states(one.study, one.folder), use_gpus=bool(gpu_options)
        )
        for one in group
    }
    if not any(jobs.values()):
        log.info("%s: all is done", folder)
        return
    if not dry_run:
        for one in group:
            _refuse_while_queued(one.folder)
        for one in group:
            (one.folder / LOGS).mkdir(parents=True, exist_ok=True)
            record_study(one.study, one.folder)
    queue = _Queue()
    for one, stages in in_order(group, "report"):
        of_stages = {script for stage in stages for script in stage.scripts}
        if stages[-1] is stages_of(one.study)[-1]:
            of_stages |= {*STAGES[-1].scripts}  # of a study that ends with its verdicts, too
        # what is kept in a part's folder says of which part it is, and what --set says
        own = ["-o", str(one.folder.resolve())] if one.study.part else words
        for job in jobs[one.study.part]:
            if job.script not in of_stages:
                continue
            options = [
                "--parsable",
                "--kill-on-invalid-dep=yes",
                *queue.dependency(one, job, group),
            ]
            name = f"{job.script}-%A_%a.log" if job.parts else f"{job.script}-%j.log"
            options.append(f"--output={(one.folder / LOGS).resolve() / name}")
            if job.parts:
                options.append(f"--array={_ranges(job.parts)}" + (f"%{limit}" if limit else ""))
            options += gpu_options if job.on_gpu else []
            command = [*options, str(scripts.resolve() / f"{job.script}.sbatch"), *own]
            part = f"{one.study.part}:" if one.study.part else ""
            if dry_run:
                queue.add(one, job, f"<{part}{job.script}>")
                print(shlex.join(["sbatch", *command]))
            else:
                number = _sbatch(site, command)
                queue.add(one, job, number)
                log.info("%s %s%s%s", number, part, job.script,
                         f" (parts {_ranges(job.parts)})" if job.parts else "")  # fmt: skip
                write_json(one.folder / JOBS, {"jobs": queue.of(one)})
    if not dry_run:
        log.info("`squeue` shows the jobs, `mlsel status %s` what is done; logs are in %s", folder,
                 folder / LOGS)  # fmt: skip


class _Queue:
    """The jobs that were submitted, of the study and its parts."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], list[str]] = {}

    def add(self, one: Member, job: Job, number: str) -> None:
        self._numbers.setdefault((one.study.part, job.script), []).append(number)

    def of(self, one: Member) -> list[dict[str, str]]:
        """Return the jobs of the study or a part, as they are kept in its folder."""
        return [
            {"job": number, "script": script}
            for (part, script), numbers in self._numbers.items()
            for number in numbers
            if part == one.study.part
        ]

    def dependency(self, one: Member, job: Job, group: Sequence[Member]) -> list[str]:
        """Return sbatch's option that says what a job waits for, of its own study's or another's.

        For what others do as well or it can do without, a pool of the same and the reports of
        parts, it waits until that has ended, however.
        """
        needed = [(one.study.part, script) for script in job.after]
        ended: list[tuple[str, str]] = []
        if job.script == "evaluate":
            needed += [(name, "select") for name in one.test_parts()]
        if job.script in ("generate", "import"):
            made_from = one.study.as_dict("system", "pool")
            alike = [other for other in group if other.study.as_dict("system", "pool") == made_from]
            ended += [(other.study.part, job.script) for other in alike if other is not one]
        if job.script == "report" and not one.study.part:
            ended += [(other.study.part, "report") for other in group[1:]]
        kinds = {"afterok": needed, "afterany": ended}
        told = []
        for kind, keys in kinds.items():
            numbers = [number for key in keys for number in self._numbers.get(key, ())]
            told += [":".join([kind, *numbers])] if numbers else []
        return [f"--dependency={','.join(told)}"] if told else []


def _ranges(numbers: Sequence[int]) -> str:
    """Return numbers as sbatch's --array takes them.

    >>> _ranges([1, 2, 3, 7, 9, 10])
    '1-3,7,9-10'
    """
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)


def _site_values(site: Path) -> tuple[list[str], str]:
    """Return GPU_OPTIONS, in words, and ARRAY_LIMIT of a site.sh."""
    script = 'source "$1" >/dev/null; printf "%s\\n%s\\n" "${GPU_OPTIONS:-}" "${ARRAY_LIMIT:-}"'
    done = subprocess.run(
        ["bash", "-c", script, "site", str(site)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MlselError(f"{site} can't be read by bash: {done.stderr.strip()}")
    options, limit = done.stdout.split("\n")[-3:-1]
    return shlex.split(options), limit


def _sbatch(site: Path, command: Sequence[str]) -> str:
    """Submit a job with what site.sh exports; return its number."""
    script = 'source "$1" >/dev/null; shift; exec sbatch "$@"'
    environment = {**os.environ, "MLSEL_SLURM": str(site.parent.resolve())}
    done = subprocess.run(
        ["bash", "-c", script, "submit", str(site), *command],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    if done.returncode:
        raise MlselError(
            f"sbatch refused {shlex.join(command)}: {done.stderr.strip()}. What was submitted "
            "before it stays in the queue (`scancel` takes it off)."
        )
    return done.stdout.strip().partition(";")[0]


def _refuse_while_queued(folder: Path) -> None:
    """Raise MlselError if jobs that were submitted for this folder still wait or run."""
    path = folder / JOBS
    if not path.is_file():
        return
    known = json.loads(path.read_text(encoding="utf-8"))
    # Before format_version it was the list alone.
    numbers = [job["job"] for job in (known if isinstance(known, list) else known["jobs"])]
    done = subprocess.run(
        ["squeue", "--noheader", "--format=%F", "--me"], capture_output=True, text=True, check=False
    )
    left = sorted({*numbers} & {*done.stdout.split()}, key=int)
    if left:
        raise MlselError(
            f"jobs of {folder} are still in the queue ({', '.join(left)}): wait for them, or "
            f"`scancel {' '.join(left)}`."
        )
