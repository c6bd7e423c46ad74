"""Windows and recursions over many symbols at once, whose results never depend on where a computation started.

Running sums carry the rounding of everything they ever dropped, so that one new session would not equal a rebuild.
Here a window is folded as a fixed binary tree over its own rows: the same bits wherever the window sits, in
O(log n) vectorised passes, and with the small error of pairwise summation. A recursion is one value per symbol, so
that resuming it repeats the operations of a full run in the same order.

Arrays are float64 with NaN for "no value" and hold the rows of many symbols one after another. Values in a symbol's
first rows may reach into the symbol before it: `Layout.valid` says from which row on a window is a symbol's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Parts = tuple[Array, ...]
Merge = Callable[[Parts, Parts, int, int], Parts]
"""(older, newer, sessions in older, sessions in newer) -> the same summary of both windows together."""


@dataclass(frozen=True)
class Layout:
    """Which rows belong to which symbol.

    Attributes:
        counts: Rows per symbol; a symbol may have none.
        session_no: Ordinal of each row's session on its exchange.
    """

    counts: Rows
    session_no: Rows

    @cached_property
    def starts(self) -> Rows:
        """First row of each symbol."""
        return np.cumsum(self.counts) - self.counts

    @cached_property
    def symbol(self) -> Rows:
        """Number of each row's symbol."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def position(self) -> Rows:
        """Index of each row within its symbol."""
        return np.arange(len(self.session_no)) - self.starts[self.symbol]

    def valid(self, first: int, window: int | None) -> Mask:
        """Rows whose symbol has `first` earlier rows, none of them more than 2 * `window` sessions ago."""
        valid = self.position >= first
        if window is None or first == 0:
            return valid
        span = self.session_no[first:] - self.session_no[:-first]
        valid[first:] &= span <= 2 * window
        return valid


def lag(x: Array, n: int) -> Array:
    """The value `n` rows earlier."""
    earlier = np.full_like(x, np.nan)
    earlier[n:] = x[: max(len(x) - n, 0)]
    return earlier


# --- windows ------------------------------------------------------------------------------------------------------


def fold(leaf: Parts, sizes: tuple[int, ...], merge: Merge) -> dict[int, Parts]:
    """Summaries of every window of each size, the windows' last row giving the index.

    Windows of 1, 2, 4, 8, … rows are merged from two halves; any other size from those powers, largest (oldest) first.
    Inside, summaries are indexed by a window's first row, so that halves are views and nothing is shifted.

    Args:
        leaf: Summary of one row each, arrays of equal length.
        sizes: Window sizes in rows.
        merge: Elementwise and associative up to rounding.
    """
    rows = len(leaf[0])

    def join(older: Parts, newer: Parts, a: int, b: int) -> Parts:
        fit = max(rows - a - b + 1, 0)
        return merge(tuple(part[:fit] for part in older), tuple(part[a : a + fit] for part in newer), a, b)

    powers = {1: leaf}
    while (size := max(powers)) * 2 <= max(sizes):
        powers[size * 2] = join(powers[size], powers[size], size, size)

    def window(size: int) -> Parts:
        covered, *rest = (power for power in sorted(powers, reverse=True) if size & power)
        parts = powers[covered]
        for power in rest:
            parts = join(parts, powers[power], covered, power)
            covered += power
        return tuple(np.concatenate([np.full(min(size - 1, rows), np.nan), part]) for part in parts)

    return {size: window(size) for size in sizes}


def sums(x: Array, *sizes: int) -> dict[int, Array]:
    """Σ over windows of each size."""
    windows = fold((x,), sizes, lambda older, newer, _a, _b: (older[0] + newer[0],))
    return {size: total for size, (total,) in windows.items()}


def maxima(x: Array, size: int) -> Array:
    """The largest value of each window."""
    return fold((x,), (size,), lambda older, newer, _a, _b: (np.maximum(older[0], newer[0]),))[size][0]


def minima(x: Array, size: int) -> Array:
    """The smallest value of each window."""
    return -maxima(-x, size)


def moments(x: Array, *sizes: int) -> dict[int, Parts]:
    """(mean, Σ of squared deviations) of windows; the second is exactly 0 when all values are equal."""
    windows = fold((x, np.zeros_like(x)), sizes, _merge_moments)
    return {size: (mean, squares) for size, (mean, squares) in windows.items()}


def comoments(x: Array, y: Array, *sizes: int) -> dict[int, Parts]:
    """(Σ dx², Σ dy², Σ dx·dy) of windows, deviations being from the window's means."""
    zero = np.zeros_like(x)
    windows = fold((x, y, zero, zero, zero), sizes, _merge_comoments)
    return {size: parts[2:] for size, parts in windows.items()}


def weighted_mean(x: Array, size: int) -> Array:
    """Mean of each window with weights 1 (oldest) … `size` (newest)."""

    def merge(older: Parts, newer: Parts, a: int, _b: int) -> Parts:
        return older[0] + newer[0], older[1] + newer[1] + a * newer[0]

    return fold((x, x), (size,), merge)[size][1] / (size * (size + 1) / 2)


def since_maximum(x: Array, size: int) -> Array:
    """Rows since the largest value of each window; the latest of equal ones counts."""

    def merge(older: Parts, newer: Parts, _a: int, b: int) -> Parts:
        later = newer[0] >= older[0]
        return np.maximum(older[0], newer[0]), np.where(later, newer[1], older[1] + b)

    return fold((x, np.zeros_like(x)), (size,), merge)[size][1]


def mean_deviation(x: Array, mean: Array, size: int) -> Array:
    """Mean absolute deviation of each window's values from that window's `mean`."""
    total = np.zeros_like(x)
    for age in range(size):  # over a window's rows, not the table's: each window has its own centre, nothing is shared
        total += np.abs(lag(x, age) - mean)
    return total / size


def _merge_moments(older: Parts, newer: Parts, a: int, b: int) -> Parts:
    # Chan, Golub and LeVeque (1979): no squares of levels are ever subtracted.
    delta = newer[0] - older[0]
    return older[0] + delta * (b / (a + b)), older[1] + newer[1] + delta * delta * (a * b / (a + b))


def _merge_comoments(older: Parts, newer: Parts, a: int, b: int) -> Parts:
    dx, dy = newer[0] - older[0], newer[1] - older[1]
    share, weight = b / (a + b), a * b / (a + b)
    return (
        older[0] + dx * share,
        older[1] + dy * share,
        older[2] + newer[2] + dx * dx * weight,
        older[3] + newer[3] + dy * dy * weight,
        older[4] + newer[4] + dx * dy * weight,
    )


# --- recursions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recursion:
    """y[first] = seed[first], then y += alpha * (x - y); with alpha None y += x.

    Attributes:
        x: Input per row.
        first: Index within the symbol where the recursion begins.
        seed: Value it begins with, read at that row only.
    """

    x: Array
    first: int
    seed: Array
    alpha: float | None


@dataclass(frozen=True)
class Resume:
    """Where recursions go on from an earlier call instead of beginning anew.

    Attributes:
        row: Per symbol the row whose values are known, or -1 to begin anew.
        values: Per recursion the known value of each symbol.
    """

    row: Rows
    values: Mapping[str, Array]


def recurse(layout: Layout, resume: Resume, recursions: Mapping[str, Recursion]) -> dict[str, Array]:
    """Runs recursions over all symbols; rows before a symbol's beginning have no value."""
    row = np.arange(len(layout.symbol))
    ends = layout.starts + layout.counts
    inputs: dict[str, pl.Series] = {}
    for name, recursion in recursions.items():
        begin = np.where(resume.row >= 0, resume.row, layout.starts + recursion.first)
        x = np.where(row > begin[layout.symbol], recursion.x, np.nan)
        begun = begin < ends
        at = begin[begun]
        x[at] = np.where(resume.row >= 0, resume.values[name], np.nan)[begun]
        anew = at[resume.row[begun] < 0]
        x[anew] = recursion.seed[anew]
        inputs[name] = pl.Series(name, x, nan_to_null=True)
    # polars' ewm_mean(adjust=False) keeps one number per symbol, the last mean: resuming from it is exact.
    done = pl.DataFrame({"symbol": layout.symbol, **inputs}).select(
        (
            pl.col(name).cum_sum()
            if recursion.alpha is None
            else pl.col(name).ewm_mean(alpha=recursion.alpha, adjust=False)
        ).over("symbol", mapping_strategy="explode")
        for name, recursion in recursions.items()
    )
    return {name: done[name].to_numpy() for name in recursions}


def running_maximum(layout: Layout, x: Array, before: Array) -> Array:
    """The largest value of a symbol so far, given the largest of its rows `before` the table (NaN: none)."""
    x = x.copy()
    opening = layout.starts[layout.counts > 0]
    x[opening] = np.fmax(x[opening], before[layout.counts > 0])
    grouped = pl.DataFrame({"symbol": layout.symbol, "x": x})
    return grouped.select(pl.col("x").cum_max().over("symbol", mapping_strategy="explode"))["x"].to_numpy()
