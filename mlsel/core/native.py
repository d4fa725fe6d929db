"""C++ of ours that is compiled where it runs: once per compiler and processor, into a cache."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlsel.core.errors import MlselError
from mlsel.core.provenance import digest

log = logging.getLogger(__name__)

FLAGS = ("-std=c++20", "-O3", "-march=native", "-fPIC")
SAME_BITS = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
"""The bits that NumPy gives: nothing fused. The others let roots and roundings be vectorised."""


def cache_folder() -> Path:
    """Return where compiled code is kept: MLSEL_CACHE, or the user's cache folder."""
    chosen = os.environ.get("MLSEL_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlsel"


def _processor() -> str:
    """What tells one processor's instructions from another's."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "".join(next((x for x in lines if x.startswith(k)), "") for k in ("model name", "flags"))


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
        The compiler's, beside `FLAGS`.
    consequence : str
        What happens without it, for the log.
    """
    if os.environ.get("MLSEL_NO_KERNELS"):
        return None
    compiler = os.environ.get("CXX", "g++")
    try:
        version = subprocess.run(
            [compiler, "--version"], capture_output=True, text=True, check=True
        ).stdout
        texts = [path.read_text(encoding="utf-8") for path in (*sources, *headers)]
        key = digest([*texts, FLAGS, list(flags), version, _processor()])
        path = cache_folder() / f"{name}-{key[:16]}.so"
        return ctypes.CDLL(str(_build(compiler, sources, flags, path)))
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", "") or str(error)
        log.warning(
            "%s does not compile mlsel's %s (%s): %s. Install g++, or name a compiler in CXX.",
            compiler,
            name,
            detail.strip().splitlines()[0] if detail.strip() else "no message",
            consequence,
        )
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


def _build(compiler: str, sources: Sequence[Path], flags: Sequence[str], path: Path) -> Path:
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=path.parent, prefix=".building-")
    except OSError:  # a read-only home: this process compiles for itself
        path = Path(tempfile.mkdtemp(prefix="mlsel-")) / path.name
        scratch = tempfile.TemporaryDirectory(dir=path.parent, prefix=".building-")
    with scratch as folder:

        def run(*arguments: str) -> None:
            subprocess.run(
                [compiler, *FLAGS, *arguments], capture_output=True, text=True, check=True
            )

        objects = [Path(folder, f"{source.stem}.o") for source in sources]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda s, o: run(*flags, "-c", str(s), "-o", str(o)), sources, objects))
        made = Path(folder, path.name)
        # Linked with -ffast-math, GCC before 13 makes denormals zero in the whole process.
        linking = [flag for flag in flags if flag != "-ffast-math"]
        run(*linking, "-shared", *map(str, objects), "-o", str(made))
        made.replace(path)  # ranks that start together each build; the last one's file stays
    return path
