"""One point of a deck before any MD: what can't run is told at once, and what a step costs."""

from __future__ import annotations

from pathlib import Path

from mlsel.core.errors import MlselError


def try_point(deck_path: Path, root: Path, what: str, n_steps: int = 0) -> float:
    """Have LAMMPS compute one point, so that what can't run is told before any MD starts.

    Returns
    -------
    float
        Seconds a step, if there were steps.
    """
    import time

    from mpi4py import MPI

    from mlsel.md import deck
    from mlsel.md.library import lammps_path
    from mlsel.md.session import LammpsError, LammpsSession

    lines = deck.sections(deck_path.read_text(encoding="utf-8"))
    with LammpsSession(MPI.COMM_SELF, None, {"root": lammps_path(root)}) as session:
        try:
            session.execute([*lines[""], *lines["box"], *lines["model"]])
            session.run(0)
        except LammpsError as error:
            raise MlselError(f"LAMMPS can't run {what}: {error}") from None
        if not n_steps:
            return 0.0
        session.execute(["fix try all nve"])
        started = time.perf_counter()
        try:
            session.run(n_steps)
        except LammpsError:
            return 0.0  # a potential that blows up at once: the run itself tells it
        return (time.perf_counter() - started) / n_steps
