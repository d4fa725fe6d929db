"""Ranks: who there is, sharing out tasks, waiting without burning a core.

MPI under a launcher is the engine. mpi4py is imported when a rank is needed first, so that
`--help` does not start MPI.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from mlsel.core import stopping
from mlsel.core.errors import MlselError, Stopped

if TYPE_CHECKING:
    from mpi4py import MPI

# Size and rank as launchers tell them: MPICH's and Intel's hydra, Open MPI, srun.
_LAUNCHERS = (
    ("PMI_SIZE", "PMI_RANK"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)
_REQUEST, _ANSWER = 71, 72


def launched_rank() -> int:
    """Return the rank that the launcher gave this process, 0 without one; MPI is not needed."""
    for _, rank in _LAUNCHERS:
        if os.environ.get(rank, "").isdigit():
            return int(os.environ[rank])
    return 0


def world() -> MPI.Intracomm:
    """Return MPI's communicator of all ranks.

    Raises
    ------
    MlselError
        If a launcher started several processes and MPI sees each as a world of its own.
    """
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    if comm.size == 1:
        for size, _ in _LAUNCHERS:
            if os.environ.get(size, "1").isdigit() and int(os.environ.get(size, "1")) > 1:
                raise MlselError(
                    f"the launcher started {os.environ[size]} processes ({size}), but to MPI each "
                    "is alone: it belongs to another MPI than mpi4py "
                    f"({MPI.Get_library_version().split(chr(10))[0].strip()}). Use the mpirun of "
                    "mlsel's environment, or srun --mpi=pmi2",
                    everywhere=True,
                )
    return comm


def on_root[T](comm: MPI.Comm, function: Callable[[], T]) -> T:
    """Call a function on rank 0 and give every rank its result, or the MlselError it raised."""
    result: tuple[T | None, MlselError | None] = (None, None)
    if comm.rank == 0:
        try:
            result = function(), None
        except MlselError as error:
            result = None, error
    if comm.size > 1:
        wait_for_all(comm)
        result = comm.bcast(result)
    value, failure = result
    if failure is not None:
        failure.is_everywhere = True
        raise failure
    return value  # type: ignore[return-value]


def wait_for_all(comm: MPI.Comm) -> None:
    """Wait until every rank of comm is here. MPI's own barrier spins; with more ranks than
    cores it would take the time of those that work."""
    wait_for(comm.Ibarrier())


def wait_for(request: Any, longest: float = 0.02) -> None:
    """Wait for one of MPI's requests, asleep most of the time."""
    pause = 2e-5
    while not request.Test():
        time.sleep(pause)
        pause = min(2 * pause, longest)


class _Dispatcher:
    """Rank 0's side of `share`: hands out tasks, takes results and reports."""

    def __init__(self, n_tasks: int, groups: int, on_report: Callable[[int, Any], None] | None):
        self.results: dict[int, Any] = {}
        self._next = iter(range(n_tasks))
        self._open_groups = groups
        self._on_report = on_report
        self._lock = threading.Lock()
        self.failure: BaseException | None = None
        self.stopped: list[Stopped] = []

    def handle(self, kind: str, task: int, value: Any) -> int | None:
        """Take a message of a group; the answer to "next" is a task or None."""
        with self._lock:
            if kind == "report":
                if self._on_report is not None:
                    self._on_report(task, value)
                return None
            if kind == "done":
                self.results[task] = value
                if self._on_report is not None:
                    self._on_report(task, None)
                stopping.count_unit()
                return None
            if kind == "stopped":
                self.stopped.append(value)
                self._open_groups -= 1
                if value.has_progress:
                    stopping.count_unit()
                return None
            stop = self.stopped or stopping.asked()
            given = None if stop else next(self._next, None)
            if given is None:
                self._open_groups -= 1
            return given

    def serve(self, comm: MPI.Comm) -> None:
        """Answer the other groups until each has been told that nothing is left."""
        try:
            while self._open_groups:
                if not comm.iprobe(tag=_REQUEST):
                    time.sleep(0.002)
                    continue
                from mpi4py import MPI

                status = MPI.Status()
                kind, task, value = comm.recv(tag=_REQUEST, status=status)
                given = self.handle(kind, task, value)
                if kind == "next":
                    comm.send(given, status.source, tag=_ANSWER)
        except BaseException as error:  # told by the main thread, which ends all ranks
            self.failure = error


def share(
    comm: MPI.Intracomm,
    tasks: Sequence[Any],
    work: Callable[[Any, MPI.Intracomm, Callable[[Any], None]], Any],
    *,
    ranks_per_task: int = 1,
    on_report: Callable[[int, Any], None] | None = None,
) -> list[Any]:
    """Do independent tasks on groups of ranks, each group taking the next as it gets free.

    Collective over comm. Tasks are handed out in their order, so put the longest first. A thread
    of rank 0 hands them out while rank 0 works too; no rank is spent on it.

    Parameters
    ----------
    tasks : sequence
        The same on every rank.
    work : callable
        work(task, group, report) -> result; called on all ranks of a group, the result of the
        group's rank 0 counts (picklable). report(value) tells rank 0 of comm; it does nothing
        on the other ranks of a group. It may raise Stopped, on all ranks of the group alike.
    ranks_per_task : int
        Ranks in a group; the last group has fewer where the number does not divide.
    on_report : callable, optional
        on_report(index of task, value) on rank 0, value None when the task is done.

    Returns
    -------
    list
        The results in the order of tasks, on every rank.

    Raises
    ------
    Stopped
        On every rank, if a signal ended it before all tasks were done: no task is then begun
        anew, and those that can't be stopped come to their ends.
    """
    from mpi4py import MPI

    group = cast("MPI.Intracomm", comm.Split(comm.rank // ranks_per_task, comm.rank))
    n_groups = -(-comm.size // ranks_per_task)
    dispatcher = _Dispatcher(len(tasks), n_groups, on_report) if comm.rank == 0 else None
    thread = None
    if dispatcher is not None and n_groups > 1:
        if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
            raise MlselError("this MPI gives no MPI_THREAD_MULTIPLE, which sharing tasks needs")
        thread = threading.Thread(target=dispatcher.serve, args=(comm,), daemon=True)
        thread.start()

    def report(task: int, value: Any) -> None:
        if group.rank == 0:
            tell("report", task, value)

    def tell(kind: str, task: int, value: Any = None) -> int | None:
        if dispatcher is not None:
            return dispatcher.handle(kind, task, value)
        comm.send((kind, task, value), 0, tag=_REQUEST)
        if kind != "next":
            return None
        while not comm.iprobe(0, tag=_ANSWER):
            time.sleep(0.001)
        given: int | None = comm.recv(source=0, tag=_ANSWER)
        return given

    while True:
        index = tell("next", -1) if group.rank == 0 else None
        if group.size > 1:
            wait_for_all(group)
            index = group.bcast(index)
        if index is None:
            break
        try:
            result = work(tasks[index], group, partial(report, index))
        except Stopped as stop:
            if group.rank == 0:
                tell("stopped", index, stop)
            break
        if group.rank == 0:
            tell("done", index, result)
    wait_for_all(comm)
    if thread is not None:
        thread.join()
    if dispatcher is not None and dispatcher.failure is not None:
        raise dispatcher.failure
    group.Free()
    by_index, error = comm.bcast(
        (dispatcher.results, _stop_of(dispatcher, len(tasks))) if dispatcher is not None else None
    )
    if error is not None:
        error.is_everywhere = True
        raise error
    return [by_index[i] for i in range(len(tasks))]


def _stop_of(dispatcher: _Dispatcher, n_tasks: int) -> Stopped | None:
    """Return how sharing ended if a signal ended it before all tasks were done."""
    if len(dispatcher.results) == n_tasks:
        return None
    lost = [str(stop) for stop in dispatcher.stopped if str(stop) and not stop.has_progress]
    return Stopped(
        f"stopped by a signal with {len(dispatcher.results)} of {n_tasks} tasks done here; the "
        "same command goes on from here" + "".join(f"; {text}" for text in lost) + ".",
        has_progress=stopping.units_done() > 0,
    )


def end_all_ranks(code: int) -> None:
    """End the other ranks too, if there are any."""
    sys.stdout.flush()
    sys.stderr.flush()
    if "mpi4py.MPI" in sys.modules:
        from mpi4py import MPI

        if MPI.Is_initialized() and not MPI.Is_finalized() and MPI.COMM_WORLD.size > 1:
            # Launchers pass on what a rank wrote only while it lives: Abort cut off last lines.
            time.sleep(0.5)
            MPI.COMM_WORLD.Abort(code)
