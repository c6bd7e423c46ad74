"""What each row hands on to the next: recursions, the highest value so far, the last value of the year before.

A recursion is one value per symbol, so that resuming it repeats the operations of a full run in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from vprism_pipelines.market.kernels import APART, Array, Layout, Rows, pick

FEW_STEPS = 16
"""New rows of a symbol up to which they are walked one by one: tables cost more to set up."""


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
    steps = int((layout.starts + layout.counts - 1 - resume.row).max(initial=0))
    if steps <= FEW_STEPS and bool((resume.row >= 0).all()):
        return {name: _walk(layout, resume, name, recursion, steps) for name, recursion in recursions.items()}
    return _sweep(layout, resume, recursions)


def _walk(layout: Layout, resume: Resume, name: str, recursion: Recursion, steps: int) -> Array:
    """A recursion that goes on for a few rows, a step of all symbols at a time."""
    x, y = recursion.x, np.full(len(layout.symbol), np.nan)
    y[resume.row] = resume.values[name]
    left = layout.starts + layout.counts - 1 - resume.row
    for step in range(steps):
        row = resume.row[left > step] + step
        before, now = y[row], x[row + 1]
        # The operations of the sweep below, in its order.
        y[row + 1] = before + now if recursion.alpha is None else before + recursion.alpha * (now - before)
    return y


def _sweep(layout: Layout, resume: Resume, recursions: Mapping[str, Recursion]) -> dict[str, Array]:
    """Recursions over whole histories."""
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


def year_ends(layout: Layout, session: Rows, x: Array, before: Array, at: Rows | None = None) -> Array:
    """The last value of the calendar year before each row's; NaN if the symbol has no row in that year.

    Args:
        layout: Which rows belong to which symbol.
        session: Days since 1970.
        x: Values.
        before: Per symbol the answer for its first row.
        at: Rows to answer for; None: all.
    """
    symbol, years = pick(layout.symbol, at), pick(session, at).astype("datetime64[D]").astype("datetime64[Y]")
    opening, before_that = ((years - n).astype("datetime64[D]").astype(np.int64) for n in (0, 1))
    last = np.searchsorted(layout.symbol * APART + session, symbol * APART + opening) - 1
    known = np.where(session[last] >= before_that, x[last], np.nan)
    return np.where(last < layout.starts[symbol], before[symbol], known)
