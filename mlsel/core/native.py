"""C++ of ours, compiled where it runs: the compiler, the cache, one build at a time.

A build is a folder in a cache, named by all that it depends on and given that name when it is
whole. Two kinds are built: kernels that Python loads (`load`), for the processor at hand, and
LAMMPS's plugins (`mlsel.plugins.builder`).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import logging
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mlsel.core import stopping
from mlsel.core.errors import MlselError, Stopped
from mlsel.core.files import creating_folder
from mlsel.core.provenance import digest

log = logging.getLogger(__name__)

POLL = 0.1
PATIENCE = 5.0
"""Seconds between two looks at a lock that another process has, and until that is told."""
CACHE_VARIABLE = "MLSEL_CACHE"
KERNELS_OFF = "MLSEL_NO_KERNELS"
LANGUAGE = ("-std=c++20", "-O3", "-fPIC")
NATIVE = (*LANGUAGE, "-march=native")
SAME_BITS = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
"""The bits that NumPy gives: nothing fused. The others let roots and roundings be vectorised."""


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: $CXX, or the first of g++, clang++ and c++ that is there."""

    path: str
    version: str

    @classmethod
    def find(cls) -> Compiler:
        """Return the compiler.

        Raises
        ------
        MlselError
            If there is none.
        """
        wanted = os.environ.get("CXX")
        for name in (wanted,) if wanted else ("g++", "clang++", "c++"):
            if (path := shutil.which(name)) is not None:
                answer = subprocess.run(
                    [path, "--version"], capture_output=True, text=True, check=False
                )
                if answer.returncode == 0:
                    return cls(path, answer.stdout.split("\n", 1)[0])
        if wanted:
            raise MlselError(f"CXX names the compiler {wanted}, which cannot be run.")
        raise MlselError(
            "there is no C++ compiler: looked for $CXX, g++, clang++ and c++ on PATH; install g++ "
            "(11 or newer)."
        )

    @property
    def key(self) -> str:
        return digest(self.version.encode())[:8]

    def run(self, units: Sequence[Unit]) -> list[str]:
        """Do compilations side by side; return the compiler's warnings.

        Raises
        ------
        MlselError
            If one fails.
        """
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            said = list(pool.map(self._call, units))
        return [line for text in said for line in text.splitlines() if "warning" in line]

    def _call(self, unit: Unit) -> str:
        command = [self.path, *unit.arguments, "-o", str(unit.output)]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            lines = answer.stderr.splitlines()
            cause = next((line for line in lines if "error" in line), lines[-1] if lines else "")
            log.debug("%s", " ".join(command))
            raise MlselError(
                f"{self.version} could not build {unit.output.name}: {cause.strip()[:200]}"
            )
        return answer.stderr


@dataclass(frozen=True)
class Unit:
    """One call of the compiler: sources and flags to an output."""

    output: Path
    arguments: Sequence[str]


def cache_folders(kind: str) -> list[Path]:
    """Return where builds of a kind are looked for.

    $MLSEL_CACHE alone, or the environment's folder and, for environments that can't be written
    to, the user's cache.
    """
    if chosen := os.environ.get(CACHE_VARIABLE):
        return [Path(chosen) / kind]
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [Path(sysconfig.get_path("data")) / "share/mlsel" / kind, user / "mlsel" / kind]


def find_builds(kind: str, pattern: str) -> list[Path]:
    """Return the finished builds whose names match a pattern."""
    return [path for cache in cache_folders(kind) for path in sorted(cache.glob(pattern))]


def build_once(
    kind: str, name: str, make: Callable[[Path], None], *, force: bool = False
) -> tuple[Path, bool]:
    """Return a build's folder, and whether it was made now; of many processes one makes it.

    Parameters
    ----------
    make : callable
        make(folder) writes the build's files.

    Raises
    ------
    MlselError
        If it must be made, and there is no folder that can be written to, or `make` raises it.
    Stopped
        If a signal comes while another process's build is waited for.
    """
    if not force and (found := find_builds(kind, name)):
        return found[0], False
    cache = _writable(cache_folders(kind))
    with _one_at_a_time(cache / ".lock"):
        if not force and (found := find_builds(kind, name)):
            return found[0], False  # another process was first
        with creating_folder(cache / name) as scratch:
            make(scratch)
    return cache / name, True


def _writable(folders: Sequence[Path]) -> Path:
    reasons = []
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError as error:
            reasons.append(f"{folder} ({error.strerror})")
    raise MlselError(
        f"there is no folder to build in: {', '.join(reasons)} cannot be written to; set "
        f"{CACHE_VARIABLE} to a folder that can."
    )


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Hold a lock that the kernel lets go of when the process ends, however it ends."""
    with path.open("w") as lock:
        with contextlib.suppress(OSError):  # a file system without locks: the rename still decides
            _wait_for(lock, path.parent)
        yield


def _wait_for(lock: IO[str], folder: Path) -> None:
    """Take the kernel's lock of an open file, and say so once if that takes long.

    `flock` without LOCK_NB would be deaf: Python goes on with it after a signal it handles.
    """
    begin, is_told = time.monotonic(), False
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if stopping.asked():
                raise Stopped(
                    f"stopped by a signal while another process built in {folder}.",
                    has_progress=stopping.units_done() > 0,
                ) from None
        if not is_told and time.monotonic() - begin >= PATIENCE:
            # Not through the log: the commands that build have none that is shown.
            print(f"mlsel: waiting for another process that builds in {folder}", file=sys.stderr)
            is_told = True
        time.sleep(POLL)


def load(
    name: str,
    sources: Sequence[Path],
    flags: Sequence[str],
    consequence: str,
    headers: Sequence[Path] = (),
) -> ctypes.CDLL | None:
    """Return the library of these sources, or None (said in the log) where it cannot be built.

    Where MLSEL_NO_KERNELS is set it is None too, without a word.

    Parameters
    ----------
    name : str
        What the library does, for its file's name and the log.
    sources, headers : sequences of paths
        What is compiled, and what it includes.
    flags : sequence of str
        The compiler's, beside `NATIVE`.
    consequence : str
        What happens without it, for the log.

    Raises
    ------
    Stopped
        If a signal comes while another process's build is waited for.
    """
    if os.environ.get(KERNELS_OFF):
        return None
    try:
        compiler = Compiler.find()
        texts = [path.read_text(encoding="utf-8") for path in (*sources, *headers)]
        key = digest([*texts, NATIVE, list(flags), compiler.version, _processor()])[:16]

        def make(folder: Path) -> None:
            _make_library(compiler, sources, flags, folder / f"{name}.so")

        try:
            folder, _ = build_once("kernels", f"{name}-{key}", make)
        except Stopped:
            raise
        except MlselError:
            # Nothing can be written to: this process compiles for itself.
            folder = Path(tempfile.mkdtemp(prefix="mlsel-"))
            make(folder)
        return ctypes.CDLL(str(folder / f"{name}.so"))
    except Stopped:
        raise
    except (OSError, MlselError) as error:
        log.warning("mlsel's %s is not compiled, so %s: %s", name, consequence, error)
        return None


def check_layout(library: ctypes.CDLL, symbol: str, structure: type[ctypes.Structure]) -> None:
    """Compare a structure with its twin in C++, whose size and members' places `symbol` holds.

    Raises
    ------
    RuntimeError
        If the two have come apart: every call would read other numbers than were given.
    """
    names = _members(structure)
    expected = [ctypes.sizeof(structure), *(getattr(structure, name).offset for name in names)]
    found = list((ctypes.c_int64 * (len(expected) + 1)).in_dll(library, symbol))
    if found != [*expected, -1]:
        raise RuntimeError(
            f"{structure.__name__} in Python has size and offsets {expected}, {symbol} in C++ "
            f"{found}: change one with the other."
        )


def _members(structure: type[ctypes.Structure]) -> list[str]:
    """Of the structure and those it extends, in order."""
    return [
        str(member[0])
        for part in reversed(structure.__mro__)
        for member in part.__dict__.get("_fields_", ())
    ]


def check_memory(status: int, what: str) -> None:
    """Raise MlselError if a compiled function gave another status than 0."""
    if status:
        raise MlselError(f"There is not enough memory for {what}: ask for less at once.")


def _make_library(
    compiler: Compiler, sources: Sequence[Path], flags: Sequence[str], path: Path
) -> None:
    objects = [path.with_name(f"{source.stem}.o") for source in sources]
    compiler.run(
        [
            Unit(made, [*NATIVE, *flags, "-c", str(source)])
            for source, made in zip(sources, objects, strict=True)
        ]
    )
    # Linked with -ffast-math, GCC before 13 makes denormals zero in the whole process.
    linking = [flag for flag in flags if flag != "-ffast-math"]
    compiler.run([Unit(path, [*NATIVE, *linking, "-shared", *map(str, objects)])])
    for made in objects:
        made.unlink()


def _processor() -> str:
    """What tells one processor's instructions from another's."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "".join(next((x for x in lines if x.startswith(k)), "") for k in ("model name", "flags"))
