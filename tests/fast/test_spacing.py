"""Correlation times against series whose times are known, and the interval that they give."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from mlsel.core.arrays import FloatArray
from mlsel.core.errors import MlselError
from mlsel.md.spacing import GREATEST, LEAST, WITHIN, Spacing
from mlsel.pool.correlation import inefficiency, relative_error
from mlsel.study.sections.pool import CorrelationSection, PoolSection
from tests.support import load_tiny

N = 20_000
SECTION = CorrelationSection(record_interval=5, least_interval=20, greatest_interval=400)
POOL = PoolSection(
    temperatures=(1000.0,), pressures=(1.0,), timestep=2.0, sampling="correlation",
    correlation=SECTION,
)  # fmt: skip


def autoregressive(memory: float, rng: np.random.Generator, n: int = N) -> FloatArray:
    """x(t+1) = memory x(t) + noise, stationary from the start: ρ(t) = memory^t."""
    noise = rng.standard_normal(n) * math.sqrt(1 - memory**2)
    values = np.empty(n)
    values[0] = rng.standard_normal()
    for k in range(1, n):
        values[k] = memory * values[k - 1] + noise[k]
    return values


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9, 0.97])
def test_times_of_an_autoregressive_series(memory: float) -> None:
    """Σ ρ is a geometric series; the error told is that which series of other noise show."""
    known = (1 + memory) / (1 - memory)
    rng = np.random.default_rng(7)
    found = [inefficiency(autoregressive(memory, rng)) for _ in range(8)]
    error = relative_error(known, N)
    assert abs(np.mean(found) / known - 1) < 3 * error / math.sqrt(8) + math.exp(-5)
    if memory:
        assert 0.4 * error < np.std(found, ddof=1) / known < 2.0 * error


def test_an_oscillation_shortens_the_time() -> None:
    """ρ(t) = e^(-t/20) cos t/8: Σ over all t is known, and smaller than that of the decay."""
    rng = np.random.default_rng(3)
    decay = np.exp(-1 / 20 + 1j / 8)
    noise = rng.standard_normal((2, N)) * math.sqrt(1 - abs(decay) ** 2)
    values = np.zeros(N, complex)
    for k in range(1, N):
        values[k] = decay * values[k - 1] + noise[0, k] + 1j * noise[1, k]
    known = 1 + 2 * (decay / (1 - decay)).real
    assert known < 7
    assert inefficiency(values.real) == pytest.approx(known, rel=4 * relative_error(39.0, N))


def test_the_longer_time_is_the_interval() -> None:
    rng = np.random.default_rng(5)
    fast, slow = autoregressive(0.5, rng), autoregressive(0.9, rng)
    for values in (np.stack([fast, slow], axis=1), np.stack([slow, fast], axis=1)):
        spacing = Spacing.of(values, POOL)
        longer = max(spacing.energy, spacing.volume)
        assert spacing.bounded == WITHIN
        assert longer == pytest.approx(19 * 5 * 2e-3, rel=0.2)  # 19 values, 5 steps of 2 fs
        assert spacing.interval == math.ceil(longer / 2e-3)
    assert spacing.energy == longer and spacing.volume == pytest.approx(3 * 0.01, rel=0.2)


@pytest.mark.parametrize(
    ("memory", "interval", "bounded"), [(0.0, 20, LEAST), (0.99, 400, GREATEST)]
)
def test_the_interval_is_bounded_and_says_so(memory: float, interval: int, bounded: str) -> None:
    values = autoregressive(memory, np.random.default_rng(2))
    spacing = Spacing.of(np.stack([values, values], axis=1), POOL)
    assert (spacing.interval, spacing.bounded) == (interval, bounded)
    assert spacing.attributes(POOL)["sampling_bounded"] == bounded


def test_what_was_measured_is_read_again(tmp_path: Path) -> None:
    values = autoregressive(0.9, np.random.default_rng(4))
    spacing = Spacing.of(np.stack([values, values], axis=1), POOL)
    path = tmp_path / "spacing.json"
    path.write_text(str({"format_version": 1, **dataclasses.asdict(spacing)}).replace("'", '"'))
    assert Spacing.read(path) == spacing
    for text in ("{", '{"interval": 3}', path.read_text().replace(f": {spacing.interval}", ": -3")):
        path.write_text(text)
        with pytest.raises(MlselError, match=r"spacing\.json is damaged"):
            Spacing.read(path)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["pool.sampling=every"], ["pool.sampling is", "one of interval, correlation"]),
        (["pool.correlation.stretch=0.3"], ["pool.correlation.stretch is 0.3 ps (300 steps)",
                                            "40000 steps"]),
        (["pool.correlation.least_interval=3000"], ["least_interval is 3000", "2000 steps"]),
        (["pool.correlation.record_interval=0"], ["record_interval is 0", "at least 1"]),
        (["pool.correlation.interval=5"], ["unknown key pool.correlation.interval"]),
    ],
)  # fmt: skip
def test_bad_input_gets_a_sentence(overrides: list[str], words: list[str], tmp_path: Path) -> None:
    with pytest.raises(MlselError) as caught:
        load_tiny(tmp_path, "pool.sampling=correlation", *overrides)
    said = str(caught.value)
    assert len(said) <= 400 and all(word in said for word in words), said
