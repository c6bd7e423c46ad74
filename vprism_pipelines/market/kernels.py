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
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Parts = tuple[npt.NDArray[Any], ...]
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
    def rows(self) -> Rows:
        """Every row."""
        return np.arange(len(self.session_no))

    @cached_property
    def symbol(self) -> Rows:
        """Number of each row's symbol."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def position(self) -> Rows:
        """Index of each row within its symbol."""
        return self.rows - np.repeat(self.starts, self.counts)

    @cached_property
    def line(self) -> Rows:
        """Sessions of all symbols on one ascending line, symbols far apart."""
        return self.symbol * APART + self.session_no

    @cached_property
    def age(self) -> Rows:
        """Sessions between each row and its symbol's first one."""
        return self.session_no - self.session_no[self.starts[self.symbol]]

    @cached_property
    def _number(self) -> npt.NDArray[np.int32]:
        return self.session_no.astype(np.int32)  # half the width, for the one thing asked of every window

    def valid(self, first: int, window: int | None, at: Rows | None = None) -> Mask:
        """Rows whose symbol has `first` earlier rows, none of them more than 2 * `window` sessions ago."""
        position = pick(self.position, at)
        if window is None and self.skipped is not None:
            position = position + pick(self.skipped[self.symbol], at)
        valid: Mask = position >= first
        if window is None or first == 0:
            return valid
        if at is None:  # what reaches before the symbol is invalid already
            valid[first:] &= self._number[first:] - self._number[:-first] <= 2 * window
        else:
            valid &= self.session_no[at] - self.session_no[np.maximum(at - first, 0)] <= 2 * window
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

    Windows of 1, 2, 4, 8, … rows are merged from two halves; any other size from those powers, smallest (oldest) first,
    so that sizes share what they begin with: 252 rows are 60 and then 64 and 128.

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
    """The powers of two that add up to a size, smallest first."""
    return [1 << bit for bit in range(size.bit_length()) if size >> bit & 1]


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

    done: dict[int, Parts] = {}
    power, parts = 1, leaf
    while True:
        for covered in {size & (power - 1) for size in sizes if size & power}:
            done[covered + power] = join(done[covered], parts, covered, power) if covered else parts
        if power * 2 > max(sizes):
            break
        power, parts = power * 2, join(parts, parts, power, power)
    return {size: tuple(_from_last(part, rows) for part in done[size]) for size in sizes}


def _from_last(summary: npt.NDArray[Any], rows: int) -> Array:
    """By a window's last row instead of its first; without a value where no window ends."""
    out = np.empty(rows)
    out[: rows - len(summary)] = np.nan
    out[rows - len(summary) :] = summary
    return out


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
    return fold((x,), _itself, (size,), lambda older, newer, _a, _b: (np.minimum(older[0], newer[0]),), at)[size][0]


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
        # The age of the larger one, by a product: to choose by a mask that nothing predicts costs ten times as much.
        since = older[1] + np.int16(b)
        since -= newer[1]
        since *= older[0] > newer[0]
        since += newer[1]
        return np.maximum(older[0], newer[0]), since

    largest, since = fold((x,), lambda x: (x, np.zeros(x.shape, np.int16)), (size,), merge, at)[size]
    return largest, since


def mean_deviation(x: Array, mean: Array, size: int, at: Rows | None = None) -> Array:
    """Mean absolute deviation of each window's values from that window's `mean`."""
    total = np.zeros_like(mean)
    for age in range(size):  # over a window's rows, not the table's: each window has its own centre, nothing is shared
        deviation = lag(x, age, at)
        deviation -= mean
        total += np.abs(deviation, out=deviation)
    return total / size


def sessions_traded(layout: Layout, sessions: int, at: Rows | None = None) -> Array:
    """Rows of the same symbol within the last `sessions` sessions of the exchange, each row included."""
    now = layout.rows if at is None else at
    return (now + 1 - np.searchsorted(layout.line, layout.line[now] - sessions, side="right")).astype(np.float64)


# Chan, Golub and LeVeque (1979): no squares of levels are ever subtracted. In place, for arrays that stay in the cache.


def _merge_moments(older: Parts, newer: Parts, a: int, b: int) -> Parts:
    delta = newer[0] - older[0]
    mean = _moved(older[0], delta, b / (a + b))
    return mean, _grown(older[1], newer[1], delta * (a * b / (a + b)), delta)


def _merge_comoments(older: Parts, newer: Parts, a: int, b: int) -> Parts:
    dx, dy = newer[0] - older[0], newer[1] - older[1]
    share, weight = b / (a + b), a * b / (a + b)
    means = _moved(older[0], dx, share), _moved(older[1], dy, share)
    products = _grown(older[4], newer[4], dx * weight, dy)
    return (
        *means,
        _grown(older[2], newer[2], dx * weight, dx),
        _grown(older[3], newer[3], dy * weight, dy),
        products,
    )


def _moved(mean: Array, delta: Array, share: float) -> Array:
    """The mean after a move by a share of `delta`."""
    moved = delta * share
    moved += mean
    return moved


def _grown(older: Array, newer: Array, weighted: Array, delta: Array) -> Array:
    """The sums of two windows and what their means add, `weighted` times `delta`, in the place of `weighted`."""
    weighted *= delta
    weighted += older
    weighted += newer
    return weighted
