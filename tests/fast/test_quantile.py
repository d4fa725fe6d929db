"""The 99.99 % quantile of errors: against NumPy's, and its error against many test sets."""

from __future__ import annotations

import numpy as np
import pytest

from mlsel.evaluate.quantile import STEP, Tail, histograms, weights


def frames_of_errors(rng: np.random.Generator) -> np.ndarray:
    """100 frames of 300 errors, whose size differs from frame to frame."""
    size = np.exp(0.5 * rng.standard_normal((100, 1)))
    return np.abs(size * rng.standard_normal((100, 300)))


def quantile(errors: np.ndarray, parts: int = 1) -> tuple[float, float]:
    tail = Tail()
    for ids in np.array_split(np.arange(len(errors)), parts):
        tail.add(weights(ids), histograms(errors[ids]))
    return tail.quantile


def test_it_is_numpys_and_chunks_do_not_matter() -> None:
    errors = frames_of_errors(np.random.default_rng(3))
    value, _ = quantile(errors)
    assert value == pytest.approx(np.quantile(errors, 0.9999, method="inverted_cdf"), rel=STEP)
    assert quantile(errors) == quantile(errors, 7)


def test_its_error_is_the_scatter_of_test_sets() -> None:
    rng = np.random.default_rng(5)
    found = np.array([quantile(frames_of_errors(rng)) for _ in range(60)])
    told = np.sqrt((found[:, 1] ** 2).mean())
    assert 0.6 < told / found[:, 0].std(ddof=1) < 1.4


def test_few_errors_have_none_and_nan_is_no_small_error() -> None:
    assert np.isnan(quantile(np.ones((3, 300)))[0])
    errors = np.full((100, 300), 0.1)
    errors[0, :100] = np.nan
    assert quantile(errors)[0] > 1000
