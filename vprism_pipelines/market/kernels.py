"""Windows over many symbols at once, whose results never depend on where a computation started.

Running sums carry the rounding of everything they ever dropped, so that one new session would not equal a rebuild.
Here a window is folded as a fixed binary tree over its own rows: the same bits wherever the window sits, and with the
small error of pairwise summation. All windows of a table share their trees, in O(log n) vectorised passes; a few
windows, given by their last rows (`at`), fold only themselves.

Arrays are float64 with NaN for "no value" and hold the rows of many symbols one after another. Values in a symbol's
first rows may reach into the symbol before it: `Layout.valid` says from which row on a window is a symbol's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Parts = tuple[Array, ...]
Number = TypeVar("Number", bound=np.generic)
Leaf = Callable[..., Parts]
Merge = Callable[[Parts, Parts, int, int], Parts]
"""(older, newer, sessions in older, sessions in newer) -> the same summary of both windows together."""


APART = 1 << 32  # sessions or days between symbols on one line: more than any exchange ever sees


@dataclass(frozen=True)
class Layout:
    """Which rows belong to which symbol.

    Attributes:
        counts: Rows per symbol; a symbol may have none.
        session_no: Ordinal of each row's session on its exchange.
        skipped: Earlier rows of each symbol that the table leaves out; None: none.
    """

    counts: Rows
    session_no: Rows
    skipped: Rows | None = None

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

    @cached_property
    def line(self) -> Rows:
        """Sessions of all symbols on one ascending line, symbols far apart."""
        return self.symbol * APART + self.session_no

    @cached_property
    def age(self) -> Rows:
        """Sessions between each row and its symbol's first one."""
        return self.session_no - self.session_no[self.starts[self.symbol]]

    def valid(self, first: int, window: int | None, at: Rows | None = None) -> Mask:
        """Rows whose symbol has `first` earlier rows, none of them more than 2 * `window` sessions ago."""
        position = pick(self.position, at)
        if window is None and self.skipped is not None:
            position = position + pick(self.skipped[self.symbol], at)
        valid: Mask = position >= first
        if window is None or first == 0:
            return valid
        now = np.arange(len(self.session_no)) if at is None else at  # what reaches before the symbol is invalid already
        span = pick(self.session_no, at) - self.session_no[np.maximum(now - first, 0)]
        valid &= span <= 2 * window
        return valid

    def subset(self, keep: Rows) -> Layout:
        """The layout of some of the rows; no symbol disappears."""
        return Layout(np.bincount(self.symbol[keep], minlength=len(self.counts)), self.session_no[keep])


def pick(x: npt.NDArray[Number], at: Rows | None) -> npt.NDArray[Number]:
    """The values of some rows; None: of all."""
    return x if at is None else x[at]


def lag(x: Array, n: int, at: Rows | None = None) -> Array:
    """The value `n` rows earlier."""
    if at is not None:
        return np.where(at >= n, x[np.maximum(at - n, 0)], np.nan)
    earlier = np.full_like(x, np.nan)
    earlier[n:] = x[: max(len(x) - n, 0)]
    return earlier


# --- windows ------------------------------------------------------------------------------------------------------


def fold(base: Parts, leaf: Leaf, sizes: tuple[int, ...], merge: Merge, at: Rows | None = None) -> dict[int, Parts]:
    """Summaries of windows of each size, the windows' last row giving the index.

    Windows of 1, 2, 4, 8, … rows are merged from two halves; any other size from those powers, largest (oldest) first.

    Args:
        base: Arrays of equal length, a value per row.
        leaf: From the base to the summary of one row each.
        sizes: Window sizes in rows.
        merge: Elementwise and associative up to rounding.
        at: Last rows of the windows wanted; None: every row is one.
    """
    if at is None:
        return _fold_all(leaf(*base), sizes, merge)
    # One line per row of the windows, the oldest first: shorter windows are the last lines.
    place = np.maximum(at + np.arange(1 - max(sizes), 1)[:, None], 0)
    rows = leaf(*(part[place] for part in base))
    folded = {size: _fold_one(tuple(part[-size:] for part in rows), merge) for size in sizes}
    return {size: tuple(np.where(at < size - 1, np.nan, part) for part in parts) for size, parts in folded.items()}


def _powers(size: int) -> list[int]:
    """The powers of two that add up to a size, largest first."""
    return [1 << bit for bit in reversed(range(size.bit_length())) if size >> bit & 1]


def _fold_one(rows: Parts, merge: Merge) -> Parts:
    """Windows that are given line by line, each merged on its own: the same tree as `_fold_all` builds."""
    done: Parts = ()
    covered = 0
    for power in _powers(len(rows[0])):
        parts = tuple(part[covered : covered + power] for part in rows)
        width = 1
        while width < power:
            parts = merge(tuple(part[::2] for part in parts), tuple(part[1::2] for part in parts), width, width)
            width *= 2
        one = tuple(part[0] for part in parts)
        done = merge(done, one, covered, power) if covered else one
        covered += power
    return done


def _fold_all(leaf: Parts, sizes: tuple[int, ...], merge: Merge) -> dict[int, Parts]:
    """Every window. Inside, summaries are indexed by a window's first row: halves are views and nothing is shifted."""
    rows = len(leaf[0])

    def join(older: Parts, newer: Parts, a: int, b: int) -> Parts:
        fit = max(rows - a - b + 1, 0)
        return merge(tuple(part[:fit] for part in older), tuple(part[a : a + fit] for part in newer), a, b)

    powers = {1: leaf}
    while (size := max(powers)) * 2 <= max(sizes):
        powers[size * 2] = join(powers[size], powers[size], size, size)

    def window(size: int) -> Parts:
        covered, *rest = _powers(size)
        parts = powers[covered]
        for power in rest:
            parts = join(parts, powers[power], covered, power)
            covered += power
        return tuple(np.concatenate([np.full(min(size - 1, rows), np.nan), part]) for part in parts)

    return {size: window(size) for size in sizes}


def _itself(x: Array) -> Parts:
    return (x,)


def _with_zeros(count: int) -> Leaf:
    """The values, and what one row alone does not have yet: deviations, an age."""
    return lambda *base: (*base, *[np.zeros_like(base[0])] * count)


def sums(x: Array, *sizes: int, at: Rows | None = None) -> dict[int, Array]:
    """Σ over windows of each size."""
    windows = fold((x,), _itself, sizes, lambda older, newer, _a, _b: (older[0] + newer[0],), at)
    return {size: total for size, (total,) in windows.items()}


def maxima(x: Array, size: int, at: Rows | None = None) -> Array:
    """The largest value of each window."""
    return fold((x,), _itself, (size,), lambda older, newer, _a, _b: (np.maximum(older[0], newer[0]),), at)[size][0]


def minima(x: Array, size: int, at: Rows | None = None) -> Array:
    """The smallest value of each window."""
    return -maxima(-x, size, at)


def moments(x: Array, *sizes: int, at: Rows | None = None) -> dict[int, Parts]:
    """(mean, Σ of squared deviations) of windows; the second is exactly 0 when all values are equal."""
    windows = fold((x,), _with_zeros(1), sizes, _merge_moments, at)
    return {size: (mean, squares) for size, (mean, squares) in windows.items()}


def comoments(x: Array, y: Array, *sizes: int, at: Rows | None = None) -> dict[int, Parts]:
    """(Σ dx², Σ dy², Σ dx·dy) of windows, deviations being from the window's means."""
    windows = fold((x, y), _with_zeros(3), sizes, _merge_comoments, at)
    return {size: parts[2:] for size, parts in windows.items()}


def weighted_mean(x: Array, size: int, at: Rows | None = None) -> Array:
    """Mean of each window with weights 1 (oldest) … `size` (newest)."""

    def merge(older: Parts, newer: Parts, a: int, _b: int) -> Parts:
        return older[0] + newer[0], older[1] + newer[1] + a * newer[0]

    return fold((x,), lambda x: (x, x), (size,), merge, at)[size][1] / (size * (size + 1) / 2)


def latest_maximum(x: Array, size: int, at: Rows | None = None) -> tuple[Array, Array]:
    """(the largest value of each window, rows since then); the latest of equal ones counts."""

    def merge(older: Parts, newer: Parts, _a: int, b: int) -> Parts:
        later = newer[0] >= older[0]
        return np.maximum(older[0], newer[0]), np.where(later, newer[1], older[1] + b)

    largest, since = fold((x,), _with_zeros(1), (size,), merge, at)[size]
    return largest, since


def mean_deviation(x: Array, mean: Array, size: int, at: Rows | None = None) -> Array:
    """Mean absolute deviation of each window's values from that window's `mean`."""
    total = np.zeros_like(mean)
    for age in range(size):  # over a window's rows, not the table's: each window has its own centre, nothing is shared
        total += np.abs(lag(x, age, at) - mean)
    return total / size


def sessions_traded(layout: Layout, sessions: int, at: Rows | None = None) -> Array:
    """Rows of the same symbol within the last `sessions` sessions of the exchange, each row included."""
    now = np.arange(len(layout.line)) if at is None else at
    return (now + 1 - np.searchsorted(layout.line, layout.line[now] - sessions, side="right")).astype(np.float64)


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
