"""Pair potentials by least squares, in closed form: the floor that every other model must beat.

The unknowns are the coefficients of splines and one energy for each element; the equations are all
energies and force components of the training frames, divided by the sigmas. Second differences of
neighbouring coefficients are expected within a width of 1 eV, which decides where no data do
(Eilers and Marx, Stat. Sci. 11, 89 (1996)).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mlsel.core import stopping
from mlsel.core.arrays import FloatArray
from mlsel.core.errors import Stopped
from mlsel.core.files import write_json
from mlsel.study.sections.training import TrainingSection
from mlsel.training.base import Trainer, hear_nothing
from mlsel.training.frames import LEAST_SQUARES, Frames, reference_energies, symbols
from mlsel.training.least_squares import BlockedLeastSquares
from mlsel.training.pair.basis import Basis, Pairs
from mlsel.training.pair.curve import Curves
from mlsel.training.pair.eam_file import write_eam
from mlsel.training.pair.model import LAMMPS_FILE, PRODUCT, PairModel

log = logging.getLogger(__name__)

ROWS = 4000
"""Equations that are factorised at once."""
ROUGHNESS = 1.0
"""eV, the width of second differences of coefficients."""
N_SHORTEST = 10
"""The wall begins at the distance that this many pairs of the training frames fall short of."""


@dataclass
class PairTrainer(Trainer):
    """Fits one pair potential; `mlsel.study.sections.training.PairSection` has the parameters."""

    kind: ClassVar[str] = "pair"
    packages: ClassVar[tuple[str, ...]] = ("vesin", "numpy")
    uses_validation: ClassVar[bool] = False
    name: str = "pair"
    n_train: int | None = None
    cutoff: float = 6.5
    spacing: float = 0.25
    energy_sigma: float = 0.005
    force_sigma: float = 0.1
    on_report: Callable[[float, str], None] = field(default=hear_nothing, repr=False)

    @property
    def parameters(self) -> dict[str, Any]:
        outside = {"name", "n_train", "on_report"}
        return {k: v for k, v in self.__dict__.items() if k not in outside}

    @property
    def references_from(self) -> str:
        return LEAST_SQUARES  # with the curves: isolated atoms would leave out what holds them

    @property
    def cost(self) -> float:
        """Seconds, roughly, of one core."""
        return 0.01 * (self.n_train or 512)

    def fit(self, train: Sequence[Frames], validation: Sequence[Frames], out: Path) -> PairModel:
        """Fit to the training frames; those for validation are not needed.

        Raises
        ------
        Stopped
            If the process was asked to stop.
        """
        references = reference_energies(train)
        numbers = tuple(references)
        basis = Basis.of(numbers, self.cutoff, self.spacing)
        system = BlockedLeastSquares(basis.n_coefficients + len(numbers))
        nearest = [np.full(N_SHORTEST, np.inf) for _ in basis.curves]
        waiting: list[tuple[FloatArray, FloatArray]] = []
        done, total = 0, sum(len(part) for part in train)
        for part in train:
            assert part.energy is not None and part.forces is not None
            counts = np.array([np.count_nonzero(part.numbers == z) for z in numbers], float)
            shift = counts @ np.array(list(references.values()))
            for k in range(len(part)):
                pairs = basis.find(part.numbers, part.positions[k], part.cell[k], part.periodic)
                _keep_nearest(nearest, pairs)
                energy, forces, _ = basis.design(pairs, part.n_atoms)
                weight = 1 / (self.energy_sigma * part.n_atoms)
                rows = np.zeros((1 + len(forces), basis.n_coefficients + len(numbers)))
                rows[0] = weight * np.concatenate((energy, counts))
                rows[1:, : basis.n_coefficients] = forces / self.force_sigma
                right = np.append(
                    weight * (part.energy[k] - shift), part.forces[k].ravel() / self.force_sigma
                )
                waiting.append((rows, right))
                if sum(len(r) for _, r in waiting) >= ROWS:
                    _add(system, waiting)
                done += 1
                if done % 64 == 0:
                    self.on_report(done / total, f"{self.name}: {done} of {total} frames")
                    if stopping.asked():
                        raise Stopped(f"{self.name} begins anew", has_progress=False)
        _add(system, waiting)
        rough = _roughness(basis)
        padded = np.pad(rough, ((0, 0), (0, len(numbers))))
        system.add(padded, np.zeros(len(rough)))
        solution = system.solve()
        coefficients = solution[: basis.n_coefficients].reshape(-1, basis.n_functions)
        curves = self._curves(basis, coefficients, nearest)
        energies = {
            z: references[z] + float(e)
            for z, e in zip(numbers, solution[basis.n_coefficients :], strict=True)
        }
        out.mkdir(parents=True, exist_ok=True)
        write_eam(out / LAMMPS_FILE, curves, energies)
        write_json(
            out / PRODUCT,
            {
                "numbers": list(numbers),
                "cutoff": self.cutoff,
                "element_energies": {str(z): e for z, e in energies.items()},
                "pairs": [f"{symbols([a])}-{symbols([b])}" for a, b in basis.curves],
                "starts": curves.starts.tolist(),
                "coefficients": coefficients.tolist(),
                "n_frames": total,
            },
        )
        return PairModel.load(out)

    def _curves(
        self, basis: Basis, coefficients: FloatArray, nearest: Sequence[FloatArray]
    ) -> Curves:
        """Return the curves with their walls, and tell where these stand on little."""
        from ase.data import covalent_radii

        names = [f"{symbols([a])}-{symbols([b])}" for a, b in basis.curves]
        starts = np.array([found[np.isfinite(found)].max(initial=0.0) for found in nearest])
        for k in np.flatnonzero(starts == 0):
            coefficients[k] = 0.0
            starts[k] = min(self.cutoff, covalent_radii[list(basis.curves[k])].sum())
            log.warning(
                "%s: no frame holds %s within the cutoff of %g Å: they don't interact beyond "
                "%.2f Å, the sum of their covalent radii, and repel each other below.",
                self.name, names[k], self.cutoff, starts[k],
            )  # fmt: skip
        curves = Curves(basis, coefficients, starts)
        force = curves.walls[1]
        for k in np.flatnonzero(force < 0):
            log.warning(
                "%s: %s still attract each other (%.2f eV/Å) at %.2f Å, where the data end: the "
                "wall below is a guess.",
                self.name, names[k], force[k], starts[k],
            )  # fmt: skip
        return curves


def _add(system: BlockedLeastSquares, waiting: list[tuple[FloatArray, FloatArray]]) -> None:
    """Add the equations that wait, and forget them."""
    if waiting:
        rows, right = (np.concatenate(parts) for parts in zip(*waiting, strict=True))
        system.add(rows, right)
        waiting.clear()


def _keep_nearest(nearest: list[FloatArray], pairs: Pairs) -> None:
    """Keep each curve's shortest distances."""
    for curve, kept in enumerate(nearest):
        both = np.concatenate((kept, pairs.distance[pairs.curve == curve]))
        nearest[curve] = np.partition(both, N_SHORTEST - 1)[:N_SHORTEST]


def _roughness(basis: Basis) -> FloatArray:
    """Return the equations that say that neighbouring coefficients are alike."""
    second: FloatArray = np.diff(np.eye(basis.n_functions), n=2, axis=0) / ROUGHNESS
    return np.kron(np.eye(len(basis.curves)), second).astype(np.float64)


def trainers(section: TrainingSection) -> list[Trainer]:
    """Return the pair potential of a study."""
    chosen = {**asdict(section.pair), "n_train": section.pair.n_train or None}
    return [PairTrainer(**chosen)]


MODEL = PairModel
