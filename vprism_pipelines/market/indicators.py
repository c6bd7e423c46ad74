"""Daily indicators of every symbol of a market: what they are, as data, and one function that computes them all.

    daily, state = compute(history)
    more, state = compute(tail_and_new_sessions, state)      # costs LOOKBACK sessions, not the history

Both ways give the same bits (`market.kernels` says how). Definitions are in `market.formulas`.

Levels (`LEVELS`) are linear in the price scale: on the computing basis they are total-return hfq prices, and
qfq level = hfq level / F_hfq(last), so a view can rescale them. `SPLIT_LEVELS` scale with the split-only factor.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl

from vprism_pipelines.market import formulas
from vprism_pipelines.market.formulas import Bars, Benchmark, Columns
from vprism_pipelines.market.kernels import Array, Layout, Resume, Rows, running_maximum

Basis = Literal["total_return", "split_adjusted", "raw", "value"]
Unit = Literal["fraction", "percent", "points", "price", "shares", "currency", "ratio"]
"""`points`: 0 to 100 or around ±100 by convention."""


@dataclass(frozen=True, slots=True)
class Indicator:
    """One column of `analytics.daily`.

    Attributes:
        name: Column name.
        description: What it is, in one line.
        unit: What a value of 1 means.
        first: Index within the symbol's traded bars of its first value; null before.
        window: Sessions the window covers; null where they span more than twice as many exchange sessions
            (suspension). None for recursive indicators, which remember everything.
        basis: Prices it is computed from.
        level: Whether it scales with the price.
    """

    name: str
    description: str
    unit: Unit
    first: int
    window: int | None
    basis: Basis = "total_return"
    level: bool = False

    @property
    def kind(self) -> Literal["window", "recursive"]:
        return "recursive" if self.window is None else "window"


def _return(name: str, text: str, n: int) -> Indicator:
    return Indicator(name, text, "fraction", n, n)


def _price(name: str, text: str, first: int, *, recursive: bool = False) -> Indicator:
    return Indicator(name, text, "price", first, None if recursive else first + 1, level=True)


_CATALOGUE: tuple[Indicator, ...] = (
    _return("ret_1d", "return since the previous traded session", 1),
    _return("log_ret", "natural logarithm of 1 + ret_1d", 1),
    *(_return(f"ret_{n}d", f"return over {n} sessions", n) for n in (5, 20, 60, 252)),
    _return("mom_12_1", "return from 252 to 21 sessions ago (12-1 momentum)", 252),
    *(_return(f"vol_{n}", f"annualised sample deviation of {n} log returns", n) for n in (20, 60, 252)),
    Indicator("parkinson_20", "annualised high-low range volatility (Parkinson 1980)", "fraction", 19, 20, "raw"),
    *(_price(f"sma_{n}", f"mean close of {n} sessions", n - 1) for n in (5, 10, 20, 50, 100, 200)),
    *(
        _price(
            f"ema_{n}", f"exponential mean of close, alpha 2/{n + 1}, seeded with the first mean", n - 1, recursive=True
        )
        for n in (12, 26, 50, 200)
    ),
    _price("wma_20", "linearly weighted mean close of 20 sessions", 19),
    Indicator("rsi_14", "relative strength index (Wilder); null if 14 moves were all zero", "points", 14, None),
    _price("macd", "12-session minus 26-session exponential mean, both begun at index 25", 33, recursive=True),
    _price("macd_signal", "9-session exponential mean of macd", 33, recursive=True),
    _price("macd_hist", "macd minus macd_signal", 33, recursive=True),
    _price("bb_mid_20", "middle Bollinger band, sma_20", 19),
    _price("bb_upper_20", "sma_20 plus 2 population deviations", 19),
    _price("bb_lower_20", "sma_20 minus 2 population deviations", 19),
    _price("atr_14", "average true range (Wilder)", 14, recursive=True),
    Indicator("natr_14", "atr_14 / close * 100", "percent", 14, None),
    Indicator("adx_14", "average directional movement index (Wilder); null on zero range", "points", 27, None),
    Indicator("plus_di_14", "upward directional indicator; null on zero range", "points", 14, None),
    Indicator("minus_di_14", "downward directional indicator; null on zero range", "points", 14, None),
    Indicator("stoch_k", "slow stochastic %K (14, 3); null on zero range", "points", 17, 18),
    Indicator("stoch_d", "3-session mean of stoch_k", "points", 17, 18),
    Indicator("obv", "on-balance volume since the first bar", "shares", 0, None),
    Indicator("mfi_14", "money flow index; null without flow", "points", 14, 14),
    Indicator("cci_20", "commodity channel index; null without deviation", "points", 19, 20),
    Indicator("willr_14", "Williams %R, -100 to 0; null on zero range", "points", 13, 14),
    Indicator("aroon_up_25", "100 * (25 - sessions since the 26-session high) / 25", "points", 25, 25),
    Indicator("aroon_down_25", "100 * (25 - sessions since the 26-session low) / 25", "points", 25, 25),
    Indicator("roc_12", "rate of change over 12 sessions", "percent", 12, 12),
    Indicator("vwap", "value / volume of the session", "price", 0, 1, "raw"),
    Indicator("drawdown", "close / highest close so far - 1", "fraction", 0, None),
    Indicator("max_dd_252", "lowest drawdown of 252 sessions", "fraction", 251, 252),
    Indicator("sharpe_252", "annualised mean / deviation of 252 returns, risk-free rate 0", "ratio", 252, 252),
    Indicator("sortino_252", "annualised mean / downside deviation of 252 returns, target 0", "ratio", 252, 252),
    Indicator("high_52w", "highest high of 252 sessions", "price", 251, 252, "split_adjusted", level=True),
    Indicator("low_52w", "lowest low of 252 sessions", "price", 251, 252, "split_adjusted", level=True),
    Indicator("pct_from_high", "close / high_52w - 1", "fraction", 251, 252, "split_adjusted"),
    *(
        Indicator(f"beta_{n}", f"slope of {n} returns against the benchmark's, on sessions both have", "ratio", n, n)
        for n in (60, 252)
    ),
    Indicator("corr_60", "correlation of 60 returns with the benchmark's, on sessions both have", "ratio", 60, 60),
    Indicator("amihud_20", "mean of |ret_1d| / value over 20 sessions, per billion (Amihud 2002)", "ratio", 20, 20),
    Indicator("adv_20", "mean value traded of 20 sessions", "currency", 19, 20, "value"),
)

_FLOAT, _COUNT = pl.Float64(), pl.Int64()
SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "session": pl.Date(),
    **{indicator.name: _FLOAT for indicator in _CATALOGUE},
}
"""Columns of `analytics.daily` produced here, in order."""

STATE_SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "session": pl.Date(),
    "bars": _COUNT,
    "peak": _FLOAT,
    **dict.fromkeys(formulas.STATE, _FLOAT),
}
"""Columns of a state: the last session computed, bars until then, the highest close before its last LOOKBACK bars
(null if there is none), and each recursion's last value."""

LEVELS: tuple[str, ...] = tuple(i.name for i in _CATALOGUE if i.level and i.basis == "total_return")
"""Columns that scale with the total-return factor."""

SPLIT_LEVELS: tuple[str, ...] = tuple(i.name for i in _CATALOGUE if i.level and i.basis == "split_adjusted")
"""Columns that scale with the split-only factor."""

LOOKBACK: int = 2 * max(indicator.window or 0 for indicator in _CATALOGUE)
"""Bars before the first new one that an incremental call needs of each symbol.

Twice the longest window: a window over the sessions a symbol shares with the benchmark skips bars, but never reaches
back further than the span beyond which every window is null.
"""

_PRICES = ("open", "high", "low", "close")
_OTHERS = ("volume", "value", "raw_close", "raw_high", "raw_low", "split_high", "split_low", "split_close")
_BLOCK_ROWS = 65_536  # an array of a block then fits the second-level cache


def catalogue() -> tuple[Indicator, ...]:
    """Every indicator, in the order of its column in `SCHEMA`."""
    return _CATALOGUE


def compute(
    bars: pl.DataFrame,
    state: pl.DataFrame | None = None,
    *,
    annualisation: int = 252,
    benchmark: pl.DataFrame | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Indicators of every symbol in `bars`.

    Symbols are independent of each other: any subset of them may be computed at a time. A symbol whose past changed
    must be computed anew from its whole history, with its row taken out of `state`.

    Args:
        bars: Traded bars, one per symbol and session, sorted by both. `session_no`: ordinal of the session on its
            exchange. `open`, `high`, `low`, `close`: total-return hfq prices, no nulls. `volume`: shares, adjusted to
            the share basis of `split_close`. `raw_close`, `raw_high`, `raw_low`: as traded. `value`: currency units.
            `split_high`, `split_low`, `split_close`: adjusted for splits only. All but the first four prices may be
            null, and so is what depends on them. All adjustments must be append-only: a new session may not change
            an old bar.
        state: None, and `bars` is the whole history; or the state an earlier call returned, and `bars` hold each
            symbol's last `LOOKBACK` bars up to its session in `state` (all, if it has fewer), then the new ones.
        annualisation: Sessions per year.
        benchmark: Its closes: `session`, `close`, covering the sessions of `bars`. None: beta and correlation are null.

    Returns:
        Rows of `SCHEMA` for all bars after the symbol's session in `state`, and the new state (`STATE_SCHEMA`),
        including symbols without new bars.

    Raises:
        ValueError: `bars` are not what is described above, or do not continue `state`.
    """
    layout = _layout(bars)
    empty = pl.DataFrame(schema=STATE_SCHEMA)
    state = empty if state is None else state.select(*STATE_SCHEMA).cast(empty.schema)
    known = _continuation(bars, layout, state)
    index = None if benchmark is None else _benchmark(benchmark)

    def block(cut: tuple[int, int, int, int]) -> tuple[pl.DataFrame, pl.DataFrame]:
        first, end, first_row, end_row = cut
        return _block(bars[first_row:end_row], known[first:end], annualisation, index)

    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:  # numpy leaves the interpreter lock while it works
        parts = list(pool.map(block, _blocks(layout)))
    daily = pl.concat([part[0] for part in parts] or [pl.DataFrame(schema=SCHEMA)])
    reached = pl.concat([part[1] for part in parts] or [empty])
    untouched = state.join(reached, on="symbol", how="anti")
    return daily, pl.concat([reached, untouched]).sort("symbol")


# --- what a caller may get wrong ----------------------------------------------------------------------------------


def _layout(bars: pl.DataFrame) -> Layout:
    """The rows of each symbol, once `bars` proved to be usable."""
    missing = [c for c in ("symbol", "session", "session_no", *_PRICES, *_OTHERS) if c not in bars.columns]
    if missing:
        raise ValueError(f"bars lack the columns {missing}")
    for name in ("symbol", "session", "session_no", *_PRICES):
        if nulls := bars[name].null_count():
            raise ValueError(f"bars.{name} has {nulls} nulls: only traded bars can be computed, drop the others")
    for name in _PRICES:
        if not bars[name].is_finite().all():
            raise ValueError(f"bars.{name} has values that are not finite: quarantine those bars")
    opens = (bars["symbol"] != bars["symbol"].shift(1)).fill_null(True).to_numpy()
    starts = np.flatnonzero(opens)
    symbols = bars["symbol"].gather(starts)
    ordered = symbols.is_sorted() and symbols.n_unique() == len(symbols)
    for name in ("session", "session_no"):
        ordered = ordered and bool((np.diff(_integers(bars[name])) > 0)[~opens[1:]].all())
    if not ordered:
        raise ValueError("bars must be sorted by symbol and session, one row each, session_no growing with session")
    counts = np.diff(starts, append=bars.height)
    return Layout(counts.astype(np.int64), _integers(bars["session_no"]))


def _continuation(bars: pl.DataFrame, layout: Layout, state: pl.DataFrame) -> pl.DataFrame:
    """One row per symbol of `bars`: `rows`, its row in `state` if it has one, and `tail`, its rows up to then."""
    known = bars.select("symbol").gather(layout.starts).with_columns(rows=pl.Series(layout.counts))
    if state["symbol"].is_duplicated().any():
        raise ValueError("state has several rows for one symbol: pass what one earlier call returned")
    known = known.join(state, on="symbol", how="left", maintain_order="left")
    until = _integers(known["session"].fill_null(pl.date(1, 1, 1)))
    session = _integers(bars["session"])
    seen = session <= until[layout.symbol]
    tail = np.bincount(layout.symbol[seen], minlength=len(layout.counts))
    resumes = known["session"].is_not_null().to_numpy()
    have = known["bars"].fill_null(0).to_numpy()
    last = session[np.maximum(layout.starts + tail - 1, 0)]
    short = resumes & ((tail < np.minimum(have, LOOKBACK)) | (tail > have) | (last != until))
    if short.any():
        row = known.row(int(np.flatnonzero(short)[0]), named=True)
        raise ValueError(
            f"bars of {row['symbol']} do not continue its state: it ends on {row['session']} after {row['bars']} bars, "
            f"so the last {min(row['bars'], LOOKBACK)} bars up to then must come first; or compute the symbol anew"
        )
    return known.with_columns(tail=pl.Series(tail))


def _benchmark(benchmark: pl.DataFrame) -> Benchmark:
    closes = benchmark.select("session", pl.col("close").cast(pl.Float64)).drop_nulls().sort("session")
    if closes.is_empty() or closes["session"].is_duplicated().any():
        raise ValueError("the benchmark must have one close per session, and at least one")
    return Benchmark(_integers(closes["session"]), closes["close"].to_numpy())


# --- one block of symbols -----------------------------------------------------------------------------------------


def _blocks(layout: Layout) -> Iterator[tuple[int, int, int, int]]:
    """Whole symbols in pieces of about `_BLOCK_ROWS` rows: first and end symbol, first and end row."""
    ends = np.cumsum(layout.counts)
    cuts = np.searchsorted(ends, np.arange(_BLOCK_ROWS, layout.counts.sum(), _BLOCK_ROWS))
    for first, end in pairwise(np.unique([0, *cuts, len(ends)]).tolist()):
        yield first, end, int(layout.starts[first]), int(ends[end - 1])


def _block(
    bars: pl.DataFrame, known: pl.DataFrame, annualisation: int, benchmark: Benchmark | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Indicators and state of some symbols."""
    layout = Layout(_integers(known["rows"]), _integers(bars["session_no"]))
    columns = {name: _floats(bars[name]) for name in ("high", "low", "close", *_OTHERS)}
    block = Bars(layout=layout, session=_integers(bars["session"]), **columns)
    before, tail = _integers(known["bars"].fill_null(0)), _integers(known["tail"])
    # A symbol whose whole history is in the table begins anew: its recursions may not have begun by its last session.
    resume = Resume(
        np.where(before > tail, layout.starts + tail - 1, -1),
        {name: _floats(known[name]) for name in formulas.STATE},
    )
    highest = _floats(known["peak"])
    with np.errstate(all="ignore"):  # the first rows of a symbol look into the one before; they are blanked below
        peak = running_maximum(layout, block.close, highest)
        values, recursions = formulas.evaluate(block, resume, peak, annualisation, benchmark)
    ends = layout.starts + layout.counts - 1
    past = layout.counts > LOOKBACK
    highest = np.where(past, peak[np.where(past, ends - LOOKBACK, 0)], highest)
    state = known.select(
        "symbol",
        pl.Series("session", bars["session"].gather(ends)),
        pl.Series("bars", before + layout.counts - tail),
        pl.Series("peak", highest, nan_to_null=True),
        *(pl.Series(name, recursions[name][ends], nan_to_null=True) for name in formulas.STATE),
    )
    daily = bars.select("symbol", "session").hstack(_blanked(layout, values))
    return daily.filter(layout.position >= tail[layout.symbol]), state


def _blanked(layout: Layout, values: Columns) -> list[pl.Series]:
    """The columns of `SCHEMA`, null before the first index, across suspensions and wherever there is no number."""
    valid = {key: layout.valid(*key) for key in {(i.first, i.window) for i in _CATALOGUE}}

    def blanked(indicator: Indicator) -> pl.Series:
        column = values[indicator.name]
        keep = valid[indicator.first, indicator.window] & np.isfinite(column)
        return pl.Series(indicator.name, np.where(keep, column, np.nan), nan_to_null=True)

    return [blanked(indicator) for indicator in _CATALOGUE]


def _floats(series: pl.Series) -> Array:
    """Values with NaN for null."""
    return series.cast(pl.Float64).to_numpy()


def _integers(series: pl.Series) -> Rows:
    """Whole numbers; a date as days since 1970."""
    return series.to_physical().cast(pl.Int64).to_numpy()
