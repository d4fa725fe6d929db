"""The command that puts benchmarks' claims into the documentation."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from benchmarks import table
from benchmarks.claims import Claims

END = "<!-- end -->"
BEFORE = f"# Title\n\n<!-- startup -->\n\nwas here\n\n{END}\n\n<!-- fps -->\n\nkept\n\n{END}\n"


def test_only_what_was_run_is_written_anew_and_a_claim_that_fell_short_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    claims = Claims()
    claims.note("beside it")
    claims.at_most(
        "a claim that is longer than the seventy characters which a line leaves for it", 3, 2
    )
    claims.at_least("another", 3, 2)
    printed = capsys.readouterr().out
    monkeypatch.setattr(table, "run", lambda words: (printed, claims.end()))
    into = tmp_path / "benchmarks.md"
    into.write_text(BEFORE)
    argv = [str(tmp_path), "--into", str(into), "--only", "startup", "peers", "entropy"]
    assert table.main(argv) == 1  # peers without --peers are left out
    text = into.read_text()
    assert "was here" not in text and "kept" in text and text.count(END) == 3
    assert "which a line leaves for it | 3 | ≤ 2 | **falls short** |" in text
    assert "| another | 3 | ≥ 2 | holds |" in text and "- beside it" in text
    assert "ended with 1" in text and str(tmp_path) not in text
    assert doctest.testmod(table).failed == 0
