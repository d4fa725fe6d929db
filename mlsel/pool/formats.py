"""What other programs call our labels, and the files that they read.

Sources: MACE's `--energy_key REF_energy …`; NequIP's ASE data set (ASE's names); gap_fit's
default `energy_parameter_name` …; DeePMD-kit's npy folders; GPUMD's train.xyz; n2p2's input.data;
schnetpack's ASEAtomsData. Stress is positive in tension, eV/Å³; a virial is −dE/dε, eV.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from mlsel.core.arrays import Array, FloatArray, IntArray
from mlsel.core.errors import MlselError
from mlsel.core.files import DurableFile, creating, write_text
from mlsel.pool.label_names import ASE, Names

if TYPE_CHECKING:
    from ase import Atoms


@dataclass
class Outgoing:
    """A frame on its way out: labels in our units, and all else under its own key."""

    frame_id: int
    run: int
    numbers: IntArray
    positions: FloatArray
    cell: FloatArray
    periodic: tuple[bool, bool, bool]
    labels: dict[str, Array] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)

    @property
    def stress(self) -> FloatArray | None:
        """Positive in tension, eV/Å³, (3, 3); None without a virial or a volume."""
        volume = abs(np.linalg.det(self.cell))
        if "virial" not in self.labels or not volume > 0:
            return None
        stress: FloatArray = -self.labels["virial"] / volume
        return stress


def named(names: Names, frame: Outgoing) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return info and arrays of a frame with its labels; what collides gets a suffix."""
    info: dict[str, Any] = {}
    arrays: dict[str, Array] = {}
    for label, value in frame.labels.items():
        name = getattr(names, label)
        if label == "virial":
            stress = frame.stress if names.is_stress else value
            if stress is not None:
                info[name] = stress
        elif label == "energy":
            info[name] = float(value)
        else:
            arrays[name] = value
    mine = {names.energy, names.forces, names.virial, names.atomic_energies}
    for here, more in ((info, frame.info), (arrays, frame.arrays)):
        for key, value in more.items():
            here[f"{key}_of_source" if key in mine else key] = value
    return info, arrays


def write_extxyz(file: TextIO, frame: Outgoing, names: Names) -> None:
    """Write a frame as extended XYZ, every number with all its digits.

    Raises
    ------
    MlselError
        If a text of an atom has a space in it.
    """
    from ase.data import chemical_symbols
    from ase.io.extxyz import key_val_dict_to_str

    info, arrays = named(names, frame)
    columns: list[list[str]] = [[chemical_symbols[z] for z in frame.numbers]]
    properties = ["species:S:1"]
    for name, array in {"pos": frame.positions, **arrays}.items():
        kind = {"f": "R", "i": "I", "b": "L", "U": "S"}[array.dtype.kind]
        flat = array.reshape(len(array), -1)
        properties.append(f"{re.sub(r'[\s:=]', '_', name)}:{kind}:{flat.shape[1]}")
        for column in flat.T:
            columns.append([_word(x, frame, name) for x in column.tolist()])
    header: dict[str, Any] = {}
    if frame.cell.any():
        header["Lattice"] = " ".join(repr(x) for x in frame.cell.ravel().tolist())
    header["Properties"] = ":".join(properties)
    header |= {key: _comment(value) for key, value in info.items()}
    header["pbc"] = " ".join("FT"[along] for along in frame.periodic)
    rows = "\n".join(" ".join(row) for row in zip(*columns, strict=True))
    file.write(f"{len(frame.numbers)}\n{key_val_dict_to_str(header)}\n{rows}\n")


def _word(value: Any, frame: Outgoing, name: str) -> str:
    if isinstance(value, bool):
        return "FT"[value]
    text = value if isinstance(value, str) else repr(value)
    if not text or re.search(r"\s", text):
        raise MlselError(
            f"frame {frame.frame_id} has {name} = {text[:40]!r} for an atom: a column of extended "
            "XYZ holds no text with a space; write .traj or .db."
        )
    return text


def _comment(value: Any) -> Any:
    """Return a value as ASE's key_val_dict_to_str keeps it: texts that look like none as JSON."""
    if isinstance(value, np.ndarray):
        return value.ravel() if value.shape == (3, 3) else value
    if isinstance(value, str) and (
        not re.fullmatch(r"[A-Za-z_][\w./:@-]*", value)
        or value.lower() in ("t", "f", "true", "false", "nan", "inf", "infinity")
    ):
        return f"_JSON {json.dumps(value)}"
    return value


def write_n2p2(file: TextIO, frame: Outgoing, names: Names) -> None:
    """Write a frame as n2p2's input.data: eV and Å; what has no place there is in the comment."""
    from ase.data import chemical_symbols
    from ase.io.extxyz import key_val_dict_to_str

    energy, forces = _needed(frame, "energy"), _needed(frame, "forces")
    charges = frame.arrays.get("charges", np.zeros(len(frame.numbers)))
    info, arrays = named(names, frame)
    told = {key: _comment(value) for key, value in info.items() if key != names.energy}
    told |= {key: value.tolist() for key, value in arrays.items() if key != names.forces}
    lines = ["begin", f"comment {key_val_dict_to_str(told)}"]
    if all(frame.periodic):
        lines += ["lattice " + " ".join(map(repr, row)) for row in frame.cell.tolist()]
    elif any(frame.periodic):
        raise _partly_periodic(frame, "n2p2")
    for i, z in enumerate(frame.numbers):
        x, f = (" ".join(map(repr, a[i].tolist())) for a in (frame.positions, forces))
        lines.append(f"atom {x} {chemical_symbols[z]} {float(charges[i])!r} 0.0 {f}")
    charge = float(frame.info.get("charge", charges.sum()))
    lines += [f"energy {float(energy)!r}", f"charge {charge!r}", "end", ""]
    file.write("\n".join(lines))


def _needed(frame: Outgoing, label: str) -> Array:
    if label not in frame.labels:
        raise MlselError(
            f"frame {frame.frame_id} has no {label}, which this format needs: leave it out with "
            "--frames, or import with --without-labels skip."
        )
    return frame.labels[label]


def _partly_periodic(frame: Outgoing, program: str) -> MlselError:
    return MlselError(
        f"frame {frame.frame_id} is periodic in some directions only: {program} has no way to say "
        "so; write another format."
    )


_KEPT_BY_ASE = {"tags", "momenta", "masses", "initial_magmoms", "initial_charges"}


def with_labels(frame: Outgoing, names: Names) -> Atoms:
    """Return a frame as ASE Atoms, labels as a calculator's results if the names are ASE's.

    ASE's own files keep no arrays beyond a few: the others go to info.
    """
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.stress import full_3x3_to_voigt_6_stress

    info, arrays = named(names, frame)
    results: dict[str, Any] = {}
    if names is ASE:
        for home, labels in ((info, (ASE.energy, ASE.virial)), (arrays, (ASE.forces, "energies"))):
            results |= {key: home.pop(key) for key in labels if key in home}
        if ASE.virial in results:
            results[ASE.virial] = full_3x3_to_voigt_6_stress(results[ASE.virial])
    atoms = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.periodic)
    atoms.info.update(info)
    for key, value in arrays.items():
        if key in _KEPT_BY_ASE:
            atoms.set_array(key, value)
        else:
            atoms.info[f"{key}_of_atoms" if key in info else key] = value
    if results:  # last: a calculator's results are void once the atoms change
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def write_db(path: Path, frames: Iterable[Outgoing], references: dict[int, float]) -> None:
    """Write ASE's database; schnetpack reads it, and ASE finds all beside the labels in data."""
    from ase.db import connect

    units = {"energy": "eV", "forces": "eV/Ang", "stress": "eV/Ang/Ang/Ang", "energies": "eV"}
    seen: set[str] | None = None
    with connect(str(path), type="db", append=False) as database:
        for frame in frames:
            info, arrays = named(ASE, frame)
            data: dict[str, Any] = {**info, **arrays}
            for key, value in data.items():
                if isinstance(value, np.ndarray) and value.dtype.kind == "U":
                    data[key] = value.tolist()  # ASE's databases can't read arrays of text
            if "energy" in data:
                data["energy"] = np.array([data["energy"]])
            if "stress" in data:
                data["stress"] = data["stress"][None]
            seen = set(data) & set(units) if seen is None else seen & set(data)
            database.write(with_labels(frame, ASE), data=data)
    single = {}
    if references:
        single["energy"] = [references.get(z, 0.0) for z in range(max(references) + 1)]
    database.metadata = {
        "_property_unit_dict": {key: unit for key, unit in units.items() if key in (seen or ())},
        "_distance_unit": "Ang",
        "atomrefs": single,
    }


def write_deepmd(folder: Path, frames: Iterable[Outgoing], names: Names) -> None:
    """Write DeePMD-kit's systems: a folder for frames with the same atoms and labels.

    All beside the labels goes to set.000 as <name>.npy, where DeePMD-kit looks for none.
    """
    from ase.data import chemical_symbols

    kinds: dict[Any, list[Outgoing]] = {}
    for frame in frames:
        if 0 < sum(frame.periodic) < 3:
            raise _partly_periodic(frame, "DeePMD-kit")
        _needed(frame, "energy")
        fields = tuple(sorted((*frame.labels, *frame.info, *frame.arrays)))
        kinds.setdefault((frame.numbers.tobytes(), frame.periodic, fields), []).append(frame)
    elements = sorted({int(z) for key in kinds for z in np.frombuffer(key[0], dtype=np.int64)})
    for number, members in enumerate(kinds.values()):
        first = members[0]
        system = folder / f"system-{number:04}"
        (system / "set.000").mkdir(parents=True)
        symbols = "".join(f"{chemical_symbols[z]}\n" for z in elements)
        write_text(system / "type_map.raw", symbols)
        types = "".join(f"{elements.index(z)}\n" for z in first.numbers)
        write_text(system / "type.raw", types)
        if not any(first.periodic):
            write_text(system / "nopbc", "")
        columns: dict[str, list[Any]] = {
            "coord": [m.positions for m in members],
            "box": [m.cell if any(m.periodic) else np.zeros((3, 3)) for m in members],
        }
        told = [named(names, m) for m in members]
        for key in (*told[0][0], *told[0][1]):
            free = f"{key}_of_source" if key in ("coord", "box") else key
            columns[free] = [{**info, **arrays}[key] for info, arrays in told]
        for key, values in columns.items():
            known = key in ("coord", "box", "force", "virial", "atom_ener")
            stacked = _stacked(values)
            flat = stacked.reshape(len(values), -1) if known else stacked
            name = f"{re.sub(r'[/\s]', '_', key)}.npy"
            with creating(system / "set.000" / name, DurableFile) as file:
                np.save(file, flat)


def _stacked(values: list[Any]) -> Array:
    if all(isinstance(value, (np.ndarray, np.generic, str, int, float)) for value in values):
        try:
            return np.stack([np.asarray(value) for value in values])
        except ValueError:  # of other shapes
            pass
    plain = (v.tolist() if isinstance(v, np.ndarray) else v for v in values)
    return np.array([json.dumps(value) for value in plain])


Writer = Callable[[TextIO, Outgoing, Names], None]


def require_lattice(frames: Iterable[Outgoing]) -> Iterator[Outgoing]:
    """Yield frames; raise where one has no cell or energy, without which GPUMD reads none."""
    for frame in frames:
        if not abs(np.linalg.det(frame.cell)) > 0:
            raise MlselError(
                f"frame {frame.frame_id} has no cell, and GPUMD reads no frame without one: put it "
                "into a large box."
            )
        _needed(frame, "energy")
        yield frame
