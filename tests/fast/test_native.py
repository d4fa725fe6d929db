"""Builds of C++ by many processes: one builds, the others wait, say so and can be stopped."""

from __future__ import annotations

import fcntl
import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlsel.core import native, stopping
from mlsel.core.errors import Stopped


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of builds, in which another process builds."""
    monkeypatch.setenv(native.CACHE_VARIABLE, str(tmp_path))
    (tmp_path / "kernels").mkdir()
    return tmp_path / "kernels"


def build(
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    on_sleep: Callable[[int, Callable[[], None]], None],
) -> list[str]:
    """Build while another holds the lock; on_sleep(number of the look, let go) is called."""
    made: list[str] = []
    with (cache / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        clock, looks = itertools.count(0, 2), itertools.count(1)

        def sleep(_: float) -> None:
            on_sleep(next(looks), lambda: fcntl.flock(other, fcntl.LOCK_UN))

        monkeypatch.setattr(
            native, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=sleep)
        )
        native.build_once("kernels", "x-1", lambda folder: made.append(folder.name))
    return made


def test_waiting_for_another_build_is_told_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []

    def on_sleep(look: int, let_go: Callable[[], None]) -> None:
        told.append(capsys.readouterr().err)
        if look == 6:
            let_go()

    assert len(build(cache, monkeypatch, on_sleep)) == 1
    assert [bool(text) for text in told] == [False, False, True, False, False, False]  # 2, 4, 6 s
    assert "waiting for another process" in told[2] and str(cache) in told[2]


def test_a_signal_ends_the_waiting(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_sleep(look: int, _: Callable[[], None]) -> None:
        monkeypatch.setattr(stopping._state, "asked", look == 3)

    with pytest.raises(Stopped, match="while another process built"):
        build(cache, monkeypatch, on_sleep)
    assert not native.find_builds("kernels", "x-1")


def test_a_stopped_wait_is_no_missing_kernel(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`load` goes on without a kernel where it can't be built, but not where it is to stop."""
    monkeypatch.delenv(native.KERNELS_OFF, raising=False)
    monkeypatch.setattr(stopping._state, "asked", True)
    monkeypatch.setattr(
        native.Compiler, "find", lambda: SimpleNamespace(version="x", path="/bin/false")
    )
    source = tmp_path / "a.cpp"
    source.write_text("int x;\n", encoding="ascii")
    with (cache / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Stopped):
            native.load("a", [source], [], "nothing")
