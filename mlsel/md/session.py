"""LammpsSession: LAMMPS in this process, commands in, arrays by atom id out.

It knows LAMMPS and nothing of pools or studies.
"""

from __future__ import annotations

import ctypes
import dataclasses
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mlsel.core.arrays import FloatArray
from mlsel.core.errors import MlselError
from mlsel.md.library import lammps_class, lammps_path

if TYPE_CHECKING:
    from mpi4py import MPI


class LammpsError(MlselError):
    """LAMMPS ended a run with an error; the text is LAMMPS's own.

    Attributes
    ----------
    is_on_one_rank : bool
        Whether one rank of several met it, so that the others wait for it for ever.
    """

    is_on_one_rank = False


@dataclass(frozen=True)
class AtomArrays:
    """Atoms in the order of their ids.

    Attributes
    ----------
    positions : (N, 3), Å, relative to the lower corner of the box
    forces : (N, 3), eV/Å
    atomic_energies : (N,), eV
    """

    positions: FloatArray
    forces: FloatArray
    atomic_energies: FloatArray


@dataclass(frozen=True)
class Frame:
    """A step's box, (3, 3) Å, its atoms, and the values of the thermo keywords asked for."""

    step: int
    cell: FloatArray
    atoms: AtomArrays
    thermo: tuple[float, ...]


class LammpsSession:
    """A LAMMPS instance on the ranks of a communicator.

    Parameters
    ----------
    comm : communicator
    log : path, optional
        LAMMPS's log file.
    variables : mapping, optional
        As `lmp -var NAME VALUE`.

    Raises
    ------
    MlselError
        If the installed LAMMPS is not the one that mlsel is made for, or MPI is not its MPI.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        log: Path | None = None,
        variables: Mapping[str, object] | None = None,
    ) -> None:
        lammps = lammps_class()
        arguments = ["-screen", "none", "-nocite", "-log", str(log) if log else "none"]
        for name, value in (variables or {}).items():
            arguments += ["-var", name, str(value)]
        self.comm = comm
        self._lmp = lammps(cmdargs=arguments, comm=comm)
        self._thermo_places: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._lmp.close()

    def execute(self, lines: Iterable[str]) -> None:
        """Run LAMMPS commands, as they would stand in a file.

        Raises
        ------
        LammpsError
            With LAMMPS's own message.
        """
        self._call(self._lmp.commands_string, "\n".join(lines) + "\n")

    def create(self, types: Sequence[int], positions: FloatArray) -> None:
        """Create atoms with the ids 1 … N.

        Parameters
        ----------
        types : (N,)
        positions : (N, 3), Å, within the box
        """
        ids = list(range(1, len(types) + 1))
        made = self._lmp.create_atoms(len(types), ids, list(types), positions.ravel().tolist())
        if made != len(types):
            raise AssertionError(f"{made} of {len(types)} atoms are within the box")

    def place(self, box: FloatArray, positions: FloatArray) -> None:
        """Give the box, from the origin on, another shape and the atoms other places.

        Parameters
        ----------
        box : (3, 3), Å, rows of a lower triangular matrix
        positions : (N, 3), Å, by id, within the box
        """
        a, b, c = box
        self.execute(
            [
                # Computes keep a step's values: without another step they would not look again.
                f"reset_timestep {self.step + 1}",
                f"change_box all x final 0 {a[0]:.17g} y final 0 {b[1]:.17g} z final 0 "
                f"{c[2]:.17g} xy final {b[0]:.17g} xz final {c[0]:.17g} yz final {c[1]:.17g}",
            ]
        )
        flat = np.ascontiguousarray(positions, dtype=np.float64).ravel()
        self._lmp.scatter_atoms("x", 1, 3, flat.ctypes.data_as(ctypes.POINTER(ctypes.c_double)))

    def run(self, n_steps: int, *, setup: bool = True) -> None:
        """Advance n_steps; without setup only where nothing changed since the last run."""
        how = "" if setup else " pre no"
        self._call(self._lmp.command, f"run {n_steps}{how} post no")

    def write_restart(self, path: Path) -> None:
        """Write a restart file.

        Raises
        ------
        MlselError
            If LAMMPS can't: that is an error of the disk and none of the run.
        """
        try:
            self.execute([f"write_restart {lammps_path(path)}"])
        except LammpsError as error:
            raise MlselError(
                f"LAMMPS can't write {path.parent}/*.restart ({error}): is the disk full? Make "
                "room and give the same command again, it goes on from the last checkpoint."
            ) from None

    def _call(self, function: Any, text: str) -> Any:
        try:
            return function(text)
        except Exception as error:  # the lammps module raises Exception itself
            message = " ".join(str(error).split())
            for lead in ("ERROR on proc", "ERROR:"):
                if lead in message:
                    message = message[message.index(lead) :].removeprefix("ERROR:").strip()
                    break
            failure = LammpsError(message)
            failure.is_on_one_rank = type(error).__name__ == "MPIAbortException"
            raise failure from None

    @property
    def step(self) -> int:
        """The current step."""
        return int(self._lmp.extract_global("ntimestep"))

    @property
    def n_atoms(self) -> int:
        return int(self._lmp.get_natoms())

    def thermo(self) -> dict[str, float]:
        """Return the thermo output of the last step that had one, by LAMMPS's keywords."""
        values: dict[str, float] = self._lmp.last_thermo()
        return values

    def largest_force(self) -> float:
        """Return the largest component of a force on any atom, eV/Å; collective."""
        return float(self._lmp.get_thermo("fmax"))

    def sample(
        self,
        n_steps: int,
        interval: int,
        energy_compute: str,
        keywords: Sequence[str],
        on_frame: Callable[[Frame], None],
    ) -> None:
        """Advance n_steps in one run and hand over a frame every `interval` steps.

        A `fix external` calls back when all forces of a step are there; it adds nothing to them,
        so the trajectory is that of the same run without it. (A `run` command for each frame
        costs as much as a step of a hundred ions.)

        Parameters
        ----------
        interval : int
            Also the interval of the thermo output.
        energy_compute : str
            The id of a `compute pe/atom` that is in the thermo output.
        keywords : sequence of str
            What of the thermo output comes with each frame.
        on_frame : callable
            Called on rank 0 of the session.

        Raises
        ------
        LammpsError
            With LAMMPS's own message.
        KeyboardInterrupt
            After the step in which SIGINT came.
        """
        waiting: list[Frame] = []
        raised: list[BaseException] = []
        start = self.step

        def end_with(error: BaseException) -> None:
            raised.append(error)
            self._lmp.force_timeout()

        def hand_over() -> None:
            # LAMMPS computes a step's thermo output after the callback of that step.
            if waiting:
                frame = waiting.pop()
                values = self._thermo_values(frame.step, keywords)
                on_frame(dataclasses.replace(frame, thermo=values))

        def take(
            _: object, step: int, n: int, ids: Any, positions: Any, added: FloatArray | None
        ) -> None:
            try:
                if step != start and not raised:
                    hand_over()
                    atoms = self.atoms(energy_compute)
                    if atoms is not None:
                        waiting.append(Frame(step, self.cell(), atoms, ()))
            except BaseException as error:  # nothing can be raised through LAMMPS
                end_with(error)
            if added is not None:
                added[:] = 0.0  # LAMMPS adds this array to the forces, and does not clear it

        # Left in, its virial, not yet set up when the barostat is, would make the first pressure.
        self.execute(
            [
                f"fix frames all external pf/callback {interval} {interval}",
                "fix_modify frames energy no virial no",
            ]
        )
        self._lmp.set_fix_external_callback("frames", take)
        try:
            with _interrupts_to(lambda: end_with(KeyboardInterrupt())):
                self.run(n_steps)
        except LammpsError:
            if raised:
                raise raised[0] from None
            raise
        if raised:
            raise raised[0]
        hand_over()
        self.execute(["unfix frames"])

    def _thermo_values(self, step: int, keywords: Sequence[str]) -> tuple[float, ...]:
        if self._lmp.last_thermo_step != step:
            raise AssertionError(f"no thermo output at step {step}, which is in the sample")
        if self._thermo_places.keys() != set(keywords):
            names = list(self._lmp.last_thermo())
            self._thermo_places = {keyword: names.index(keyword) for keyword in keywords}
        data = self._lmp.lib.lammps_last_thermo
        return tuple(
            ctypes.cast(data(self._lmp.lmp, b"data", place), ctypes.POINTER(ctypes.c_double))[0]
            for place in self._thermo_places.values()
        )

    def cell(self) -> FloatArray:
        """Return the box vectors as rows, (3, 3), Å."""
        low, high, xy, yz, xz, _, _ = self._lmp.extract_box()
        a, b, c = np.subtract(high, low)
        return np.array([[a, 0, 0], [xy, b, 0], [xz, yz, c]], dtype=np.float64)

    def global_array(self, compute: str) -> FloatArray:
        """Return a compute's global array at the current step, on every rank; collective."""
        from lammps import LMP_STYLE_GLOBAL, LMP_TYPE_ARRAY

        array = self._call(
            lambda name: self._lmp.numpy.extract_compute(name, LMP_STYLE_GLOBAL, LMP_TYPE_ARRAY),
            compute,
        )
        return np.array(array, dtype=np.float64)

    def global_scalar(self, compute: str) -> float:
        """Return a compute's number at the current step, on every rank; collective."""
        from lammps import LMP_STYLE_GLOBAL, LMP_TYPE_SCALAR

        return float(
            self._call(
                lambda name: self._lmp.extract_compute(name, LMP_STYLE_GLOBAL, LMP_TYPE_SCALAR),
                compute,
            )
        )

    def unwrapped_positions(self) -> FloatArray:
        """Return positions in the order of ids, (N, 3), Å, from the lower corner of the box and
        going on through its boundaries; collective."""
        positions = np.array(self._lmp.gather_atoms("x", 1, 3)).reshape(-1, 3)
        images = np.array(self._lmp.gather_atoms("image", 0, 3)).reshape(-1, 3)
        unwrapped: FloatArray = positions - self._lmp.extract_box()[0] + images @ self.cell()
        return unwrapped

    def types(self) -> list[int]:
        """Return the type of each atom in the order of ids, on every rank."""
        n = int(self._lmp.extract_setting("nlocal"))
        numpy = self._lmp.numpy
        local = np.empty((0, 2), np.int64)
        if n:
            local = np.column_stack([numpy.extract_atom("id")[:n], numpy.extract_atom("type")[:n]])
        gathered = np.concatenate(self.comm.allgather(local))
        types: list[int] = gathered[np.argsort(gathered[:, 0]), 1].tolist()
        return types

    def atoms(self, energy_compute: str) -> AtomArrays | None:
        """Return positions, forces and a per-atom compute on rank 0 of comm, None elsewhere.

        Parameters
        ----------
        energy_compute : str
            The id of a `compute pe/atom` that was evaluated on this step.
        """
        from lammps import LMP_STYLE_ATOM, LMP_TYPE_VECTOR

        n = int(self._lmp.extract_setting("nlocal"))
        local = np.empty((n, 7))
        ids = np.empty(0, np.int32)
        if n:
            # The rows of LAMMPS's arrays lie one after the other; lammps.numpy is slower.
            view = np.ctypeslib.as_array
            ids = view(self._lmp.extract_atom("id"), (n,))
            local[:, 0:3] = view(self._lmp.extract_atom("x")[0], (n, 3))
            local[:, 0:3] -= self._lmp.extract_box()[0]
            local[:, 3:6] = view(self._lmp.extract_atom("f")[0], (n, 3))
            energies = self._lmp.extract_compute(energy_compute, LMP_STYLE_ATOM, LMP_TYPE_VECTOR)
            local[:, 6] = view(energies, (n,))
        if self.comm.size > 1:
            parts = self.comm.gather((ids.copy(), local))
            if parts is None:
                return None
            ids = np.concatenate([part[0] for part in parts])
            local = np.concatenate([part[1] for part in parts])
        ordered = np.empty_like(local)
        ordered[ids - 1] = local
        return AtomArrays(ordered[:, 0:3], ordered[:, 3:6], ordered[:, 6])


@contextmanager
def _interrupts_to(action: Callable[[], None]) -> Iterator[None]:
    """Call `action` on SIGINT where Python would raise KeyboardInterrupt.

    Raised on the way into a callback or out of it, ctypes prints and drops it: the frame would be
    lost and the run go on.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: action())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
