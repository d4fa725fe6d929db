"""README and docs: what they tell to type runs, and what they point to is there."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import re
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlsel.pool.pool import Pool
from mlsel.study.schema import key_of
from mlsel.study.study import Study
from tests.fast.test_imports import ROOMS
from tests.support.documents import ROOT, code_blocks, run_blocks
from tests.support.labelled import write_trajectory

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def test_the_door_for_a_trajectory(tmp_path: Path) -> None:
    """Import, check, select, export; and in Python the same frames."""
    write_trajectory(tmp_path / "traj.extxyz")
    blocks = code_blocks(ROOT / "README.md", "## I have a trajectory")
    printed = run_blocks(blocks, tmp_path)
    with Pool(tmp_path / "train.h5") as train:
        frames = train.values("source_frame")
    assert str(frames.astype(np.int64)) in printed
    assert (tmp_path / "train.extxyz").read_text().count("REF_energy=") == 30


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_points_to_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    files = re.findall(
        r"`((?:mlsel|tests|docs|lammps_inputs|potentials|benchmarks|examples)/[\w./-]*)`", text
    )
    missing += [path for path in files if not (ROOT / path).exists()]
    modules = re.findall(r"python -m ((?:mlsel|benchmarks)(?:\.\w+)*)", text)
    missing += [name for name in modules if importlib.util.find_spec(name) is None]
    assert not missing


def test_the_architecture_tells_the_order_of_the_rooms() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    order = re.search(r"^core < .*?(?=< the doors)", text, re.MULTILINE | re.DOTALL)
    assert order is not None
    assert tuple(re.findall(r"\w+", order[0])) == ROOMS


def test_the_reference_has_every_key_of_the_study_file() -> None:
    place = ROOT / "docs" / "study_reference.py"
    spec = importlib.util.spec_from_file_location("study_reference", place)
    assert spec is not None and spec.loader is not None
    reference: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    page = reference.on_page_markdown((ROOT / "docs" / "study-file.md").read_text("utf-8"))

    def compare(section: Any, name: str) -> None:
        _, found, here = page.partition(f"\n## [{name}]\n")
        assert found or not name
        here = here.partition("\n## ")[0]
        hints = typing.get_type_hints(section)
        for field in dataclasses.fields(section):
            if dataclasses.is_dataclass(hints[field.name]):
                compare(hints[field.name], f"{name}.{field.name}" if name else field.name)
            elif name:
                (row,) = re.findall(rf"^\| `{key_of(field.name)}` \|.*$", here, re.MULTILINE)
                assert field.metadata.get("unit", "") in row

    compare(Study, "")
    assert "| `ranks_per_run` | `1` | whole number ≥ 1 |" in page


def test_the_python_page_names_what_there_is() -> None:
    names = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs/api.md").read_text("utf-8"), re.MULTILINE)
    assert names
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__, name
