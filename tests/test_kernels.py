"""What the windows under the indicators promise: the right value, and the same bits wherever a window sits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.market.kernels import (
    Array,
    comoments,
    lag,
    maxima,
    mean_deviation,
    minima,
    moments,
    since_maximum,
    sums,
    weighted_mean,
)

WINDOWS: dict[str, tuple[Callable[[Array, int], Array], Callable[[Array], float]]] = {
    "sum": (lambda x, n: sums(x, n)[n], np.sum),
    "maximum": (maxima, np.max),
    "minimum": (minima, np.min),
    "mean": (lambda x, n: moments(x, n)[n][0], np.mean),
    "squares": (lambda x, n: moments(x, n)[n][1], lambda w: np.var(w) * len(w)),
    "products": (lambda x, n: comoments(x, x**2, n)[n][2], lambda w: np.cov(w, w**2, ddof=0)[0, 1] * len(w)),
    "weighted": (weighted_mean, lambda w: np.average(w, weights=np.arange(1, len(w) + 1))),
    "since maximum": (since_maximum, lambda w: np.argmax(w[::-1])),
    "deviation": (lambda x, n: mean_deviation(x, sums(x, n)[n] / n, n), lambda w: np.abs(w - w.mean()).mean()),
}
each_window = pytest.mark.parametrize("name", WINDOWS)


def series(seed: int, rows: int) -> Array:
    return np.random.default_rng(seed).integers(1, 2000, rows) / 100


@each_window
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 80), size=st.integers(2, 40))
def test_every_window_has_the_value_of_its_rows(name: str, seed: int, rows: int, size: int) -> None:
    folded, naive = WINDOWS[name]
    x = series(seed, rows)
    expected = [np.nan if i < size - 1 else naive(x[i - size + 1 : i + 1]) for i in range(rows)]
    np.testing.assert_allclose(folded(x, size), expected, rtol=1e-10, atol=1e-9)


@each_window
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), start=st.integers(0, 300), rows=st.integers(1, 400), size=st.integers(2, 260))
def test_a_window_has_the_same_bits_wherever_it_sits(name: str, seed: int, start: int, rows: int, size: int) -> None:
    folded, _ = WINDOWS[name]
    x = series(seed, 700)
    part = slice(start, start + rows)
    np.testing.assert_array_equal(folded(x[part], size)[size - 1 :], folded(x, size)[part][size - 1 :])


@given(value=st.floats(1e-3, 1e9), size=st.integers(2, 260))
def test_equal_values_have_no_variance_at_all(value: float, size: int) -> None:
    x = np.full(300, value)
    mean, squares = moments(x, size)[size]
    assert set(mean[size - 1 :]) == {value}
    assert set(squares[size - 1 :]) == {0.0}
    assert {float(v) for part in comoments(x, x, size)[size] for v in part[size - 1 :]} == {0.0}


def test_small_deviations_around_a_large_level_keep_their_variance() -> None:
    x = 1e9 + np.tile([-0.5, 0.5], 200)
    np.testing.assert_allclose(moments(x, 252)[252][1][251:], 252 * 0.25, rtol=1e-12)


def test_a_lag_beyond_the_table_has_no_values() -> None:
    x = np.arange(3.0)
    np.testing.assert_array_equal(lag(x, 1), [np.nan, 0, 1])
    np.testing.assert_array_equal(lag(x, 0), x)
    assert np.isnan(lag(x, 7)).all()
