"""What the indicators are computed from: traded bars of many symbols, and a benchmark matched to them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from vprism_pipelines.market.kernels import Array, Layout, Rows, lag, pick


@dataclass(frozen=True)
class Bars:
    """Traded bars of many symbols, one array per column (see `market.indicators.compute` for their bases).

    Attributes:
        at: Rows that results are wanted for; None: all.
    """

    layout: Layout
    session: Rows
    high: Array
    low: Array
    close: Array
    volume: Array
    value: Array
    raw_high: Array
    raw_low: Array
    raw_close: Array
    split_high: Array
    split_low: Array
    split_close: Array
    at: Rows | None = None

    def now(self, x: Array) -> Array:
        """The values wanted of a column."""
        return pick(x, self.at)

    def lag(self, x: Array, n: int) -> Array:
        """The values of a column `n` bars before those wanted."""
        return lag(x, n, self.at)

    def subset(self, keep: Rows) -> Bars:
        """Some of the bars, results being wanted for all of them."""
        columns = {f.name: getattr(self, f.name)[keep] for f in fields(self) if f.name not in ("layout", "at")}
        return Bars(layout=self.layout.subset(keep), **columns)


@dataclass(frozen=True)
class Benchmark:
    """Closes that beta and correlation are measured against, by ascending session."""

    session: Rows
    close: Array


@dataclass(frozen=True)
class Shared:
    """The sessions a table shares with the benchmark.

    Attributes:
        rows: Rows on them.
        level: The benchmark's closes there.
    """

    rows: Rows
    level: Array


def shared(bars: Bars, benchmark: Benchmark) -> Shared:
    """Match bars and benchmark by session."""
    first, last = benchmark.session[0], benchmark.session[-1]
    close = np.full(last - first + 1, np.nan)
    close[benchmark.session - first] = benchmark.close
    within = (bars.session >= first) & (bars.session <= last)
    level = np.where(within, close[np.clip(bars.session - first, 0, last - first)], np.nan)
    rows = np.flatnonzero(~np.isnan(level))
    return Shared(rows, level[rows])
