"""GAP: Gaussian approximation potentials through gap_fit, the program that quippy-ase brings.

References
----------
Bartók, Payne, Kondor, Csányi, Phys. Rev. Lett. 104, 136403 (2010).
Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013) (SOAP).
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import logging
import os
import signal
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mlsel.core import stopping
from mlsel.core.errors import MlselError, Stopped
from mlsel.core.files import publish, remove, write_json
from mlsel.core.provenance import digest
from mlsel.study.study import TrainingSection
from mlsel.training.base import (
    Frames,
    Prediction,
    TrainedModel,
    Trainer,
    hear_nothing,
    reference_energies,
    symbols,
)
from mlsel.training.gap.evaluator import SoapGap, open_gap

log = logging.getLogger(__name__)

PRODUCT = "gap.xml"
LOG = "gap_fit.log"
FACTS = "gap.json"
TRAINING_FILE = "train.extxyz"
UNFINISHED = f".{PRODUCT}.partial"
"""What gap_fit writes; always the same, since the name stands in the file."""
PROGRAM = "MLSEL_GAP_FIT"
"""Environment variable that names another gap_fit than quippy's."""
GIB = 2**30
PROGRAM_BYTES = 100 * 2**20
"""gap_fit before it reads anything, with its libraries."""


@dataclass
class GapTrainer(Trainer):
    """Fits one GAP; see `mlsel.study.study.GapSection` for the parameters (the paper's Table 3)."""

    kind: ClassVar[str] = "gap"
    packages: ClassVar[tuple[str, ...]] = ("quippy-ase", "vesin", "numpy")
    is_external: ClassVar[bool] = True
    uses_validation: ClassVar[bool] = False
    name: str
    n_train: int | None = None
    n_sparse: int = 500
    force_sigma: float = 0.1
    energy_sigma: float = 0.001
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
    on_report: Callable[[float, str], None] = field(default=hear_nothing, repr=False)

    @property
    def parameters(self) -> dict[str, Any]:
        outside = {"name", "n_train", "memory_limit", "held", "on_report"}
        return {k: v for k, v in self.__dict__.items() if k not in outside}

    @property
    def cost(self) -> float:
        """Seconds, roughly, of one core (128 × 100 atoms and 200 points: 230 s)."""
        return 0.5 * (self.n_train or 128) * (1 + 2.6 * self.n_sparse / 200)

    @contextmanager
    def admission(self, memory: float) -> Iterator[None]:
        """Wait for room in memory. gap_fit inherits the place: if this process is killed, the
        place stays taken for as long as gap_fit lives."""
        with _admitted(self._bytes_of_typical_fit(), memory * GIB) as descriptor:
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
        n_labels = n_frames + 3 * n_atoms
        covariances = 2 * 8 * n_sparse * (2 * n_labels + n_sparse)
        return PROGRAM_BYTES + max(descriptors, covariances)

    def memory(self, frames: Sequence[Frames]) -> int:
        """Return the bytes that gap_fit will need for these frames, at its peak."""
        from vesin import NeighborList

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
        soap = {
            "n_max": self.n_max,
            "l_max": self.l_max,
            "atom_sigma": self.atom_sigma,
            "zeta": f"{self.zeta:g}",
            "cutoff": self.cutoff,
            "cutoff_transition_width": self.cutoff_transition_width,
            "delta": self.delta,
            "covariance_type": "dot_product",
            "n_sparse": self.n_sparse,
            "sparse_method": "cur_points",
            "add_species": "T",
        }
        text = " ".join(f"{key}={value}" for key, value in soap.items())
        return [
            f"at_file={TRAINING_FILE}",
            f"gap={{soap {text}}}",
            f"default_sigma={{{self.energy_sigma:g} {self.force_sigma:g} 0 0}}",
            f"e0={{{e0}}}",
            "energy_parameter_name=REF_energy",
            "force_parameter_name=REF_forces",
            "virial_parameter_name=none",
            f"sparse_jitter={self.jitter:g}",
            "do_copy_at_file=F",
            "sparse_separate_file=F",
            f"rnd_seed={self.seed}",
            f"gp_file={UNFINISHED}",
        ]

    def fit(self, train: Sequence[Frames], validation: Sequence[Frames], out: Path) -> GapModel:
        """Fit to the training frames; those for validation are not needed.

        Raises
        ------
        MlselError
            If the fit needs more memory than there is, gap_fit is missing or was killed, or it
            left no potential.
        Stopped
            If the process was asked to stop: gap_fit is ended, and nothing of it is kept.
        """
        frames = list(train)
        program = find_program()
        need, limit = self.memory(frames), self.memory_limit or total_memory()
        n = sum(len(part) for part in frames)
        if need > limit:
            raise MlselError(
                f"{self.name}: gap_fit needs about {need / GIB:.1f} GiB for {n} frames and this "
                f"machine has {limit / GIB:.1f} GiB: use at most "
                f"{max(1, int(n * limit / need * 0.95))} frames (training.gap.n_train), a shorter "
                "cutoff or smaller n_max and l_max."
            )
        out.mkdir(parents=True, exist_ok=True)
        product = out / PRODUCT
        references = reference_energies(frames)
        _write_frames(out / TRAINING_FILE, frames)
        start = time.perf_counter()
        code = self._run([program, *self.arguments(references)], out, len(references))
        seconds = time.perf_counter() - start
        if code and (stopping.asked() or -code in stopping.SIGNALS):
            raise Stopped(
                f"{self.name}: gap_fit was ended after {seconds:.0f} s and can't go on from there, "
                "so it needs a job that is longer than it",
                has_progress=False,
            )
        self._judge(code, out / UNFINISHED, out)
        relabel(out / UNFINISHED)
        publish(out / UNFINISHED, product)
        for left in [*out.glob(f"{TRAINING_FILE}*"), *out.glob(f"{UNFINISHED}*")]:
            remove(left)
        write_json(
            out / FACTS,
            {
                "numbers": sorted(references),
                "reference_energies": {str(z): e for z, e in references.items()},
                "label": xml_label(product),
                "cutoff": self.cutoff,
                "n_frames": n,
                "memory_estimate": need,
                "seconds": round(seconds, 1),
            },
        )
        return GapModel.load(out)

    def _run(self, command: Sequence[str], out: Path, n_elements: int) -> int:
        """Run gap_fit, its output streamed to the log, its stages told."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = 0.0
        self.on_report(0.0, f"{self.name}: gap_fit starts")
        with (
            (out / LOG).open("w", encoding="utf-8") as kept,
            subprocess.Popen(
                command,
                cwd=out,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                pass_fds=self.held,
            ) as process,
            stopping.calling(process.terminate),
        ):
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    kept.write(line)
                    stage = _stage(line, n_elements)
                    if stage and stage[0] > done:
                        kept.flush()
                        done = stage[0]
                        self.on_report(done, f"{self.name}: {stage[1]}")
            except BaseException:
                process.kill()
                raise
            return process.wait()

    def _judge(self, code: int, product: Path, out: Path) -> None:
        """Raise MlselError unless the product is a potential."""
        tail = (out / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = next((x.strip() for x in reversed(tail) if "ABORT" in x or "rror" in x), "")
        if code < 0:
            reason = f"was killed by signal {-code} ({signal.Signals(-code).name})"
            if -code == signal.SIGKILL:
                reason += ", as happens when memory runs out"
        elif not product.is_file():
            reason = f"ended with code {code} and left no potential"
        else:
            try:
                xml_label(product)
                return
            except MlselError as error:
                reason = f"ended with code {code}: {error}"
        product.unlink(missing_ok=True)
        raise MlselError(
            f"{self.name}: gap_fit {reason}{f' ({said})' if said else ''}. Its output is in "
            f"{out / LOG}."
        )


def _stage(line: str, n_elements: int) -> tuple[float, str] | None:
    """Return share done and a few words, where a line of gap_fit's tells a new stage."""
    line = line.strip()
    if line.startswith(("XML file written", "TIMER: GP sparsify")):
        return 0.99, "writes the potential"
    if line.startswith("TIMER: Build linear system"):
        return 0.93, "solves the linear system"
    if line.startswith("Cartesian coordinates transformed"):
        return 0.15, "descriptors are there"
    for word, step in (("Started", 0), ("Finished", 1)):
        head = f"{word} sparse covariance matrix calculation of coordinate "
        if line.startswith(head) and line.removeprefix(head).isdigit():
            k = int(line.removeprefix(head))
            share = 0.15 + 0.75 * (k - 1 + step) / n_elements
            return min(0.9, share + 0.001), f"covariances, part {min(k + step, n_elements)}"
    return None


def find_program() -> str:
    """Return gap_fit's path.

    Raises
    ------
    MlselError
        If there is none.
    """
    from importlib.util import find_spec

    named = os.environ.get(PROGRAM)
    spec = find_spec("quippy")
    path = Path(named) if named else Path((spec and spec.origin) or "quippy").with_name("gap_fit")
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise MlselError(
            f"gap_fit is not at {path}: "
            + (f"set {PROGRAM} to a program." if named else "pip install quippy-ase brings it.")
        )
    return str(path)


def total_memory() -> int:
    """Return the bytes that this process may use: the machine's, or its control group's."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
    except OSError:
        return total
    return min(total, int(text)) if text.isdigit() else total


@contextmanager
def _admitted(need: int, memory: float) -> Iterator[int]:
    """Hold one of as many places as fits have room for in this machine's memory.

    A place is a lock on a file, which the system takes back when the process ends.
    """
    room = memory or 0.9 * total_memory()
    n_places = max(1, int(room // max(1, need)))
    folder = Path(tempfile.gettempdir(), f"mlsel-fits-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    waited = 0.05
    while True:
        for place in range(n_places):
            with (folder / str(place)).open("w", encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield file.fileno()
                return
        time.sleep(waited)
        waited = min(1.0, 1.5 * waited)


def _write_frames(path: Path, frames: Sequence[Frames]) -> None:
    """Write gap_fit's input: extended XYZ with REF_energy and REF_forces."""
    with path.open("w", encoding="utf-8") as file:
        for part in frames:
            assert part.energy is not None and part.forces is not None
            names = [symbols([int(z)]) for z in part.numbers]
            periodic = " ".join("T" if p else "F" for p in part.periodic)
            for k in range(len(part)):
                lattice = " ".join(f"{x:.12g}" for x in part.cell[k].ravel())
                file.write(
                    f'{part.n_atoms}\nLattice="{lattice}" pbc="{periodic}" '
                    f"REF_energy={part.energy[k]:.12g} "
                    "Properties=species:S:1:pos:R:3:REF_forces:R:3\n"
                )
                numbers = np.concatenate((part.positions[k], part.forces[k]), axis=1)
                for name, row in zip(names, numbers.tolist(), strict=True):
                    file.write(f"{name} " + " ".join(f"{x:.12g}" for x in row) + "\n")


def xml_label(path: Path) -> str:
    """Return the label of a GAP file, after reading all of it.

    QUIP ends the process when a file is wrong, so that this must be known before.

    Raises
    ------
    MlselError
        If it is not a whole GAP file.
    """
    label, has_points = "", False
    try:
        for _, element in ElementTree.iterparse(path):
            if element.tag == "Potential":
                label = element.get("label", "")
            has_points = has_points or element.tag == "sparseX"
            element.clear()
    except FileNotFoundError:
        raise MlselError(f"There is no potential {path}.") from None
    except ElementTree.ParseError as error:
        raise MlselError(f"{path} is no whole XML file ({error}).") from None
    if not label or not has_points:
        raise MlselError(f"{path} is no GAP: it has no labelled Potential with sparse points.")
    return label


def relabel(path: Path) -> None:
    """Name a GAP by its content: gap_fit names it by the time of day, so that no two are alike."""
    text, label = path.read_bytes(), xml_label(path).encode()
    name = f"GAP_{digest(text.replace(label, b'GAP'))[:16]}"
    path.write_bytes(text.replace(label, name.encode()))


class GapModel(TrainedModel):
    """A fitted GAP."""

    kind = "gap"

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder, self.facts = folder, facts
        self.numbers = tuple(facts["numbers"])
        self._label = xml_label(folder / PRODUCT)
        self._potential: Any = None

    @functools.cached_property
    def _evaluator(self) -> SoapGap | None:
        return open_gap(self.folder / PRODUCT)

    @classmethod
    def load(cls, folder: Path) -> GapModel:
        import json

        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            return cls(folder, facts)
        except FileNotFoundError:
            raise MlselError(
                f"{folder} holds no GAP ({FACTS} is missing): train it with `mlsel training`."
            ) from None
        except (ValueError, KeyError, TypeError):
            raise MlselError(f"{folder / FACTS} is damaged: train the model again.") from None

    def _quip(self) -> Any:
        if self._potential is None:
            import quippy
            from quippy.potential import Potential

            # Its clean-up at exit ends the process with an error where pair_style quip ran too:
            # the two share QUIP's state, and a process that ends needs none.
            atexit.unregister(quippy.quippy_cleanup)

            path = str(self.folder / PRODUCT)
            self._potential = Potential(f"IP GAP label={self._label}", param_filename=path)
        return self._potential

    def predict(self, frames: Frames) -> Prediction:
        self.check(frames.numbers)
        if self._evaluator is None:
            return self.predict_with_quippy(frames)
        return self._evaluator.predict(frames)

    def predict_with_quippy(self, frames: Frames) -> Prediction:
        """Like `predict`, by QUIP: slow, and what `predict` is tested against."""
        self.check(frames.numbers)
        quip = self._quip()
        n = len(frames)
        energy, virial = np.empty(n), np.empty((n, 3, 3))
        atomic, forces = np.empty((n, frames.n_atoms)), np.empty((n, frames.n_atoms, 3))
        for k in range(n):
            atoms = frames.atoms(k)
            wanted = ["energy", "forces", "energies", *(["stress"] if all(atoms.pbc) else [])]
            quip.calculate(atoms, wanted, ["positions", "numbers", "cell", "pbc"])
            energy[k] = quip.results["energy"]
            forces[k] = quip.results["forces"]
            atomic[k] = quip.results["energies"]
            if all(atoms.pbc):
                stress = quip.results["stress"]
                virial[k] = -stress[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3) * atoms.get_volume()
        return Prediction(energy, forces, atomic, virial if all(frames.periodic) else None)

    def lammps_commands(self, species: Sequence[str]) -> list[str]:
        from ase.data import atomic_numbers

        self.check_species(species)
        path = (self.folder / PRODUCT).resolve()
        numbers = " ".join(str(atomic_numbers[symbol]) for symbol in species)
        return [
            "pair_style quip",
            f'pair_coeff * * "{path}" "Potential xml_label={self._label}" {numbers}',
        ]

    def calculator(self) -> Any:
        from mlsel.training.calculator import ModelCalculator

        return ModelCalculator(self)


def trainers(section: TrainingSection) -> list[Trainer]:
    """Return the GAPs of a study: numbers of sparse points × force sigmas."""
    chosen = section.gap
    shared = {
        name: getattr(chosen, name)
        for name in GapTrainer.__dataclass_fields__
        if hasattr(chosen, name) and name != "n_sparse"
    }
    return [
        GapTrainer(name=f"gap-{n}-f{sigma:g}", n_sparse=n, force_sigma=sigma, **shared)
        for n in chosen.n_sparse
        for sigma in chosen.force_sigmas
    ]


MODEL = GapModel
