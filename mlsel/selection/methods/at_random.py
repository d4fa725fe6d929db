"""Selection at random: over the pool, or within one run (section 2.1 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlsel.core.arrays import IntArray
from mlsel.core.errors import nearest
from mlsel.pool.block import Run
from mlsel.pool.pool import Pool
from mlsel.selection.base import Selector, Task, check_n, refuse


@dataclass(frozen=True)
class Random(Selector):
    """Every set of n frames is equally likely: the n smallest of one random number a frame."""

    name = "random"
    summary = "at random over the pool"

    def choose(self, task: Task) -> IntArray:
        return task.first(task.keys(), task.n)


@dataclass(frozen=True)
class SingleMDRandom(Selector):
    """At random within one run: what a single MD simulation would have given.

    Parameters
    ----------
    run : str
        The run's name; '' takes, among the runs of the lowest pressure, the one nearest to
        `temperature` (the first of several).
    temperature : float
        K.
    runs : int
        How many runs, without `run`: those of the lowest pressure in the order of their distance
        from `temperature`, then those of the next pressure. More than one is for a test set that
        spans temperatures.
    """

    run: str = ""
    temperature: float = 1400.0
    runs: int = 1

    name = "single-md-random"
    summary = "at random within one run"

    def choose(self, task: Task) -> IntArray:
        pool = task.pool
        runs = self._runs(pool)
        run_of, _ = pool.locate(np.arange(pool.n_frames))
        inside = task.eligible & np.isin(run_of, [run.index for run in runs])
        n_left = int(inside.sum())
        n_excluded = sum(run.n_frames for run in runs) - n_left
        where = f" in run {runs[0].name}" if len(runs) == 1 else f" in {len(runs)} runs"
        check_n(task.n, n_left, pool, n_excluded, where)
        return task.in_order(np.flatnonzero(inside), task.keys())[: task.n]

    def _runs(self, pool: Pool) -> list[Run]:
        names = [run.name for run in pool.runs]
        if self.run:
            if self.run not in names:
                raise refuse(
                    f"{pool.path} has no run {self.run}{nearest(self.run, names)}: "
                    f"it has {_listed(names)}."
                )
            return [pool.runs[names.index(self.run)]]
        if not 1 <= self.runs <= len(names):
            raise refuse(f"runs is {self.runs}: it must be from 1 to the pool's {len(names)}.")
        if len(names) == 1:
            return [pool.runs[0]]
        conditions = []
        for run in pool.runs:
            known = pool.run_attributes(run)
            if not {"temperature_set", "pressure_set"} <= known.keys():
                raise refuse(
                    f"run {run.name} of {pool.path} doesn't say its temperature and pressure, so "
                    f"name the run with run=NAME: it has {_listed(names)}."
                )
            distance = abs(float(known["temperature_set"]) - self.temperature)
            conditions.append((float(known["pressure_set"]), distance, run.index))
        return [pool.runs[index] for _, _, index in sorted(conditions)[: self.runs]]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f", … ({len(names)} runs)" if len(names) > 8 else "")
