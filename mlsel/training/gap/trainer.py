"""GAP: Gaussian approximation potentials, fitted by us or by gap_fit, which quippy-ase brings.

References
----------
Bartók, Payne, Kondor, Csányi, Phys. Rev. Lett. 104, 136403 (2010).
Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013) (SOAP).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mlsel.core import blas, stopping
from mlsel.core.errors import MlselError, Stopped
from mlsel.core.files import publish, write_json
from mlsel.core.neighbours import NeighborList
from mlsel.core.parallel import wait_for_all
from mlsel.study.sections.training import TrainingSection
from mlsel.training.base import Trainer, hear_nothing
from mlsel.training.frames import LEAST_SQUARES, Frames, reference_energies, symbols
from mlsel.training.gap import gap_fit, own_fit
from mlsel.training.gap.memory import GIB, PROGRAM_BYTES, admitted, total_memory
from mlsel.training.gap.model import FACTS, PRODUCT, GapModel, xml_label
from mlsel.training.gap.terms import TWO_BODY_POINTS, words_of

if TYPE_CHECKING:
    from mpi4py import MPI

OWN, GAP_FIT = "own", "gap_fit"
"""Who fits."""


@dataclass
class GapTrainer(Trainer):
    """Fits one GAP; `mlsel.study.sections.training.GapSection` has the parameters (Table 3)."""

    kind: ClassVar[str] = "gap"
    packages: ClassVar[tuple[str, ...]] = ("quippy-ase", "vesin", "numpy", "scipy")
    uses_validation: ClassVar[bool] = False
    uses_isolated_atoms: ClassVar[bool] = True
    name: str
    n_train: int | None = None
    fitted_by: str = GAP_FIT
    n_sparse: int = 1000
    sparse_method: str = "random"
    two_body: bool = False
    two_body_delta: float = 1.0
    force_sigma: float = 0.1
    energy_sigma: float = 0.003
    virial_sigma: float = 0.0
    n_max: int = 8
    l_max: int = 6
    atom_sigma: float = 0.825
    zeta: float = 4.0
    cutoff: float = 6.5
    cutoff_transition_width: float = 0.5
    delta: float = 1.0
    jitter: float = 1e-8
    seed: int = 1
    memory_limit: float | None = field(default=None, repr=False)
    """Bytes that this fit may take; None: the machine's."""
    held: tuple[int, ...] = field(default=(), repr=False)
    """File descriptors that gap_fit inherits."""
    ranks: MPI.Intracomm | None = field(default=None, repr=False)
    on_report: Callable[[float, str], None] = field(default=hear_nothing, repr=False)

    @property
    def parameters(self) -> dict[str, Any]:
        outside = {
            "name",
            "n_train",
            "memory_limit",
            "held",
            "ranks",
            "on_report",
            "isolated_atoms",
        }
        return {k: v for k, v in self.__dict__.items() if k not in outside}

    @property
    def is_own(self) -> bool:
        """Whether mlsel fits, not gap_fit."""
        return self.fitted_by == OWN

    @property
    def is_external(self) -> bool:
        return not self.is_own

    @property
    def shares_ranks(self) -> bool:
        return self.is_own

    @property
    def references_from(self) -> str:
        return LEAST_SQUARES

    def _n_coordinates(self, n_elements: int) -> int:
        n_pairs = n_elements * (n_elements + 1) // 2
        return n_elements + (n_pairs if self.two_body else 0)

    @property
    def cost(self) -> float:
        """Seconds, roughly, of one core: 100 atoms a frame, two elements."""
        n, points = self.n_train or 128, self.n_sparse / 200
        if self.is_own:
            return n * (0.05 + 0.07 * points + 0.0034 * points**2)
        return 0.5 * n * (1 + 2.6 * points)

    @contextmanager
    def admission(self, memory: float) -> Iterator[None]:
        """Wait for room in memory, for gap_fit. It inherits the place: if this process is killed,
        the place stays taken for as long as gap_fit lives."""
        if self.is_own:
            yield
            return
        with admitted(self._bytes_of_typical_fit(), memory * GIB) as descriptor:
            self.held = (descriptor,)
            yield
        self.held = ()

    def _bytes_of_typical_fit(self) -> int:
        # before the data are read: 100 atoms a frame with 37 neighbours each, two elements
        n = self.n_train or 128
        return self._bytes(n, 100 * n, 38 * 100 * n, 2)

    def _bytes(self, n_frames: int, n_atoms: int, n_environment: int, n_elements: int) -> int:
        """Memory at the peak.

        gap_fit holds every descriptor and its derivatives by three components of every atom in
        the environment at once, later the covariances of sparse points with all energies and
        forces, twice.
        """
        channels = self.n_max * n_elements
        n_soap = channels * (channels + 1) // 2 * (self.l_max + 1) + 1
        descriptors = n_soap * (n_atoms + 3 * n_environment) * 8
        n_sparse = self.n_sparse * n_elements
        if self.two_body:
            n_sparse += TWO_BODY_POINTS * n_elements * (n_elements + 1) // 2
        n_labels = n_frames + 3 * n_atoms
        covariances = 2 * 8 * n_sparse * (2 * n_labels + n_sparse)
        return PROGRAM_BYTES + max(descriptors, covariances)

    def memory(self, frames: Sequence[Frames]) -> int:
        """Return the bytes that gap_fit will need for these frames, at its peak."""
        find = NeighborList(cutoff=self.cutoff, full_list=True)
        n_frames = n_atoms = n_environment = 0
        for part in frames:
            n_frames += len(part)
            n_atoms += len(part) * part.n_atoms
            rows = np.unique(np.linspace(0, len(part) - 1, 8).astype(int))  # a sample will do
            found = [
                len(find.compute(part.positions[r], part.cell[r], part.periodic, "i")[0])
                for r in rows
            ]
            n_environment += int(len(part) * (part.n_atoms + np.mean(found)))
        elements = {int(z) for part in frames for z in part.numbers}
        return self._bytes(n_frames, n_atoms, n_environment, len(elements))

    def arguments(self, references: Mapping[int, float]) -> list[str]:
        """Return gap_fit's arguments."""
        e0 = ":".join(f"{symbols([z])}:{e:.9f}" for z, e in references.items())
        return [
            f"at_file={gap_fit.TRAINING_FILE}",
            f"gap={{{words_of(self)}}}",
            f"default_sigma={{{self.energy_sigma:g} {self.force_sigma:g} {self.virial_sigma:g} 0}}",
            f"e0={{{e0}}}",
            "energy_parameter_name=REF_energy",
            "force_parameter_name=REF_forces",
            f"virial_parameter_name={gap_fit.VIRIAL if self.virial_sigma else 'none'}",
            f"sparse_jitter={self.jitter:g}",
            "do_copy_at_file=F",
            "sparse_separate_file=F",
            f"rnd_seed={self.seed}",
            f"gp_file={gap_fit.UNFINISHED}",
        ]

    def fit(self, train: Sequence[Frames], validation: Sequence[Frames], out: Path) -> GapModel:
        """Fit to the training frames; those for validation are not needed.

        gap_fit's e0 are the energies of isolated atoms, where those of all elements are known.

        Raises
        ------
        MlselError
            If the fit needs more memory than there is, virials are asked for and no frame has
            one, gap_fit is missing or was killed, or it left no potential.
        Stopped
            If the process was asked to stop: gap_fit is ended, and nothing of it is kept.
        """
        frames = list(train)
        n = sum(len(part) for part in frames)
        if self.virial_sigma and all(part.virial is None for part in frames):
            raise MlselError(
                f"{self.name}: training.gap.virial_sigma is {self.virial_sigma:g} eV/atom, but "
                f"none of the {n} training frames has a virial: set it to 0, or import stress or "
                "virials with the pool (mlsel import --stress-key, --virial-key)."
            )
        references = reference_energies(frames, self.isolated_atoms)
        start = time.perf_counter()
        found = (self._fit if self.is_own else self._run_gap_fit)(frames, references, out)
        if self.ranks is None or self.ranks.rank == 0:
            facts = {
                "numbers": sorted(references),
                "reference_energies": {str(z): e for z, e in references.items()},
                "label": found.pop("label"),
                "cutoff": self.cutoff,
                "n_frames": n,
                **found,
                "seconds": round(time.perf_counter() - start, 1),
            }
            write_json(out / FACTS, facts)
        if self.ranks is not None:
            wait_for_all(self.ranks)
        return GapModel.load(out)

    def _fit(
        self, frames: Sequence[Frames], references: Mapping[int, float], out: Path
    ) -> dict[str, Any]:
        """Fit by our own code; return what there is to tell."""
        from mpi4py import MPI

        comm = self.ranks or MPI.COMM_SELF

        def report(share: float, text: str) -> None:
            self.on_report(share, f"{self.name}: {text}")

        with blas.threads(blas.wanted_threads()):
            return own_fit.fit(self, frames, references, out / PRODUCT, comm, report)

    def _run_gap_fit(
        self, frames: Sequence[Frames], references: Mapping[int, float], out: Path
    ) -> dict[str, Any]:
        """Fit by gap_fit; return what there is to tell."""
        program = gap_fit.find_program()
        need, limit = self.memory(frames), self.memory_limit or total_memory()
        n = sum(len(part) for part in frames)
        if need > limit:
            raise MlselError(
                f"{self.name}: gap_fit needs about {need / GIB:.1f} GiB for {n} frames and this "
                f"machine has {limit / GIB:.1f} GiB: use at most "
                f"{max(1, int(n * limit / need * 0.95))} frames (training.gap.n_train), or set "
                'training.gap.fit = "own", which needs less than 1 GiB for any number.'
            )
        product, log = out / PRODUCT, out / gap_fit.LOG
        with gap_fit.scratch(out) as folder:
            gap_fit.write_frames(folder / gap_fit.TRAINING_FILE, frames)
            start = time.perf_counter()
            code = gap_fit.run(
                [program, *self.arguments(references)],
                folder,
                log,
                self._n_coordinates(len(references)),
                lambda share, text: self.on_report(share, f"{self.name}: {text}"),
                self.held,
            )
            seconds = time.perf_counter() - start
            if code and (stopping.asked() or -code in stopping.SIGNALS):
                raise Stopped(
                    f"{self.name}: gap_fit was ended after {seconds:.0f} s and can't go on from "
                    "there, so it needs a job that is longer than it",
                    has_progress=False,
                )
            unfinished = folder / gap_fit.UNFINISHED
            gap_fit.judge(self.name, code, unfinished, log)
            gap_fit.relabel(unfinished)
            publish(unfinished, product)
        return {"label": xml_label(product), "memory_estimate": need}


def trainers(section: TrainingSection) -> list[Trainer]:
    """Return the GAPs of a study: numbers of sparse points × force sigmas."""
    chosen = section.gap
    shared = {
        name: getattr(chosen, name)
        for name in GapTrainer.__dataclass_fields__
        if hasattr(chosen, name) and name != "n_sparse"
    }
    head = "gap-2b" if chosen.two_body else "gap"
    return [
        GapTrainer(
            name=f"{head}-{n}-f{sigma:g}",
            fitted_by=chosen.fit,
            n_sparse=n,
            force_sigma=sigma,
            **shared,
        )
        for n in chosen.n_sparse
        for sigma in chosen.force_sigmas
    ]


MODEL = GapModel
