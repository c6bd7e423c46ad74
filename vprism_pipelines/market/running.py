"""What each row hands on to the next: recursions, the highest value so far, the last value of the year before.

A recursion is one value per symbol, so that resuming it repeats the operations of a full run in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from vprism_pipelines.market.kernels import Array, Layout, Rows, pick

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
    """Runs recursions over all symbols; what stands in rows before a symbol's beginning means nothing."""
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
    resumes = resume.row >= 0
    begins = {r.first: np.where(resumes, resume.row, layout.starts + r.first) for r in recursions.values()}
    early = {first: np.flatnonzero(layout.rows <= begin[layout.symbol]) for first, begin in begins.items()}
    ends = layout.starts + layout.counts
    inputs: dict[str, Array] = {}
    for name, recursion in recursions.items():
        x, begin, before = recursion.x.copy(), begins[recursion.first], early[recursion.first]
        seed = np.where(begin < ends, recursion.seed[np.minimum(begin, len(x) - 1)], np.nan)
        value = np.where(resumes, resume.values[name], seed)
        # A mean of equal values is that value, to the bit: up to its beginning a recursion waits at its seed.
        x[before] = value[layout.symbol[before]] if recursion.alpha is not None else 0.0
        x[begin[begin < ends]] = value[begin < ends]
        inputs[name] = x
    # polars' ewm_mean(adjust=False) keeps one number per symbol, the last mean: resuming from it is exact.
    done = pl.DataFrame({"symbol": pl.Series(layout.symbol).set_sorted(), **inputs}).select(
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
    grouped = pl.DataFrame({"symbol": pl.Series(layout.symbol).set_sorted(), "x": x})
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
    first, last = (session.min(initial=0), session.max(initial=0))
    span = np.array([first, last], "datetime64[D]").astype("datetime64[Y]")
    openings = np.arange(span[0], span[1] + 1).astype("datetime64[D]").astype(np.int64)
    year = np.searchsorted(openings, session, side="right")
    opens = np.flatnonzero(np.diff(layout.symbol, prepend=-1) | np.diff(year, prepend=0))  # of a symbol's years
    ended = np.where(year[opens] == year[opens - 1] + 1, x[opens - 1], np.nan)
    ended = np.where(layout.position[opens] == 0, before[layout.symbol[opens]], ended)
    return pick(np.repeat(ended, np.diff(opens, append=len(x))), at)
