"""Extended XYZ by our scanner: every frame, bit for bit, as ASE reads it, or left to ASE."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlsel.core.errors import MlselError
from mlsel.pool import extxyz, extxyz_scan
from mlsel.pool.incoming import Incoming
from mlsel.pool.sources import ReadOptions, read_batches


@pytest.fixture(autouse=True, scope="module")
def scanner() -> None:
    """Without it these tests would hold ASE against itself."""
    assert extxyz_scan.library() is not None, "the scanner is not built: is there a g++?"


NUMBERS = ["1", "-2", "0.5", "-.5", "3.", "1e-3", "-1.25E+2", "2.2250738585072014e-308", "007"]
ODD_NUMBERS = ["+1.5", "nan", "-inf", "1e400", "1e-400", "1_0", "1d5", "0x1p3", "2147483648", "T"]
"""Read by Python in its own way, or by nobody."""
WORDS = ["bulk", "a-b/c", "x1,y2", "True", "F", "T T F", "nan", "1,2,3", "_JSON [1, 2]", "Tea", "é"]
COLUMNS = [
    "forces:R:3",
    "REF_forces:R:3",
    "tags:I:1",
    "kinds:S:1",
    "move_mask:L:1",
    "move_mask:I:3",
    "charge:R:1",
    "initial_charges:R:1",
    "magmoms:R:1",
    "energies:R:1",
    "flag:L:1",
    "pairs:I:2",
    "momenta:R:3",
    "Z:I:1",
    "masses:R:1",
]
KEYS = [
    "energy", "REF_energy", "free_energy", "stress", "virial", "REF_stress", "name", "config_type",
    "uid", "pbc", "dipole", "magmom", "step", "lattice", "a:b", "x",
]  # fmt: skip


def frames_of(path: Path, *, scanned: bool, monkeypatch: pytest.MonkeyPatch) -> object:
    """Each frame of a file alone, in its order; or that it is refused."""
    if not scanned:
        monkeypatch.setattr(extxyz, "library", lambda: None)
    try:
        batches = list(read_batches(path, 0, ReadOptions()))
    except MlselError:
        return "refused"
    finally:
        monkeypatch.undo()
    alone = [part.take(np.array([k])) for b in batches for part in b for k in range(len(part))]
    return sorted(alone, key=lambda frame: int(frame.index[0]))


def compare(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = frames_of(path, scanned=True, monkeypatch=monkeypatch)
    theirs = frames_of(path, scanned=False, monkeypatch=monkeypatch)
    if isinstance(ours, str) or isinstance(theirs, str):
        assert ours == theirs
        return
    assert isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        require_same(one, other)


def require_same(one: Incoming, other: Incoming) -> None:
    assert one.index == other.index and one.periodic == other.periodic
    assert one.values.keys() == other.values.keys()
    assert (one.not_kept, one.filled_in) == (other.not_kept, other.filled_in)
    pairs = [(one.values[at], other.values[at], at) for at in one.values]
    pairs += [
        (getattr(one, name), getattr(other, name), (name, ""))
        for name in ("numbers", "positions", "cell")
    ]
    for ours, theirs, at in pairs:
        if isinstance(ours, list):
            assert ours == theirs and type(ours[0]) is type(theirs[0]), at
        else:
            assert isinstance(theirs, np.ndarray)
            assert ours.shape == theirs.shape, at
            # Texts in one array are as wide as the widest.
            assert ours.dtype == theirs.dtype or ours.dtype.kind == "U", at
            assert ours.astype(theirs.dtype).tobytes() == theirs.tobytes(), at


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Some kinds of frames, each a few times with other numbers, and now and then something odd."""
    rare = st.integers(0, 19).map(lambda k: k == 0)
    numbers = st.sampled_from([*NUMBERS * 4, *(["+1.5"] if draw(rare) else [])])
    any_number = st.one_of(numbers, st.sampled_from(ODD_NUMBERS)) if draw(rare) else numbers
    real = st.one_of(
        any_number, st.floats(-1e3, 1e3).map(repr), st.floats(-9, 9).map("{:.8f}".format)
    )
    integer = st.integers(-3, 3).map(str)
    blank = st.sampled_from([" "] * 8 + ["  ", "\t"])

    def value(key: str) -> Callable[[], str]:
        n = {"stress": 9, "virial": 9, "REF_stress": 6, "dipole": 3}.get(key, 1)
        kind = draw(st.sampled_from(["real"] * 4 + ["integer", "words", "word"]))
        quote = (
            draw(st.sampled_from(['""'] * 6 + ["{}", "''", "[]"])) if n > 1 or draw(rare) else ""
        )
        if key == "pbc":
            kind, quote = "pbc", '""'
        word = draw(st.sampled_from(WORDS))

        def one() -> str:
            if kind == "pbc":
                return (
                    '"T T T"'
                    if draw(st.integers(0, 5))
                    else draw(st.sampled_from(["T", '"F F T"']))
                )
            if kind in ("words", "word"):
                text = word if kind == "words" else f"{word}{draw(integer)}"
                return f'"{text}"' if " " in text or draw(rare) else text
            parts = [draw(real if kind == "real" else integer) for _ in range(n)]
            text = " ".join(parts)
            return f"{quote[0]}{text}{quote[1]}" if quote else text

        return one

    def kind_of_frame() -> Callable[[], list[str]]:
        n_atoms = draw(st.integers(1, 3))
        species = draw(
            st.lists(st.sampled_from(["Na", "Cl", "h"]), min_size=n_atoms, max_size=n_atoms)
        )
        columns = draw(
            st.lists(st.sampled_from(COLUMNS), max_size=3, unique_by=lambda c: c.split(":")[0])
        )
        columns = ["species:S:1", "pos:R:3", *columns]
        if draw(rare):
            columns.reverse()
        keys = draw(st.lists(st.sampled_from(KEYS), max_size=4, unique=True))
        values = {key: value(key) for key in keys}
        has_cell, place = draw(st.booleans()), draw(st.integers(0, 2))
        properties = f"Properties={':'.join(columns)}"

        def cell_of(column: str, atom: int) -> list[str]:
            name, kind, count = column.split(":")
            if name == "species":
                return [species[atom]]
            make = {
                "R": real,
                "I": st.sampled_from(["11", "17"]) if name == "Z" else integer,
                "S": st.sampled_from(["a", "bc"]),
                "L": st.sampled_from(["T", "F"]),
            }[kind]
            return [draw(make) for _ in range(int(count))]

        def one() -> list[str]:
            parts = [f"{key}={make()}" for key, make in values.items()]
            if has_cell:
                parts.insert(0, f'Lattice="{9 + draw(st.integers(0, 2))}.5 0 0 0 8 0 0 0.25 7"')
            parts.insert(min(place, len(parts)), properties)
            header = "".join(part + draw(blank) for part in parts)
            header = header if draw(rare) else header.strip()
            rows = []
            for atom in range(n_atoms):
                words = [word for column in columns for word in cell_of(column, atom)]
                words += ["1"] if draw(st.integers(0, 99)) == 0 else []
                rows.append("".join(word + draw(blank) for word in words))
            return [str(n_atoms), header, *rows]

        return one

    kinds = [kind_of_frame() for _ in range(draw(st.integers(1, 2)))]
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 6))):
        lines += draw(st.sampled_from(kinds))()
        lines += [""] if draw(rare) else []
    end = draw(st.sampled_from(["\n"] * 6 + ["\r\n", "\r"]))
    text = end.join(lines) + (end if draw(st.booleans()) else "")
    if draw(rare):
        text = text[: draw(st.integers(0, len(text)))]
    if draw(rare):
        at = draw(st.integers(0, len(text)))
        text = (
            text[:at]
            + draw(st.sampled_from(["\r", "\x0b", "\u2028", '"', "\\", "=", "\x00"]))
            + text[at:]
        )
    return text.encode()


def odd_files(path: Path, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(text)
    compare(path, monkeypatch)
    monkeypatch.setattr(extxyz_scan, "CHUNK", max(16, len(text) // 3))
    ours = frames_of(path, scanned=True, monkeypatch=monkeypatch)  # it undoes the patch
    theirs = frames_of(path, scanned=True, monkeypatch=monkeypatch)
    assert type(ours) is type(theirs) and len(ours) == len(theirs)  # type: ignore[arg-type]


AS_IT_IS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=AS_IT_IS)
@given(files())
def test_odd_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    odd_files(tmp_path / "in.extxyz", text, monkeypatch)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None, suppress_health_check=AS_IT_IS)
@given(files())
def test_many_odd_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    odd_files(tmp_path / "in.extxyz", text, monkeypatch)
