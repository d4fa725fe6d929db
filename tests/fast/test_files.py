"""The door to the disk: temporary names, what killed processes left, errors at every write."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from mlsel.core import files
from mlsel.core.hdf5_file import creating_hdf5
from mlsel.md.row_file import RowFile
from tests.support.crash_points import WRITES, FullDisk, count

LEAVE = """
import os, sys
from pathlib import Path
from mlsel.core.files import finishing
with finishing(Path(sys.argv[1])) as partial:
    print(partial.name, flush=True)
    if sys.argv[2] == "die": os._exit(1)
    sys.stdin.read()
    partial.write_text("other")
"""


def other(path: Path, what: str) -> subprocess.Popen[str]:
    """Return a process that writes the same product, once it has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", LEAVE, str(path), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline()
    return process


def test_two_processes_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "pool[1].h5"
    process = other(path, "live")
    files.write_text(path, "mine")
    files.sweep_partials(tmp_path)
    assert path.read_text() == "mine" and len(list(tmp_path.iterdir())) == 2
    process.communicate("")
    assert path.read_text() == "other" and list(tmp_path.iterdir()) == [path]


def test_what_dead_processes_left_is_swept(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    other(path, "die").communicate()
    (tmp_path / ".run.h5.elsewhere-1.77.partial").touch()
    (tmp_path / ".in.lammps.partial").touch()
    assert len(list(tmp_path.iterdir())) == 3
    files.write_text(path, "whole")
    assert len(list(tmp_path.iterdir())) == 3, "other hosts' may live"
    files.sweep_partials(tmp_path, alone=True)
    assert list(tmp_path.iterdir()) == [path]


def test_hdf5_never_meets_an_error_of_the_disk(tmp_path: Path) -> None:
    """At each write of a file with several groups the error itself comes out, nothing else."""
    path = tmp_path / "x.h5"

    def write() -> None:
        with creating_hdf5(path) as (file, check):
            file["a/b/values"] = np.arange(3e5)
            check()
            for k in range(20):
                file[f"groups/{k}"] = np.full(100, k)
            file.attrs["text"] = "x" * 5000
            assert file["a/b/values"][-1] == 3e5 - 1

    whole = count(write)
    expected = path.read_bytes()
    path.unlink()
    writes = [k for k, kind in enumerate(whole.kinds, 1) if kind.split()[0] in WRITES]
    assert len(writes) > 10
    for k in writes:
        with pytest.raises(OSError) as caught, files.operations(FullDisk(k, errno.ENOSPC)):
            write()
        assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(path)
        assert not list(tmp_path.iterdir())
    write()
    assert path.read_bytes() == expected
    h5py.File(path).close()


def test_rows_are_brought_to_the_disk_once(tmp_path: Path) -> None:
    """A phase without rows writes nothing: no operation that a start after it would not repeat."""
    seen: list[str] = []
    with (
        files.operations(lambda kind, path: seen.append(kind)),
        RowFile(tmp_path / "rows", 0) as rows,
    ):
        rows.flush()
        for k in range(2):
            rows.add([1.0 + k])
            rows.flush()
            rows.flush()
        assert seen == ["write", "sync"] * 2
    assert np.fromfile(tmp_path / "rows").tolist() == [1.0, 2.0]
