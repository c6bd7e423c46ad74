"""Prices on the tick lattice, and average prices inside the day's range."""

from __future__ import annotations

import polars as pl

from vprism_pipelines.market.rules import on_lattice, tick
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.limit_checks import RATIO_DIGITS
from vprism_pipelines.quality.thresholds import Thresholds
from vprism_pipelines.quality.window_checks import WINDOW_CHECKS

__all__ = ["HISTORY", "judge_prices", "marked_around"]

HISTORY = 250
"""Traded bars before a bar that tell what is usual for its symbol."""

PRICES = ("open", "high", "low", "close")
NOISE = 1e-4  # of a tick
LATTICE_AFTER = 80  # traded bars: the first ones have nothing but later ones to be compared with
ROUNDED = (1e6, 1e3)  # what providers round values to, widest first


def judge_prices(traded: pl.DataFrame, market: MarketSpec, thresholds: Thresholds) -> pl.DataFrame:
    """Add tick_lattice, vwap_bound, unit_ratio and turnover.

    Args:
        traded: Traded bars with their neighbours, `venue` and `asset` (`quality.windows`).
        market: A price is off the lattice if it is off those of all its exchanges.
        thresholds: See the checks' `values`.
    """
    kept = market.code in WINDOW_CHECKS["tick_lattice"].markets
    off = _off_lattice(traded, market, thresholds) if kept else pl.lit(value=False)
    return _with_value_checks(traded.with_columns(tick_lattice=off), thresholds)


def marked_around(traded: pl.DataFrame, marks: pl.Series, after: int = 0) -> tuple[pl.Series, pl.Series]:
    """How many of the symbol's traded bars around each one carry a mark, and how many there are.

    Args:
        traded: Bars with `_place`, `_from` and `_to` (`quality.windows`).
        marks: One per bar.
        after: Bars after each one to count besides the `HISTORY` before it.
    """
    totals = pl.concat([pl.Series([0]), marks.cast(pl.Int64).cum_sum()])
    first, last = traded.select(
        first=pl.max_horizontal(pl.col("_place") - HISTORY, "_from"),
        last=pl.min_horizontal(pl.col("_place") + after, "_to"),
    )
    return totals.gather(last + 1) - totals.gather(first) - marks.cast(pl.Int64), last - first


def _off_lattice(traded: pl.DataFrame, market: MarketSpec, thresholds: Thresholds) -> pl.Series:
    """Bars with a price that is on no exchange's lattice, in symbols where that is rare."""
    size = tick(pl.col("venue"), pl.col("session"), pl.col("high"), asset=pl.col("asset"))
    # Finer ticks divide coarser ones: prices that are whole ticks of the highest are on every tier.
    whole = [_whole(pl.col(name) / pl.col("size")) for name in PRICES]
    columns = ("_place", "session", "venue", "asset", *PRICES)
    suspects = traded.select(*columns, size=size).filter(~pl.all_horizontal(whole).fill_null(value=False))
    for code in (None, *market.exchanges):
        place = pl.col("venue") if code is None else pl.lit(code)
        at = (place, pl.col("session"))
        off = [~on_lattice(*at, pl.col(name), asset=pl.col("asset")) for name in PRICES]
        # No rule: another exchange's silence acquits only a bar whose own exchange is unknown.
        unknown = pl.col("venue").is_null() if code is None else pl.col("venue").is_not_null()
        suspects = suspects.filter(pl.coalesce(pl.any_horizontal(off), unknown))
    marks = traded.select(pl.col("_place").is_in(suspects["_place"].implode())).to_series()
    others, bars = marked_around(traded, marks, LATTICE_AFTER)
    share = thresholds.value("tick_lattice", traded)
    return traded.select(marks & (others <= bars * share) & (bars > 0)).to_series()


def _whole(ticks: pl.Expr) -> pl.Expr:
    return (ticks - ticks.round()).abs() < NOISE


def _with_value_checks(traded: pl.DataFrame, thresholds: Thresholds) -> pl.DataFrame:
    priced = (pl.col("value") > 0) & (pl.col("volume") > 0)
    found = traded.filter(priced)
    if found.is_empty():
        nothing = {"vwap_bound": pl.lit(False), "unit_ratio": pl.lit(False), "turnover": pl.lit(None, pl.Float64)}
        return traded.with_columns(**nothing)
    turnover, vwap = pl.col("value") / (pl.col("volume") * pl.col("close")), pl.col("value") / pl.col("volume")
    # A value that is a whole number of millions may have been rounded to them.
    rounding = pl.coalesce(*(pl.when(pl.col("value") % unit == 0).then(pl.lit(unit)) for unit in ROUNDED), pl.lit(1.0))
    outside = (vwap < pl.col("low")) | (vwap > pl.col("high"))
    size = tick(pl.col("venue"), pl.col("session"), pl.col("high"), asset=pl.col("asset")).fill_null(0.0)
    beyond = found.filter(outside).with_columns(_tolerance=rounding / pl.col("volume") + size)
    beyond = beyond.filter(
        (vwap < pl.col("low") - pl.col("_tolerance")) | (vwap > pl.col("high") + pl.col("_tolerance"))
    )
    most = thresholds.value("unit_ratio", traded)
    ratio = turnover.round(RATIO_DIGITS)
    return traded.with_columns(
        vwap_bound=pl.col("_place").is_in(beyond["_place"].implode()),
        turnover=pl.when(priced).then(turnover),
        unit_ratio=priced & ((ratio > most) | (ratio < (1 / most).round(RATIO_DIGITS))),
    )
