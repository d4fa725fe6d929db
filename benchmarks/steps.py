"""Steps of MD to be timed: functions that return seconds a step, and taking turns with them."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.melt import TEMPERATURE, create
from tests.plugins.support import box_commands, open_lammps

CUTOFF = 6.0
"""Å, of the models."""


def open_step(atoms: Any, style: str, coeff: str) -> Any:
    """LAMMPS after two steps; the next ones are so short that atoms stay where they are."""
    lmp = open_lammps()
    lmp.commands_string(box_commands(atoms))
    create(lmp, atoms)
    lmp.commands_string(
        f"pair_style {style}\npair_coeff * * {coeff}\nthermo 1000000\n"
        f"velocity all create {TEMPERATURE} 1 loop geom\nfix 1 all nve\ntimestep 0.00001\n"
        "run 2 post no"
    )
    return lmp


def seconds_of(work: Callable[[], object], n: int) -> Callable[[], float]:
    """A function that does something n times and returns seconds for each."""

    def run() -> float:
        started = time.perf_counter()
        for _ in range(n):
            work()
        return (time.perf_counter() - started) / n

    return run


def lammps_step(lmp: Any, n_steps: int) -> Callable[[], float]:
    one = seconds_of(lambda: lmp.command(f"run {n_steps} pre no post no"), 1)
    return lambda: one() / n_steps


def eager_step(model: Any, atoms: Any, n_steps: int) -> Callable[[], float]:
    """schnetpack's model in Python, the edges given: energy and forces."""
    import torch
    from ase.neighborlist import neighbor_list

    i, j, shifts = neighbor_list("ijS", atoms, CUTOFF)
    vectors = torch.tensor(
        atoms.positions[j] - atoms.positions[i] + shifts @ atoms.cell.array, dtype=torch.float32
    )
    to, source = torch.tensor(i), torch.tensor(j)
    numbers = torch.tensor(atoms.numbers)
    for parameter in model.parameters():
        parameter.requires_grad_(False)

    def once() -> None:
        r = vectors.clone().requires_grad_()
        inputs = {"_atomic_numbers": numbers, "_Rij": r, "_idx_i": to, "_idx_j": source}
        features = model.representation(inputs)["scalar_representation"]
        energy = model.output_modules[0].outnet(features).sum()
        (slopes,) = torch.autograd.grad(energy, r)
        forces = torch.zeros(len(atoms), 3)
        forces.index_add(0, to, slopes).index_add(0, source, -slopes)

    return seconds_of(once, n_steps)


def in_turns(steps: Sequence[Callable[[], float]], repeats: int) -> list[float]:
    """Medians over the turns, the first of which warms up."""
    found = np.array([[step() for step in steps] for _ in range(repeats + 1)])
    return [float(value) for value in np.median(found[1:], axis=0)]


def ase_step(atoms: Any, calculator: Any, n_steps: int) -> Callable[[], float]:
    from ase import units
    from ase.md.verlet import VelocityVerlet

    copy = atoms.copy()
    copy.calc = calculator
    dynamics = VelocityVerlet(copy, 0.01 * units.fs)
    one = seconds_of(lambda: dynamics.run(n_steps), 1)
    return lambda: one() / n_steps


def bare_quip(lmp: Any, plugins: Path, gap: Path) -> Callable[[], float]:
    """QUIP's wrapper for LAMMPS, called with the neighbours that LAMMPS has now."""
    library = ctypes.CDLL(str(plugins / "libmlsel_quip.so"))
    index = lmp.find_pair_neighlist("quip")
    n_local = lmp.extract_global("nlocal")
    n_all = n_local + lmp.extract_global("nghost")
    x = np.ctypeslib.as_array(lmp.numpy.extract_atom("x", nelem=n_all, dim=3)).copy()
    types = lmp.numpy.extract_atom("type", nelem=n_all).ravel()[:n_all]
    tags = lmp.numpy.extract_atom("id", nelem=n_all).ravel()[:n_all].astype(np.int32)
    numbers = np.array([0, 11, 17], dtype=np.int32)[types]
    rows = [lmp.get_neighlist_element_neighbors(index, k) for k in range(n_local)]
    ilist = np.array([row[0] for row in rows], dtype=np.int32)
    count = np.array([row[1] for row in rows], dtype=np.int32)
    neighbours = np.concatenate(
        [np.ctypeslib.as_array(row[2], (row[1],)) & 0x1FFFFFFF for row in rows]
    ).astype(np.int32) + np.int32(1)
    box = lmp.extract_box()
    lattice = np.diag(np.subtract(box[1], box[0])).astype(float).ravel()
    arrays = [numbers, tags, ilist, count, neighbours, lattice, x]
    outputs = [np.zeros(n_all), np.zeros(9 * n_all), np.zeros(3 * n_all)]

    class Call(ctypes.Structure):  # mlsel_quip_call of quip_bridge.h
        _fields_ = [
            *((name, ctypes.c_int) for name in ("nlocal", "nghost", "inum", "sum_neigh")),
            *((f"in{k}", ctypes.c_void_p) for k in range(7)),
            ("energy", ctypes.c_double),
            ("virial", ctypes.c_double * 9),
            *((f"out{k}", ctypes.c_void_p) for k in range(3)),
        ]

    call = Call(n_local, n_all - n_local, len(ilist), len(neighbours))
    for k, array in enumerate(arrays):
        setattr(call, f"in{k}", array.ctypes.data)
    for k, array in enumerate(outputs):
        setattr(call, f"out{k}", array.ctypes.data)
    library.mlsel_quip_compute.restype = ctypes.c_char_p

    def once() -> tuple[Any, ...]:
        message = library.mlsel_quip_compute(ctypes.byref(call))
        if message:
            raise RuntimeError(message.decode())
        return (arrays, outputs)  # alive as long as this function

    once()
    energy = lmp.get_thermo("pe")
    if abs(call.energy - energy) > 1e-8 * abs(energy):
        raise RuntimeError(f"the bare call gives {call.energy} eV, the pair style {energy} eV")
    return seconds_of(once, 1)
