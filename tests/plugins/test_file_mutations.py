"""Files of the pair styles that are damaged, by chance: LAMMPS runs, or says what is wrong.

Their readers are C++, and QUIP's Fortran: what ends a process must be seen, so each case runs in a
forked child.
"""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlsel.core.errors import shortened
from tests.plugins.support import evaluate_lammps, melts
from tests.support.mutations import damaged, damaged_json_bytes, damaged_text, run_cases

QUIP_ENDS = "ERROR: pair_style quip: QUIP's parser can't read the file and ended the process"
LAMMPS_ADDS = "\nLast input line:"
"""LAMMPS's own words after a message."""


def told(error: BaseException) -> str | None:
    """LAMMPS's message, without the line and the source that it adds."""
    text = str(error)
    if not text.startswith("ERROR"):
        return None
    text = text.partition(LAMMPS_ADDS)[0]
    return shortened(text, len(text))


def repacked(source: Path, target: Path, chance: random.Random) -> None:
    """Damage one entry of an archive, checksums right: metadata most of the time."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        names = [entry.filename for entry in old.infolist()]
        metadata = next(name for name in names if name.endswith("extra/mlsel.json"))
        hurt = metadata if chance.random() < 0.8 else chance.choice(names)
        for name in names:
            data = old.read(name)
            if name == hurt == metadata:
                data = damaged_json_bytes(json.loads(data), chance)
            elif name == hurt:
                data = damaged(data, chance)
            new.writestr(name, data)


def cases(
    files: dict[str, Path], gaps: list[Path], folder: Path
) -> dict[str, Callable[[random.Random], None]]:
    atoms = melts()[0]

    def schnet(chance: random.Random) -> None:
        path = folder / "model.pt"
        source = files[chance.choice(("schnet32", "schnet32", "schnet64", "painn64"))]
        if chance.random() < 0.6:
            repacked(source, path, chance)
        else:
            path.write_bytes(damaged(source.read_bytes(), chance))
        mode = chance.choice(("compressed",) * 3 + ("torchscript",))
        found = evaluate_lammps(atoms, f"schnet {mode} threads 1", f"{path} Na Cl")
        assert np.isfinite(found.energy) and np.isfinite(found.forces).all()

    def gap(chance: random.Random) -> None:
        path, source = folder / "gap.xml", chance.choice(gaps)
        text = source.read_text(encoding="utf-8")
        points = sorted(source.parent.glob(f"{source.name}.sparseX*"))
        for one in points:
            (folder / one.name).write_bytes(one.read_bytes())
        if chance.random() < 0.2:
            path.write_text(text, encoding="utf-8")
            one = chance.choice(points)
            (folder / one.name).write_bytes(damaged_text(one.read_text(encoding="ascii"), chance))
        elif chance.random() < 0.8:
            # as many changes in the few lines that describe as in the thousands that are numbers
            head, sep, rest = text.partition("<sparseX ")
            part = damaged_text(head, chance) if chance.random() < 0.6 else head.encode()
            rest = rest if part != head.encode() else damaged_text(rest, chance).decode("latin-1")
            path.write_bytes(part.rstrip(b"\n") + b"\n" + (sep + rest).encode("latin-1"))
        else:
            path.write_bytes(damaged(text.encode(), chance))
        mode = chance.choice(("", "", " library"))
        found = evaluate_lammps(atoms, f"quip{mode}", f'{path} "" 11 17')
        assert np.isfinite(found.energy) and np.isfinite(found.forces).all()

    return {"schnet": schnet, "gap": gap}


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("kind", ["schnet", "gap"])
def test_some_damaged_files(
    kind: str, files: dict[str, Path], gap: Path, gap_sum: Path, tmp_path: Path
) -> None:
    case = cases(files, [gap, gap_sum], tmp_path)[kind]
    run_cases(case, 40, seed=1, told=told, last_words=QUIP_ENDS).require()


@pytest.mark.slow
@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("seed", range(2, 7))
@pytest.mark.parametrize("kind", ["schnet", "gap"])
def test_many_damaged_files(
    kind: str, seed: int, files: dict[str, Path], gap: Path, gap_sum: Path, tmp_path: Path
) -> None:
    case = cases(files, [gap, gap_sum], tmp_path)[kind]
    run_cases(case, 200, seed, told=told, last_words=QUIP_ENDS).require()
