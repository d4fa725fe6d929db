"""A folder that vanishes while a stage runs: a sentence, not a traceback."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from mlsel.cli import run_main
from mlsel.core.files import DurableFile, creating


def test_a_folder_that_vanishes_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "study"
    folder.mkdir()

    def main(_: Sequence[str] | None) -> int:
        with creating(folder / "errors.csv", DurableFile) as file:
            file.write(b"1")
            shutil.rmtree(folder)
        return 0

    monkeypatch.setattr("mlsel.cli.end_all_ranks", lambda code: None)
    assert run_main(main) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and f"{folder}/" in said
    assert "was a folder moved or removed?" in said and len(said) <= 400
