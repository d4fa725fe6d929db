"""What a library never returns from ends in a sentence."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlsel.core import endless
from tests.support.training_data import frames, write_pool

BOUNDED = """
import sys
from mlsel.core import endless
from mlsel.cli import run_main
from mlsel.__main__ import main
endless.SECONDS = 0.5
sys.exit(run_main(main, sys.argv[1:]))
"""


def without_room_in_heaps(data: bytes) -> bytes:
    """Return an HDF5 file whose heaps of texts have free space of no size: the library steps from
    it to itself, whoever asks for a text."""
    made = bytearray(data)
    at = data.find(b"GCOL")
    while at >= 0:
        end, place = at + int.from_bytes(data[at + 8 : at + 16], "little"), at + 16
        while place + 16 <= end:
            size = int.from_bytes(data[place + 8 : place + 16], "little")
            if data[place : place + 2] == b"\0\0":
                made[place + 8 : place + 16] = bytes(8)
                break
            place += 16 + (size + 7) // 8 * 8
        at = data.find(b"GCOL", at + 4)
    return bytes(made)


@pytest.mark.parametrize("words", [["info"], ["import", "out.h5"]])
def test_a_heap_that_hdf5_walks_for_ever(words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "pool.h5"
    write_pool(path, [frames(3)])
    path.write_bytes(without_room_in_heaps(path.read_bytes()))
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, words[0], str(path), *words[1:]],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        f"mlsel: {path} is damaged: the HDF5 library reads in it without end; take a copy of it, "
        "or make it again.\n"
    )
    assert not (tmp_path / "out.h5").exists()


def test_what_is_long_but_not_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block within another has the bound of the outer one, and after it there is none."""
    told: list[str] = []
    monkeypatch.setattr(endless, "end", told.append)
    monkeypatch.setattr(endless, "SECONDS", 0.05)
    with endless.told_if_endless("outer"), endless.told_if_endless("inner"):
        _work(lambda: bool(told))
    assert set(told) == {"outer"}
    told.clear()
    begun = time.process_time()
    _work(lambda: time.process_time() - begun > 0.2)
    assert not told


def _work(is_enough: Callable[[], bool]) -> None:
    while not is_enough():
        pass
