"""AddressSanitizer and UndefinedBehaviorSanitizer on the C++ that is ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlsel.core import native
from mlsel.plugins import builder

ROOT = Path(__file__).parents[2]
FLAGS = (
    "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1 -g1"
)
CASES = "tests/plugins/test_schnet.py tests/plugins/test_files.py tests/plugins/test_quip.py"


@pytest.mark.slow
def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    """The tests of the styles and of damaged files, with plugins that were built for it. By hand:
    docs/pair-styles.md."""
    environment = {
        **os.environ,
        builder.FLAGS_VARIABLE: FLAGS,
        native.CACHE_VARIABLE: str(tmp_path),
        "CXX": "g++",
    }
    subprocess.run(
        [sys.executable, "-m", "mlsel.plugins", "build"], cwd=ROOT, env=environment, check=True
    )
    libraries = [
        subprocess.run(
            ["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    environment |= {
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's, torch's and MPI's are many, and not ours
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-s", "-m", "not slow", *CASES.split()],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    output = ended.stdout + ended.stderr
    assert ended.returncode == 0, output[-6000:]
    assert "Sanitizer" not in output
    assert "runtime error" not in output
