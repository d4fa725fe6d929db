"""Our own evaluator of GAPs: the C++ of pair_style quip, compiled for Python too.

QUIP forms the gradient of every descriptor with respect to every neighbour. Energies and forces
need none of them: from ∂E/∂(power spectrum) back to ∂E/∂(expansion coefficients) and on to the
atoms it takes as long as the way there.

References
----------
Bartók, Kondor, Csányi, Phys. Rev. B 87, 184115 (2013).
"""

from __future__ import annotations

import ctypes
import functools
import logging
from pathlib import Path
from typing import Any

import numpy as np

from mlsel.core import native
from mlsel.core.errors import MlselError, shortened
from mlsel.core.neighbours import NeighborList
from mlsel.plugins.builder import KERNEL_FLAGS, SOURCES
from mlsel.training.base import Prediction
from mlsel.training.frames import FloatArray, Frames

log = logging.getLogger(__name__)

UNITS = (
    "gap_python",
    "gap_descriptor_turbo",
    "gap_potential",
    "gap_channels",
    "gap_glue",
    "gap_pair",
    "gap_soap",
    "gap_triplet",
    "gap_variance",
    "gap_radial",
    "gap_radial_table",
    "gap_turbo",
    "gap_kernel",
    "gap_file",
    "gap_reader",
    "gap_descriptor",
    "gap_words",
    "glue_reader",
    "quip_file",
    "xml_reader",
    "files",
)
HEADERS = (*UNITS[2:], "buffer", "exponential", "gap_table", "kernels", "md5", "vectors")
COVARIANCES = Path(__file__).with_name("covariances.cpp")
MESSAGE_BYTES = 2048


@functools.cache
def compiled() -> Any | None:
    """Return the library of the evaluator and of the covariances, None where there is none."""
    library = native.load(
        "gap-evaluator",
        [*(SOURCES / f"{name}.cpp" for name in UNITS), COVARIANCES],
        [*KERNEL_FLAGS, "-fvisibility=hidden", "-DMLSEL_KERNEL=native", "-DMLSEL_KERNEL_NATIVE"],
        "GAPs are evaluated by quippy, some fifty times slower",
        [SOURCES / f"{name}.h" for name in HEADERS],
    )
    if library is not None:
        library.mlsel_gap_open.restype = ctypes.c_void_p
        library.mlsel_gap_cutoff.restype = ctypes.c_double
        library.mlsel_fit_open.restype = ctypes.c_void_p
        library.mlsel_fit_text.restype = ctypes.c_long
    return library


def pointer(array: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def neighbour_list(cutoff: float) -> NeighborList:
    return NeighborList(cutoff=cutoff, full_list=True, sorted=True, n_threads=1)


def environment(neighbours: NeighborList, frames: Frames, k: int) -> tuple[Any, ...]:
    """Return the neighbours in a frame as our C++ wants them.

    Returns
    -------
    numbers : int32, (n_atoms)
    first : int32, (n_atoms + 1)
        Those of atom i are from first[i] to first[i + 1].
    neighbours : int32, (n_pairs)
    vectors : float64, (n_pairs, 3)
        Å, from the atom to its neighbour.
    """
    i, j, vectors = neighbours.compute(frames.positions[k], frames.cell[k], frames.periodic, "ijD")
    return (
        np.ascontiguousarray(frames.numbers, np.int32),
        np.searchsorted(i, np.arange(frames.n_atoms + 1)).astype(np.int32),
        np.ascontiguousarray(j, np.int32),
        np.ascontiguousarray(vectors, np.float64),
    )


class SoapGap:
    """A GAP file, opened by `open_gap`."""

    def __init__(self, library: Any, handle: ctypes.c_void_p) -> None:
        self._library, self._handle = library, handle
        self.cutoff = float(library.mlsel_gap_cutoff(handle))
        self._neighbours = neighbour_list(self.cutoff)

    def __del__(self) -> None:
        self._library.mlsel_gap_close(self._handle)

    def predict(self, frames: Frames) -> Prediction:
        """Return energies, forces, atomic energies and virial.

        Raises
        ------
        MlselError
            If two atoms are at the same place.
        """
        n = len(frames)
        virial = np.zeros((n, 3, 3))
        atomic, forces = np.zeros((n, frames.n_atoms)), np.zeros((n, frames.n_atoms, 3))
        for k in range(n):
            arrays = (
                *environment(self._neighbours, frames, k),
                atomic[k],
                forces[k],
                virial[k],
            )
            pointers = [pointer(array) for array in arrays]
            message = ctypes.create_string_buffer(MESSAGE_BYTES)
            if self._library.mlsel_gap_evaluate(
                self._handle, frames.n_atoms, *pointers, message, MESSAGE_BYTES
            ):
                raise MlselError(
                    f"frame {k} cannot be evaluated: {message.value.decode(errors='replace')}."
                )
        symmetric = 0.5 * (virial + virial.transpose(0, 2, 1))
        return Prediction(
            atomic.sum(axis=1), forces, atomic, symmetric if all(frames.periodic) else None
        )

    def variances(self, frames: Frames) -> FloatArray:
        """Return the posterior variance of each atom's energy, (n_frames, n_atoms), eV².

        As QUIP's `local_gap_variance`: of SOAP descriptors and pairs, from their sparse points.

        Raises
        ------
        MlselError
            If the GAP has terms over triplets, or two atoms are at the same place.
        """
        found = np.zeros((len(frames), frames.n_atoms))
        numbers = np.ascontiguousarray(frames.numbers, np.int32)
        for k in range(len(frames)):
            i, j, vectors = self._neighbours.compute(
                frames.positions[k], frames.cell[k], frames.periodic, "ijD"
            )
            first = np.searchsorted(i, np.arange(frames.n_atoms + 1)).astype(np.int32)
            arrays = (
                numbers,
                first,
                np.ascontiguousarray(j, np.int32),
                np.ascontiguousarray(vectors, np.float64),
                found[k],
            )
            pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
            message = ctypes.create_string_buffer(MESSAGE_BYTES)
            if self._library.mlsel_gap_variances(
                self._handle, frames.n_atoms, *pointers, message, MESSAGE_BYTES
            ):
                raise MlselError(
                    f"no variance of frame {k} by this GAP: it "
                    f"{message.value.decode(errors='replace')}."
                )
        return found


def open_gap(path: Path) -> SoapGap | None:
    """Open a GAP; None, with a line in the log, where it takes quippy to evaluate it.

    Raises
    ------
    MlselError
        If the file is damaged.
    """
    library = compiled()
    if library is None:
        return None
    message, is_damaged = ctypes.create_string_buffer(MESSAGE_BYTES), ctypes.c_int()
    handle = library.mlsel_gap_open(
        str(path).encode(), message, MESSAGE_BYTES, ctypes.byref(is_damaged)
    )
    if handle:
        return SoapGap(library, ctypes.c_void_p(handle))
    said = shortened(message.value.decode(errors="replace"))
    if is_damaged.value:
        raise MlselError(f"{said}.")
    log.info("%s %s: quippy evaluates it, some fifty times slower.", path, said)
    return None
