"""What the windows under the indicators promise: the right value, and the same bits wherever a window sits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.market.kernels import (
    Array,
    Layout,
    Rows,
    comoments,
    lag,
    latest_maximum,
    maxima,
    mean_deviation,
    minima,
    moments,
    sessions_traded,
    sums,
    weighted_mean,
)

Folded = Callable[[Array, int, Rows | None], Array]
WINDOWS: dict[str, tuple[Folded, Callable[[Array], float]]] = {
    "sum": (lambda x, n, at: sums(x, n, at=at)[n], np.sum),
    "maximum": (maxima, np.max),
    "minimum": (minima, np.min),
    "mean": (lambda x, n, at: moments(x, n, at=at)[n][0], np.mean),
    "squares": (lambda x, n, at: moments(x, n, at=at)[n][1], lambda w: np.var(w) * len(w)),
    "products": (lambda x, n, at: comoments(x, x**2, n, at=at)[n][2], lambda w: np.cov(w, w**2, ddof=0)[0, 1] * len(w)),
    "weighted": (weighted_mean, lambda w: np.average(w, weights=np.arange(1, len(w) + 1))),
    "since maximum": (lambda x, n, at: latest_maximum(x, n, at)[1], lambda w: np.argmax(w[::-1])),
    "deviation": (
        lambda x, n, at: mean_deviation(x, sums(x, n, at=at)[n] / n, n, at),
        lambda w: np.abs(w - w.mean()).mean(),
    ),
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
    np.testing.assert_allclose(folded(x, size, None), expected, rtol=1e-10, atol=1e-9)


@each_window
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), start=st.integers(0, 300), rows=st.integers(1, 400), size=st.integers(2, 260))
def test_a_window_has_the_same_bits_wherever_it_sits(name: str, seed: int, start: int, rows: int, size: int) -> None:
    folded, _ = WINDOWS[name]
    x = series(seed, 700)
    part = slice(start, start + rows)
    np.testing.assert_array_equal(folded(x[part], size, None)[size - 1 :], folded(x, size, None)[part][size - 1 :])


@each_window
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 600), size=st.integers(2, 260), share=st.floats(0, 1))
def test_a_few_windows_alone_have_the_same_bits_as_among_all(
    name: str, seed: int, rows: int, size: int, share: float
) -> None:
    folded, _ = WINDOWS[name]
    x = series(seed, rows)
    at = np.flatnonzero(np.random.default_rng(seed).random(rows) < share)
    np.testing.assert_array_equal(folded(x, size, at), folded(x, size, None)[at])


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
    np.testing.assert_array_equal(lag(x, 1, np.array([0, 2])), [np.nan, 1])


def test_a_few_rows_have_the_same_layout_as_among_all() -> None:
    rng = np.random.default_rng(3)
    counts = np.array([5, 0, 40, 1])
    layout = Layout(counts, np.concatenate([np.cumsum(rng.integers(1, 4, n)) for n in counts]))
    at = np.array([0, 4, 7, 30, 45])
    for first, window in ((0, None), (3, None), (3, 3), (10, 11)):
        np.testing.assert_array_equal(layout.valid(first, window, at), layout.valid(first, window)[at])
    np.testing.assert_array_equal(sessions_traded(layout, 6, at), sessions_traded(layout, 6)[at])
    assert sessions_traded(layout, 1).tolist() == [1.0] * 46
