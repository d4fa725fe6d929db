"""Schedule: how long the phases of a validation run are, and when what is measured in them."""

from __future__ import annotations

from dataclasses import dataclass

from mlsel.study.study import Study


@dataclass(frozen=True)
class Schedule:
    """Steps of a run: those of each phase, and between samples, frames, blocks, checkpoints."""

    equilibrate: int
    production: int
    nve: int
    sample: int
    frame: int
    block: int
    segment: int

    @classmethod
    def of(cls, study: Study, duration: float) -> Schedule:
        """Return the schedule of a study; phases of NVT are made of whole blocks.

        Equilibration and NVE take at most a quarter of the duration each, for slow potentials.
        """
        section = study.validation
        sample = section.sampling_interval

        def steps(picoseconds: float, whole: int) -> int:
            return -(-round(picoseconds * 1000 / section.timestep) // whole) * whole

        block = steps(section.block, section.trajectory_interval)
        return cls(
            steps(min(section.equilibration, duration / 4), block),
            steps(duration, block),
            steps(min(section.nve, duration / 4), sample),
            sample,
            section.trajectory_interval,
            block,
            steps(section.checkpoint_interval, block),
        )

    @property
    def total(self) -> int:
        return self.equilibrate + self.production + self.nve

    def averaged(self, step: int) -> int:
        """Steps of averaged NVT that are done at a step."""
        return max(0, min(step, self.equilibrate + self.production) - self.equilibrate)
